"""An image with its slices, rows and columns scaled by factors, computed where it is read; nothing is copied.

Each new pixel depends on its place alone, and its neighbors are added in one order: a box holds the same bits as the
whole image does there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil, prod
from typing import Literal

import numpy as np

from fieldmark.core.axes import Factors, PixelSize, factors_of
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.images.source import BaseSource, Grained, ImageSource, channel_dtypes, name_of

_ROWS = 256
_MOST_PIXELS = 1 << 24
"""Of the source that are read at once."""

Span = tuple[int, int]


def scaled_size(size: int, factor: float) -> int:
    """Pixels of an axis after scaling: the nearest whole number, at least 1."""
    return max(1, round(size * factor))


def scaled_shape(size: Sequence[int], factors: Factors) -> tuple[int, int, int]:
    """Slices, rows and columns after scaling; a single plane has no z axis, and stays one."""
    z, y, x = (scaled_size(side, factor) for side, factor in zip(size, factors, strict=True))
    return (z if size[0] > 1 else 1), y, x


class ResizedSource(BaseSource):
    """Another image at another size along z, y and x.

    Args:
        source: The image; closed with this one.
        by: A factor for rows and columns, or three, for z, y and x; below 1 the image shrinks.
        how: `linear` blends neighbors, over as many pixels as shrink into one, so that fine patterns do not alias;
            `nearest` keeps values, for label maps.
    """

    def __init__(self, source: ImageSource, by: float | Factors, how: Literal["linear", "nearest"] = "linear") -> None:
        t, c, *old = source.shape
        self._source, self._how = source, how
        new = scaled_shape(old, factors_of(by))
        size = source.pixel_size
        sides = zip((size.z, size.y, size.x), old, new, strict=True)
        along = (side if side is None else side * before / after for side, before, after in sides)
        super().__init__(name_of(source), [(t, c, *new)], source.dtype, source.axes, PixelSize(*along))

        self.channel_dtypes = channel_dtypes(source)

    def grain(self, level: int = 0) -> tuple[int, ...]:
        t, c, z = self._source.grain(level)[:3] if isinstance(self._source, Grained) else (1, 1, 1)
        return t, c, z if self.shape[2] == self._source.shape[2] else 1, _ROWS, self.shape[4]

    def _read(self, box: Box, level: int) -> np.ndarray:
        new, old = self.shape[2:], self._source.shape[2:]
        spans = list(zip(box.start[2:], box.stop[2:], strict=True))
        read = needed if self._how == "linear" else _nearest_needed
        seen = [read(*axis) for axis in zip(spans, new, old, strict=True)]
        start, stop = zip(*seen, strict=True)
        if prod((*box.shape[:2], *(last - first for first, last in seen))) > _MOST_PIXELS and box.shape[3] > 1:
            middle = (box.start[3] + box.stop[3]) // 2
            halves = (
                Box(box.start, (*box.stop[:3], middle, box.stop[4])),
                Box((*box.start[:3], middle, box.start[4]), box.stop),
            )
            return np.concatenate([self._read(half, level) for half in halves], axis=3)
        values = self._source.read(Box((*box.start[:2], *start), (*box.stop[:2], *stop)))
        if self._how == "nearest":
            slices, rows, columns = (
                nearest(span, after, before) - first
                for span, after, before, first in zip(spans, new, old, start, strict=True)
            )
            picked: np.ndarray = values[:, :, slices][:, :, :, rows][..., columns]
            return picked
        blended: np.ndarray = resampled(values, spans, start, new, old)
        if self.dtype.kind not in "ui":
            return blended
        limits = np.iinfo(self.dtype)
        rounded: np.ndarray = np.clip(np.rint(blended), limits.min, limits.max).astype(self.dtype)
        return rounded

    def close(self) -> None:
        super().close()
        self._source.close()


def needed(span: Span, size: int, old: int) -> Span:
    """The old pixels that new ones from `span[0]` to before `span[1]` are blended of.

    Args:
        span: Along an axis of the new image.
        size: Pixels of that axis in the new image.
        old: And in the old one.
    """
    if size == old:
        return span
    first, _ = _taps(span[0], span[0] + 1, size, old)
    last, _ = _taps(span[1] - 1, span[1], size, old)
    return max(0, int(first[0, 0])), min(old, int(last[0, -1]) + 1)


def resampled(
    values: np.ndarray,
    spans: Sequence[Span],
    origin: Sequence[int],
    size: Sequence[int],
    old: Sequence[int],
) -> np.ndarray:
    """Blend pixels along the last axes: z, y and x. The other arguments have one entry for each.

    Args:
        values: (..., z, y, x): at least what `needed` says, of the old image.
        spans: What is wanted of the new image.
        origin: Slice, row and column of the first of `values` in the old image.
        size: Slices, rows and columns of the new image.
        old: And of the old one.

    Returns:
        (..., slices, rows, columns) float32, or float64 for integers of 32 bits and more, and for float64.
    """
    exact = values.dtype.itemsize > 4 or (values.dtype.kind in "ui" and values.dtype.itemsize > 2)
    found = values.astype(np.float64 if exact else np.float32)
    for axis, (span, first, new, before) in enumerate(zip(spans, origin, size, old, strict=True), start=-len(spans)):
        if new == before:
            inside = [slice(None)] * found.ndim
            inside[axis] = slice(span[0] - first, span[1] - first)
            found = found[tuple(inside)]
        else:
            found = _along(found, axis, _taps(*span, new, before), first)
    return found


def _along(values: np.ndarray, axis: int, taps: tuple[np.ndarray, np.ndarray], origin: int) -> np.ndarray:
    places, weights = taps
    last = values.shape[axis] - 1
    total: np.ndarray | None = None
    for place, weight in zip(places.T, weights.T, strict=True):
        shaped = weight.astype(values.dtype).reshape(-1, *(1,) * (-axis - 1))
        # a tap that lies beyond the image weighs nothing
        part = values.take(np.clip(place - origin, 0, last), axis=axis) * shaped
        total = part if total is None else total + part
    if total is None:
        raise BadInput("There is nothing to blend.")
    return total


@lru_cache(maxsize=64)
def _taps(start: int, stop: int, size: int, old: int) -> tuple[np.ndarray, np.ndarray]:
    """Which old pixels each new one is blended of, (N, K), and by how much: a triangle around its middle."""
    ratio = old / size
    reach = max(1.0, ratio)
    middle = (np.arange(start, stop) + 0.5) * ratio - 0.5
    first = np.ceil(middle - reach).astype(np.int64)
    places = first[:, None] + np.arange(ceil(2 * reach))
    weights = np.maximum(0, 1 - np.abs(places - middle[:, None]) / reach)
    weights = np.where((places >= 0) & (places < old), weights, 0)
    return places, weights / weights.sum(axis=1, keepdims=True)


def nearest(span: Span, size: int, old: int) -> np.ndarray:
    """The old pixel that the middle of each new one lies in."""
    found: np.ndarray = np.minimum((np.arange(*span) + 0.5) * (old / size), old - 1).astype(np.int64)
    return found


def _nearest_needed(span: Span, size: int, old: int) -> Span:
    own = nearest(span, size, old)
    return int(own[0]), int(own[-1]) + 1
