"""Flat fields, and statistics of each image's planes and volumes: against plain formulas, by tile as by image."""

from __future__ import annotations

import numpy as np
import pytest

from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile, BadInput
from fieldmark.images.source import ArraySource
from fieldmark.prepare import (
    Whole,
    apply,
    channels_step,
    check,
    flat_field_step,
    scale_step,
    standardize_each_step,
    whole_of,
)
from fieldmark.prepare.flat_field import fit_surface, surface_at, surface_of_file
from fieldmark.prepare.whole import counted, statistics


def light(y: int, x: int) -> np.ndarray:
    """A lamp off the middle: brighter at the right than at the left, and at the top than at the bottom."""
    v, u = np.meshgrid(np.linspace(-1, 1, y), np.linspace(-1, 1, x), indexing="ij")
    field = 1 + 0.3 * u - 0.2 * v - 0.25 * u**2 - 0.1 * v * u
    return field / field.mean()


def test_uneven_light_is_found_again_and_divided_out():
    field = light(200, 264)
    rng = np.random.default_rng(0)
    mean = np.mean([field * 500 * rng.normal(1, 0.1, field.shape) for _ in range(12)], axis=0)
    surface = fit_surface(mean)
    found = surface_at(surface, np.arange(200), np.arange(264), (200, 264))
    assert np.abs(found / field - 1).max() < 0.01
    flat = apply((field * 500)[None], whole_of(mean[None]).at([flat_field_step([surface])], whole(200, 264)))
    assert flat.std() / flat.mean() < 0.005
    # the other way around it would be worse than nothing
    assert np.abs(found[::-1] / field - 1).max() > 0.2
    assert np.abs(found[:, ::-1] / field - 1).max() > 0.2


def whole(y: int, x: int, z: int = 1) -> Box:
    return Box((0, 0, 0, 0), (1, z, y, x))


def test_a_tile_is_corrected_as_its_place_in_the_image():
    pixels = np.random.default_rng(1).random((2, 90, 70)).astype(np.float32) + 1
    steps = [flat_field_step([fit_surface(light(90, 70), block=8), None])]
    image = whole_of(pixels)
    full = apply(pixels, image.at(steps, whole(90, 70)))
    part = apply(pixels[:, 20:50, 33:60], image.at(steps, Box((0, 0, 20, 33), (1, 1, 50, 60))))
    assert np.array_equal(part, full[:, 20:50, 33:60])
    assert np.array_equal(full[1], pixels[1])
    assert np.abs(full[0] * light(90, 70) / pixels[0] - 1).max() < 0.02


def test_surfaces_of_files(tmp_path):
    y, x = np.mgrid[:60, :80]
    smooth = 5 + 0.01 * x - 0.0001 * y * x
    np.save(tmp_path / "a.npy", smooth)
    kept = surface_of_file(tmp_path / "a.npy")
    assert "coefficients" in kept, "microDL's surfaces are polynomials"
    assert np.allclose(surface_at(kept, np.arange(60), np.arange(80), (60, 80)), smooth / smooth.mean(), rtol=1e-4)
    bumpy = 2 + np.sin(x / 11) * np.cos(y / 7)
    np.save(tmp_path / "b.npy", bumpy)
    grid = surface_of_file(tmp_path / "b.npy")
    found = surface_at(grid, np.arange(10, 60), np.arange(7, 80), (60, 80))
    assert np.allclose(found, (bumpy / bumpy.mean())[10:, 7:], rtol=1e-5)
    np.save(tmp_path / "c.npy", bumpy - bumpy.min())  # one pixel is 0
    with pytest.raises(BadFile, match="positive everywhere"):
        surface_of_file(tmp_path / "c.npy")
    (tmp_path / "d.npy").write_bytes(b"no array")
    with pytest.raises(BadFile, match="cannot be read"):
        surface_of_file(tmp_path / "d.npy")


