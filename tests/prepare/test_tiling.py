"""Tiles: where they begin, what they show; against loops over every pixel."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.prepare.tiling import share_of, slices_measured, starts, tiles_of
from fieldmark.recipes.prepare import TilesConfig


@given(st.integers(1, 200), st.integers(1, 90), st.integers(1, 90))
def test_tiles_reach_both_borders_and_never_beyond(size, side, step):
    found = starts(size, side, step)
    assert found == sorted(set(found))
    assert found[0] == 0
    if size <= side:
        assert found == [0]
        return
    assert found[-1] == size - side
    assert all(b - a <= step for a, b in pairwise(found))
    assert all(a % step == 0 for a in found[:-1])


def test_planes_stacks_and_volumes():
    flat = TilesConfig(size=(1, 8, 10), step=(1, 8, 5))
    boxes = list(tiles_of((2, 20, 22), flat))
    assert {box.start[1] for box in boxes} == {0, 8, 12}
    assert {box.start[2] for box in boxes} == {0, 5, 10, 12}
    assert len(boxes) == 2 * 3 * 4
    assert all(box.shape == (1, 8, 10) for box in boxes)
    stacks = flat.model_copy(update={"depths": (1, 5), "mask_depth": 3})
    middles = list(tiles_of((7, 8, 10), stacks))
    assert [box.start[0] for box in middles] == [2, 3, 4]
    assert slices_measured(middles[0], stacks, 7) == range(1, 4)
    solid = TilesConfig(size=(4, 8, 10), step=(3, 8, 10))
    deep = list(tiles_of((9, 8, 10), solid))
    assert [box.start[0] for box in deep] == [0, 3, 5]
    assert slices_measured(deep[1], solid, 9) == range(3, 7)
    (small,) = tiles_of((1, 5, 6), flat)
    assert small == Box((0, 0, 0), (1, 5, 6))
    with pytest.raises(BadInput, match="stacks of 5 slices, and an image has 4"):
        list(tiles_of((4, 8, 10), stacks))


@given(st.integers(2, 40), st.integers(2, 12), st.integers(2, 14), st.integers(1, 9))
def test_tiles_lie_in_sub_volumes_that_share_a_slice(depth, own, side, step):
    """Every slice is in a sub-volume; by hand, slice by slice, tiles never cross from one into the next."""
    rule = TilesConfig(size=(side, 4, 4), step=(step, 4, 4), subvolume=(own, own - 1))
    found = {(box.start[0], box.stop[0]) for box in tiles_of((depth, 4, 4), rule)}
    volumes = []
    first = 0
    while first + own < depth:
        volumes.append((first, first + own))
        first += own - 1
    volumes.append((max(0, depth - own), depth))
    assert all(any(a <= low and high <= b for a, b in volumes) for low, high in found)
    assert all(high - low == min(side, own, depth) for low, high in found)
    for a, b in volumes:
        inside = [span for span in found if a <= span[0] and span[1] <= b]
        assert min(low for low, _ in inside) == a
        assert max(high for _, high in inside) == b
        if step <= side:
            assert {z for low, high in inside for z in range(low, high)} == set(range(a, b))


def test_the_share_is_counted():
    mask = np.zeros((20, 30), bool)
    mask[5:9, 10:20] = True
    assert share_of(mask, Box((5, 10), (9, 20))) == 1
    assert share_of(mask, Box((0, 0, 10), (1, 10, 30))) == pytest.approx(40 / 200)
    assert share_of(mask, Box((10, 0), (20, 30))) == 0
