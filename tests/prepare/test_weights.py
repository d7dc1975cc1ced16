"""Weight maps and foreground masks, against formulas written out pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from fieldmark.errors import BadInput
from fieldmark.images import ArraySource
from fieldmark.prepare.masks import foreground_of, opened, otsu_mask, unimodal_mask, unimodal_threshold
from fieldmark.prepare.weights import border_weights
from fieldmark.prepare.whole import Whole


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
    end = np.percentile(values, 99.5)
    counts = [((values >= end * n / 256) & (values < end * (n + 1) / 256)).sum() for n in range(256)]
    peak, last = np.array([0.0, counts[0]]), np.array([255.0, counts[-1]])  # both ends of this histogram
    along = (last - peak) / np.hypot(*(last - peak))
    far = [abs((n - peak[0]) * along[1] - (count - peak[1]) * along[0]) for n, count in enumerate(counts)]
    assert unimodal_threshold(values) == pytest.approx(end * (np.argmax(far) + 0.5) / 256, abs=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (37, 5), (50, 61)])
@pytest.mark.parametrize("radius", [0, 1, 2, 5, 9])
def test_opening_by_rows_is_opening_by_a_disk(shape, radius):
    from skimage.morphology import disk, opening

    mask = np.random.default_rng(radius).random(shape) < 0.93
    mask[: shape[0] // 2, : shape[1] // 3] = True
    assert np.array_equal(opened(mask, radius), opening(mask, disk(radius)))


def test_masks_are_those_of_the_libraries_called_plainly():
    """microDL's Otsu mask: smoothed, stretched twice between percentiles, 1.1 times the threshold, opened."""
    from scipy.ndimage import gaussian_filter
    from skimage.filters import threshold_otsu
    from skimage.morphology import disk, opening

    rng = np.random.default_rng(2)
    for contrast in np.tile([20, 60, 300], 4):  # little of it: then each percentile and each stretch tells
        shape = rng.integers(20, 90, 2)
        y, x = np.mgrid[: shape[0], : shape[1]]
        plane = rng.normal(100, 20, shape) + contrast * (np.hypot(y - shape[0] / 2, x - shape[1] / 3) < shape.min() / 4)
        plane = plane.astype(np.float32)
        values = gaussian_filter(plane.astype(np.float64), 0.8, radius=1)
        for _ in range(2):
            low, high = np.percentile(values, (1, 99))
            values = 255 * np.clip((values - low) / (high - low), 0, 1)
        truth = opening(values > 1.1 * threshold_otsu(values, nbins=128), disk(1))
        assert np.array_equal(otsu_mask(plane, radius=1), truth)


def test_a_known_threshold_is_that_of_smoothed_pixels_and_a_thinned_plane_has_a_smaller_disk():
    from scipy.ndimage import gaussian_filter
    from skimage.morphology import disk, opening

    plane = np.random.default_rng(3).normal(100, 20, (60, 70)).astype(np.float32)
    smooth = gaussian_filter(plane.astype(np.float64), 0.8, radius=1)
    limit = float(np.median(smooth))
    ground = {"method": "threshold", "value": limit, "radius": 4}
    found = foreground_of(plane[None], ground, every=4)
    assert np.array_equal(found, opening(smooth > limit, disk(1)))
    brightest = float(np.sort(smooth, axis=None)[-2])
    assert foreground_of(plane[None], ground | {"value": brightest, "radius": 0}).sum() == 1


