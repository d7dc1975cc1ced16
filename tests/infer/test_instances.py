"""Objects one by one: against labels of the whole image at once, over borders of blocks, in planes and volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fieldmark.core.geometry import Box
from fieldmark.images import open_image
from fieldmark.images.writers import create_writer
from fieldmark.infer import instances
from fieldmark.infer.instances import ObjectRule, write_objects


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(instances, "PLANE_BLOCK", (1, 32, 32))
    monkeypatch.setattr(instances, "SOLID_BLOCK", (6, 24, 24))
    monkeypatch.setattr(instances, "PLANE_MARGIN", (0, 30, 30))
    monkeypatch.setattr(instances, "SOLID_MARGIN", (24, 24, 24))


def objects(folder: Path, stack: np.ndarray, rule: ObjectRule) -> np.ndarray:
    """(z, y, x) numbers for a class map (z, y, x)."""
    writer = create_writer(
        folder / "map.ome.zarr", "ome-zarr", shape=(1, 1, *stack.shape), dtype=np.uint8, overwrite=True
    )
    writer.write(Box.whole((1, 1, *stack.shape)), stack.astype(np.uint8)[None, None])
    writer.finish()
    count = write_objects(folder / "map.ome.zarr", folder / "objects.ome.zarr", rule)
    with open_image(folder / "objects.ome.zarr") as source:
        found = source.read(Box.whole(source.shape))[0, 0]
    assert found.dtype == np.uint32
    assert sorted(set(np.unique(found)) - {0}) == list(range(1, count + 1))
    return found


def same_parts(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two label maps are one but for the numbers."""
    pairs = {(int(x), int(y)) for x, y in zip(a.ravel(), b.ravel(), strict=True)}
    return len(pairs) == len(set(a.ravel().tolist())) == len(set(b.ravel().tolist())) and ((a == 0) == (b == 0)).all()


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 9999), st.floats(0.2, 0.7), st.booleans())
def test_components_are_those_of_the_whole_image(tmp_path_factory, seed, share, solid):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 9)), *rng.integers(1, 60, 2))
    stack = 1 + (ndimage.uniform_filter(rng.random(shape), (1, 3, 3)) < share * 0.8)
    found = objects(tmp_path_factory.mktemp("a"), stack, ObjectRule(2, solid))
    near = np.ones((3, 3, 3), int) if solid else np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])
    assert same_parts(found, ndimage.label(stack == 2, near)[0])


def discs(shape: tuple[int, int], centers: list[tuple[float, float]], radius: float) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.any([np.hypot(y - cy, x - cx) < radius for cy, cx in centers], axis=0)


@pytest.mark.parametrize("shift", [0, 5, 16, 27])
def test_touching_discs_are_taken_apart_and_each_is_one_over_borders(tmp_path, shift):
    centers = [(20 + shift, 20 + 16 * n) for n in range(6)]
    plane = discs((100, 140), centers, 9)
    assert ndimage.label(plane)[1] == 1
    found = objects(tmp_path, plane[None] + 1, ObjectRule(2, split=5))[0]
    assert found.max() == 6
    for number, (cy, cx) in enumerate(sorted(centers, key=lambda c: c[1])):
        here = found[discs((100, 140), [(cy, cx)], 7)]
        assert len(set(here.tolist())) == 1, number
    assert objects(tmp_path, plane[None] + 1, ObjectRule(2))[0].max() == 1


def test_a_grid_of_touching_discs_is_counted(tmp_path):
    centers = [(15 + 13.3 * a, 15 + 13.3 * b) for a in range(8) for b in range(9)]
    plane = discs((140, 150), centers, 7.2)
    found = objects(tmp_path, plane[None] + 1, ObjectRule(2, split=4))[0]
    assert found.max() == 72
    for cy, cx in centers:
        assert len(set(found[discs(plane.shape, [(cy, cx)], 4)].tolist())) == 1


@pytest.mark.parametrize("angle", [0, 30, 90])
def test_a_long_rod_stays_one(tmp_path, angle):
    y, x = np.mgrid[:160, :160] - 80.0
    along = np.abs(x * np.cos(np.deg2rad(angle)) + y * np.sin(np.deg2rad(angle)))
    across = np.abs(-x * np.sin(np.deg2rad(angle)) + y * np.cos(np.deg2rad(angle)))
    rod = (along < 72) & (across < 6)
    assert objects(tmp_path, rod[None] + 1, ObjectRule(2, split=5)).max() == 1


def test_an_object_wider_than_all_that_is_seen_stays_one(tmp_path):
    plane = np.ones((150, 170), int)
    plane[10:140, 10:160] = 2
    assert objects(tmp_path, plane[None], ObjectRule(2, split=5)).max() == 1
    assert objects(tmp_path, np.full((1, 90, 90), 2), ObjectRule(2, split=5)).max() == 1


def test_balls_that_touch_in_a_volume_are_one_each(tmp_path):
    z, y, x = np.mgrid[:26, :70, :70]
    centers = [(12, 14, 14), (12, 14, 28), (12, 28, 14), (13, 46, 46), (13, 47, 60)]
    balls = [np.sqrt((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2) < 7.6 for cz, cy, cx in centers]
    volume = np.any(balls, axis=0)
    found = objects(tmp_path, volume + 1, ObjectRule(2, solid=True, split=4))
    assert found.max() == 5
    for ball in balls:
        _, counts = np.unique(found[ball], return_counts=True)
        assert counts.max() / counts.sum() > 0.92
    assert objects(tmp_path, volume + 1, ObjectRule(2, solid=True)).max() == 2
    assert objects(tmp_path, volume + 1, ObjectRule(2)).max() > 5  # plane by plane


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 9999))
def test_split_objects_hold_all_pixels_and_never_join_what_does_not_touch(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    plane = ndimage.gaussian_filter(rng.random((90, 100)), 3) > 0.5
    found = objects(tmp_path_factory.mktemp("a"), plane[None] + 1, ObjectRule(2, split=4))[0]
    assert ((found > 0) == plane).all()
    whole, _ = ndimage.label(plane, np.ones((3, 3)))
    for number in range(1, int(found.max()) + 1):
        assert len(set(whole[found == number].tolist())) == 1


def test_blocks_change_nothing_about_objects_that_they_see_whole(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    centers = [(float(a), float(b)) for a, b in rng.uniform(8, 112, (40, 2))]
    plane = discs((120, 120), centers, 7)
    small = objects(tmp_path, plane[None] + 1, ObjectRule(2, split=5))
    monkeypatch.setattr(instances, "PLANE_BLOCK", (1, 512, 512))
    whole = objects(tmp_path, plane[None] + 1, ObjectRule(2, split=5))
    assert abs(int(small.max()) - int(whole.max())) <= 1
    overlap = sum(np.unique(whole[small == n], return_counts=True)[1].max() for n in range(1, int(small.max()) + 1))
    assert overlap / plane.sum() > 0.97


def test_no_object_is_an_empty_map(tmp_path):
    for split in (0, 5):
        assert objects(tmp_path, np.ones((2, 40, 50), int), ObjectRule(2, split=split)).max() == 0
