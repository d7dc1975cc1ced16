"""An image with its rows and columns scaled by a factor, computed where it is read; nothing is copied.

Each new pixel depends on its place alone, and its neighbors are added in one order: a box holds the same bits as the
whole image does there.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, prod
from typing import Literal

import numpy as np

from fieldmark.core.axes import PixelSize
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.images.source import BaseSource, Grained, ImageSource

_ROWS = 256
_MOST_PIXELS = 1 << 24
"""Of the source that are read at once."""

Span = tuple[int, int]


def scaled_size(size: int, factor: float) -> int:
    """Pixels of an axis after scaling: the nearest whole number, at least 1."""
    return max(1, round(size * factor))


class ResizedSource(BaseSource):
    """Another image at another size along y and x.

    Args:
        source: The image; closed with this one.
        factor: Of rows and columns; below 1 the image shrinks.
        how: `linear` blends neighbors, over as many pixels as shrink into one, so that fine patterns do not alias;
            `nearest` keeps values, for label maps.
    """

    def __init__(self, source: ImageSource, factor: float, how: Literal["linear", "nearest"] = "linear") -> None:
        t, c, z, y, x = source.shape
        self._source, self._how = source, how
        shape = (t, c, z, scaled_size(y, factor), scaled_size(x, factor))
        grown = [old / new for old, new in zip((y, x), shape[3:], strict=True)]
        size = source.pixel_size
        along = (side if side is None else side * by for side, by in zip((size.y, size.x), grown, strict=True))
        super().__init__(
            getattr(source, "shown", "image"), [shape], source.dtype, source.axes, PixelSize(size.z, *along)
        )

    def grain(self, level: int = 0) -> tuple[int, ...]:
        t, c, z = self._source.grain(level)[:3] if isinstance(self._source, Grained) else (1, 1, 1)
        return t, c, z, _ROWS, self.shape[4]

    def _read(self, box: Box, level: int) -> np.ndarray:
        sizes = list(zip(self.shape[3:], self._source.shape[3:], strict=True))
        spans = list(zip(box.start[3:], box.stop[3:], strict=True))
        read = needed if self._how == "linear" else _nearest_needed
        (y0, y1), (x0, x1) = (read(span, *size) for span, size in zip(spans, sizes, strict=True))
        if prod((*box.shape[:3], y1 - y0, x1 - x0)) > _MOST_PIXELS and box.shape[3] > 1:
            middle = (box.start[3] + box.stop[3]) // 2
            halves = (
                Box(box.start, (*box.stop[:3], middle, box.stop[4])),
                Box((*box.start[:3], middle, box.start[4]), box.stop),
            )
            return np.concatenate([self._read(half, level) for half in halves], axis=3)
        values = self._source.read(Box((*box.start[:3], y0, x0), (*box.stop[:3], y1, x1)))
        if self._how == "nearest":
            rows, columns = (_nearest(span, *size) for span, size in zip(spans, sizes, strict=True))
            picked: np.ndarray = values[..., rows - y0, :][..., columns - x0]
            return picked
        blended: np.ndarray = resampled(values, spans, (y0, x0), self.shape[3:], self._source.shape[3:])
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
    first, _ = _taps(span[0], span[0] + 1, size, old)
    last, _ = _taps(span[1] - 1, span[1], size, old)
    return max(0, int(first[0, 0])), min(old, int(last[0, -1]) + 1)


def resampled(
    values: np.ndarray, spans: list[Span], origin: Span, size: tuple[int, ...], old: tuple[int, ...]
) -> np.ndarray:
    """Blend pixels along the last two axes.

    Args:
        values: (..., y, x): at least what `needed` says, of the old image.
        spans: Rows and columns of the new image that are wanted.
        origin: Row and column of the first of `values` in the old image.
        size: Height and width of the new image.
        old: And of the old one.

    Returns:
        (..., rows, columns) float32, or float64 for integers of 32 bits and more, and for float64.
    """
    exact = values.dtype.itemsize > 4 or (values.dtype.kind in "ui" and values.dtype.itemsize > 2)
    found = values.astype(np.float64 if exact else np.float32)
    for axis in (0, 1):
        found = _along(found, axis - 2, _taps(*spans[axis], size[axis], old[axis]), origin[axis])
    return found


def _along(values: np.ndarray, axis: int, taps: tuple[np.ndarray, np.ndarray], origin: int) -> np.ndarray:
    places, weights = taps
    last = values.shape[axis] - 1
    total: np.ndarray | None = None
    for place, weight in zip(places.T, weights.T, strict=True):
        shaped = weight.astype(values.dtype)
        shaped = shaped[:, None] if axis == -2 else shaped
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


def _nearest(span: Span, size: int, old: int) -> np.ndarray:
    """The old pixel that the middle of each new one lies in."""
    found: np.ndarray = np.minimum((np.arange(*span) + 0.5) * (old / size), old - 1).astype(np.int64)
    return found


def _nearest_needed(span: Span, size: int, old: int) -> Span:
    own = _nearest(span, size, old)
    return int(own[0]), int(own[-1]) + 1