def test_light_that_would_be_negative_is_refused():
    v, u = np.meshgrid(np.linspace(-1, 1, 96), np.linspace(-1, 1, 96), indexing="ij")
    with pytest.raises(BadInput, match="not positive everywhere"):
        fit_surface(np.maximum(1 - v**2 - u**2 - u, 0.0), block=16)
    with pytest.raises(BadInput, match="too few blocks"):
        fit_surface(np.ones((40, 400)), block=32)


def volume() -> np.ndarray:
    rng = np.random.default_rng(2)
    return (rng.gamma(2.0, 30.0, (2, 3, 4, 33, 41)) + np.arange(4)[:, None, None] * 50).astype(np.float32)


@pytest.mark.parametrize("statistic", ["mean-std", "median-iqr"])
@pytest.mark.parametrize("of", ["slice", "volume"])
def test_each_image_by_its_own_statistics(of, statistic):
    pixels = volume()
    image = Whole(lambda: ArraySource(pixels))
    steps = [channels_step([2, 0]), scale_step(10.0), standardize_each_step(of, statistic)]
    box = Box((1, 1, 5, 6), (2, 3, 20, 40))
    found = apply(pixels[1, :, 1:3, 5:20, 6:40], image.at(steps, box))
    assert found.shape == (2, 2, 15, 34)
    for place, channel in enumerate((2, 0)):
        for row, z in enumerate((1, 2)):
            own = (pixels[1, channel, z] if of == "slice" else pixels[1, channel]).astype(np.float64) / 10
            center = own.mean() if statistic == "mean-std" else np.median(own)
            spread = own.std() if statistic == "mean-std" else np.subtract(*np.percentile(own, [75, 25]))
            truth = (pixels[1, channel, z, 5:20, 6:40] / 10 - center) / spread
            assert np.allclose(found[place, row], truth, atol=1e-4)
    flat = apply(pixels[1, :, 2, 5:20, 6:40], image.at(steps, Box((1, 2, 5, 6), (2, 3, 20, 40))))
    assert np.allclose(flat, found[:, 1], atol=1e-6), "a plane alone is the same as in its stack"
    earlier = apply(pixels[0, :, 2], image.at(steps, Box((0, 2, 0, 0), (1, 3, 33, 41))))
    own = pixels[0, 2, 2] if of == "slice" else pixels[0, 2]
    middle = own.mean() if statistic == "mean-std" else np.median(own)
    assert np.array_equal(earlier[0] > 0, pixels[0, 2, 2] > middle), "another time has other statistics"


def test_some_channels_are_left_as_they_are_and_values_are_cut_first():
    pixels = volume()[:1, :, :1]
    image = Whole(lambda: ArraySource(pixels))
    box = whole(33, 41)
    steps = image.at([standardize_each_step("slice", "mean-std", clip=(1, 90), channels=[1])], box)
    found = apply(pixels[0, :, 0], steps)
    assert np.array_equal(found[[0, 2]], pixels[0, [0, 2], 0])
    low, high = np.percentile(pixels[0, 1, 0], (1, 90))
    cut = np.clip(pixels[0, 1, 0], low, high).astype(np.float64)
    assert np.allclose(found[1], (cut - cut.mean()) / cut.std(), atol=1e-4)


def test_only_blocks_of_foreground_are_measured():
    rng = np.random.default_rng(4)
    plane = rng.normal(100, 2, (128, 128))
    plane[32:96, 48:112] = rng.normal(900, 5, (64, 64))
    step = standardize_each_step(
        "slice", "mean-std", min_fraction=0.9, foreground={"method": "otsu", "radius": 2, "channels": []}
    )
    image = whole_of(plane[None].astype(np.float32))
    found = apply(plane[None], image.at([step], whole(128, 128)))[0]
    inside = found[32:96, 48:112]
    assert abs(inside.mean()) < 0.2
    assert 0.7 < inside.std() < 1.3
    assert found[:20].mean() < -50


