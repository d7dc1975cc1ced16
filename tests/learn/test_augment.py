"""Augmentation: one geometry for image, target and weight; every setting honored; draws from the seed alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fieldmark.core.seeds import derive_seed
from fieldmark.errors import BadInput
from fieldmark.learn.augment import Draw, augmented, draw
from fieldmark.learn.lessons import Lesson
from fieldmark.recipes.train import AugmentConfig

SHAPES = {"2-D": (24, 24), "2.5-D": (3, 24, 24), "3-D": (4, 20, 20), "wide": (18, 30)}
STILL = AugmentConfig(flip=0.0, rot90=False)


def lesson(size=(24, 24), *, batch=3, channels=2, classes=False, seed=0, target_slices=None):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch, channels, *size)).astype(np.float32)
    answer = (target_slices, *size[1:]) if target_slices else size
    target = rng.integers(0, 4, (batch, 1, *answer)) if classes else rng.normal(size=(batch, 2, *answer))
    weight = rng.choice([0.0, 1.0, 2.5], (batch, 1, *answer))
    parts = (torch.from_numpy(np.asarray(part, np.float32)) for part in (x, target, weight))
    return Lesson(*parts, classes=classes)


def same(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("x", "target", "weight"))


def only(**settings):
    return STILL.model_copy(update=settings)


def seed_where(config, wanted, *, square=True):
    return next(s for s in range(10_000) if wanted(draw(config, s, square=square)))


@pytest.mark.parametrize("size", SHAPES.values(), ids=SHAPES)
def test_settings_that_change_nothing_keep_every_bit(size):
    batch = lesson(size)
    assert same(augmented(batch, STILL, [1, 2, 3]), batch)
    full = AugmentConfig(rotate=30, noise=1, share=0.0)
    assert same(augmented(batch, full, [1, 2, 3]), batch)


@pytest.mark.parametrize("size", SHAPES.values(), ids=SHAPES)
def test_flips_and_turns_equal_numpy(size):
    config = AugmentConfig(flip=0.5)
    batch = lesson(size, batch=40, target_slices=1 if len(size) == 3 else None)
    seeds = list(range(40))
    result = augmented(batch, config, seeds)
    seen = set()
    for place, seed in enumerate(seeds):
        one = draw(config, seed, square=size[-1] == size[-2])
        seen.add((one.flip_x, one.flip_y, one.turns))
        for name in ("x", "target", "weight"):
            part = getattr(batch, name)[place].numpy()
            part = part[..., ::-1] if one.flip_x else part
            part = part[..., ::-1, :] if one.flip_y else part
            expected = np.rot90(part, one.turns, axes=(-2, -1))
            np.testing.assert_array_equal(getattr(result, name)[place].numpy(), expected)
    assert {turns for _, _, turns in seen} == ({0, 1, 2, 3} if size[-1] == size[-2] else {0, 2})
    assert {(x, y) for x, y, _ in seen} == {(False, False), (False, True), (True, False), (True, True)}


def test_the_lesson_itself_is_not_changed():
    batch, before = lesson(), lesson()
    augmented(batch, AugmentConfig(rotate=40, noise=1.0, blur=(1, 2), autocontrast=1, equalize=1), [1, 2, 3])
    assert same(batch, before)


@pytest.mark.parametrize("size", [(41, 41), (3, 41, 41)], ids=["plane", "slices"])
@pytest.mark.parametrize(
    "settings", [{"zoom": (0.8, 1.3)}, {"rotate": 180.0}, {"shear": 25.0}, {"flip": 0.5, "rot90": True, "rotate": 45.0}]
)
def test_a_dot_stays_on_its_label(size, settings):
    """A blob in image, class map, value map and weight is found at one place afterwards, the one of the formula."""
    y, x = np.mgrid[:41, :41]
    blob = np.exp(-((y - 12) ** 2 + (x - 25) ** 2) / 8).astype(np.float32)
    tensor = torch.from_numpy(np.broadcast_to(blob, (1, 1, *size)).copy())
    disc = (tensor > 0.3).float()
    for seed in range(8):
        config = only(**settings)
        classes = augmented(Lesson(tensor, disc, disc, classes=True), config, [seed])
        values = augmented(Lesson(tensor, tensor, torch.ones_like(tensor)), config, [seed])
        assert torch.equal(classes.target, classes.weight)
        inner = values.weight > 0
        torch.testing.assert_close(values.x[inner], values.target[inner], atol=1e-5, rtol=0)
        expected = carried((25, 12), draw(config, seed, square=True), 41)
        for part, most in ((classes.target, 0.5), (values.x, 0.1), (values.target, 0.1)):
            assert np.hypot(*(np.array(center(part * (values.weight > 0))) - expected)) < most


def center(part):
    """(x, y) of the mass."""
    plane = part.numpy().reshape(-1, *part.shape[-2:]).mean(axis=0)
    y, x = np.mgrid[: plane.shape[0], : plane.shape[1]]
    return (plane * x).sum() / plane.sum(), (plane * y).sum() / plane.sum()


def carried(point, one: Draw, side):
    """Where a point goes, in complex numbers about the center, y up."""
    at = complex(point[0] - (side - 1) / 2, (side - 1) / 2 - point[1])
    at = complex(-at.real, at.imag) if one.flip_x else at
    at = at.conjugate() if one.flip_y else at
    at *= 1j**one.turns
    at += at.imag * math.tan(math.radians(one.shear))
    at *= one.zoom * np.exp(1j * math.radians(one.rotate))
    return np.array([at.real + (side - 1) / 2, (side - 1) / 2 - at.imag])


@pytest.mark.parametrize("size", [(48, 48), (30, 60), (2, 48, 48)])
def test_the_weight_is_zero_exactly_where_the_crop_shows_what_is_outside(size):
    batch = lesson(size, batch=1, classes=True)
    batch = Lesson(batch.x, batch.target, torch.ones_like(batch.weight), classes=True)
    config = only(rotate=60.0, zoom=(0.6, 0.9), shear=20.0)
    result = augmented(batch, config, [5])
    one = draw(config, 5, square=False)
    inside = sources(one, size[-2:])
    expected = (inside[0] > -0.5) & (inside[0] < size[-1] - 0.5) & (inside[1] > -0.5) & (inside[1] < size[-2] - 0.5)
    assert 0.02 < 1 - expected.mean() < 0.8
    for plane in result.weight.numpy().reshape(-1, *size[-2:]):
        assert (plane.astype(bool) != expected).mean() < 0.002
    # class maps hold their own values alone
    assert set(np.unique(result.target)) <= {0, 1, 2, 3}
    assert torch.isfinite(result.x).all()


def sources(one, size):
    """(x, y) in the original of each pixel of the changed crop."""
    y, x = np.mgrid[: size[0], : size[1]]
    at = (x - (size[1] - 1) / 2) + 1j * ((size[0] - 1) / 2 - y)
    at = at / (one.zoom * np.exp(1j * math.radians(one.rotate)))
    at = at - at.imag * math.tan(math.radians(one.shear))
    return at.real + (size[1] - 1) / 2, (size[0] - 1) / 2 - at.imag


def test_the_image_is_interpolated_linearly_and_classes_by_the_nearest():
    from scipy.ndimage import map_coordinates

    config = only(rotate=30.0, zoom=(1.1, 1.4))
    batch = lesson((32, 32), batch=1, classes=True)
    batch = Lesson(batch.x, batch.target, torch.ones_like(batch.weight), classes=True)
    result = augmented(batch, config, [3])
    x, y = sources(draw(config, 3, square=True), (32, 32))
    inside = (x >= 0) & (x <= 31) & (y >= 0) & (y <= 31)
    linear = map_coordinates(batch.x[0, 1].numpy(), [y, x], order=1, mode="mirror")
    np.testing.assert_allclose(result.x[0, 1].numpy()[inside], linear[inside], atol=2e-4)
    nearest = batch.target[0, 0].numpy()[np.rint(y).clip(0, 31).astype(int), np.rint(x).clip(0, 31).astype(int)]
    assert (result.target[0, 0].numpy() == nearest).mean() > 0.995


@pytest.mark.parametrize("classes", [True, False])
def test_weights_are_moved_and_never_mixed(classes):
    batch = lesson((32, 32), batch=1, classes=classes)
    result = augmented(batch, only(rotate=30.0, zoom=(1.1, 1.4)), [3])
    assert set(np.unique(result.weight)) == {0.0, 1.0, 2.5}


@pytest.mark.parametrize("outside", ["reflect", "border"])
def test_what_is_outside_is_reflected_or_the_border(outside):
    from scipy.ndimage import map_coordinates

    batch = lesson((32, 32), batch=1)
    config = only(zoom=(0.5, 0.7), outside=outside)
    result = augmented(batch, config, [4])
    x, y = sources(draw(config, 4, square=True), (32, 32))
    mode = {"reflect": "mirror", "border": "nearest"}[outside]
    expected = map_coordinates(batch.x[0, 0].numpy(), [y, x], order=1, mode=mode)
    np.testing.assert_allclose(result.x[0, 0].numpy(), expected, atol=2e-4)


def test_unknown_values_reach_no_neighbor():
    """A target that is NaN where nobody knows it: known pixels stay as if there were nothing else."""
    ramp = np.linspace(0, 1, 32, dtype=np.float32)[None, :] + np.zeros((32, 1), np.float32)
    known = np.random.default_rng(0).random((32, 32)) < 0.6
    target = torch.from_numpy(np.where(known, ramp, np.nan).astype(np.float32))[None, None]
    weight = torch.from_numpy(known.astype(np.float32))[None, None]
    config = only(rotate=20.0)
    result = augmented(Lesson(torch.zeros_like(target), target, weight), config, [1])
    whole = augmented(Lesson(*[torch.from_numpy(ramp)[None, None]] * 3), config, [1])
    seen = (result.weight > 0) & (whole.weight > 0)
    assert seen.float().mean() > 0.4
    assert torch.isfinite(result.target).all()
    assert (result.target - whole.target)[seen].abs().max() < 1.5 / 31


def test_a_target_that_is_no_picture_is_left_alone():
    batch = lesson()
    vector = Lesson(batch.x, torch.ones(3, 5), torch.ones(3, 1))
    result = augmented(vector, AugmentConfig(rotate=30, flip=1.0), [1, 2, 3])
    assert torch.equal(result.target, vector.target)
    assert torch.equal(result.weight, vector.weight)
    assert not torch.equal(result.x, vector.x)


def test_the_same_seed_is_the_same_and_every_epoch_another():
    config = AugmentConfig(rotate=15, zoom=(0.9, 1.1), noise=0.2, blur=(0.5, 1.5), contrast=0.2, intensity_offset=0.3)
    batch = lesson(batch=1)
    seeds = [derive_seed(0, "augment", epoch, 0) for epoch in range(50)]
    results = [augmented(batch, config, [seed]) for seed in seeds]
    assert same(results[7], augmented(batch, config, [seeds[7]]))
    assert len({result.x.numpy().tobytes() for result in results}) == 50


def test_a_sample_does_not_depend_on_its_neighbors():
    config = AugmentConfig(rotate=15, zoom=(0.8, 1.2), shear=5, noise=0.2, blur=(0.5, 1.5), equalize=0.5, contrast=0.3)
    batch = lesson(batch=4)
    together = augmented(batch, config, [9, 4, 9, 7])
    for place, seed in enumerate([9, 4, 9, 7]):
        one = Lesson(*(getattr(batch, name)[place : place + 1] for name in ("x", "target", "weight")))
        alone = augmented(one, config, [seed])
        assert torch.equal(alone.x[0], together.x[place])
        assert torch.equal(alone.weight[0], together.weight[place])


def test_one_setting_does_not_move_the_draws_of_another():
    plain, rich = AugmentConfig(rotate=10), AugmentConfig(rotate=10, zoom=(0.5, 2), noise=1, blur=(1, 2), equalize=1)
    for seed in range(50):
        one, other = draw(plain, seed, square=True), draw(rich, seed, square=True)
        assert (one.flip_x, one.flip_y, one.turns, one.rotate) == (
            other.flip_x,
            other.flip_y,
            other.turns,
            other.rotate,
        )


SETTINGS = {
    "flip": 1.0,
    "rot90": True,
    "zoom": (1.5, 1.5),
    "rotate": 30.0,
    "shear": 20.0,
    "intensity_offset": 1.0,
    "intensity_scale": 0.5,
    "contrast": 0.5,
    "noise": 0.5,
    "blur": (1.0, 2.0),
    "autocontrast": 1.0,
    "equalize": 1.0,
}
GEOMETRY = ("flip", "rot90", "zoom", "rotate", "shear")


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("size", [(24, 24), (3, 24, 24)], ids=["plane", "slices"])
def test_every_setting_acts_with_masks_and_intensity_on_the_image_alone(name, size):
    batch = lesson(size, classes=True)
    config = only(**{name: SETTINGS[name]})
    result = augmented(batch, config, [2, 11, 5])
    assert not torch.equal(result.x, batch.x)
    assert torch.equal(result.target, batch.target) == (name not in GEOMETRY)
    assert torch.equal(result.weight, batch.weight) == (name not in GEOMETRY)


def test_every_setting_is_tested():
    assert set(SETTINGS) | {"share", "outside"} == set(AugmentConfig.model_fields)


def test_draws_keep_to_their_ranges_and_fill_them():
    config = AugmentConfig(
        flip=0.3, zoom=(0.8, 1.5), rotate=20, shear=8, blur=(0.5, 2), autocontrast=0.1, equalize=0.25, contrast=0.4,
        intensity_scale=0.2, intensity_offset=0.6, noise=0.5,
    )  # fmt: skip
    draws = [draw(config, derive_seed(0, "augment", seed), square=True) for seed in range(1000)]

    def column(name):
        return np.array([getattr(one, name) for one in draws], float)

    for name, low, high in [
        ("zoom", 0.8, 1.5), ("rotate", -20, 20), ("shear", -8, 8), ("contrast", -0.4, 0.4), ("scale", -0.2, 0.2),
        ("offset", -0.6, 0.6), ("noise", 0, 0.5),
    ]:  # fmt: skip
        values, spread = column(name), high - low
        assert low <= values.min() < low + 0.02 * spread
        assert high - 0.02 * spread < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 0.04 * spread
        assert abs(values.std() - spread / math.sqrt(12)) < 0.02 * spread
    for name, chance in [("flip_x", 0.3), ("flip_y", 0.3), ("autocontrast", 0.1), ("equalize", 0.25)]:
        assert abs(column(name).mean() - chance) < 0.05
    turns = np.bincount(column("turns").astype(int), minlength=4)
    assert (abs(turns / 1000 - 0.25) < 0.05).all()
    sigma = column("blur")
    assert abs((sigma > 0).mean() - 0.5) < 0.05
    assert sigma[sigma > 0].min() >= 0.5
    assert sigma.max() <= 2
    numbers = np.stack([column(n) for n in ("zoom", "rotate", "shear", "contrast", "scale", "offset", "noise")])
    assert abs(np.corrcoef(numbers) - np.eye(7)).max() < 0.12


def test_the_share_of_samples_that_are_changed():
    config = AugmentConfig(rotate=20, share=5 / 6)
    changed = np.mean([draw(config, seed, square=True) != Draw() for seed in range(1000)])
    assert abs(changed - 5 / 6) < 0.04


def test_crops_that_are_not_square_are_turned_by_halves():
    turns = {draw(AugmentConfig(), seed, square=False).turns for seed in range(100)}
    assert turns == {0, 2}


def test_offset_scale_and_contrast_are_their_formulas():
    batch = lesson((3, 16, 16), batch=1)
    config = only(intensity_offset=0.7, intensity_scale=0.3, contrast=0.5)
    one = draw(config, 8, square=True)
    x = batch.x[0].numpy().astype(float)
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    expected = (mean + (x - mean) * (1 + one.contrast)) * (1 + one.scale) + one.offset
    np.testing.assert_allclose(augmented(batch, config, [8]).x[0].numpy(), expected, atol=1e-5)


def test_noise_has_its_standard_deviation():
    batch = lesson((128, 128), batch=1)
    config = only(noise=2.0)
    seed = seed_where(config, lambda one: one.noise > 1)
    added = (augmented(batch, config, [seed]).x - batch.x).numpy()
    one = draw(config, seed, square=True)
    assert added.std() == pytest.approx(one.noise, rel=0.02)
    assert abs(added.mean()) < 0.03
    assert abs(np.corrcoef(added[0, 0].ravel(), added[0, 1].ravel())[0, 1]) < 0.03


def test_blur_equals_a_gaussian_in_each_slice():
    from scipy.ndimage import gaussian_filter

    batch = lesson((3, 40, 40), batch=1)
    config = only(blur=(1.2, 1.2))
    seed = seed_where(config, lambda one: one.blur > 0)
    result = augmented(batch, config, [seed]).x[0, 1].numpy()
    expected = gaussian_filter(batch.x[0, 1].numpy(), (0, 1.2, 1.2), mode="mirror", radius=(0, 4, 4))
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_blur_of_a_crop_that_is_smaller_than_its_reach():
    batch = lesson((4, 5), batch=1)
    seed = seed_where(only(blur=(8, 8)), lambda one: one.blur > 0)
    result = augmented(batch, only(blur=(8.0, 8.0)), [seed]).x
    assert torch.isfinite(result).all()
    assert result.std() < batch.x.std() / 2


def test_equalize_spreads_ranks_and_keeps_ends_and_ties():
    from scipy.stats import rankdata

    rng = np.random.default_rng(0)
    x = np.round(rng.gamma(1.0, 2.0, (1, 1, 32, 32)), 1).astype(np.float32)
    batch = Lesson(torch.from_numpy(x), torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32))
    result = augmented(batch, only(equalize=1.0), [0]).x.numpy().ravel()
    rank = rankdata(x.ravel(), method="max")
    expected = x.min() + (rank - rank.min()) / (rank.max() - rank.min()) * (x.max() - x.min())
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_autocontrast_stretches_the_middle_over_the_range():
    x = np.random.default_rng(0).normal(size=(1, 2, 50, 50)).astype(np.float32)
    batch = Lesson(torch.from_numpy(x), torch.zeros(1, 1, 50, 50), torch.ones(1, 1, 50, 50))
    result = augmented(batch, only(autocontrast=1.0), [0]).x.numpy()
    for before, after in zip(x[0], result[0], strict=True):
        low, high = np.quantile(before, [0.01, 0.99])
        expected = before.min() + np.clip((before - low) / (high - low), 0, 1) * (before.max() - before.min())
        np.testing.assert_allclose(after, expected, atol=0.05)
        assert after.min() == before.min()
        assert after.max() == pytest.approx(before.max())


@pytest.mark.parametrize("name", ["autocontrast", "equalize", "blur", "contrast"])
def test_a_constant_channel_stays_constant(name):
    batch = Lesson(torch.full((1, 1, 9, 9), 3.0), torch.zeros(1, 1, 9, 9), torch.ones(1, 1, 9, 9))
    config = only(**{name: SETTINGS[name]})
    seed = seed_where(config, lambda one: one.blur > 0 or name != "blur")
    torch.testing.assert_close(augmented(batch, config, [seed]).x, batch.x)


def test_one_pixel_is_bent_too():
    batch = lesson((1, 1), batch=1)
    result = augmented(batch, only(rotate=90.0, zoom=(0.5, 2.0), equalize=1.0, autocontrast=1.0), [3])
    assert result.x.shape == batch.x.shape
    assert torch.isfinite(result.x).all()


def test_a_seed_for_each_sample():
    with pytest.raises(BadInput, match="3 samples, but 2 seeds"):
        augmented(lesson(), STILL, [1, 2])


@pytest.mark.parametrize(
    "settings",
    [{"zoom": (1.2, 0.8)}, {"zoom": (0.0, 1.0)}, {"blur": (-1, 1)}, {"flip": 1.5}, {"shear": 90}, {"noise": -1}],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValidationError):
        AugmentConfig(**settings)


def test_every_sample_is_another():
    """The original drew each seed from the last one: 31 different changes in a whole run."""
    config = AugmentConfig(rotate=15)
    drawn = {draw(config, derive_seed(0, "augment", epoch, n), square=True) for epoch in range(20) for n in range(50)}
    assert len(drawn) == 1000
