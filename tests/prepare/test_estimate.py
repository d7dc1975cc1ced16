"""A preparation measured over a set of images, against NumPy over all pixels at once."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput, BadRecipe
from fieldmark.images import ArraySource
from fieldmark.prepare import Whole, apply
from fieldmark.prepare.estimate import Estimated, estimate
from fieldmark.prepare.flat_field import surface_at
from fieldmark.prepare.masks import otsu_mask
from fieldmark.recipes.prepare import FlatFieldConfig, ForegroundConfig, NormalizeConfig, PrepareConfig

SIZE = (96, 128)


def light() -> np.ndarray:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return 1.3 - 0.9 * (y / SIZE[0] - 0.3) ** 2 - 0.5 * (x / SIZE[1] - 0.7) ** 2


def drawn(count: int = 12, *, dark: float = 300.0) -> list[np.ndarray]:
    """Volumes (1, 2, 2, y, x): discs in uneven light in channel 0, even noise in channel 1."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    images = []
    for _ in range(count):
        cy, cx = rng.integers(20, 70), rng.integers(20, 100)
        disc = np.hypot(y - cy, x - cx) < 16
        shown = [light() * (dark + 900 * disc) + rng.normal(0, 5, SIZE) for _ in range(2)]
        images.append(np.stack([shown, rng.normal(500, 20, (2, *SIZE))])[None].astype(np.float32))
    return images


def run(images: list[np.ndarray], config: PrepareConfig, **options) -> Estimated:
    work = estimate(
        [partial(ArraySource, pixels, shown=f"p{place}") for place, pixels in enumerate(images)], config, **options
    )
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value


def prepared(pixels: np.ndarray, steps: list[dict], z: int) -> np.ndarray:
    """(C, y, x) of one slice."""
    whole = Whole(lambda: ArraySource(pixels))
    return apply(pixels[0, :, z], whole.at(steps, Box((0, z, 0, 0), (1, z + 1, *SIZE))))


def test_flat_field_and_statistics_of_the_data_set_go_together():
    """microDL cannot have both; here the statistics are those of even light."""
    images = drawn(dark=6000)
    config = PrepareConfig(
        flat_field=FlatFieldConfig(channels=(0,), block=8), normalize=NormalizeConfig(statistic="median-iqr")
    )
    found = run(images, config)
    field = surface_at(found.first[0]["surfaces"][0], np.arange(SIZE[0]), np.arange(SIZE[1]), SIZE)
    truth = light() / light().mean()
    assert np.abs(field / truth - 1).max() < 0.06  # a dozen faint discs are still in the mean
    assert np.corrcoef(field.ravel(), truth.ravel())[0, 1] > 0.99
    assert found.first[0]["surfaces"][1] is None
    lit = np.stack([image[0, :, z] for image in images for z in range(2)]).astype(np.float64)
    lit[:, 0] /= field
    for channel in range(2):
        values = lit[:, channel]
        assert found.steps[-1]["mean"][channel] == pytest.approx(np.median(values), rel=1e-5)
        assert found.steps[-1]["std"][channel] == pytest.approx(np.subtract(*np.percentile(values, [75, 25])), rel=1e-4)
    ready = prepared(images[3], found.steps, 1)
    expected = (images[3][0, 0, 1] / field - found.steps[-1]["mean"][0]) / found.steps[-1]["std"][0]
    assert np.allclose(ready[0], expected, atol=1e-4)


@pytest.mark.parametrize("first", [0, 3])
def test_images_that_show_nothing_do_not_count_with_all_their_pixels(first):
    """Three images with a bright square and three without one, by one threshold, whichever come first."""
    rng, images, inside = np.random.default_rng(6), drawn(6), []
    for n, image in enumerate(images):
        image[0, 0] = rng.normal(300, 5, (2, *SIZE))
        if not first <= n < first + 3:
            image[0, 0, :, 32:64, 48:80] = rng.normal(1200, 50, (2, 32, 32))
            inside.append(image[0, :, :, 32:64, 48:80].reshape(2, -1))
    config = PrepareConfig(
        foreground=ForegroundConfig(channels=(0,), method="dataset-otsu", radius=2),
        normalize=NormalizeConfig(min_fraction=0.9),
    )
    (step,) = run(images, config).steps
    seen = np.concatenate(inside, axis=1).astype(np.float64)
    assert step["mean"] == pytest.approx(seen.mean(axis=1), rel=1e-5)
    assert step["std"] == pytest.approx(seen.std(axis=1), rel=1e-4)