def test_large_planes_are_measured_on_every_nth_pixel(monkeypatch):
    monkeypatch.setattr("fieldmark.prepare.whole.MOST_PIXELS", 5000)
    pixels = np.random.default_rng(5).normal(7, 3, (1, 400, 300)).astype(np.float32)
    image = whole_of(pixels)
    values = image.values([], 0, 0, 5000)
    assert np.array_equal(values, pixels[:, ::5, ::5])
    found = apply(pixels, image.at([standardize_each_step("slice", "mean-std")], whole(400, 300)))
    assert abs(found.mean()) < 0.05
    assert abs(found.std() - 1) < 0.05
    lit = [flat_field_step([fit_surface(light(400, 300))])]
    corrected = apply(pixels, image.at(lit, whole(400, 300)))
    assert np.allclose(image.values(lit, 0, 0, 5000), corrected[:, ::5, ::5], rtol=1e-6), "each under its own light"


def test_blocks_at_the_far_ends_count_by_their_own_size():
    """Of 20 x 41 pixels the last blocks are 4 x 16 and 4 x 9, and 16 x 9."""
    values = np.arange(20 * 41, dtype=np.float32).reshape(1, 20, 41)
    mask = np.zeros((20, 41), bool)
    mask[16:, 32:] = True
    mask[:7, :16] = True  # less than a half
    assert np.array_equal(counted(values, mask, 0.5).values, values[:, 16:, 32:].reshape(1, -1))


def test_empty_slices_of_a_volume_do_not_count_with_their_dark_pixels():
    """A bright block in two of five slices: the volume's statistics are those of the block, in numpy."""
    rng = np.random.default_rng(3)
    pixels = rng.normal(20, 2, (5, 48, 48)).astype(np.float32)
    pixels[1:3, 16:32, 16:32] += 180
    rule = {"method": "threshold", "value": 100.0, "channels": [], "radius": 0, "fill": False}
    inside = pixels[1:3, 16:32, 16:32]
    for share in (0.9, 1.0):
        each = standardize_each_step("volume", "mean-std", foreground=rule, min_fraction=share)
        found = Whole(lambda: ArraySource(pixels[None, None])).numbers([each], 0, 4)
        assert found["center"] == pytest.approx([inside.mean()], rel=1e-5)
        assert found["spread"] == pytest.approx([inside.std()], rel=1e-5)


def test_steps_that_ask_for_the_whole_are_refused_without_it_and_checked_as_data():
    surface = fit_surface(light(64, 64), block=8)
    for step in (flat_field_step([surface, None]), standardize_each_step("slice", "median-iqr")):
        assert check([step], 2).shape == (2, 1, 1)
        with pytest.raises(BadInput, match="Give it whole images"):
            apply(np.zeros((2, 4, 4)), [step])
    with pytest.raises(BadInput, match="A flat field of 2 channels"):
        check([flat_field_step([surface, None])], 3)
    with pytest.raises(BadInput):
        check([{"step": "standardize-each", "of": "year", "statistic": "mean-std"}], 1)
    with pytest.raises(BadInput):
        check([{"step": "flat-field"}], 1)
    with pytest.raises(BadInput):
        check([flat_field_step([{"coefficients": [[0.0]]}])], 1)


@pytest.mark.parametrize("statistic", ["median-iqr", "mean-std"])
def test_small_values_have_a_spread_and_a_constant_has_none(statistic):
    values = np.random.default_rng(5).normal(3, 1, (1, 1000)).astype(np.float32)
    step = {"statistic": statistic}
    usual = statistics(values, step)
    small = statistics(values * np.float32(1e-10), step)
    assert small["spread"] == pytest.approx(usual["spread"] * 1e-10, rel=1e-5)
    for constant in (0.0, 0.1, 1e-9, -7e4):
        assert statistics(np.full((1, 1000), constant, np.float32), step)["spread"] == 1
