"""Write maps of real numbers as multi-band images of libIFT (.mimg), byte for byte as it does."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldmark.core.axes import PixelSize
from fieldmark.core.files import atomic_file
from fieldmark.errors import BadInput

_VALUES = np.dtype("<f4")
_ROWS_AT_ONCE = 256


def write_mimg(path: Path, values: np.ndarray, pixel_size: PixelSize | None = None) -> None:
    """Write a .mimg file, whole or not at all.

    Args:
        path: The file; one of that name is replaced.
        values: (C, y, x) or (C, z, y, x) real numbers; written as float32.
        pixel_size: In micrometers; a side that is not known is written as 1.

    Raises:
        BadInput: Another number of axes, an empty array, or values that are no real numbers.
    """
    if values.ndim not in {3, 4} or not values.size or values.dtype.kind not in "biuf":
        raise BadInput(
            f"{path}: an array of {values.shape} {values.dtype} cannot be a .mimg image; give (C, y, x) or "
            "(C, z, y, x) real numbers."
        )
    volume = values if values.ndim == 4 else values[:, None]
    with atomic_file(path) as out:
        out.write(_header(volume.shape, pixel_size or PixelSize()))
        for z in range(volume.shape[1]):
            for top in range(0, volume.shape[2], _ROWS_AT_ONCE):
                rows = volume[:, z, top : top + _ROWS_AT_ONCE]
                out.write(np.ascontiguousarray(rows.transpose(1, 2, 0), dtype=_VALUES).data)


def _header(shape: tuple[int, ...], pixel_size: PixelSize) -> bytes:
    bands, depth, height, width = shape
    x, y, z = (1.0 if side is None else side for side in (pixel_size.x, pixel_size.y, pixel_size.z))
    return f"MIG\n{width} {height} {depth} {bands}\n{x:f} {y:f} {z:f}\n".encode("ascii")
