"""Marks by rule on drawn objects."""

from __future__ import annotations

import numpy as np
import pytest

from fieldmark.prepare.foreground import foreground_mask, markers_from_foreground


def bar(value: int, ground: int) -> np.ndarray:
    image = np.full((30, 60), ground, np.uint8)
    image[12:17, 10:51] = value
    return image


@pytest.mark.parametrize(("value", "ground"), [(200, 20), (20, 200)])
def test_the_foreground_is_what_touches_the_edge_less(value, ground):
    image = bar(value, ground)
    assert np.array_equal(foreground_mask(image), image == value)


def test_discs_lie_in_the_middle_and_at_the_ends():
    marks = markers_from_foreground(bar(200, 20), places=3, radius=2)
    center, ends = (14, 30), [(12, 10), (12, 50)]
    wanted = {
        (y, x)
        for y in range(12, 17)
        for x in range(10, 51)
        if any((y - cy) ** 2 + (x - cx) ** 2 <= 4 for cy, cx in [center, *ends])
    }
    assert {tuple(at) for at in marks.tolist()} == wanted
    assert marks.tolist() == sorted(marks.tolist())


def test_color_and_constant_images_and_single_pixels():
    gray = bar(200, 20)
    assert np.array_equal(markers_from_foreground(np.stack([gray] * 3, axis=2)), markers_from_foreground(gray))
    assert len(markers_from_foreground(np.zeros((1, 1)))) == 1
    marks = markers_from_foreground(np.zeros((21, 21)), places=1, radius=1)
    assert marks.tolist() == [[9, 10], [10, 9], [10, 10], [10, 11], [11, 10]]
