"""Answers of overlapping tiles, blended by weights that sum to one; only seams wait in memory.

For networks that see farther than a halo can reach, or whose norms look at the whole tile: each tile's answer is
a little different, and a hard cut between two would show as a step. Along each axis a tile is trusted to `overlap`
pixels beyond its core; there its weight falls from 1 to 0 while its neighbor's rises. So the image falls into
cells: inner ones, which one tile answers, and seams, which 2, 4 or 8 tiles share. A seam's sum waits until its
last tile has answered. Tiles are added in their order, so a prediction that was stopped gives the same bits.

Cores begin `overlap` pixels after multiples of the tile: then what is finished with a tile begins at the multiples
themselves, as chunks of files do, and so does what is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import erf, prod, sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import numpy as np

from fieldmark.core.geometry import Box, Tile, round_up

if TYPE_CHECKING:
    from collections.abc import Sequence

Blend = Literal["linear", "gaussian", "mean", "max", "any"]
"""How two tiles share a seam: by a ramp, by a smooth ramp, half each, the larger value, or any object that one saw."""

_SPREAD = 2.0
"""Standard deviations of the normal curve from the middle of a seam to its end."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of one tile along one axis: pixels `start` to `stop`, shared by tiles `first` to `last` of that axis."""

    start: int
    stop: int
    first: int
    last: int
    weight: np.ndarray | None
    """(stop - start,) float32 weight of this tile; None where the piece is its alone."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A box over t, z, y, x that the same tiles answer; `last` is the tile after which it is finished."""

    box: Box
    first: int
    last: int
    weight: np.ndarray | None
    """The weight of the tile that was asked, (z, y, x) or less by broadcasting, float32; None for 1."""


