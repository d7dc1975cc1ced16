"""NumPy arrays: no scale, no names; the axes are told by their number, as the reader does."""

from __future__ import annotations

from pathlib import Path

from numpy.lib.format import open_memmap

from fieldmark.images.decode import pieces
from fieldmark.images.readers.npy import MOST_SAMPLES
from fieldmark.images.source import ImageSource
from fieldmark.images.writers.draft import DraftWriter


class NpyWriter(DraftWriter):
    """Writes one .npy file of the fewest axes that the reader takes for the same image: yx, zyx, czyx or tczyx."""

    def _encode(self, source: ImageSource, part: Path) -> None:
        array = open_memmap(part, mode="w+", dtype=source.dtype, shape=npy_shape(source.shape))
        whole = array.reshape(source.shape)  # a view of the mapped file
        for box in pieces(source):
            whole[box.slices] = source.read(box)
        array.flush()


def npy_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the array in which an image (t, c, z, y, x) is kept."""
    t, c, z, y, x = shape
    if t > 1 or (x <= MOST_SAMPLES and c * z > 1):
        return t, c, z, y, x
    if c > 1:
        return c, z, y, x
    return (z, y, x) if z > 1 else (y, x)
