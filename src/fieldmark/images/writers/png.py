"""PNG: one plane with 1, 3 or 4 channels of 8 or 16 bits, encoded whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput, TooLarge
from fieldmark.images.png import encode_png
from fieldmark.images.source import DEFAULT_MAX_BYTES, ImageSource
from fieldmark.images.writers.draft import DraftWriter
from fieldmark.images.writers.plan import WritePlan


class PngWriter(DraftWriter):
    """Writes one PNG image. PNG has no place for the size of a pixel in micrometers."""

    def __init__(self, plan: WritePlan) -> None:
        _check(plan)
        super().__init__(plan)

    def _encode(self, source: ImageSource, part: Path) -> None:
        pixels = source.read(Box.whole(source.shape))[0, :, 0]
        part.write_bytes(encode_png(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)))


def _check(plan: WritePlan) -> None:
    t, c, z, *_ = plan.shape
    if t > 1 or z > 1:
        raise BadInput(
            f"{plan.path}: a stack of {t} time points and {z} slices does not fit into a PNG image. "
            "Write it as ome-zarr or tiff."
        )
    if c not in {1, 3, 4} or plan.dtype not in {np.dtype(np.uint8), np.dtype(np.uint16)}:
        raise BadInput(
            f"{plan.path}: {c} channels of {plan.dtype} do not fit into a PNG image, which holds 1, 3 or 4 of uint8 "
            "or uint16. Write it as ome-zarr or tiff."
        )
    size = int(np.prod(plan.shape)) * plan.dtype.itemsize
    if size > DEFAULT_MAX_BYTES:
        raise TooLarge(
            plan.path,
            f"a PNG image is encoded whole, and this one takes {size:,} bytes; the limit is {DEFAULT_MAX_BYTES:,}. "
            "Write it as ome-zarr or tiff.",
        )
