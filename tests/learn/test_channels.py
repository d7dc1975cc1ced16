"""The whole path with gray, multi-band and 16-bit images, and every setting of color."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fieldmark.checkpoint import ClassSpec
from fieldmark.core.fingerprint import file_hash
from fieldmark.errors import InputMismatch
from fieldmark.images import ArraySource, open_image
from fieldmark.images.writers.mimg import write_mimg
from fieldmark.infer.predict import Model, forward_of, plan_for
from fieldmark.infer.sinks import ArraySink
from fieldmark.infer.tiles import predict_tiles
from fieldmark.learn.run import FitJob, run_fit
from fieldmark.learn.samples import Marks, SampleImage, Samples
from fieldmark.models.build import load_net
from fieldmark.recipes import FitRecipe, PredictRecipe

SIDE = 80
CLASSES = tuple(ClassSpec(id=n, name=name, value=n) for n, name in ((1, "out"), (2, "in")))
NET = {"branches": [{"layers": [{"out_channels": 6, "kernels_per_marker": 4}]}], "scales": [1.0]}


def drawn(channels: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """A bright square on a dark ground, in every channel another brightness; and where it is."""
    inside = np.zeros((SIDE, SIDE), bool)
    inside[12:36, 14:38] = True
    top = 60_000 if dtype == "uint16" else 220 if dtype == "uint8" else 3.5
    noise = np.random.default_rng(0).random((channels, SIDE, SIDE)) * 0.1
    values = (noise + inside * np.linspace(0.5, 0.9, channels)[:, None, None]) * top
    return values.astype(dtype), inside


def saved(folder: Path, values: np.ndarray, form: str) -> Path:
    path = folder / f"a.{form}"
    if form == "mimg":
        write_mimg(path, values)
    elif form == "npy":
        np.save(path, values[0] if len(values) == 1 else values[:, None])  # (y, x), or (c, z, y, x)
    else:
        import tifffile

        tifffile.imwrite(path, values, photometric="minisblack", metadata={"axes": "CYX"})
    return path


def fitted(folder: Path, image: Path, inside: np.ndarray, color: str) -> Model:
    places, klass = [], []
    for y, x in [*((6, n) for n in range(5, 40)), *((24, n) for n in range(8, 44))]:
        places.append((0, 0, y, x))
        klass.append(int(inside[y, x]))
    number = np.zeros(len(places), np.int64)
    marks = Marks(number, np.array(places), np.array(klass) + 1, np.array(klass))
    samples = Samples([SampleImage("a", str(image), file_hash(image))], marks, 2)
    recipe = FitRecipe(family="flim", net=NET | {"color": color}, head={"kind": "logistic"})
    for _ in run_fit(FitJob(recipe, samples, CLASSES, folder / "run")):
        pass
    return Model("small", *load_net(folder / "run" / "model"))


def predicted(model: Model, image: Path, *, tile: int = 128) -> np.ndarray:
    recipe = PredictRecipe(tile=tile)
    with open_image(image) as source:
        sink = ArraySink(source.shape, 2)
        forward = forward_of(model, recipe, source=source)
        for _ in predict_tiles(forward, source, plan_for(model, source, recipe, "a"), sink):
            pass
    return sink.answers[0, :, 0]


def agreement(answers: np.ndarray, inside: np.ndarray) -> float:
    return float((answers.argmax(axis=0) == inside).mean())


@pytest.mark.parametrize("form", ["tif", "npy", "mimg"])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", ["uint16"])
def test_any_number_of_channels_is_fitted_and_predicted(tmp_path, channels, dtype, form):
    values, inside = drawn(channels, dtype)
    image = saved(tmp_path, values, form)
    with open_image(image) as source:
        assert source.shape == (1, channels, 1, SIDE, SIDE)
    model = fitted(tmp_path, image, inside, "auto")
    assert model.header.channels == channels
    assert agreement(predicted(model, image), inside) > 0.95


@pytest.mark.parametrize(
    ("color", "channels", "dtype"),
    [
        ("raw", 3, "uint8"),
        ("lab", 3, "float32"),
        ("lab", 1, "uint16"),
        ("lab-color-table", 1, "uint8"),
        ("lab-per-image", 3, "uint8"),
        ("lab-per-image", 1, "uint16"),
    ],
)
def test_every_color_is_fitted_and_predicted_in_tiles(tmp_path, color, channels, dtype):
    values, inside = drawn(channels, dtype)
    image = saved(tmp_path, values, "tif")
    model = fitted(tmp_path, image, inside, color)
    assert model.header.channels == channels
    whole = predicted(model, image)
    assert agreement(whole, inside) > 0.95
    np.testing.assert_allclose(predicted(model, image, tile=64), whole, atol=1e-5)


def test_a_brighter_image_is_the_same_to_a_model_that_divides_by_each_image(tmp_path):
    values, inside = drawn(3, "uint16")
    model = fitted(tmp_path, saved(tmp_path, values, "tif"), inside, "lab-per-image")
    (tmp_path / "dark").mkdir()
    dark = saved(tmp_path / "dark", values // 4 * 4 // 4, "tif")
    assert agreement(predicted(model, dark), inside) > 0.95


def test_other_channels_are_refused_by_name(tmp_path):
    values, inside = drawn(1, "uint16")
    model = fitted(tmp_path, saved(tmp_path, values, "tif"), inside, "lab")
    with ArraySource(drawn(3, "uint8")[0], "cyx") as source, pytest.raises(InputMismatch, match="1-channel images"):
        plan_for(model, source, PredictRecipe(), "b.png")
