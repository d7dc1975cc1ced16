"""Which pixels a stroke covers. Pure geometry: reads and writes nothing.

Coordinates are in pixels: pixel (row r, column c) covers r..r+1 and c..c+1, and its center is (r + 0.5, c + 0.5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput

TILE = 256
"""Side of a label tile, in pixels."""

_SMALL, _BATCH = 64, 1 << 14  # windows of at most 64 x 64 pixels are looked at together, 16,384 pixels at a time
_FARTHEST = 1e7  # beyond any image; keeps squares of coordinates exact enough in float64


class Geometry(Protocol):
    """What a stroke covers, whatever the image: cut to the image when it is drawn."""

    @property
    def box(self) -> Box:
        """2-D (y, x) box that holds every covered pixel; it may reach out of the image."""
        ...

    def mask(self, box: Box) -> np.ndarray:
        """Which pixels of a 2-D (y, x) box are covered: bool of `box.shape`."""
        ...

    def tiles(self, image: Box) -> list[tuple[int, int]]:
        """The label tiles (ty, tx) of a 2-D image that may be covered, row by row."""
        ...


@dataclass(frozen=True, eq=False)
class Polyline:
    """A path drawn with a round brush: it covers each pixel whose center is within `radius` of one of its segments.

    Args:
        points: (n, 2) x, y in pixels, n >= 1; kept as float64.
        radius: Of the brush, in pixels, above 0.

    Raises:
        BadInput: Another shape, no point, or a number that is not finite or absurdly far away.
    """

    points: np.ndarray
    radius: float

    def __post_init__(self) -> None:
        points = np.array(self.points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or not len(points):
            raise BadInput(f"A stroke's points have shape {points.shape}; they must be (n, 2): x, y, with n >= 1.")
        if not (np.abs(points) <= _FARTHEST).all():
            raise BadInput(f"A stroke's points must be numbers between -{_FARTHEST:g} and {_FARTHEST:g} pixels.")
        if not 0 < self.radius <= _FARTHEST:
            raise BadInput(f"A stroke's radius is {self.radius}; it must be a number of pixels above 0.")
        points.flags.writeable = False
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "radius", float(self.radius))

    @property
    def box(self) -> Box:
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        x0, y0 = np.ceil(low - self.radius - 0.5).astype(int)
        x1, y1 = np.floor(high + self.radius - 0.5).astype(int) + 1
        return Box((int(y0), int(x0)), (max(int(y0), int(y1)), max(int(x0), int(x1))))

    def mask(self, box: Box) -> np.ndarray:
        covered = np.zeros(box.shape, dtype=bool)
        starts, ends, low, high = self._reach
        low, high = np.maximum(low, box.start), np.minimum(high, box.stop)
        sides = high - low
        inside = (sides > 0).all(axis=1)
        small = inside & (sides <= _SMALL).all(axis=1)
        for some in _batches(np.flatnonzero(small), sides):
            _mark(covered, starts[some], ends[some], self.radius, low[some], high[some], box)
        for one in np.flatnonzero(inside & ~small):
            _mark(covered, starts[[one]], ends[[one]], self.radius, low[[one]], high[[one]], box)
        return covered

    def tiles(self, image: Box) -> list[tuple[int, int]]:
        """The label tiles (ty, tx) of an image that this path may touch, row by row."""
        starts, ends, low, high = self._reach
        low, high = np.maximum(low, image.start), np.minimum(high, image.stop)
        inside = np.flatnonzero((high > low).all(axis=1))
        first, last = low[inside] // TILE, (high[inside] - 1) // TILE
        found = set(zip(first[:, 0].tolist(), first[:, 1].tolist(), strict=True))
        for one in inside[(first != last).any(axis=1)]:
            reach = Box(tuple(low[one].tolist()), tuple(high[one].tolist()))
            found |= set(_tiles_along(starts[one].tolist(), ends[one].tolist(), self.radius, reach))
        return sorted(found)

    @cached_property
    def _reach(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Starts and ends (m, 2: x, y) of the segments; first and last + 1 pixel (m, 2: y, x) that each may cover."""
        starts, ends = _segments(self.points)
        low, high = np.minimum(starts, ends)[:, ::-1], np.maximum(starts, ends)[:, ::-1]
        first = np.ceil(low - self.radius - 0.5).astype(np.int64)
        return starts, ends, first, np.floor(high + self.radius - 0.5).astype(np.int64) + 1


