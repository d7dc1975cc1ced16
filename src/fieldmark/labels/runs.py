"""A label tile as runs of equal values in row order: what a stroke changes is counted in runs, not in pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.labels.raster import TILE

PIXELS = TILE * TILE


@dataclass(frozen=True, eq=False)
class TileRuns:
    """A (256, 256) tile, row by row.

    Args:
        starts: (n,) int64, the first pixel of each run; the first is 0, and they rise.
        values: (n,) integers, what each run holds; uint32 where they are stroke ids.
    """

    starts: np.ndarray
    values: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """(n,) int64 pixels of each run."""
        return lengths_of(self.starts)


EMPTY = TileRuns(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.uint32))
"""A tile of nobody."""


def lengths_of(starts: np.ndarray) -> np.ndarray:
    """(n,) int64 pixels of the runs that start there."""
    lengths: np.ndarray = _ends_of(starts) - starts
    return lengths


def _ends_of(starts: np.ndarray) -> np.ndarray:
    """(n,) int64, the pixel after each run."""
    ends = np.empty_like(starts)
    ends[:-1], ends[-1] = starts[1:], PIXELS
    return ends


def runs_of(array: np.ndarray) -> TileRuns:
    """A (256, 256) array as runs."""
    flat = np.ascontiguousarray(array).reshape(-1)
    changes = (flat[1:] != flat[:-1]).nonzero()[0]
    starts = np.zeros(len(changes) + 1, dtype=np.int64)
    starts[1:] = changes + 1
    return TileRuns(starts, flat[starts].astype(np.uint32))


def array_of(runs: TileRuns) -> np.ndarray:
    """Runs as a (256, 256) array of the values' type."""
    return np.repeat(runs.values, runs.lengths).reshape(TILE, TILE)


def overlay(below: TileRuns, above: TileRuns) -> tuple[TileRuns, dict[int, int]]:
    """Put one tile on top of another; where it holds 0, the lower one shows.

    Returns:
        The new tile, and how many pixels of each value of the lower one were covered (0 for nobody's).
    """
    starts, low, high = _merged(below, above)
    covered = high != 0
    lengths = lengths_of(starts)
    merged = _joined(TileRuns(starts, np.where(covered, high, low)))
    return merged, _sums(low[covered], lengths[covered])


def owned_in(runs: TileRuns) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of a tile that do not hold 0: (n, 2) int64 y, x in row order, and (n,) int64 their values."""
    held = runs.values != 0
    starts, lengths = runs.starts[held], runs.lengths[held]
    before = np.cumsum(lengths) - lengths
    pixels = np.arange(lengths.sum()) + np.repeat(starts - before, lengths)
    return np.column_stack([pixels // TILE, pixels % TILE]), np.repeat(runs.values[held].astype(np.int64), lengths)


def _merged(below: TileRuns, above: TileRuns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where one of two tiles changes: (n,) the first pixels, and the value of each tile there."""
    keys = np.concatenate([below.starts << 1, (above.starts << 1) | 1])
    keys.sort(kind="stable")
    starts, is_above = keys >> 1, keys & 1
    known = np.cumsum(is_above)  # runs of the upper tile that began up to here; the rest are the lower one's
    places = (_ends_of(starts) != starts).nonzero()[0]  # of two that begin at one pixel, the second knows both
    uppers = known[places]
    return starts[places], below.values[places - uppers], above.values[uppers - 1]


def count(runs: TileRuns) -> dict[int, int]:
    """Pixels of each value but 0."""
    held = runs.values != 0
    return _sums(runs.values[held], runs.lengths[held])


def only(runs: TileRuns, value: int) -> TileRuns:
    """The tile that holds 1 where this one holds `value`, else 0."""
    return _joined(TileRuns(runs.starts, (runs.values == value).astype(np.uint32)))


def box_of(runs: TileRuns, tile: Box) -> Box:
    """The tight 2-D (y, x) box of what is not 0, in image coordinates; there must be something.

    Args:
        runs: The tile.
        tile: Its place in the image.
    """
    held = runs.values != 0
    first, last = runs.starts[held], _ends_of(runs.starts)[held] - 1
    wraps = bool((first // TILE != last // TILE).any())
    left, right = (0, TILE) if wraps else (int((first % TILE).min()), int((last % TILE).max()) + 1)
    return Box((int(first[0]) // TILE, left), (int(last[-1]) // TILE + 1, right)).shifted(tile.start)


def _joined(runs: TileRuns) -> TileRuns:
    """The same tile with neighbours of one value made one run."""
    new = np.concatenate([[True], runs.values[1:] != runs.values[:-1]])
    return TileRuns(runs.starts[new], runs.values[new])


def _sums(values: np.ndarray, lengths: np.ndarray) -> dict[int, int]:
    if len(values) and (values == values[0]).all():
        return {int(values[0]): int(lengths.sum())}
    found, index = np.unique(values, return_inverse=True)
    totals = np.bincount(index, weights=lengths, minlength=len(found)).astype(np.int64)
    return dict(zip(found.tolist(), totals.tolist(), strict=True))