@dataclass(frozen=True, slots=True)
class _Axis:
    size: int
    tile: int
    overlap: int
    margin: int
    stride: int
    blend: Blend

    @property
    def count(self) -> int:
        return max(1, -(-(self.size - self.overlap) // self.tile))

    def core(self, number: int) -> tuple[int, int]:
        """What the tile is trusted for more than its neighbors."""
        return self._edge(number), self._edge(number + 1)

    def finished(self, number: int) -> tuple[int, int]:
        """What no later tile has a share in, and no earlier one finishes."""
        return number * self.tile, self.size if number + 1 == self.count else (number + 1) * self.tile

    def read(self, number: int) -> tuple[int, int]:
        """What the model sees: the seams, what is between, the margin, and a whole tile where the image has one."""
        start = min(number * self.tile, (self.size - self.tile) // self.stride * self.stride) - self.margin
        stop = round_up((number + 1) * self.tile + 2 * self.overlap, self.stride) + self.margin
        return max(0, start), min(self.size, stop)

    def pieces(self, number: int) -> list[Piece]:
        """The seam with the tile before, what is the tile's alone, the seam with the tile after."""
        start, stop = self.core(number)
        found = []
        if number > 0:
            found.append(self._seam(start, number - 1, rising=True))
            start += self.overlap
        has_next = number + 1 < self.count
        found.append(Piece(start, stop - self.overlap if has_next else stop, number, number, None))
        if has_next:
            found.append(self._seam(stop, number, rising=False))
        return [piece for piece in found if piece.start < piece.stop]

    def _edge(self, number: int) -> int:
        """The middle of the seam before a tile."""
        if number == 0:
            return 0
        return self.size if number == self.count else number * self.tile + self.overlap

    def _seam(self, edge: int, first: int, *, rising: bool) -> Piece:
        start, stop = edge - self.overlap, min(edge + self.overlap, self.size)
        right = ramp(self.blend, 2 * self.overlap)[: stop - start]
        return Piece(start, stop, first, first + 1, right if rising else np.float32(1) - right)


@dataclass(frozen=True)
class BlendPlan:
    """How an image is cut into overlapping tiles. Reads no pixel. All tuples are over t, z, y, x.

    Args:
        shape: Image size in pixels, at least 1 along every axis.
        tile: From one tile to the next, in pixels, a multiple of the stride.
        overlap: Pixels by which a tile reaches over its core, at most half of the tile; the seam is twice as wide.
        margin: More context around that, in pixels, a multiple of the stride.
        stride: The model's total downsampling; tiles are read from multiples of it.
        blend: How seams are shared.
        background: The place of the class that is no object, for `any`.
    """

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    overlap: tuple[int, ...]
    margin: tuple[int, ...]
    stride: tuple[int, ...]
    blend: Blend = "linear"
    background: int = 0

    def __post_init__(self) -> None:
        sides = (self.shape, self.tile, self.overlap, self.margin, self.stride)
        if len({len(side) for side in sides}) > 1:
            raise ValueError(f"A plan needs one shape, tile, overlap, margin and stride for each axis; got {self}.")
        if min((*self.shape, *self.tile, *self.stride), default=1) < 1 or min((*self.overlap, *self.margin)) < 0:
            raise ValueError(f"A plan needs shape, tile, stride >= 1 and overlap, margin >= 0; got {self}.")
        for tile, overlap, margin, stride in zip(self.tile, self.overlap, self.margin, self.stride, strict=True):
            if tile % stride or margin % stride:
                raise ValueError(f"tile {tile} and margin {margin} must be multiples of the model's stride, {stride}.")
            if 2 * overlap > tile:
                raise ValueError(f"overlap {overlap} is more than half of the tile, {tile}.")
        if self.overlap[0]:
            raise ValueError(f"Times are not blended; got an overlap of {self.overlap[0]}.")

    @cached_property
    def _axes(self) -> tuple[_Axis, ...]:
        sides = zip(self.shape, self.tile, self.overlap, self.margin, self.stride, strict=True)
        return tuple(_Axis(*side, self.blend) for side in sides)

    @cached_property
    def _steps(self) -> tuple[int, ...]:
        """By how much a tile's index grows with a step along each axis."""
        counts = [axis.count for axis in self._axes]
        return tuple(prod(counts[place + 1 :]) for place in range(len(counts)))

    def __len__(self) -> int:
        return prod(axis.count for axis in self._axes)

    def __iter__(self) -> Iterator[Tile]:
        for index, at in enumerate(product(*(range(axis.count) for axis in self._axes))):
            core = _box(axis.core(number) for axis, number in zip(self._axes, at, strict=True))
            read = _box(axis.read(number) for axis, number in zip(self._axes, at, strict=True))
            yield Tile(index, read=read, core=core)

    def _numbers(self, tile: Tile) -> list[int]:
        counts = [axis.count for axis in self._axes]
        return [tile.index // step % count for step, count in zip(self._steps, counts, strict=True)]

    def finished(self, tile: Tile) -> Box:
        """All cells that end with a tile: these boxes partition the image."""
        return _box(axis.finished(number) for axis, number in zip(self._axes, self._numbers(tile), strict=True))

    def cells(self, tile: Tile) -> list[Cell]:
        """The cells that a tile has a share in: its core's and, beyond it, the far halves of its seams."""
        numbers = self._numbers(tile)
        rows = [axis.pieces(number) for axis, number in zip(self._axes, numbers, strict=True)]
        return [self._cell(pieces) for pieces in product(*rows)]

    def _cell(self, pieces: Sequence[Piece]) -> Cell:
        steps = list(zip(pieces, self._steps, strict=True))
        first, last = (sum(getattr(piece, end) * step for piece, step in steps) for end in ("first", "last"))
        return Cell(_box((piece.start, piece.stop) for piece in pieces), first, last, _weight(pieces))


def ramp(blend: Blend, length: int) -> np.ndarray:
    """The weight of the tile after a seam over its pixels: (length,) float32, `ramp[i] + ramp[-1 - i] == 1`.

    `max` and `any` weigh nothing: (length,) ones.
    """
    places = (np.arange(length) + 0.5) / max(1, length)
    match blend:
        case "linear":
            weights = places
        case "gaussian":
            full = erf(_SPREAD / sqrt(2))
            weights = np.array([0.5 + 0.5 * erf(_SPREAD * (2 * u - 1) / sqrt(2)) / full for u in places])
        case "mean":
            weights = np.full(length, 0.5)
        case _:
            weights = np.ones(length)
    return weights.astype(np.float32)


class Waiting:
    """Sums of seams that some tile has yet to answer; the oldest go to disk where they would take too much memory.

    Args:
        blend: How seams are shared.
        folder: Where sums are put that have no room; the system's folder for such things where None.
        most_bytes: The most that waits in memory.
    """

    def __init__(self, blend: Blend, folder: Path | None = None, *, most_bytes: int = 2**28) -> None:
        self.blend = blend
        self.peak_bytes = 0
        """The most that waited in memory at any time."""
        self._folder = folder
        self._most_bytes = most_bytes
        self._sums: dict[tuple[int, ...], np.ndarray] = {}
        self._bytes = 0
        self._aside: TemporaryDirectory[str] | None = None

    def add(self, tile: int, cell: Cell, answers: np.ndarray) -> np.ndarray | None:
        """Add a tile's answers (t, k, z, y, x) to a cell; the cell's answers where no other tile is missing."""
        if cell.first == cell.last:
            return answers
        share = answers if self._weighs_nothing or cell.weight is None else answers * cell.weight
        before = self._take(cell) if cell.first < tile else None
        total = share if before is None else self._joined(before, share)
        if cell.last == tile:
            return total
        self._keep(cell, total)
        return None

    def close(self) -> None:
        """Let go of all that waits."""
        self._sums.clear()
        if self._aside is not None:
            self._aside.cleanup()

    @property
    def _weighs_nothing(self) -> bool:
        return self.blend in ("max", "any")

    def _joined(self, before: np.ndarray, share: np.ndarray) -> np.ndarray:
        joined: np.ndarray = np.maximum(before, share) if self._weighs_nothing else before + share
        return joined

    def _keep(self, cell: Cell, total: np.ndarray) -> None:
        kept = np.array(total, np.float32, order="C")  # not a view: it would hold the whole tile
        while self._sums and self._bytes + kept.nbytes > self._most_bytes:
            oldest = next(iter(self._sums))
            np.save(self._file(oldest), self._sums[oldest], allow_pickle=False)
            self._bytes -= self._sums.pop(oldest).nbytes
        self._sums[cell.box.start] = kept
        self._bytes += kept.nbytes
        self.peak_bytes = max(self.peak_bytes, self._bytes)

    def _take(self, cell: Cell) -> np.ndarray:
        found = self._sums.pop(cell.box.start, None)
        if found is not None:
            self._bytes -= found.nbytes
            return found
        file = self._file(cell.box.start)
        aside: np.ndarray = np.load(file, allow_pickle=False)
        file.unlink()
        return aside

    def _file(self, start: tuple[int, ...]) -> Path:
        if self._aside is None:
            self._aside = TemporaryDirectory(prefix="seams-", dir=self._folder)
        return Path(self._aside.name) / f"{'-'.join(map(str, start))}.npy"


def votes(answers: np.ndarray, background: int = 0) -> np.ndarray:
    """What `any` joins: 1 for the most probable class of each pixel, less for the background, so that objects win.

    Args:
        answers: (t, k, z, y, x) probabilities; of one channel, the probability of an object.
        background: The place of the class that is no object.

    Returns:
        Of the same shape, float32.
    """
    if answers.shape[1] == 1:
        return (answers > 0.5).astype(np.float32)
    places = np.arange(answers.shape[1]).reshape(1, -1, 1, 1, 1)
    chosen: np.ndarray = (answers.argmax(axis=1)[:, None] == places).astype(np.float32)
    chosen[:, background] *= 0.5
    return chosen


def _weight(pieces: Sequence[Piece]) -> np.ndarray | None:
    """The product of the weights along z, y, x."""
    total: np.ndarray | None = None
    for place, piece in enumerate(pieces[1:]):
        if piece.weight is not None:
            shaped = piece.weight.reshape([-1 if axis == place else 1 for axis in range(len(pieces) - 1)])
            total = shaped if total is None else total * shaped
    return total


def _box(sides: Iterator[tuple[int, int]]) -> Box:
    start, stop = zip(*sides, strict=True)
    return Box(start, stop)
