"""Normalization by the data set, and targets that come back in their own units."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from fieldmark.core.fingerprint import file_hash
from fieldmark.errors import BadInput, BadRecipe
from fieldmark.images import open_image
from fieldmark.infer.predict import Model, forward_of, in_target_units, plan_for
from fieldmark.infer.sinks import ArraySink
from fieldmark.infer.tiles import predict_tiles
from fieldmark.learn.preparation import largest, normalization
from fieldmark.learn.run import FitJob, run_fit
from fieldmark.learn.samples import Marks, SampleImage, Samples
from fieldmark.models.build import load_net
from fieldmark.prepare import apply, channels_step, check, clip_step, inverse, scale_step, standardize_step
from fieldmark.recipes import FitRecipe, PredictRecipe, validate
from fieldmark.recipes.prepare import NormalizeConfig


def test_median_and_quartiles_and_mean_and_spread():
    values = np.random.default_rng(0).gamma(2.0, 50.0, (2, 5000))
    (robust,) = normalization(values, NormalizeConfig(statistic="median-iqr"))
    assert robust["mean"] == pytest.approx(np.median(values, axis=1))
    assert robust["std"] == pytest.approx(np.subtract(*np.percentile(values, [75, 25], axis=1)))
    (plain,) = normalization(values, NormalizeConfig())
    assert plain["mean"] == pytest.approx(values.mean(axis=1))
    assert plain["std"] == pytest.approx(values.std(axis=1))


def test_clipping_comes_before_what_is_measured():
    values = np.array([[0.0] * 50 + [1.0] * 49 + [1e6]])
    clip, center = normalization(values, NormalizeConfig(clip=(0, 98)))
    assert clip["high"] == [1.0]
    assert center["mean"] == pytest.approx([0.5])


def test_a_constant_channel_is_not_divided_by_zero():
    (step,) = normalization(np.full((1, 100), 7.0), NormalizeConfig())
    assert (step["mean"], step["std"]) == ([7.0], [1.0])


def test_what_was_prepared_comes_back():
    steps = [channels_step([1]), scale_step(255.0), standardize_step([0.3], [0.2])]
    pixels = np.random.default_rng(1).integers(0, 255, (2, 4, 5)).astype(np.float32)
    assert np.allclose(apply(apply(pixels, steps), inverse(steps)), pixels[1:], atol=1e-3)
    with pytest.raises(BadInput, match="cannot be undone"):
        inverse([{"step": "lab"}])


def test_channels_are_taken_or_already_so():
    pixels = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    assert np.array_equal(apply(pixels, [channels_step([2, 0])]), pixels[[2, 0]])
    assert np.array_equal(apply(pixels[:1], [channels_step([3])]), pixels[:1])
    with pytest.raises(BadInput, match="sees channels 3, 1; the image has 3"):
        apply(pixels[:3], [channels_step([3, 1])])
    assert len(check([channels_step([2, 0])], 4)) == 2
    with pytest.raises(BadInput):
        check([channels_step([-1])], 4)
    with pytest.raises(BadInput, match="Limits of 1"):
        apply(pixels, [clip_step([0], [1])])


def test_the_largest_value_of_a_type():
    assert [largest(np.dtype(name)) for name in ("uint8", "uint16", "float32")] == [255, 65535, 1]


def painted(folder, recipe: dict) -> tuple[Model, np.ndarray]:
    """A network that paints channel 2 (400 + 30 x channel 0) from channel 0, beside a channel of noise."""
    rng = np.random.default_rng(3)
    images = []
    for n in range(3):
        smooth = rng.random((10, 12)).repeat(4, 0).repeat(4, 1)
        stack = np.stack([smooth, rng.random((40, 48)), 400 + 30 * smooth]).astype(np.float32)
        path = folder / f"{n}.tif"
        tifffile.imwrite(path, stack, photometric="minisblack", metadata={"axes": "CYX"})
        images.append(SampleImage(path.name, str(path), file_hash(path)))
    values = {
        "family": "unet",
        "net": {"filters": [6, 8]},
        "data": {"inputs": [0], "target": {"kind": "image", "channels": [2]}},
        "train": {"epochs": 6, "crop": [32, 32], "crops_per_epoch": 32, "batch_size": 4, "lr": 1e-2},
    }
    job = FitJob(validate(FitRecipe, values | recipe), Samples(images, Marks.none(), 0), (), folder / "run")
    for _ in run_fit(job):
        pass
    return Model("paint", *load_net(folder / "run" / "model")), stack


def predicted(model: Model, path) -> np.ndarray:
    with open_image(path) as source:
        sink = ArraySink(source.shape, 1)
        recipe = PredictRecipe()
        forward = forward_of(model, recipe, "image", source=source)
        for _ in predict_tiles(forward, source, plan_for(model, source, recipe, "it"), sink):
            pass
    return in_target_units(model.header, sink.answers)[0, 0, 0]


def test_predictions_come_in_the_units_of_their_targets(tmp_path):
    model, stack = painted(tmp_path, {})
    assert model.header.outputs == ("image",)
    found = predicted(model, tmp_path / "2.tif")
    assert np.abs(found - stack[2]).mean() < 4  # of a spread of 9, around 415
    tifffile.imwrite(tmp_path / "alone.tif", stack[0])  # the channel that it sees is enough
    assert np.array_equal(predicted(model, tmp_path / "alone.tif"), found)


def test_schemes_that_are_not_there_are_said(tmp_path):
    with pytest.raises(BadRecipe, match="'slice' is not there yet"):
        painted(tmp_path, {"prepare": {"normalize": {"scheme": "slice"}}})
