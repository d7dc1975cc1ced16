"""Networks that learn from images at another size: targets, masks and strokes go along, predictions come back."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from scipy.ndimage import zoom

from fieldmark.checkpoint import ClassSpec
from fieldmark.core.fingerprint import file_hash
from fieldmark.core.geometry import Box
from fieldmark.errors import BadRecipe
from fieldmark.images import open_image
from fieldmark.images.resized import scaled_size
from fieldmark.infer.predict import Model, forward_of, in_target_units, plan_for
from fieldmark.infer.sinks import ArraySink
from fieldmark.infer.tiles import predict_tiles
from fieldmark.learn.run import FitJob, run_fit
from fieldmark.learn.samples import Marks, SampleImage, Samples, resized_marks
from fieldmark.models.build import load_net
from fieldmark.recipes import FitRecipe, PredictRecipe, validate

SIZE = (91, 120)
TRAIN = {"epochs": 5, "crop": [32, 32], "crops_per_epoch": 24, "batch_size": 4, "lr": 1e-2}


def fitted(folder, images: list[SampleImage], recipe: dict, classes=(), marks: Marks | None = None) -> Model:
    values = {"family": "unet", "net": {"filters": [6, 8]}, "train": TRAIN} | recipe
    samples = Samples(images, marks or Marks.none(), len(classes))
    job = FitJob(validate(FitRecipe, values), samples, classes, folder / "run")
    for _ in run_fit(job):
        pass
    return Model("small", *load_net(folder / "run" / "model"))


def predicted(model: Model, path, output: str) -> np.ndarray:
    with open_image(path) as source:
        count = len(model.header.classes) or 1
        sink, recipe = ArraySink(source.shape, count), PredictRecipe()
        for _ in predict_tiles(
            forward_of(model, recipe, output, source=source), source, plan_for(model, source, recipe, "it"), sink
        ):
            pass
    return in_target_units(model.header, sink.answers)[0, :, 0]


def saved(folder, name: str, pixels: np.ndarray) -> SampleImage:
    path = folder / name
    axes = {2: "YX", 3: "CYX"}[pixels.ndim]
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": axes})
    return SampleImage(name, str(path), file_hash(path))


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bright rectangles on a ramp, and where they are."""
    rng = np.random.default_rng(seed)
    shown = np.zeros(SIZE, bool)
    for _ in range(4):
        y, x = rng.integers(0, 60), rng.integers(0, 90)
        shown[y : y + 26, x : x + 22] = True
    return (100 + 90 * shown + rng.normal(0, 6, SIZE)).astype(np.float32), shown


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_images_are_painted_in_their_own_grid(tmp_path, factor):
    """Channel 1 is 400 + 2 x channel 0, which is smooth."""
    images = []
    for n in range(3):
        coarse = np.random.default_rng(n).random((7, 9))
        smooth = zoom(coarse, (SIZE[0] / 7, SIZE[1] / 9), order=1)
        images.append(saved(tmp_path, f"{n}.tif", np.stack([100 * smooth, 400 + 200 * smooth]).astype(np.float32)))
    model = fitted(
        tmp_path,
        images,
        {"data": {"inputs": [0], "target": {"kind": "image", "channels": [1]}}, "prepare": {"resize": factor}},
    )
    assert [step["step"] for step in model.header.preparation] == ["resize", "channels", "standardize"]
    assert model.header.preparation[0]["by"] == factor
    truth = tifffile.imread(tmp_path / "2.tif")
    found = predicted(model, tmp_path / "2.tif", "image")[0]
    assert found.shape == SIZE
    assert np.corrcoef(found.ravel(), truth[1].ravel())[0, 1] > 0.97
    assert abs(found.mean() - truth[1].mean()) < 8
    tifffile.imwrite(tmp_path / "alone.tif", truth[0])
    assert np.array_equal(predicted(model, tmp_path / "alone.tif", "image")[0], found)


@pytest.mark.parametrize("beside", [True, False])
def test_classes_come_back_where_they_are(tmp_path, beside):
    """Label maps in files, or in a channel of the images themselves, whose values are never blended."""
    images = []
    for n in range(4):
        pixels, shown = scene(n)
        values = np.where(shown, 7, 0)
        if beside:
            image = saved(tmp_path, f"{n}.tif", pixels)
            maps = saved(tmp_path, f"{n}-map.tif", values.astype(np.uint8))
            image = SampleImage(image.name, image.uri, image.content_hash, maps.uri, maps.content_hash)
        else:
            image = saved(tmp_path, f"{n}.tif", np.stack([pixels, values]).astype(np.uint16))
        images.append(image)
    classes = (ClassSpec(id=1, name="ground", value=0), ClassSpec(id=2, name="box", value=7))
    data = {"inputs": [0], "target": {"kind": "labels", "channels": [] if beside else [1]}}
    model = fitted(tmp_path, images, {"data": data, "prepare": {"resize": 0.5}}, classes)
    pixels, shown = scene(9)
    tifffile.imwrite(tmp_path / "new.tif", pixels)
    found = predicted(model, tmp_path / "new.tif", "classes").argmax(axis=0) == 1
    assert 2 * (found & shown).sum() / (found.sum() + shown.sum()) > 0.93
    rows, columns = (np.flatnonzero(found.any(axis=axis)) for axis in (1, 0))
    wide, high = (np.flatnonzero(shown.any(axis=axis)) for axis in (1, 0))
    assert np.abs([rows[0] - wide[0], rows[-1] - wide[-1], columns[0] - high[0], columns[-1] - high[-1]]).max() <= 2


