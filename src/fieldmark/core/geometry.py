"""Boxes, tiles and tile plans: arithmetic on frozen values that reads no pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open box of pixels in any number of axes: `start[i] <= p[i] < stop[i]`."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.start) != len(self.stop):
            raise ValueError(f"A box needs one start and one stop for each axis; got {self.start} and {self.stop}.")

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Box:
        """The box of a whole array."""
        return cls((0,) * len(shape), tuple(int(n) for n in shape))

    @property
    def ndim(self) -> int:
        return len(self.start)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(max(0, b - a) for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def is_empty(self) -> bool:
        return self.size == 0

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def grown(self, by: Sequence[int], inside: Box) -> Box:
        """Larger by `by[i]` pixels on both sides of axis i, cut at the borders of `inside`."""
        return Box(
            tuple(max(a - n, low) for a, n, low in zip(self.start, by, inside.start, strict=True)),
            tuple(min(b + n, high) for b, n, high in zip(self.stop, by, inside.stop, strict=True)),
        )

    def shifted(self, by: Sequence[int]) -> Box:
        return Box(
            tuple(a + n for a, n in zip(self.start, by, strict=True)),
            tuple(b + n for b, n in zip(self.stop, by, strict=True)),
        )

    def relative_to(self, origin: Box) -> Box:
        """The same pixels, counted from the first pixel of `origin`."""
        return self.shifted(tuple(-a for a in origin.start))

    def intersection(self, other: Box) -> Box:
        """The pixels in both; an empty box where they do not meet."""
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        return Box(start, tuple(max(a, b) for a, b in zip(start, stop, strict=True)))

    def contains(self, other: Box) -> bool:
        return all(a <= b for a, b in zip(self.start, other.start, strict=True)) and all(
            a >= b for a, b in zip(self.stop, other.stop, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Tile:
    """One piece of a plan: `read` is what the model sees, `core` what it is trusted for."""

    index: int
    read: Box
    core: Box


@dataclass(frozen=True, slots=True)
class TilePlan:
    """How an image of any number of axes is cut for inference. Reads no pixel.

    The cores partition the image. All tuples have one entry for each axis.

    Args:
        shape: Image size in pixels, at least 1 along every axis.
        tile: Core side in pixels.
        halo: Context read around each core, in pixels; at least the model's
            receptive-field radius if seams are to vanish.
        stride: The model's total downsampling. Tiles start on multiples of it;
            otherwise a pooling layer would see a shifted grid in every tile.
    """

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    halo: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.shape) == len(self.tile) == len(self.halo) == len(self.stride):
            raise ValueError(f"TilePlan needs one shape, tile, halo and stride for each axis; got {self}.")
        if min((*self.shape, *self.tile, *self.stride), default=1) < 1 or min(self.halo, default=0) < 0:
            raise ValueError(f"TilePlan needs shape, tile, stride >= 1 and halo >= 0; got {self}.")
        for tile, halo, stride in zip(self.tile, self.halo, self.stride, strict=True):
            if tile % stride or halo % stride:
                raise ValueError(f"tile {tile} and halo {halo} must be multiples of the model's stride, {stride}.")

    def __len__(self) -> int:
        return prod(-(-n // t) for n, t in zip(self.shape, self.tile, strict=True))

    def __iter__(self) -> Iterator[Tile]:
        image = Box.whole(self.shape)
        corners = product(*(range(0, n, t) for n, t in zip(self.shape, self.tile, strict=True)))
        for index, corner in enumerate(corners):
            stop = tuple(min(c + t, n) for c, t, n in zip(corner, self.tile, self.shape, strict=True))
            core = Box(corner, stop)
            yield Tile(index, read=core.grown(self.halo, inside=image), core=core)


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `value`."""
    return -(-value // multiple) * multiple
