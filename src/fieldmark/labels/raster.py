"""Which pixels a stroke covers. Pure geometry: reads and writes nothing.

Coordinates are in pixels: pixel (row r, column c) covers r..r+1 and c..c+1, and its center is (r + 0.5, c + 0.5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput

TILE = 256
"""Side of a label tile, in pixels."""

_SMALL, _BATCH = 64, 64  # windows of at most 64 x 64 pixels are looked at 64 at a time
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
        starts, ends = _segments(self.points)
        low, high = _reach(starts, ends, self.radius)
        low, high = np.maximum(low, box.start), np.minimum(high, box.stop)
        sides = high - low
        inside = (sides > 0).all(axis=1)
        small = inside & (sides <= _SMALL).all(axis=1)
        for some in _batches(np.flatnonzero(small), _BATCH):
            _mark(covered, starts[some], ends[some], self.radius, low[some], high[some], box)
        for one in np.flatnonzero(inside & ~small):
            _mark(covered, starts[[one]], ends[[one]], self.radius, low[[one]], high[[one]], box)
        return covered


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
    """Starts and ends (m, 2) of the segments; a single point is a segment of no length."""
    return (points, points) if len(points) == 1 else (points[:-1], points[1:])


def _reach(starts: np.ndarray, ends: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """First and last + 1 pixel (m, 2: y, x) that each segment may cover."""
    low, high = np.minimum(starts, ends)[:, ::-1], np.maximum(starts, ends)[:, ::-1]
    return np.ceil(low - radius - 0.5).astype(np.int64), np.floor(high + radius - 0.5).astype(np.int64) + 1


def _batches(numbers: np.ndarray, size: int) -> Iterator[np.ndarray]:
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
    rows = low[:, 0, None] + np.arange(height)
    columns = low[:, 1, None] + np.arange(width)
    near = _near(rows + 0.5 - starts[:, 1, None], columns + 0.5 - starts[:, 0, None], ends - starts, radius)
    near &= (rows < high[:, 0, None])[:, :, None] & (columns < high[:, 1, None])[:, None, :]
    segment, row, column = np.nonzero(near)
    covered[rows[segment, row] - box.start[0], columns[segment, column] - box.start[1]] = True


def _near(y: np.ndarray, x: np.ndarray, step: np.ndarray, radius: float) -> np.ndarray:
    """Which pixel centers are within `radius` of a segment. Without a division, so that ties stay exact.

    Args:
        y: (m, h) rows of the centers, seen from each segment's start.
        x: (m, w) columns, likewise.
        step: (m, 2) x, y from each segment's start to its end.
        radius: In pixels.

    Returns:
        (m, h, w) bool.
    """
    y, x = y[:, :, None], x[:, None, :]
    dx, dy = step[:, 0, None, None], step[:, 1, None, None]
    length2, reach2 = dx * dx + dy * dy, radius * radius
    along = x * dx + y * dy
    near: np.ndarray = (x * dy - y * dx) ** 2 <= reach2 * length2
    near &= (along > 0) & (along < length2)
    near |= x * x + y * y <= reach2
    near |= (x - dx) ** 2 + (y - dy) ** 2 <= reach2
    return near
