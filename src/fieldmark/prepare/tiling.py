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
    if depth < rule.depth:
        raise BadInput(f"tile.depths asks for stacks of {rule.depth} slices, and an image has {depth}. Lower it.")
    half = rule.depth // 2
    along_z = starts(depth - 2 * half, rule.size[0], rule.step[0])
    axes = [[half + z for z in along_z], *map(starts, plane, rule.size[1:], rule.step[1:])]
    for corner in product(*axes):
        stop = (min(n, a + side) for n, a, side in zip(shape, corner, rule.size, strict=True))
        yield Box(corner, tuple(stop))


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