@pytest.mark.parametrize("radius", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(9, 30, 26), (3, 14, 20), (1, 20, 17)])
def test_a_volume_is_opened_by_a_ball(radius, shape):
    from skimage.morphology import ball, opening

    mask = np.random.default_rng(radius).random(shape) < 0.9
    mask[:, : shape[1] // 2, : shape[2] // 3] = True
    truth = opening(mask, ball(radius))
    assert np.array_equal(opened(mask, radius), truth)
    if shape[0] == 1:
        assert np.array_equal(opened(mask, radius)[0], opened(mask[0], radius))
    else:
        planes = np.stack([opened(plane, radius) for plane in mask])
        assert not np.array_equal(planes, truth), "a disk in each slice is something else"


def solid() -> tuple[np.ndarray, np.ndarray]:
    """A bright hollow sphere in a dark volume, and where it is; its slices are rings and discs."""
    z, y, x = np.mgrid[:25, :40, :44]
    far = np.sqrt((z - 12) ** 2 + (y - 19) ** 2 + (x - 22) ** 2)
    sphere = far < 11
    rng = np.random.default_rng(0)
    pixels = np.where(sphere & (far > 3), 900, 100) + rng.normal(0, 10, far.shape)
    return pixels.astype(np.float32), sphere


def test_a_volume_has_one_threshold_and_its_holes_are_closed_on_all_sides():
    pixels, sphere = solid()
    found = foreground_of(pixels[None], {"method": "otsu", "radius": 2, "fill": True})
    assert 2 * (found & sphere).sum() / (found.sum() + sphere.sum()) > 0.97
    assert found[12, 19, 22], "the hole in the middle is filled"
    assert not found[0].any(), "a slice without anything has nothing: the threshold is the volume's"
    assert foreground_of(pixels[:1], {"method": "otsu", "radius": 0}).any(), "by itself it would have something"
    tube = pixels.copy()
    tube[:, 17:22, 20:25] = 100  # a tunnel through all slices: no hole of the volume, a hole of each slice
    deep = foreground_of(tube[None], {"method": "otsu", "radius": 1, "fill": True})
    flat = np.stack([foreground_of(plane[None], {"method": "otsu", "radius": 1, "fill": True}) for plane in tube])
    assert not deep[12, 19, 22]
    assert flat[12, 19, 22]
    rosin = foreground_of(pixels[None], {"method": "unimodal", "radius": 2})
    assert 2 * (rosin & sphere).sum() / (rosin.sum() + sphere.sum()) > 0.85
    assert rosin[12, 19, 22]


def test_an_image_gives_the_mask_of_its_volume_plane_by_plane():
    pixels, _ = solid()
    many = np.stack([np.stack([pixels, pixels[::-1] * 0.5]), np.stack([pixels[:, ::-1], pixels])])  # (t, c, z, y, x)
    whole = Whole(lambda: ArraySource(many))
    ground = {"method": "otsu", "radius": 2, "channels": [1], "fill": False, "by": "volume"}
    steps = [{"step": "scale", "by": 2.0}]
    for t in range(2):
        truth = foreground_of((many[t] / 2).astype(np.float32), {**ground, "by": "slice"})
        for z in (0, 8, 24):
            assert np.array_equal(whole.foreground(steps, ground, t, z), truth[z])
            assert np.array_equal(whole.foreground(steps, ground, t, z, every=3), truth[z, ::3, ::3])


def test_volumes_that_are_too_large_are_refused(monkeypatch):
    monkeypatch.setattr("fieldmark.prepare.whole.LARGEST_VOLUME", 1000)
    whole = Whole(lambda: ArraySource(np.zeros((1, 1, 11, 10, 10), np.uint8)))
    with pytest.raises(BadInput, match=r"foreground\.by=volume: a volume of 11 x 10 x 10 pixels is too large"):
        whole.foreground([], {"method": "otsu", "by": "volume"}, 0, 0)


@pytest.mark.parametrize("dtype", [np.int16, np.int64])
def test_zero_is_the_background_whatever_numbers_objects_have(dtype):
    labels = np.zeros((30, 40), dtype)
    labels[5:12, 4:10], labels[5:12, 16:22], labels[20:26, 8:14] = -1, 4, 9
    positive = labels.copy()
    positive[labels == -1] = 2
    assert np.array_equal(border_weights(labels), border_weights(positive))
    assert (border_weights(labels)[labels != 0] == 1).all()
