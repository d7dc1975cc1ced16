"""NIfTI volumes (.nii, .nii.gz); the header is read by nibabel, the values by ourselves."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fieldmark.core.axes import PixelSize
from fieldmark.core.extras import require_extra
from fieldmark.errors import BadFile
from fieldmark.images.faults import decoding
from fieldmark.images.readers import OpenRequest
from fieldmark.images.source import ArraySource, DecodedSource, check_bytes, readable_dtype
from fieldmark.images.units import micrometers

_GZIP = b"\x1f\x8b"
_HEAD = 540
_SIZES = {348: "n+1", 540: "n+2"}
_MOST_EXPANSION = 1040
"""Above what deflate can reach: a file that claims more is lying."""
_PIECE = 1 << 20
_AXES = "xyztc"
"""What NIfTI keeps along its first five axes, fastest first."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a header says: the stored array, x fastest, and what its values mean."""

    shape: tuple[int, ...]
    """x, y, z, t, c as far as the file has them."""
    dtype: np.dtype
    start: int
    slope: float
    intercept: float
    pixel_size: PixelSize

    @property
    def size(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def open_nifti(ask: OpenRequest) -> ArraySource | DecodedSource:
    """Open a NIfTI-1 or NIfTI-2 file; .nii is mapped, .nii.gz decoded whole.

    The file keeps x, y, z, t and channels, x fastest; we give (t, c, z, y, x), so that rows are y and columns x
    (programs that load such a file as (x, y, z) and want pictures transpose its first two axes). The orientation in
    the header is not applied, its voxel size is kept. Where the header scales values, as in computed tomography, they
    are scaled, float32 (float64 for stored values of more than 16 bits).

    Raises:
        BadFile: A damaged header, values that are no real numbers, or less content than is declared.
        TooLarge: A .nii.gz that would take more than `max_bytes` when decoded.
        MissingExtra: nibabel is not installed.
    """
    require_extra("nibabel", "nifti", f"{ask.shown}: reading NIfTI")
    with open(ask.path, "rb") as file:
        zipped = file.read(2) == _GZIP
    with decoding(ask.shown, "NIfTI file"), _stream(ask.path, zipped) as stream:
        layout = _layout(stream.read(_HEAD), ask.shown)
    axes, order = _axes(layout)
    _check_length(ask, layout, zipped)
    finish = _finisher(layout, order)
    dtype = finish(np.zeros((1,) * len(layout.shape), layout.dtype)).dtype
    shape = tuple(layout.shape[place] for place in order)
    if not zipped and dtype == layout.dtype.newbyteorder("="):
        with decoding(ask.shown, "NIfTI file"):
            mapped: np.ndarray = np.memmap(ask.path, layout.dtype, "r", layout.start, layout.shape, "F")
        return ArraySource(mapped.transpose(order), axes, pixel_size=layout.pixel_size, shown=ask.shown)
    check_bytes(ask.shown, shape, dtype, ask.max_bytes)

    def decode() -> np.ndarray:
        with decoding(ask.shown, "NIfTI file"), _stream(ask.path, zipped) as stream:
            return finish(_values(stream, layout))

    return DecodedSource(ask.shown, shape, dtype, axes, decode, layout.pixel_size)


def _stream(path: Path, zipped: bool) -> BinaryIO:
    return gzip.open(path, "rb") if zipped else open(path, "rb")  # type: ignore[return-value]


def _layout(head: bytes, shown: str) -> _Layout:
    header = _header(head, shown)
    stored = np.dtype(header.get_data_dtype())
    readable_dtype(stored, shown)
    shape = tuple(int(n) for n in header.get_data_shape())
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    if not 2 <= len(shape) <= len(_AXES) or min(shape) < 1:
        raise BadFile(
            shown,
            f"its header declares axes of {shape}; an image has 2 to {len(_AXES)} of at least 1. Export it again.",
        )
    slope, intercept = header.get_slope_inter()
    start = float(header["vox_offset"])
    if not 348 <= start < 1 << 40:
        raise BadFile(shown, f"its header says that voxels begin at byte {start:g}. Export it again.")
    return _Layout(shape, stored, int(start), slope or 1.0, intercept or 0.0, _pixel_size(header))


def _header(head: bytes, shown: str) -> Any:
    """The header as nibabel reads it; its own checks print, so they are not asked for."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    for order in ("<", ">"):
        size = int.from_bytes(head[:4], "little" if order == "<" else "big")
        kind = Nifti1Header if size == 348 else Nifti2Header
        at = 344 if size == 348 else 4
        if size in _SIZES and head[at : at + 3] == _SIZES[size].encode():
            return kind(head[:size], endianness=order, check=False)
    if head[344:347] == b"ni1":
        raise BadFile(shown, "its voxels are in a second file (.img). Convert the pair to one .nii file.")
    raise BadFile(shown, "it does not begin with a NIfTI header. Copy or export it again.")


def _pixel_size(header: Any) -> PixelSize:
    """Voxel size in micrometers. The format's own unit is the millimeter, which many programs leave unsaid."""
    units = {"unknown": "mm", "meter": "m", "mm": "mm", "micron": "micron"}
    unit = units.get(str(header.get_xyzt_units()[0]), "")
    x, y, z = (micrometers(float(side), unit) for side in header["pixdim"][1:4])
    return PixelSize(z, y, x)


def _axes(layout: _Layout) -> tuple[str, tuple[int, ...]]:
    """The axes in `tczyx` order, and the transposition that brings the array into it."""
    names = _AXES[: len(layout.shape)]
    axes = "".join(axis for axis in "tczyx" if axis in names)
    return axes, tuple(names.index(axis) for axis in axes)


def _check_length(ask: OpenRequest, layout: _Layout, zipped: bool) -> None:
    """Refuse a header that declares more than its file can hold, before anything is allocated."""
    if zipped:
        check_bytes(ask.shown, layout.shape, layout.dtype, ask.max_bytes)
    held = ask.path.stat().st_size * (_MOST_EXPANSION if zipped else 1)
    if layout.start + layout.size > held:
        raise BadFile(
            ask.shown,
            f"its header declares {' x '.join(map(str, layout.shape))} {layout.dtype} ({layout.size:,} bytes), more "
            "than the file can hold: it is truncated or damaged. Copy or export it again.",
        )


def _finisher(layout: _Layout, order: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """From stored values to (t, c, z, y, x) ones that mean what they say."""
    plain = layout.slope == 1 and layout.intercept == 0
    wide = layout.dtype.itemsize > 2 and layout.dtype != np.float32
    real = np.dtype(np.float64 if wide else np.float32)

    def finish(values: np.ndarray) -> np.ndarray:
        placed = values.transpose(order)
        if plain:
            return placed.astype(layout.dtype.newbyteorder("="), copy=False)
        return placed.astype(real) * real.type(layout.slope) + real.type(layout.intercept)

    return finish


def _values(stream: BinaryIO, layout: _Layout) -> np.ndarray:
    """The stored array, x fastest."""
    skip = layout.start
    while skip > 0 and (piece := stream.read(min(skip, _PIECE))):
        skip -= len(piece)
    values = np.empty(layout.size, np.uint8)
    view, filled = values.data, 0
    while filled < layout.size and (piece := stream.read(min(_PIECE, layout.size - filled))):
        view[filled : filled + len(piece)] = piece
        filled += len(piece)
    if filled < layout.size:
        raise EOFError(f"{filled:,} of {layout.size:,} bytes of voxels")
    stream.read(1)  # where nothing follows, this compares the checksum of a .nii.gz
    return values.view(layout.dtype).reshape(layout.shape, order="F")
