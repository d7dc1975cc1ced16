"""Light that planes share, against the light that they were drawn in."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.errors import BadInput
from fieldmark.prepare.flat_field import grid_surface, surface_at
from fieldmark.prepare.light import BasicLight, BlockLight, Light, basic, cells_of, light_of
from fieldmark.recipes.prepare import FlatFieldConfig


def lamp(y: int, x: int) -> np.ndarray:
    """Off the middle, of mean 1, and no polynomial."""
    v, u = np.meshgrid(np.linspace(-1, 1, y), np.linspace(-1, 1, x), indexing="ij")
    field = np.exp(-((v + 0.15) ** 2 + (u - 0.4) ** 2) / 1.6)
    return field / field.mean()


def drawn(count: int, size: tuple[int, int], seed: int = 0) -> list[np.ndarray]:
    """Planes of bright discs on dark ground, each plane of its own exposure, in the lamp's light, with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    planes = []
    for _ in range(count):
        shown = np.full(size, 100.0)
        for _ in range(size[0] * size[1] // 1500):
            cy, cx, radius = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(3, 9)
            shown[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = 900
        planes.append(rng.uniform(0.5, 2) * shown * lamp(*size) + rng.normal(0, 4, size))
    return planes


def found(light: Light, planes: list[np.ndarray]) -> np.ndarray:
    for plane in planes:
        light.add(plane)
    y, x = planes[0].shape
    return surface_at(light.surface(), np.arange(y), np.arange(x), (y, x))


def off(field: np.ndarray) -> float:
    return float(np.abs(field / lamp(*field.shape) - 1).mean())


@pytest.mark.parametrize("size", [(150, 203), (96, 128), (60, 50)])
@pytest.mark.parametrize("count", [4, 12, 40])
def test_few_planes_of_objects_show_their_light(size, count):
    planes = drawn(count, size)
    field = found(light_of(FlatFieldConfig()), planes)
    assert off(field) < 0.02
    assert np.abs(field / lamp(*size) - 1).max() < 0.15, "at the borders too"
    assert field.mean() == pytest.approx(1, abs=0.01)


def test_the_mean_of_as_many_takes_objects_for_light():
    planes = drawn(40, (150, 203))
    assert off(found(light_of(FlatFieldConfig(block=16)), planes)) > 5 * off(found(BasicLight(), planes))


def test_what_stands_still_in_a_third_of_the_planes_is_no_light():
    planes = drawn(12, (100, 120))
    for plane in planes[::3]:
        plane[30:60, 40:70] *= 6
    assert off(found(BasicLight(), planes)) < 0.02


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 6), st.floats(0.1, 50), st.integers(0, 1 << 16))
def test_neither_exposure_nor_order_changes_the_light(count, times, seed):
    planes = drawn(count, (48, 40), seed)
    one = found(BasicLight(), planes)
    other = found(BasicLight(), [times * plane for plane in planes[::-1]])
    assert np.allclose(one, other, atol=2e-3)


def test_planes_turned_have_their_light_turned():
    planes = drawn(6, (64, 90))
    turned = found(BasicLight(), [plane.T for plane in planes])
    assert np.allclose(turned.T, found(BasicLight(), planes), atol=2e-3)


def test_even_light_is_one():
    assert np.allclose(found(BasicLight(), [np.full((70, 80), 7 * n, np.uint16) for n in (1, 2, 3)]), 1, atol=1e-5)
    assert np.allclose(found(BasicLight(), [np.full((1, 80), 5.0)]), 1, atol=1e-5)


def test_cells_are_means_of_their_pixels():
    plane = np.random.default_rng(0).integers(0, 60000, (130, 64), np.uint16)
    cells = cells_of(plane)
    edges = np.linspace(0, 130, 65).round().astype(int)
    truth = [[plane[a:b, x].mean() for x in range(64)] for a, b in pairwise(edges)]
    assert np.allclose(cells, truth)


def test_light_need_not_be_positive_beyond_the_plane():
    """Rows of light 1, 3, 5 are pixels of themselves: the next one, of -1, would lie outside."""
    edges = np.arange(4)
    steep = np.array([[1.0], [3.0], [5.0]]) * np.ones(3)
    at = np.arange(3)
    assert np.allclose(surface_at(grid_surface(steep, edges, edges, (3, 3)), at, at, (3, 3)), steep / 3)
    # of cells of four pixels, the first pixel is at 1 - 1.5 / 4 * 2 of the first one
    surface = grid_surface(steep, 4 * edges, 4 * edges, (12, 12))
    assert surface_at(surface, np.array([0]), np.array([5]), (12, 12)) == pytest.approx((1 - 1.5 / 4 * 2) / 3, rel=1e-4)
    with pytest.raises(BadInput, match="not positive everywhere"):
        grid_surface(np.array([[1.0], [5.0], [9.0]]) * np.ones(3), 4 * edges, 4 * edges, (12, 12))


@pytest.mark.parametrize("light", [BasicLight(), BlockLight(8, 2)])
def test_no_plane_is_said(light):
    with pytest.raises(BadInput, match="no image to estimate it on"):
        light.surface()


def test_dark_planes_are_refused():
    with pytest.raises(BadInput, match="not brighter than 0"):
        basic(np.zeros((3, 8, 8)))


@pytest.mark.parametrize(
    ("said", "method"),
    [({}, "basic"), ({"block": 8}, "blocks"), ({"order": 3}, "blocks"), ({"method": "basic", "block": 8}, "basic")],
)
def test_which_of_them_is_meant(said, method):
    assert FlatFieldConfig(**said).method == method