def test_only_the_foreground_is_measured():
    images = drawn(4)
    config = PrepareConfig(
        foreground=ForegroundConfig(channels=(0,), radius=2), normalize=NormalizeConfig(min_fraction=0.75)
    )
    found = run(images, config)
    values = []
    for image in images:
        for z in range(2):
            mask = otsu_mask(image[0, 0, z], radius=2)
            for y in range(0, SIZE[0], 16):
                values += [
                    image[0, :, z, y : y + 16, x : x + 16].reshape(2, -1)
                    for x in range(0, SIZE[1], 16)
                    if mask[y : y + 16, x : x + 16].mean() >= 0.75
                ]
    seen = np.concatenate(values, axis=1).astype(np.float64)
    assert found.steps[-1]["mean"] == pytest.approx(seen.mean(axis=1), rel=1e-5)
    assert found.steps[-1]["std"] == pytest.approx(seen.std(axis=1), rel=1e-4)


@pytest.mark.parametrize("scheme", ["dataset", "volume"])
def test_planes_that_show_nothing_are_not_measured(scheme):
    """Half of the slices lie beside the objects: their ground is none of what shows foreground."""
    images, inside = drawn(4), []
    for image in images:
        disc = image[0, 0, 0] / light() > 900
        inside.append(image[0, 0, 0][disc])
        image[0, 0, 1] = np.random.default_rng(7).normal(50, 2, SIZE)
    config = PrepareConfig(
        foreground=ForegroundConfig(method="dataset-otsu", channels=(0,), radius=2),
        normalize=NormalizeConfig(scheme=scheme, statistic="median-iqr", min_fraction=0.9),
    )
    steps = run(images, config).steps
    if scheme == "dataset":
        assert steps[-1]["mean"][0] == pytest.approx(np.median(np.concatenate(inside)), rel=0.05)
        return
    for image, seen in zip(images, inside, strict=True):
        numbers = Whole(lambda image=image: ArraySource(image)).numbers(steps, 0, 1)
        assert numbers["center"][0] == pytest.approx(np.median(seen), rel=0.1)  # some blocks, under their own light


@pytest.mark.parametrize("statistic", ["median-iqr", "mean-std"])
@pytest.mark.parametrize(
    "ground", [None, ForegroundConfig(channels=(0,), radius=2), ForegroundConfig(method="dataset-otsu")]
)
def test_a_slice_alone_is_prepared_as_in_its_stack(statistic, ground):
    images = drawn(3)
    normalize = NormalizeConfig(scheme="slice", statistic=statistic, min_fraction=0.5 if ground else 0)
    steps = run(
        images, PrepareConfig(flat_field=FlatFieldConfig(block=8), foreground=ground, normalize=normalize)
    ).steps
    for z in range(2):
        alone = prepared(images[1][:, :, z : z + 1], steps, 0)
        assert np.array_equal(alone, prepared(images[1], steps, z))


def test_a_threshold_of_the_data_set_is_one_for_all():
    bright, dim = drawn(2, dark=300), drawn(2, dark=3000)
    config = PrepareConfig(foreground=ForegroundConfig(method="dataset-otsu", channels=(0,)))
    ground = run([*bright, *dim], config).ground
    assert ground is not None
    assert 1500 < ground["value"] < 3000, "between the dim images and the bright ones, whatever is in each"


def test_few_pixels_of_each_are_kept_where_there_are_many(monkeypatch):
    monkeypatch.setattr("fieldmark.prepare.estimate.MOST_PIXELS", 20_000)
    monkeypatch.setattr("fieldmark.prepare.estimate.LEAST_PIXELS", 2_000)
    images = drawn(10)
    found = run(images, PrepareConfig(normalize=NormalizeConfig()))
    every = np.stack([image[0] for image in images]).astype(np.float64)
    assert found.steps[-1]["mean"] == pytest.approx(every.mean(axis=(0, 2, 3, 4)), rel=0.05)
    assert found.steps[-1]["std"] == pytest.approx(every.std(axis=(0, 2, 3, 4)), rel=0.1)


@pytest.mark.parametrize("ground", [None, ForegroundConfig(channels=(0,), radius=0)])
def test_pixels_that_are_kept_lie_all_over_the_planes(monkeypatch, ground):
    """A slope of brightness: its upper part alone would have another mean."""
    monkeypatch.setattr("fieldmark.prepare.estimate.MOST_PIXELS", 8_000)
    monkeypatch.setattr("fieldmark.prepare.estimate.LEAST_PIXELS", 2_000)
    slope = np.broadcast_to(np.linspace(100, 1000, SIZE[0])[:, None], SIZE)
    images = [np.stack([(slope + 100 * n) ** 2])[None, :, None].astype(np.float32) for n in range(8)]
    normalize = NormalizeConfig(min_fraction=0.5 if ground else 0)
    found = run(images, PrepareConfig(foreground=ground, normalize=normalize))
    planes = [image[0, 0, 0].astype(np.float64) for image in images[::2]]  # 8 planes, 4 of which are measured
    seen = [plane if ground is None else blocks_of(plane, otsu_mask(plane, radius=0)) for plane in planes]
    assert found.steps[-1]["mean"][0] == pytest.approx(np.concatenate([part.ravel() for part in seen]).mean(), rel=0.03)


