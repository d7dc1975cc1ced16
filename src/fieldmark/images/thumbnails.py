"""Small pictures of images of any size and kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.images.decode import pieces
from fieldmark.images.source import ImageSource

_LOW, _HIGH = 0.5, 99.5
"""Percentiles that become black and white."""
_SAMPLES = 4
"""Pixels averaged along each side of a thumbnail pixel, at least; of very large images no more than twice as many."""
_SHOWN = 3
"""Channels of a picture, at most."""
_BYTE = np.dtype(np.uint8)


def thumbnail(
    source: ImageSource, side: int = 512, t: int = 0, z: int | None = None, channels: Sequence[int] = ()
) -> np.ndarray:
    """A picture of one plane, in memory bounded by `side` and the file's own pieces.

    Three channels or more show the first three as red, green and blue; two show magenta and
    green; one shows gray. Values that are not 8-bit are stretched, channel by channel, between
    percentiles; unknown (NaN) pixels are black.

    Args:
        source: The image.
        side: Longest side of the thumbnail in pixels; smaller images keep their size.
        t: Time point.
        z: Slice; the middle one if None.
        channels: Those that are shown, instead of the first ones.

    Returns:
        (h, w, 3) uint8.

    Raises:
        BadInput: There is no such time point or slice, or `side` is less than 1.
    """
    level = _adequate_level(source, side)
    shape = source.levels[level]
    z = shape[2] // 2 if z is None else z
    if side < 1 or not 0 <= t < shape[0] or not 0 <= z < shape[2]:
        raise BadInput(
            f"A thumbnail of t={t}, z={z}, side={side} was asked for; the image has {shape[0]} time points "
            f"and {shape[2]} slices, and the side is at least 1."
        )
    shown = list(channels)[:_SHOWN] or list(range(min(shape[1], _SHOWN)))
    return _composite(_stretched(_averaged(source, level, side, (t, z), shown), source.dtype))


def _adequate_level(source: ImageSource, side: int) -> int:
    """The smallest level that is still at least as large as the thumbnail."""
    large_enough = [i for i, shape in enumerate(source.levels) if max(shape[3:]) >= side]
    return large_enough[-1] if large_enough else 0


def _averaged(source: ImageSource, level: int, side: int, plane: tuple[int, int], shown: list[int]) -> np.ndarray:
    """Channels of a plane (c, h, w), float32, no side longer than `side`, read piece by piece and never enlarged."""
    t, z = plane
    height, width = source.levels[level][3:]
    scale = max(1.0, max(height, width) / side)
    rows, columns = (_Bins(size, max(1, round(size / scale))) for size in (height, width))
    first, last = min(shown), max(shown) + 1
    sums = np.zeros((last - first, rows.count, columns.count), np.float32)
    for box in pieces(source, level, within=Box((t, first, z, 0, 0), (t + 1, last, z + 1, height, width))):
        pixels = source.read(box, level)[0, :, 0]
        pixels, down = rows.summed(pixels, box.start[3], axis=1)
        pixels, across = columns.summed(pixels, box.start[4], axis=2)
        sums[box.start[1] - first : box.stop[1] - first, down, across] += pixels
    means: np.ndarray = sums[[channel - first for channel in shown]] / (rows.sizes[:, None] * columns.sizes)
    return means


class _Bins:
    """Which of the pixels along one axis are taken, and which thumbnail pixel each goes into."""

    def __init__(self, size: int, count: int) -> None:
        self.count = count
        self._step = max(1, size // (_SAMPLES * count))
        taken = -(-size // self._step)
        self._edges = np.arange(count) * taken // count
        self.sizes = np.diff(np.append(self._edges, taken)).astype(np.float32)

    def summed(self, pixels: np.ndarray, start: int, axis: int) -> tuple[np.ndarray, slice]:
        """Sum the taken pixels of a piece that begins at `start`, and say into which thumbnail pixels they go."""
        first = -(-start // self._step)
        inside = slice(first * self._step - start, None, self._step)
        taken = pixels[(*[slice(None)] * axis, inside)]
        if not taken.shape[axis]:
            return taken, slice(0, 0)
        into = np.searchsorted(self._edges, first + np.arange(taken.shape[axis]), side="right") - 1
        starts = np.searchsorted(into, np.arange(into[0], into[-1] + 1))
        summed = np.add.reduceat(taken, starts, axis=axis, dtype=np.float32)
        return summed, slice(int(into[0]), int(into[-1]) + 1)


def _stretched(planes: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """(c, y, x) in 0..255."""
    if dtype == _BYTE:
        return planes
    known = np.where(np.isfinite(planes), planes, np.nan)
    out = np.zeros_like(planes)
    for channel, target in zip(known, out, strict=True):
        if np.isnan(channel).all():
            continue
        low, high = np.nanpercentile(channel, (_LOW, _HIGH))
        if high <= low:
            low, high = np.nanmin(channel), np.nanmax(channel)
        if high > low:
            target[:] = np.nan_to_num((channel - low) / (high - low) * 255)
    return out


def _composite(planes: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 from one, two or three planes in 0..255."""
    order = {1: (0, 0, 0), 2: (0, 1, 0)}.get(len(planes), (0, 1, 2))
    picture = np.stack([planes[i] for i in order], axis=-1)
    bytes_: np.ndarray = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return bytes_
