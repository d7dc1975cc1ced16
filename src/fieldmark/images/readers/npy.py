"""NumPy arrays, mapped from their file; nothing in one is ever unpickled."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.lib import format as npy_format

from fieldmark.errors import BadFile
from fieldmark.images.faults import decoding
from fieldmark.images.readers import OpenRequest
from fieldmark.images.source import ArraySource, readable_dtype

MOST_SAMPLES = 4
"""A last axis that is no longer holds the samples of a color."""


def open_npy(ask: OpenRequest) -> ArraySource:
    """Open a .npy file of 2 to 5 axes.

    A file does not say what its axes are, so they are told by their number: 2 are (y, x); 3 are
    (y, x, c) where the last is at most 4 long, else (z, y, x); 4 are (z, y, x, c) where the last is
    at most 4 long, else (c, z, y, x); 5 are (t, c, z, y, x).

    Raises:
        BadFile: Objects, records or complex numbers; another number of axes; an empty array; or
            less content than the header declares.
    """
    shape, dtype, offset = _header(ask)
    axes, order = _axes(shape, ask.shown)
    array = _mapped(ask, shape, dtype, offset)
    return ArraySource(array.transpose(order), axes, shown=ask.shown)


def _header(ask: OpenRequest) -> tuple[tuple[int, ...], np.dtype, tuple[int, bool]]:
    with decoding(ask.shown, "NumPy file"), open(ask.path, "rb") as file:
        version = npy_format.read_magic(file)
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        start = file.tell()
        file.seek(0, 2)
        size = file.tell()
    readable_dtype(dtype, ask.shown)
    if min(shape, default=1) < 1:
        raise BadFile(ask.shown, f"it holds an empty array, {shape}. Save an image with pixels.")
    wanted = prod(shape) * dtype.itemsize
    if size - start < wanted:
        raise BadFile(
            ask.shown,
            f"its header declares {shape} {dtype} ({wanted:,} bytes), but only {size - start:,} bytes follow: "
            "it is truncated or damaged. Copy or save it again.",
        )
    return shape, dtype, (start, fortran)


def _mapped(ask: OpenRequest, shape: tuple[int, ...], dtype: np.dtype, place: tuple[int, bool]) -> np.ndarray:
    start, fortran = place
    with decoding(ask.shown, "NumPy file"):
        order = "F" if fortran else "C"
        return np.memmap(ask.path, dtype=dtype, mode="r", offset=start, shape=shape, order=order)  # type: ignore[call-overload,no-any-return]


def _axes(shape: tuple[int, ...], shown: str) -> tuple[str, tuple[int, ...]]:
    """The axes in `tczyx` order, and the transposition that brings the array into it."""
    samples = len(shape) > 2 and shape[-1] <= MOST_SAMPLES
    match len(shape), samples:
        case 2, _:
            return "yx", (0, 1)
        case 3, True:
            return "cyx", (2, 0, 1)
        case 3, False:
            return "zyx", (0, 1, 2)
        case 4, True:
            return "czyx", (3, 0, 1, 2)
        case 4, False:
            return "czyx", (0, 1, 2, 3)
        case 5, _:
            return "tczyx", (0, 1, 2, 3, 4)
    raise BadFile(shown, f"its array has {len(shape)} axes {shape}; an image has 2 to 5. Save one image in it.")
