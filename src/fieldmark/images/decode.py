"""Read every pixel once, to find out whether a file is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import prod

import numpy as np

from fieldmark.core.geometry import Box, round_up
from fieldmark.images.source import Grained, ImageSource

_PIECE_BYTES = 1 << 24
_VALUE_BYTES = 1 << 21
"""Of pixels whose values are looked at: they take up to eight times that as 64-bit numbers, and are sorted."""


def decode_once(source: ImageSource) -> None:
    """Read every pixel of every level once, a bounded piece at a time, and keep none.

    Raises:
        BadFile: The file is truncated or damaged somewhere.
    """
    for level in range(len(source.levels)):
        for box in pieces(source, level):
            source.read(box, level)


def values_in(source: ImageSource, channels: Sequence[int], read: Callable[[np.ndarray], np.ndarray]) -> set[int]:
    """The whole numbers in channels, a bounded piece at a time: memory does not follow the image.

    Args:
        source: The image.
        channels: Their places along c, in order, without a gap.
        read: From (n, x, c) pixels, for one channel (n, x), to their numbers; it raises where they are none.
    """
    t, _, z, y, x = source.shape
    found: set[int] = set()
    for box in pieces(source, max_bytes=_VALUE_BYTES, within=Box((0, 0, 0, 0, 0), (t, 1, z, y, x))):
        (t0, _, *start), (t1, _, *stop) = box.start, box.stop
        pixels = source.read(Box((t0, channels[0], *start), (t1, channels[-1] + 1, *stop)))
        flat = np.moveaxis(pixels, 1, -1).reshape(-1, pixels.shape[-1], len(channels))
        found.update(np.unique(read(flat[..., 0] if len(channels) == 1 else flat)).tolist())
    return found


def pieces(
    source: ImageSource, level: int = 0, max_bytes: int = _PIECE_BYTES, *, within: Box | None = None
) -> Iterator[Box]:
    """Boxes that partition a level, or the part of it that is `within`, aligned to how its file is stored.

    Each takes about `max_bytes` of pixels at most, unless one stored piece alone takes more.
    """
    shape = source.levels[level]
    part = within or Box.whole(shape)
    grain = source.grain(level) if isinstance(source, Grained) else (1, 1, 1, 256, shape[4])
    side = _grow(part.shape, grain, max_bytes // source.dtype.itemsize)
    first = (a // step * step for a, step in zip(part.start, side, strict=True))
    for corner in product(*map(range, first, part.stop, side)):
        yield Box(corner, tuple(a + step for a, step in zip(corner, side, strict=True))).intersection(part)


def _grow(shape: tuple[int, ...], grain: tuple[int, ...], pixels: int) -> tuple[int, ...]:
    """Multiply the grain along x, y, then z, c and t while it stays below `pixels`."""
    side = [min(g, round_up(n, g)) for g, n in zip(grain, shape, strict=True)]
    for axis in (4, 3, 2, 1, 0):
        room = max(1, pixels // prod(side))
        side[axis] = min(side[axis] * room, round_up(shape[axis], grain[axis]))
    return tuple(side)
