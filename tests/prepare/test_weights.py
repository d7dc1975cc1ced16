"""Weight maps and foreground masks, against formulas written out pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from fieldmark.prepare.masks import opened_by_disk, otsu_mask, unimodal_mask, unimodal_threshold
from fieldmark.prepare.weights import border_weights


def discs(*circles: tuple[float, float, float], shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    """A label map of numbered discs (y, x, radius)."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.uint16)
    for number, (cy, cx, radius) in enumerate(circles, start=1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = number
    return labels


TWO = ((30, 25, 10), (30, 50, 9))


def formula(labels: np.ndarray, y: int, x: int) -> float:
    """Ronneberger et al. 2015, by looking at every pixel of every object."""
    if labels[y, x]:
        return 1.0
    near = sorted(
        min(np.hypot(y - a, x - b) for a, b in np.argwhere(labels == n)) for n in np.unique(labels[labels > 0])
    )
    return 1 + 10 * np.exp(-((near[0] + near[1]) ** 2) / (2 * 5**2))


def test_two_discs_weigh_as_the_formula_says():
    labels = discs(*TWO)
    found = border_weights(labels)
    for y, x in [(30, 38), (30, 37), (20, 36), (30, 25), (0, 0), (59, 79), (45, 33)]:
        assert found[y, x] == pytest.approx(formula(labels, y, x), abs=1e-9)
    assert found.argmax() == np.where(labels == 0, found, 0).argmax()


def test_three_objects_count_the_nearest_two():
    labels = discs((15, 15, 6), (15, 35, 6), (40, 25, 8))
    found = border_weights(labels)
    for y, x in [(15, 25), (25, 25), (27, 20), (50, 60)]:
        assert found[y, x] == pytest.approx(formula(labels, y, x), abs=1e-9)


def test_a_map_of_two_values_is_taken_apart_first():
    labels = discs(*TWO)
    assert np.array_equal(border_weights((labels > 0).astype(np.uint8) * 255), border_weights(labels))


@pytest.mark.parametrize("circles", [(), ((30, 25, 10),)])
def test_nothing_lies_between_fewer_than_two(circles):
    assert np.array_equal(border_weights(discs(*circles)), np.ones((60, 80)))


def test_a_map_without_background_weighs_one():
    assert np.array_equal(border_weights(np.full((8, 9), 3)), np.ones((8, 9)))


@pytest.mark.parametrize("mask", [otsu_mask, unimodal_mask])
def test_masks_find_bright_discs_and_leave_specks_out(mask):
    truth = discs((30, 25, 12), (25, 60, 10)) > 0
    rng = np.random.default_rng(0)
    plane = 100 + 900 * truth + rng.normal(0, 15, truth.shape)
    plane[5:7, 5:7] = 1000
    found = mask(plane.astype(np.float32), radius=3)
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > (0.95 if mask is otsu_mask else 0.85)
    assert not found[5:7, 5:7].any()


@pytest.mark.parametrize("mask", [otsu_mask, unimodal_mask])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (40, 40)])
def test_a_plane_of_one_value_has_no_foreground(mask, shape):
    assert not mask(np.full(shape, 7.0)).any()


def test_the_unimodal_threshold_is_the_corner():
    values = np.concatenate([np.random.default_rng(1).exponential(10, 20_000), np.linspace(0, 200, 500)])
    assert 20 < unimodal_threshold(values) < 90


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (37, 5), (50, 61)])
@pytest.mark.parametrize("radius", [0, 1, 2, 5, 9])
def test_opening_by_rows_is_opening_by_a_disk(shape, radius):
    from skimage.morphology import disk, opening

    mask = np.random.default_rng(radius).random(shape) < 0.93
    mask[: shape[0] // 2, : shape[1] // 3] = True
    assert np.array_equal(opened_by_disk(mask, radius), opening(mask, disk(radius)))


def test_masks_are_those_of_the_libraries_called_plainly():
    """microDL's Otsu mask: smoothed, stretched twice between percentiles, 1.1 times the threshold, opened."""
    from scipy.ndimage import gaussian_filter
    from skimage.filters import threshold_otsu
    from skimage.morphology import disk, opening

    rng = np.random.default_rng(2)
    for _ in range(12):
        shape = rng.integers(20, 90, 2)
        y, x = np.mgrid[: shape[0], : shape[1]]
        plane = rng.normal(100, 20, shape) + 300 * (np.hypot(y - shape[0] / 2, x - shape[1] / 3) < shape.min() / 4)
        plane = plane.astype(np.float32)
        values = gaussian_filter(plane.astype(np.float64), 0.8, radius=1)
        for _ in range(2):
            low, high = np.percentile(values, (1, 99))
            values = 255 * np.clip((values - low) / (high - low), 0, 1)
        truth = opening(values > 1.1 * threshold_otsu(values, nbins=128), disk(3))
        assert np.array_equal(otsu_mask(plane, radius=3), truth)
