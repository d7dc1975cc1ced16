"""Which tiles of an image show enough: a list of boxes, without a copy of any pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput

if TYPE_CHECKING:
    from fieldmark.recipes.prepare import TilesConfig


def starts(size: int, side: int, step: int) -> list[int]:
    """Where tiles begin along an axis: every `step` pixels, the last one flush with the border."""
    if size <= side:
        return [0]
    return [*range(0, size - side, step), size - side]


def tiles_of(shape: Sequence[int], rule: TilesConfig) -> Iterator[Box]:
    """Every tile over z, y, x of a volume; in one that is smaller than a tile, all of it.

    Raises:
        BadInput: There are fewer slices than a stack needs.
    """
    depth, *plane = shape
    require_depth(depth, rule)
    rows, columns = map(starts, plane, rule.size[1:], rule.step[1:])
    for (z0, z1), y, x in product(_spans(depth, rule), rows, columns):
        yield Box((z0, y, x), (z1, min(shape[1], y + rule.size[1]), min(shape[2], x + rule.size[2])))


def require_depth(depth: int, rule: TilesConfig, name: str = "an image") -> None:
    """Raise BadInput where an image has fewer slices than a stack needs."""
    if depth < rule.depth:
        raise BadInput(f"tile.depths asks for stacks of {rule.depth} slices, and {name} has {depth}. Lower it.")


def _spans(depth: int, rule: TilesConfig) -> list[tuple[int, int]]:
    """First slice of each tile, and the one after its last: in each sub-volume by itself, where there are any."""
    half, side = rule.depth // 2, rule.size[0]
    if rule.subvolume is None or side == 1:
        first = [half + z for z in starts(depth - 2 * half, side, rule.step[0])]
        return [(z, min(depth, z + side)) for z in first]
    own, step = min(rule.subvolume[0], depth), rule.subvolume[1]
    inner = starts(own, side, rule.step[0])
    return sorted({(z + n, z + min(n + side, own)) for z in starts(depth, own, step) for n in inner})


def share_of(mask: np.ndarray, box: Box) -> float:
    """The share of foreground of a box along y and x in a plane (y, x) bool, 0..1."""
    inside = mask[box.slices[-2:]]
    return float(np.count_nonzero(inside)) / max(1, inside.size)


def slices_measured(box: Box, rule: TilesConfig, depth: int) -> range:
    """The slices whose foreground decides on a tile."""
    if rule.size[0] > 1:
        return range(box.start[0], box.stop[0])
    half = rule.mask_depth // 2
    return range(max(0, box.start[0] - half), min(depth, box.start[0] + half + 1))
