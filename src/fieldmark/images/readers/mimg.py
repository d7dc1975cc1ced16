"""Multi-band images of libIFT (.mimg): a text header, then float32 values with the bands of a voxel side by side."""

from __future__ import annotations

from math import isfinite, prod
from typing import NamedTuple

import numpy as np

from fieldmark.core.axes import PixelSize
from fieldmark.errors import BadFile
from fieldmark.images.readers import OpenRequest
from fieldmark.images.source import ArraySource

VALUES = np.dtype("<f4")
_HEAD = 1024
_LINES = 3
_HIGHEST = 1 << 40


class _Header(NamedTuple):
    shape: tuple[int, int, int, int]
    """z, y, x, bands."""
    pixel_size: PixelSize
    end: int
    """Bytes of the three lines."""


def open_mimg(ask: OpenRequest) -> ArraySource:
    """Open a .mimg file: its bands are channels, values float32, mapped from the file.

    The values are the last 4 * voxels * bands bytes of the file; only text may stand between them and the header.
    The format names no unit. Pixel sizes are taken as micrometers, which is what Fieldmark writes; `1 1 1`, which
    programs write that do not know, is read as unknown.

    Raises:
        BadFile: No such header, or less or more content than it declares.
    """
    size = ask.path.stat().st_size
    with open(ask.path, "rb") as file:
        head = file.read(_HEAD)
    shape, pixel_size, end = _parse(head, ask.shown)
    start = size - prod(shape) * VALUES.itemsize
    if start < end or not _is_text(head[end : min(start, _HEAD)]) or start > _HEAD:
        raise BadFile(
            ask.shown,
            f"its header declares {shape[2]} x {shape[1]} x {shape[0]} voxels of {shape[3]} bands, "
            f"{prod(shape) * VALUES.itemsize:,} bytes, but {size - end:,} follow: it is truncated or damaged. "
            "Copy or export it again.",
        )
    array: np.ndarray = np.memmap(ask.path, dtype=VALUES, mode="r", offset=start, shape=shape)
    z, y, x, bands = shape
    kept = [(axis, n) for axis, n in (("c", bands), ("z", z)) if n > 1]
    planes = array.transpose(3, 0, 1, 2).reshape(*(n for _, n in kept), y, x)
    return ArraySource(planes, "".join(axis for axis, _ in kept) + "yx", pixel_size=pixel_size, shown=ask.shown)


def _parse(head: bytes, shown: str) -> _Header:
    lines = head.split(b"\n", _LINES)
    if len(lines) <= _LINES or lines[0].strip() != b"MIG":
        raise BadFile(shown, "it does not begin with the three lines of a .mimg header. Copy or export it again.")
    end = sum(len(line) + 1 for line in lines[:_LINES])
    x, y, z, bands = _whole(lines[1], shown)
    return _Header((z, y, x, bands), _pixel_size(lines[2], shown), end)


def _whole(line: bytes, shown: str) -> list[int]:
    words = line.split()
    if len(words) != 4 or not all(word.isdigit() and len(word) < 14 and 0 < int(word) < _HIGHEST for word in words):
        text = line.decode("ascii", "replace").strip()[:60]
        raise BadFile(
            shown, f"the second line of its header is {text!r}; it must be four numbers from 1: x, y, z, bands."
        )
    return [int(word) for word in words]


def _pixel_size(line: bytes, shown: str) -> PixelSize:
    try:
        x, y, z = (float(word) for word in line.split())
    except ValueError:
        text = line.decode("ascii", "replace").strip()[:60]
        raise BadFile(
            shown, f"the third line of its header is {text!r}; it must be the voxel's size: dx, dy, dz."
        ) from None
    if x == y == z == 1:
        return PixelSize()
    return PixelSize(*(n if isfinite(n) and n > 0 else None for n in (z, y, x)))


def _is_text(part: bytes) -> bool:
    return all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in part)