def blocks_of(plane: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Pixels of the blocks of 16 x 16 of which half is foreground."""
    corners = [(y, x) for y in range(0, SIZE[0], 16) for x in range(0, SIZE[1], 16)]
    return np.concatenate(
        [plane[y : y + 16, x : x + 16].ravel() for y, x in corners if mask[y : y + 16, x : x + 16].mean() >= 0.5]
    )


def test_each_channel_has_its_own_light(tmp_path):
    """Of channels 0 and 2 of three, estimated or from files that are named by the user's numbers."""
    fields = [light(), np.ones(SIZE), light()[::-1, ::-1]]
    images = [np.stack([500 * field for field in fields])[None, :, None].astype(np.float32) for _ in range(3)]
    for number, field in zip((4, 6, 8), fields, strict=True):
        np.save(tmp_path / f"flat-field_channel-{number}.npy", field)
    asked = (
        FlatFieldConfig(channels=(0, 2), block=8),
        FlatFieldConfig(channels=(0, 2)),
        FlatFieldConfig(method="file", folder=str(tmp_path)),
    )
    for config in asked:
        (step,) = run(images, PrepareConfig(flat_field=config, normalize=None), names=(4, 6, 8)).steps
        for surface, field in zip(step["surfaces"], fields, strict=True):
            found = surface_at(surface, np.arange(SIZE[0]), np.arange(SIZE[1]), SIZE)
            assert np.abs(found / (field / field.mean()) - 1).max() < (0.04 if config.method == "basic" else 0.01)


def test_a_volume_is_measured_as_a_whole_and_a_slice_by_itself():
    images = [image + np.array([0, 400])[:, None, None] for image in drawn(2)]
    for scheme, expected in (("slice", 0.0), ("volume", -0.5)):
        steps = run(images, PrepareConfig(normalize=NormalizeConfig(scheme=scheme, statistic="mean-std"))).steps
        mean = float(prepared(images[0].astype(np.float32), steps, 0)[1].mean())
        assert (abs(mean) < 1e-3) if scheme == "slice" else (mean < expected)


def test_what_cannot_be_measured_is_said():
    images = drawn(2)
    spoiled = images[1].copy()
    spoiled[0, 0, 1, 5, 5] = np.nan
    flat = FlatFieldConfig(block=8)
    with pytest.raises(BadInput, match="p1, time 0, slice 1: holds pixels that are NaN"):
        run([images[0], spoiled], PrepareConfig(flat_field=flat))
    with pytest.raises(BadInput, match="one illumination belongs to one size"):
        run([images[0], images[1][..., :100]], PrepareConfig(flat_field=flat))
    with pytest.raises(BadInput, match="p1 has 1 channels, and the first image 2"):
        run([images[0], images[1][:, :1]], PrepareConfig(normalize=NormalizeConfig()))
    with pytest.raises(BadRecipe, match="nothing says what foreground is"):
        run(images, PrepareConfig(normalize=NormalizeConfig(min_fraction=0.5)))


def test_of_many_planes_basic_looks_at_every_nth(monkeypatch):
    monkeypatch.setattr("fieldmark.prepare.light.MOST_PLANES", 4)
    images = drawn(5)  # ten planes
    basic = PrepareConfig(flat_field=FlatFieldConfig(channels=(0,)))
    told = list(estimate([partial(ArraySource, pixels) for pixels in images], basic))
    assert [(event.step, event.total) for event in told if event.phase == "flat field"] == [(n, 4) for n in range(1, 5)]
    planes = np.concatenate([pixels[0].transpose(1, 0, 2, 3) for pixels in images])[::3]
    some = run([plane[None, :, None] for plane in planes], basic)
    assert run(images, basic).first == some.first


@pytest.mark.parametrize("group", ["flat_field", "normalize", "foreground"])
def test_a_channel_that_is_not_there_is_said(group):
    config = PrepareConfig.model_validate({group: {"channels": [0, 2]}})
    with pytest.raises(BadRecipe, match=rf"prepare\.{group}\.channels names channel 2, and images have 2"):
        run(drawn(1), config)


@pytest.mark.parametrize("method", ["basic", "blocks"])
@pytest.mark.parametrize("numbers", [(), (3, 5)])
def test_a_channel_without_light_is_named(method, numbers):
    images = drawn(2)
    for pixels in images:
        pixels[:, 1] = 0
    config = PrepareConfig(flat_field=FlatFieldConfig(method=method, block=8))
    with pytest.raises(BadInput, match=rf"is channel {numbers[1] if numbers else 1}; .*prepare\.flat_field\.channels"):
        run(images, config, names=numbers)
    own = FlatFieldConfig(method=method, block=8, channels=(0,))
    assert run(images, PrepareConfig(flat_field=own)).steps[0]["surfaces"][1] is None