@dataclass(frozen=True, eq=False)
class Runs:
    """Pixels as runs along rows: for imports, fills and erasers.

    Args:
        rows: (n, 3) integers y, x_start, x_stop (x_stop is not covered), n >= 1, in any order; they may overlap.

    Raises:
        BadInput: Another shape, no run, or a run that is empty or absurdly far away.
    """

    rows: np.ndarray

    def __post_init__(self) -> None:
        rows = np.array(self.rows)
        if rows.ndim != 2 or rows.shape[1] != 3 or not len(rows) or rows.dtype.kind not in "iu":
            raise BadInput(f"Runs are {rows.dtype} of shape {rows.shape}; they must be integers (n, 3), n >= 1.")
        rows = rows.astype(np.int64)
        if np.abs(rows).max() > _FARTHEST or (rows[:, 2] <= rows[:, 1]).any():
            raise BadInput("A run is empty or out of any image; give y, x_start, x_stop with x_start < x_stop.")
        rows.flags.writeable = False
        object.__setattr__(self, "rows", rows)

    @classmethod
    def of_mask(cls, mask: np.ndarray, origin: tuple[int, int] = (0, 0)) -> Runs:
        """The runs of a (h, w) bool array whose first pixel is at `origin` (y, x); it must hold a True."""
        edges = np.diff(mask.astype(np.int8), axis=1, prepend=0, append=0)
        y, start = np.nonzero(edges == 1)
        stop = np.nonzero(edges == -1)[1]
        return cls(np.stack([y + origin[0], start + origin[1], stop + origin[1]], axis=1))

    @property
    def box(self) -> Box:
        y, start, stop = self.rows.T
        return Box((int(y.min()), int(start.min())), (int(y.max()) + 1, int(stop.max())))

    def mask(self, box: Box) -> np.ndarray:
        (y0, x0), (height, width) = box.start, box.shape
        rows = self.rows[(self.rows[:, 0] >= y0) & (self.rows[:, 0] < y0 + height)]
        steps = np.zeros((height, width + 1), dtype=np.int32)
        np.add.at(steps, (rows[:, 0] - y0, np.clip(rows[:, 1] - x0, 0, width)), 1)
        np.add.at(steps, (rows[:, 0] - y0, np.clip(rows[:, 2] - x0, 0, width)), -1)
        return np.asarray(np.cumsum(steps, axis=1)[:, :width] > 0)

    def tiles(self, image: Box) -> list[tuple[int, int]]:
        """The label tiles (ty, tx) in this shape's box, cut to an image, row by row."""
        return list(tiles_over(self.box.intersection(image)))


def tile_box(ty: int, tx: int) -> Box:
    """The 2-D (y, x) box of a label tile."""
    return Box((ty * TILE, tx * TILE), ((ty + 1) * TILE, (tx + 1) * TILE))


def tiles_over(box: Box) -> Iterator[tuple[int, int]]:
    """The label tiles (ty, tx) that a 2-D box without negative coordinates meets, row by row."""
    if box.is_empty:
        return
    for ty in range(box.start[0] // TILE, -(-box.stop[0] // TILE)):
        for tx in range(box.start[1] // TILE, -(-box.stop[1] // TILE)):
            yield ty, tx


def _segments(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends (n, 2) of the segments; the first is the first point alone, so each end is looked at once."""
    return np.concatenate([points[:1], points[:-1]]), points


def _tiles_along(start: list[float], end: list[float], radius: float, reach: Box) -> Iterator[tuple[int, int]]:
    """The tiles near one segment, tile row by tile row: a long one meets few of the tiles in its box."""
    (ax, ay), (bx, by) = start, end
    for ty in range(reach.start[0] // TILE, -(-reach.stop[0] // TILE)):
        shares = [0.0, 1.0]
        if ay != by:
            band = (ty * TILE - radius, (ty + 1) * TILE + radius)
            shares = [min(1.0, max(0.0, (y - ay) / (by - ay))) for y in band]
        xs = [ax + share * (bx - ax) for share in shares]
        first = max(reach.start[1], int(min(xs) - radius) - 1)
        last = min(reach.stop[1], int(max(xs) + radius) + 2)
        for tx in range(first // TILE, -(-last // TILE)):
            yield ty, tx


def _batches(numbers: np.ndarray, sides: np.ndarray) -> Iterator[np.ndarray]:
    """Segments in groups whose windows together have few enough pixels to stay in the processor's cache."""
    if len(numbers):
        size = max(1, _BATCH // int(sides[numbers].max(axis=0).prod()))
        for first in range(0, len(numbers), size):
            yield numbers[first : first + size]


def _mark(
    covered: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    radius: float,
    low: np.ndarray,
    high: np.ndarray,
    box: Box,
) -> None:
    """Mark the pixels near some segments, each looked for in its own window `low..high` (m, 2: y, x)."""
    height, width = (high - low).max(axis=0).tolist()
    rows = low[:, :1] + np.arange(height)
    columns = low[:, 1:] + np.arange(width)
    near = _near(rows + 0.5 - starts[:, 1:], columns + 0.5 - starts[:, :1], ends - starts, radius)
    near &= (rows < high[:, :1])[:, :, None]
    near &= (columns < high[:, 1:])[:, None, :]
    places = ((rows - box.start[0]) * box.shape[1] - box.start[1])[:, :, None] + columns[:, None, :]
    covered.reshape(-1)[places[near]] = True


def _near(y: np.ndarray, x: np.ndarray, step: np.ndarray, radius: float) -> np.ndarray:
    """Which pixel centers are within `radius` of a segment, but for those that only its start is near.

    The start is the end of the segment before. There is no division, so that ties stay exact.

    Args:
        y: (m, h) rows of the centers, seen from each segment's start.
        x: (m, w) columns, likewise.
        step: (m, 2) x, y from each segment's start to its end.
        radius: In pixels.

    Returns:
        (m, h, w) bool.
    """
    dx, dy = step[:, :1], step[:, 1:]
    length2, reach2 = (dx * dx + dy * dy)[:, :, None], radius * radius
    near: np.ndarray = _sums((y - dy) ** 2, (x - dx) ** 2) <= reach2
    along, across = _sums(y * dy, x * dx), _sums(-y * dx, x * dy)
    np.multiply(across, across, out=across)
    beside = across <= reach2 * length2
    beside &= along > 0
    beside &= along < length2
    near |= beside
    return near


def _sums(of_rows: np.ndarray, of_columns: np.ndarray) -> np.ndarray:
    """(m, h) and (m, w) give (m, h, w): each row's value plus each column's."""
    total: np.ndarray = of_rows[:, :, None] + of_columns[:, None, :]
    return total
