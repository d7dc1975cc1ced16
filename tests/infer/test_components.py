"""Objects of a wrong size go, by brute-force flood fill, also over the borders of strips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fieldmark.core.geometry import Box
from fieldmark.images import open_image
from fieldmark.images.writers import create_writer
from fieldmark.infer import components
from fieldmark.infer.components import SizeRule, filter_components, filter_volumes

NOBODY = np.zeros((0, 4), np.int64)


class Memory:
    """A label map in memory, as a source and as a writer."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.shape = values.shape

    def read(self, box, level=0):
        return self.values[box.slices]

    def write(self, box, values):
        self.values[box.slices] = values


def filtered(plane: np.ndarray, rule: SizeRule, held: np.ndarray = NOBODY) -> np.ndarray:
    target = Memory(np.full((1, 1, 1, *plane.shape), 99, plane.dtype))
    filter_components(Memory(plane[None, None, None]), target, rule, held)
    return target.values[0, 0, 0]


def flooded(plane: np.ndarray, rule: SizeRule, held: set[tuple[int, int]]) -> np.ndarray:
    result, visited = plane.copy(), np.zeros(plane.shape, bool)
    for start in np.ndindex(*plane.shape):
        if visited[start] or plane[start] == rule.background:
            continue
        stack, found = [start], []
        visited[start] = True
        while stack:
            y, x = stack.pop()
            found.append((y, x))
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    near = (y + dy, x + dx)
                    inside = 0 <= near[0] < plane.shape[0] and 0 <= near[1] < plane.shape[1]
                    if inside and not visited[near] and plane[near] == plane[start]:
                        visited[near] = True
                        stack.append(near)
        small, large = len(found) < rule.least, rule.most is not None and len(found) > rule.most
        if (small or large) and not held.intersection(found):
            for at in found:
                result[at] = rule.background
    return result


@given(
    seed=st.integers(0, 10_000),
    strip=st.integers(1, 9),
    least=st.integers(0, 8),
    more=st.none() | st.integers(0, 12),
    background=st.integers(1, 3),
)
@settings(max_examples=80, deadline=None)
def test_it_is_flood_fill(seed, strip, least, more, background):
    rng = np.random.default_rng(seed)
    plane = rng.choice([1, 2, 3], size=rng.integers(1, 14, 2), p=[0.5, 0.3, 0.2]).astype(np.uint8)
    at = (int(rng.integers(plane.shape[0])), int(rng.integers(plane.shape[1])))
    rule = SizeRule(background, least, None if more is None else least + more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(components, "STRIP", strip)
        found = filtered(plane, rule, np.array([[0, 0, *at]]))
    assert np.array_equal(found, flooded(plane, rule, {at}))


def test_planes_are_apart():
    stack = np.ones((2, 1, 2, 4, 4), np.uint8)
    stack[:, :, :, 1, 1] = 2  # four pixels in four planes are four components
    target = Memory(np.zeros_like(stack))
    filter_components(Memory(stack), target, SizeRule(1, 2), NOBODY)
    assert (target.values == 1).all()


def test_nothing_but_background():
    plane = np.ones((5, 4), np.uint8)
    assert np.array_equal(filtered(plane, SizeRule(1, 3)), plane)


def test_objects_of_volumes_are_measured_through_their_slices(tmp_path):
    """Counted by scipy in the whole volume, which has borders of blocks along all axes."""
    rng = np.random.default_rng(4)
    smooth = ndimage.gaussian_filter(rng.normal(size=(40, 140, 150)), 2)
    volume = np.select([smooth > 0.06, smooth < -0.06], [9, 4], 2).astype(np.uint8)
    rule, everything = SizeRule(2, 30, 600), Box.whole((1, 1, *volume.shape))
    expected = np.full_like(volume, 2)
    speck = None
    for value in (4, 9):
        labels, _ = ndimage.label(volume == value, np.ones((3, 3, 3)))
        areas = np.bincount(labels.ravel())
        kept = np.flatnonzero((areas >= 30) & (areas <= 600))
        small = np.flatnonzero(areas < 30)
        assert len(kept[kept > 0])
        assert len(small)
        speck = np.argwhere(labels == small[0])[0]  # somebody drew on this one
        expected[np.isin(labels, [*kept[kept > 0], *([small[0]] if value == 9 else [])])] = value
    made = _stored(tmp_path / "made.ome.zarr", volume)
    made.write(everything, volume[None, None])
    made.finish()
    writer = _stored(tmp_path / "out.ome.zarr", volume)
    filter_volumes(tmp_path / "made.ome.zarr", writer, rule, [2, 4, 9], np.array([[0, *speck]]))
    writer.finish()
    with open_image(tmp_path / "out.ome.zarr") as found:
        assert np.array_equal(found.read(everything)[0, 0], expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.ome.zarr", "out.ome.zarr"]


def _stored(path, volume):
    return create_writer(path, "ome-zarr", shape=(1, 1, *volume.shape), dtype=volume.dtype, axes="zyx")