def test_strokes_teach_too(tmp_path):
    pixels, shown = scene(1)
    image = saved(tmp_path, "0.tif", pixels)
    rng = np.random.default_rng(0)
    at = np.concatenate([rng.permutation(np.argwhere(shown == value))[:150] for value in (False, True)])
    place = np.concatenate([np.zeros((300, 2), np.int64), at], axis=1)
    klass = np.repeat([0, 1], 150)
    marks = Marks(np.zeros(300, np.int64), place, klass + 1, klass)
    classes = (ClassSpec(id=1, name="ground", value=1), ClassSpec(id=2, name="box", value=2))
    model = fitted(tmp_path, [image], {"prepare": {"resize": 0.5}}, classes, marks)
    found = predicted(model, tmp_path / "0.tif", "classes").argmax(axis=0) == 1
    assert 2 * (found & shown).sum() / (found.sum() + shown.sum()) > 0.9


@pytest.mark.parametrize("factors", [(1, 0.4, 0.4), (1, 0.5, 0.5), (1, 1.5, 1.5), (1, 2, 2), (2, 0.5, 1), (0.5, 1, 3)])
def test_marks_lie_where_their_pixels_went(factors):
    rng = np.random.default_rng(5)
    size = (5, 19, 23)
    painted = rng.integers(0, 4, size) * (rng.random(size) < 0.2)
    at = np.argwhere(painted)
    stroke = painted[tuple(at.T)]
    place = np.concatenate([np.full((len(at), 1), 2), at], axis=1)
    marks = Marks(np.full(len(at), 1), place, stroke, stroke - 1)
    made = resized_marks(marks, [(5, 5, 5), size], factors)
    new = tuple(scaled_size(n, by) for n, by in zip(size, factors, strict=True))
    assert len(np.unique(made.place, axis=0)) == len(made)
    assert (made.place[:, 0] == 2).all()
    assert (made.klass == made.stroke - 1).all()
    drawn = np.zeros(new, int)
    drawn[tuple(made.place[:, 1:].T)] = made.stroke
    # by hand: along axes that shrink each old pixel falls into a cell; along those that grow each new one lies in one
    small = np.minimum(size, new)
    inside: dict[tuple[int, ...], set[int]] = {}
    for pixel, value in zip(at, stroke, strict=True):
        cell = tuple(int((n + 0.5) * s / old) for n, s, old in zip(pixel, small, size, strict=True))
        inside.setdefault(cell, set()).add(int(value))
    for cell in np.ndindex(*new):
        own = tuple(int((n + 0.5) * s / wide) for n, s, wide in zip(cell, small, new, strict=True))
        assert drawn[cell] in inside.get(own, {0})
        assert (drawn[cell] > 0) == (own in inside)


def test_volumes_are_painted_in_their_own_slices(tmp_path):
    """Channel 1 is 400 + 2 x channel 0. A network of volumes sees twice as many slices; its answers have the file's."""
    images = []
    for n in range(2):
        smooth = zoom(np.random.default_rng(n).random((3, 5, 6)), (3, 8, 8), order=1)
        pixels = np.stack([100 * smooth, 400 + 200 * smooth], axis=1).astype(np.float32)
        path = tmp_path / f"{n}.tif"
        tifffile.imwrite(path, pixels, imagej=False, metadata={"axes": "ZCYX"})
        images.append(SampleImage(path.name, str(path), file_hash(path)))
    recipe = {
        "net": {"dims": "3", "filters": [6, 8]},
        "train": {**TRAIN, "epochs": 8, "crop": [24, 24], "depth": 8},
        "data": {"inputs": [0], "target": {"kind": "image", "channels": [1]}},
        "prepare": {"resize": [2, 1, 0.5]},
    }
    model = fitted(tmp_path, images, recipe)
    assert model.header.preparation[0] == {"step": "resize", "by": [2, 1, 0.5]}
    with open_image(tmp_path / "1.tif") as source:
        truth = source.read(Box.whole(source.shape))[0, 1]
        sink, how = ArraySink(source.shape, 1), PredictRecipe()
        forward = forward_of(model, how, "image", source=source)
        for _ in predict_tiles(forward, source, plan_for(model, source, how, "it"), sink):
            pass
    found = in_target_units(model.header, sink.answers)[0, 0]
    assert found.shape == truth.shape == (9, 40, 48)
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.97
    for z in range(9):  # no slice lies where its neighbor belongs
        errors = [np.abs(found[z] - truth[other]).mean() for other in range(9)]
        assert np.argmin(errors) == z


def test_slices_that_are_blended_are_not_parted(tmp_path):
    image = saved(tmp_path, "0.tif", scene(1)[0])
    recipe = {"prepare": {"resize": [2, 1, 1]}, "data": {"split": {"by": "slice"}}}
    with pytest.raises(BadRecipe, match=r"prepare\.resize is \[2, 1, 1\] blends neighboring slices"):
        fitted(tmp_path, [image], recipe)


def test_families_that_do_not_go_along_refuse(tmp_path):
    image = saved(tmp_path, "0.tif", scene(1)[0])
    with pytest.raises(BadRecipe, match=r"prepare\.resize is 0\.5, and autoencoder"):
        fitted(tmp_path, [image], {"family": "autoencoder", "net": {}, "train": {}, "prepare": {"resize": 0.5}})
