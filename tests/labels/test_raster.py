"""Which pixels a stroke covers, against exact arithmetic pixel by pixel."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.labels import Polyline, Runs
from fieldmark.labels.raster import TILE, tile_box, tiles_over


def exact_mask(points: list[tuple[float, float]], radius: float, box: Box) -> np.ndarray:
    """By the nearest place on each segment, in fractions: no rounding at all."""
    out = np.zeros(box.shape, dtype=bool)
    segments = list(pairwise(points)) or [(points[0], points[0])]
    for row, column in np.ndindex(*box.shape):
        y, x = Fraction(box.start[0] + row) + Fraction(1, 2), Fraction(box.start[1] + column) + Fraction(1, 2)
        out[row, column] = any(squared_distance(x, y, a, b) <= Fraction(radius) ** 2 for a, b in segments)
    return out


def squared_distance(x: Fraction, y: Fraction, a: tuple[float, float], b: tuple[float, float]) -> Fraction:
    ax, ay, bx, by = Fraction(a[0]), Fraction(a[1]), Fraction(b[0]), Fraction(b[1])
    length = (bx - ax) ** 2 + (by - ay) ** 2
    along = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length if length else Fraction(0)
    along = min(Fraction(1), max(Fraction(0), along))
    return (x - ax - along * (bx - ax)) ** 2 + (y - ay - along * (by - ay)) ** 2


quarter = st.integers(-40, 80).map(lambda n: n / 4)
points = st.lists(st.tuples(quarter, quarter), min_size=1, max_size=4)
radii = st.integers(1, 24).map(lambda n: n / 4)


@settings(max_examples=15, deadline=None)
@given(points=points, radius=radii)
@example(points=[(5.5, 5.5)], radius=3.0)  # a 3-4-5 triangle's corners lie exactly on the rim
@example(points=[(3.0, 4.0), (3.0, 4.0)], radius=2.5)
@example(points=[(0.0, 0.0), (12.0, 9.0)], radius=2.5)
def test_a_polyline_covers_exactly_the_centers_within_its_radius(
    points: list[tuple[float, float]], radius: float
) -> None:
    box = Box((-3, -2), (11, 12))
    assert (Polyline(np.array(points), radius).mask(box) == exact_mask(points, radius, box)).all()


@settings(max_examples=40, deadline=None)
@given(points=points, radius=radii)
def test_a_polylines_box_holds_all_it_covers(points: list[tuple[float, float]], radius: float) -> None:
    stroke = Polyline(np.array(points), radius)
    world = Box((-40, -40), (60, 60))
    assert world.contains(stroke.box)
    outside = stroke.mask(world)
    inside = stroke.mask(stroke.box)
    assert outside.sum() == inside.sum()


@settings(max_examples=25, deadline=None)
@given(
    points=st.lists(st.tuples(st.floats(-50, 350), st.floats(-50, 350)), min_size=1, max_size=30),
    radius=st.floats(0.3, 90),
)
def test_pieces_of_a_box_equal_the_whole(points: list[tuple[float, float]], radius: float) -> None:
    stroke = Polyline(np.array(points), radius)
    whole = stroke.mask(Box((0, 0), (300, 300)))
    halves = [stroke.mask(Box((0, 0), (131, 300))), stroke.mask(Box((131, 0), (300, 300)))]
    assert (whole == np.concatenate(halves)).all()
    columns = [stroke.mask(Box((0, 0), (300, 256))), stroke.mask(Box((0, 256), (300, 300)))]
    assert (whole == np.concatenate(columns, axis=1)).all()


@settings(max_examples=25, deadline=None)
@given(
    points=st.lists(st.tuples(st.floats(-400, 1500), st.floats(-400, 1500)), min_size=1, max_size=4),
    radius=st.floats(0.3, 300),
)
def test_no_covered_tile_is_missed(points: list[tuple[float, float]], radius: float) -> None:
    stroke, image = Polyline(np.array(points), radius), Box((0, 0), (1100, 1000))
    wanted = [tile for tile in tiles_over(image) if stroke.mask(tile_box(*tile).intersection(image)).any()]
    found = stroke.tiles(image)
    assert found == sorted(set(found))
    assert set(wanted) <= set(found) <= set(tiles_over(image))


def test_a_long_stroke_meets_few_of_the_tiles_in_its_box() -> None:
    """A diagonal over an image of 1e10 pixels."""
    stroke = Polyline(np.array([[0.0, 0.0], [100_000.0, 100_000.0]]), 5)
    assert len(stroke.tiles(Box((0, 0), (100_000, 100_000)))) < 3 * 391


def test_x_is_the_column_and_y_the_row() -> None:
    mask = Polyline(np.array([[10.5, 2.5]]), 0.6).mask(Box((0, 0), (5, 20)))
    assert np.argwhere(mask).tolist() == [[2, 10]]


def test_a_dab_has_about_the_area_of_its_disc() -> None:
    mask = Polyline(np.array([[100.0, 100.0]]), 40).mask(Box((0, 0), (200, 200)))
    assert mask.sum() == pytest.approx(np.pi * 1600, rel=0.01)


def test_a_large_stroke_and_many_small_ones_agree() -> None:
    """Segments in small windows are looked at together, long ones alone; the way must not show."""
    path = np.array([[10.0, 10.0], [250.0, 180.0]])
    fine = path[0] + np.linspace(0, 1, 256)[:, None] * (path[1] - path[0])  # 1/255 steps: rounded, near the same line
    box = Box((0, 0), (200, 270))
    assert (Polyline(path, 7.3).mask(box) != Polyline(fine, 7.3).mask(box)).sum() <= 2


@pytest.mark.parametrize(
    ("points", "radius", "message"),
    [
        (np.zeros((0, 2)), 1, "n >= 1"),
        (np.zeros((3, 3)), 1, r"\(n, 2\)"),
        (np.zeros(2), 1, r"\(n, 2\)"),
        (np.array([[0, np.nan]]), 1, "must be numbers"),
        (np.array([[0, np.inf]]), 1, "must be numbers"),
        (np.array([[0, 1e300]]), 1, "must be numbers"),
        (np.zeros((1, 2)), 0, "radius is 0"),
        (np.zeros((1, 2)), -1, "radius is -1"),
        (np.zeros((1, 2)), np.nan, "radius is nan"),
        (np.zeros((1, 2)), np.inf, "radius is inf"),
    ],
)
def test_strokes_that_are_none_are_refused(points: np.ndarray, radius: float, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Polyline(points, radius)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(-5, 15), st.integers(-5, 15), st.integers(1, 12)), min_size=1, max_size=12))
def test_runs_cover_what_they_say(rows: list[tuple[int, int, int]]) -> None:
    runs = Runs(np.array([(y, start, start + length) for y, start, length in rows]))
    wanted = {(y, x) for y, start, length in rows for x in range(start, start + length)}
    box = Box((-3, -2), (11, 14))
    found = {(y - 3, x - 2) for y, x in np.argwhere(runs.mask(box)).tolist()}
    assert found == {(y, x) for y, x in wanted if -3 <= y < 11 and -2 <= x < 14}
    low, high = np.min(list(wanted), axis=0), np.max(list(wanted), axis=0) + 1
    assert runs.box == Box(tuple(low.tolist()), tuple(high.tolist()))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), height=st.integers(1, 20), width=st.integers(1, 20))
def test_the_runs_of_a_mask_give_the_mask(seed: int, height: int, width: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.4
    mask[0, 0] = True
    assert (Runs.of_mask(mask, (7, -3)).mask(Box((7, -3), (7 + height, width - 3))) == mask).all()


@pytest.mark.parametrize(
    "rows", [np.zeros((0, 3), int), np.zeros((1, 3)), np.array([[0, 3, 3]]), np.array([[0, 0, 10**9]])]
)
def test_runs_that_are_none_are_refused(rows: np.ndarray) -> None:
    with pytest.raises(BadInput):
        Runs(rows)


@settings(max_examples=40, deadline=None)
@given(
    start=st.tuples(st.integers(0, 900), st.integers(0, 900)), shape=st.tuples(st.integers(0, 600), st.integers(0, 600))
)
def test_the_tiles_over_a_box_are_those_that_it_meets(start: tuple[int, int], shape: tuple[int, int]) -> None:
    box = Box(start, (start[0] + shape[0], start[1] + shape[1]))
    wanted = [(ty, tx) for ty in range(7) for tx in range(7) if not tile_box(ty, tx).intersection(box).is_empty]
    assert list(tiles_over(box)) == wanted
    assert tile_box(1, 2) == Box((TILE, 2 * TILE), (2 * TILE, 3 * TILE))
