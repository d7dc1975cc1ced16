from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.geometry import Box, TilePlan, round_up


@st.composite
def plans(draw: st.DrawFn) -> TilePlan:
    """Plans of 1 to 4 axes, small enough to be painted."""
    ndim = draw(st.integers(1, 4))
    stride = draw(st.tuples(*[st.sampled_from([1, 2, 4, 8])] * ndim))
    tiles = draw(st.tuples(*[st.integers(1, 4)] * ndim))
    halos = draw(st.tuples(*[st.integers(0, 3)] * ndim))
    shape = draw(st.tuples(*[st.integers(1, (40, 40, 12, 7)[ndim - 1])] * ndim))
    return TilePlan(
        shape,
        tuple(t * s for t, s in zip(tiles, stride, strict=True)),
        tuple(h * s for h, s in zip(halos, stride, strict=True)),
        stride,
    )


def boxes(ndim: int = 3, low: int = -5, high: int = 12) -> st.SearchStrategy[Box]:
    point = st.tuples(*[st.integers(low, high)] * ndim)
    return st.builds(Box, point, point)


def painted(box: Box) -> set[tuple[int, ...]]:
    """The pixels of a box, counted one by one."""
    corners = zip(box.start, box.stop, strict=True)
    grids = np.meshgrid(*[np.arange(a, b) for a, b in corners], indexing="ij")
    return set(zip(*(grid.ravel().tolist() for grid in grids), strict=True))


@given(plans())
def test_the_cores_partition_the_image(plan):
    seen = np.zeros(plan.shape, int)
    for tile in plan:
        seen[tile.core.slices] += 1
    assert (seen == 1).all()


@given(plans())
def test_tiles_are_numbered_in_order_and_counted(plan):
    assert [tile.index for tile in plan] == list(range(len(plan)))


@given(plans())
def test_reads_hold_their_cores_and_stay_inside(plan):
    image = Box.whole(plan.shape)
    for tile in plan:
        assert not tile.core.is_empty
        assert image.contains(tile.read)
        assert tile.read.contains(tile.core)


@given(plans())
def test_reads_begin_on_the_stride_and_reach_the_halo_or_the_border(plan):
    for tile in plan:
        for axis, (stride, halo) in enumerate(zip(plan.stride, plan.halo, strict=True)):
            before = tile.core.start[axis] - tile.read.start[axis]
            after = tile.read.stop[axis] - tile.core.stop[axis]
            assert tile.read.start[axis] % stride == 0
            assert tile.core.start[axis] % stride == 0
            assert before == halo or (before < halo and tile.read.start[axis] == 0)
            assert after == halo or (after < halo and tile.read.stop[axis] == plan.shape[axis])


def test_one_pixel_is_one_tile():
    (tile,) = TilePlan((1, 1), (512, 512), (32, 32), (8, 8))
    assert tile.core == tile.read == Box((0, 0), (1, 1))


def test_a_plan_by_hand():
    tiles = list(TilePlan((5, 6), (4, 4), (2, 0), (2, 1)))
    assert [(t.core.start, t.core.stop, t.read.start, t.read.stop) for t in tiles] == [
        ((0, 0), (4, 4), (0, 0), (5, 4)),
        ((0, 4), (4, 6), (0, 4), (5, 6)),
        ((4, 0), (5, 4), (2, 0), (5, 4)),
        ((4, 4), (5, 6), (2, 4), (5, 6)),
    ]


@pytest.mark.parametrize(
    "facts",
    [
        {"tile": (3, 4)},  # no multiple of the stride
        {"halo": (1, 0)},
        {"shape": (0, 4)},
        {"halo": (-2, 0)},
        {"stride": (0, 1)},
        {"tile": (4,)},
    ],
)
def test_a_plan_that_cannot_be_is_refused(facts):
    good = {"shape": (8, 8), "tile": (4, 4), "halo": (2, 0), "stride": (2, 1)}
    with pytest.raises(ValueError, match=r"TilePlan needs|must be multiples"):
        TilePlan(**(good | facts))


@given(boxes(), boxes())
def test_intersection_is_that_of_the_pixels(a, b):
    both = a.intersection(b)
    assert painted(both) == painted(a) & painted(b)
    assert both.size == len(painted(both))
    assert both.is_empty == (not painted(both))


@given(boxes(), boxes())
def test_a_box_that_contains_another_has_all_its_pixels(a, b):
    if a.contains(b):
        assert painted(b) <= painted(a)
    if painted(b) and painted(b) <= painted(a):
        assert a.contains(b)


@given(boxes(low=0), st.tuples(*[st.integers(0, 4)] * 3))
def test_growing_adds_what_is_near_and_inside(box, by):
    image = Box((0, 0, 0), (12, 12, 12))
    if box.is_empty:
        return
    wide = {
        p
        for p in painted(image)
        if all(a - n <= x < b + n for x, a, b, n in zip(p, box.start, box.stop, by, strict=True))
    }
    assert painted(box.grown(by, inside=image)) == wide


@given(boxes(), boxes())
def test_relative_boxes_pick_the_same_pixels(a, b):
    moved = a.relative_to(b)
    assert moved.shape == a.shape
    assert moved.shifted(b.start) == a


def test_slices_pick_the_pixels_of_an_array():
    array = np.arange(24).reshape(4, 6)
    assert array[Box((1, 2), (3, 5)).slices].tolist() == [[8, 9, 10], [14, 15, 16]]


def test_a_box_needs_as_many_starts_as_stops():
    with pytest.raises(ValueError, match="one start and one stop"):
        Box((0,), (1, 1))


@given(st.integers(0, 1000), st.integers(1, 50))
def test_rounding_up(value, multiple):
    assert round_up(value, multiple) == min(n for n in range(0, 1100, multiple) if n >= value)
