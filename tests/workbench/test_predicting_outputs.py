"""What is written beside class maps: images, probabilities in whole numbers, objects one by one, figures."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr
from scipy import ndimage

from fieldmark.checkpoint import Header, load, save
from fieldmark.core.files import write_atomic
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput, BadRecipe, NotFound
from fieldmark.images import encode_png, open_image
from fieldmark.images.writers import create_writer
from fieldmark.infer import jobs
from fieldmark.infer.deliver import place_instances
from fieldmark.models.build import build
from fieldmark.models.tensors import arrays_of
from fieldmark.prepare import scale_step, standardize_step
from fieldmark.recipes import PredictRecipe, validate
from fieldmark.testing.projects import drawn_masks

SUFFIX = {"ome-zarr": ".ome.zarr", "tiff": ".tif", "png": ".png", "npy": ".npy"}


def pixels(path: Path) -> np.ndarray:
    with open_image(path) as source:
        return source.read(Box.whole(source.shape))


def predict(bench, out: Path, *, form: str = "npy", model: str = "tiny", images=("drawn2.png",), truth=None, **recipe):
    settings = validate(PredictRecipe, {"propagate": "none"} | recipe)
    return list(bench.predict(model, images, out=out, form=form, recipe=settings, truth=truth))


@pytest.fixture
def painter(tmp_path) -> str:
    """A model that makes images: an untrained autoencoder whose answers lie around 20000."""
    return painted(tmp_path, 3)


def painted(tmp_path: Path, channels: int, target_preparation=()) -> str:
    config = {"width": 4, "latent": 4, "depth": 2}
    net = build("autoencoder", config, channels, seed=3)
    with torch.no_grad():
        last = [parameter for name, parameter in net.named_parameters() if name.endswith("bias")][-1]
        last += torch.tensor([100.25, 20000.5, -3.0])[:channels]
    header = Header(
        family="autoencoder",
        config=config,
        preparation=[scale_step(25.5)],
        outputs=("image", "features"),
        channels=channels,
        stride=net.strides,
        halo=net.halo,
        tile_exact=net.tile_exact,
        details={"target_channels": ["red", "green", "blue"][:channels]},
        target_preparation=list(target_preparation),
    )
    save(tmp_path / "painter", header, arrays_of(net))
    return str(tmp_path / "painter")


def test_images_are_written_in_every_format(bench, painter, tmp_path):
    for form, suffix in SUFFIX.items():
        predict(bench, tmp_path / form, form=form, model=painter)
        made = pixels(tmp_path / form / f"drawn2{suffix}")
        assert made.shape == (1, 3, 1, 61, 75)
        assert made.dtype == (np.uint16 if form == "png" else np.float32)
    exact = pixels(tmp_path / "npy" / "drawn2.npy")
    assert exact.std() > 0
    assert np.array_equal(pixels(tmp_path / "ome-zarr" / "drawn2.ome.zarr"), exact)
    assert np.array_equal(pixels(tmp_path / "tiff" / "drawn2.tif"), exact)
    assert np.array_equal(pixels(tmp_path / "png" / "drawn2.png"), np.rint(exact.clip(0, 65535)).astype(np.uint16))
    predict(bench, tmp_path / "bytes", form="tiff", model=painter, dtype="uint8")
    assert np.array_equal(pixels(tmp_path / "bytes" / "drawn2.tif"), np.rint(exact.clip(0, 255)).astype(np.uint8))


def test_images_are_written_in_the_units_of_their_targets(bench, painter, tmp_path):
    """Each channel by its own center and spread, as they were when the network learned from (target - mean) / std."""
    predict(bench, tmp_path / "raw", model=painter)
    raw = pixels(tmp_path / "raw" / "drawn2.npy")
    mean, std = np.array([10.0, -150.0, 3000.0]), np.array([2.0, 0.5, 100.0])
    taught = painted(tmp_path, 3, [standardize_step(mean, std)])
    predict(bench, tmp_path / "exact", model=taught)
    in_units = pixels(tmp_path / "exact" / "drawn2.npy")
    expected = raw * std.reshape(1, 3, 1, 1, 1) + mean.reshape(1, 3, 1, 1, 1)
    np.testing.assert_allclose(in_units, expected, rtol=1e-5, atol=1e-3)
    predict(bench, tmp_path / "whole", form="tiff", model=taught, dtype="uint16")
    whole = pixels(tmp_path / "whole" / "drawn2.tif")
    assert np.array_equal(whole, np.rint(in_units.clip(0, 65535)).astype(np.uint16))


def test_what_is_kept_is_exact_whatever_was_begun_before(bench, painter, tmp_path):
    predict(bench, tmp_path / "exact", model=painter)
    exact = pixels(tmp_path / "exact" / "drawn2.npy")
    options = {"out": tmp_path / "out", "form": "png", "recipe": PredictRecipe()}
    events = bench.predict(painter, ["drawn2.png"], **options)
    assert next(event for event in events if event.phase == "predict")  # a tile in 16 bits
    events.close()
    kept = tmp_path / "deep" / "kept.ome.zarr"
    list(bench.predict(painter, ["drawn2.png"], **options, kept={"drawn2.png": kept}))
    assert np.array_equal(pixels(kept), exact)
    rounded = np.rint(exact.clip(0, 65535)).astype(np.uint16)
    assert np.array_equal(pixels(tmp_path / "out" / "drawn2.png"), rounded)
    told = list(bench.predict(painter, ["drawn2.png"], **options, kept={"drawn2.png": kept}))
    assert [event.message for event in told] == ["drawn2.png: already there"]


def test_channels_that_no_png_holds_together_are_a_png_each(bench, tmp_path, folder):
    model = painted(tmp_path, 2)
    image = pixels(Path(bench.collection.find("drawn2.png").uri))
    np.save(folder / "two.npy", np.repeat(image[:, :2], 2, axis=2))
    bench.add([folder / "two.npy"])
    for form in ("npy", "png"):
        predict(bench, tmp_path / form, form=form, model=model, images=["two.npy"])
    exact = pixels(tmp_path / "npy" / "two.npy")
    for z in range(2):
        for c in range(2):
            one = pixels(tmp_path / "png" / f"two_z{z:03}_c{c:03}.png")
            assert np.array_equal(one[0, 0, 0], np.rint(exact[0, c, z].clip(0, 65535)).astype(np.uint16))
    events = predict(bench, tmp_path / "png", form="png", model=model, images=["two.npy"])
    assert [event.message for event in events] == ["two.npy: already there"]


def test_channels_of_images_keep_their_names(bench, painter, tmp_path):
    import tifffile

    predict(bench, tmp_path / "tiff", form="tiff", model=painter)
    with tifffile.TiffFile(tmp_path / "tiff" / "drawn2.tif") as file:
        assert all(f'Name="{name}"' in str(file.ome_metadata) for name in ("red", "green", "blue"))
    predict(bench, tmp_path / "zarr", form="ome-zarr", model=painter)
    assert '"green"' in (tmp_path / "zarr" / "drawn2.ome.zarr" / "zarr.json").read_text()


def test_a_model_of_images_refuses_what_only_classes_have(bench, painter, tmp_path):
    for wrong in ({"probabilities": True}, {"saliency": True}, {"instances": "disc"}):
        with pytest.raises(BadInput, match="makes images, not classes"):
            predict(bench, tmp_path / "out", model=painter, **wrong)
    with pytest.raises(BadInput, match="PNG holds whole numbers"):
        predict(bench, tmp_path / "out", form="png", model=painter, dtype="float32")
    assert not (tmp_path / "out").exists()


def test_probabilities_in_whole_numbers(bench, tmp_path):
    predict(bench, tmp_path / "exact", probabilities=True, saliency=True)
    exact = pixels(tmp_path / "exact" / "drawn2-probabilities.npy")
    # what is salient is all that is not the first class, the background
    salient = pixels(tmp_path / "exact" / "drawn2-saliency.npy")
    assert np.abs(salient / 255 - exact[:, 1:].sum(axis=1, keepdims=True)).max() < 0.51 / 255
    assert salient.std() > 10
    for dtype, top in (("uint8", 255), ("uint16", 65535)):
        predict(bench, tmp_path / dtype, probabilities=True, saliency=True, probabilities_dtype=dtype)
        found = pixels(tmp_path / dtype / "drawn2-probabilities.npy")
        assert found.dtype == np.dtype(dtype)
        assert np.array_equal(found, np.rint(exact * np.float32(top)))
        drawn = [pixels(tmp_path / name / "drawn2-saliency.npy").astype(int) for name in ("exact", dtype)]
        assert np.abs(drawn[0] - drawn[1]).max() <= 1
    predict(bench, tmp_path / "png", form="png", probabilities=True, probabilities_dtype="uint8")
    one = pixels(tmp_path / "png" / "drawn2-probabilities-disc.png")
    assert one.dtype == np.uint8
    assert np.array_equal(one[0, 0], np.rint(exact[0, 1] * np.float32(255)))


def test_strokes_are_carried_through_exact_probabilities_whatever_is_written(bench, tmp_path):
    options = {"images": ["drawn0.png"], "propagate": "random-walker", "probabilities": True}
    predict(bench, tmp_path / "exact", **options)
    predict(bench, tmp_path / "bytes", **options, probabilities_dtype="uint8")
    maps = [pixels(tmp_path / name / "drawn0.npy") for name in ("exact", "bytes")]
    assert np.array_equal(*maps)
    shares = [pixels(tmp_path / name / "drawn0-probabilities.npy") for name in ("exact", "bytes")]
    assert shares[1].dtype == np.uint8
    assert np.array_equal(shares[1], np.rint(shares[0] * np.float32(255)))


def test_objects_are_numbered(bench, tmp_path):
    for form, suffix in SUFFIX.items():
        predict(bench, tmp_path / form, form=form, instances="disc")
        found = pixels(tmp_path / form / f"drawn2-instances{suffix}")[0, 0, 0]
        assert found.dtype == (np.uint16 if form == "png" else np.uint32)
        disc = pixels(tmp_path / form / f"drawn2{suffix}")[0, 0, 0] == 2
        assert np.array_equal(found > 0, disc)
        assert found.max() == ndimage.label(disc, np.ones((3, 3)))[1]
    events = predict(bench, tmp_path / "npy", instances="disc")
    assert [event.message for event in events] == ["drawn2.png: already there"]
    predict(bench, tmp_path / "split", instances="disc", split="watershed", split_distance=4)
    assert pixels(tmp_path / "split" / "drawn2-instances.npy").max() >= found.max()


def test_a_model_of_planes_finds_objects_in_each_plane(bench, tmp_path, folder):
    image = pixels(Path(bench.collection.find("drawn2.png").uri))
    np.save(folder / "stack.npy", np.repeat(image, 2, axis=2))
    bench.add([folder / "stack.npy"])
    predict(bench, tmp_path / "out", images=["stack.npy"], instances="disc")
    found = pixels(tmp_path / "out" / "stack-instances.npy")[0, 0]
    each = ndimage.label(found[0] > 0, np.ones((3, 3)))[1]
    assert each > 0
    assert found.max() == 2 * each
    assert not set(found[0][found[0] > 0]) & set(found[1][found[1] > 0])


def test_many_objects_keep_their_numbers(tmp_path):
    numbers = np.arange(70 * 1000, dtype=np.uint32).reshape(1, 1, 1, 70, 1000)
    for name, top in (("fit", 65535), ("beyond", 65536)):
        made = tmp_path / f"{name}.ome.zarr"
        writer = create_writer(made, "ome-zarr", shape=numbers.shape, dtype="uint32")
        writer.write(Box.whole(numbers.shape), np.where(numbers > top, 0, numbers))
        writer.finish()
    place_instances(tmp_path / "fit.ome.zarr", tmp_path / "fit.png", "png", 65535)
    assert np.array_equal(pixels(tmp_path / "fit.png"), np.where(numbers > 65535, 0, numbers))
    with pytest.raises(BadInput, match="65536 objects do not fit into a PNG"):
        place_instances(tmp_path / "beyond.ome.zarr", tmp_path / "beyond.png", "png", 65536)
    place_instances(tmp_path / "beyond.ome.zarr", tmp_path / "beyond.tif", "tiff", 65536)
    assert pixels(tmp_path / "beyond.tif").max() == 65536


def test_what_an_earlier_run_wrote_beside_stays_ours(bench, tmp_path):
    """Probabilities once, then not, then again: they are named when they are left, and replaced when asked for."""
    out = tmp_path / "out"
    also = {"probabilities": True, "figures": True, "form": "tiff"}
    predict(bench, out, **also)
    old = pixels(out / "drawn2-probabilities.tif")
    for form in range(2):
        (note,) = [event for event in predict(bench, out, form="tiff", tile=128 * (form + 1)) if event.phase == "note"]
        assert "drawn2.png: drawn2-probabilities.tif, drawn2.png of an earlier prediction" in note.message
    assert np.array_equal(pixels(out / "drawn2-probabilities.tif"), old)
    events = predict(bench, out, **also, probabilities_dtype="uint8")
    assert not [event for event in events if event.phase == "note"]
    assert pixels(out / "drawn2-probabilities.tif").dtype == np.uint8
    predict(bench, out, form="tiff")
    (out / "drawn2-probabilities.tif").unlink()
    predict(bench, out, form="tiff", tile=256)
    (out / "drawn2-probabilities.tif").write_bytes(b"mine")  # ours is gone: this is a stranger's
    with pytest.raises(BadInput, match="Fieldmark did not write it"):
        predict(bench, out, **also)


def test_blends_for_class_maps_give_nothing_else(bench, painter, tmp_path):
    for blend in ("any", "max"):
        for also in ("probabilities", "saliency"):
            with pytest.raises(BadRecipe, match=f"'{blend}' is for class maps"):
                predict(bench, tmp_path / "out", blend=blend, **{also: True})
    with pytest.raises(BadInput, match="makes images, not classes: --blend any"):
        predict(bench, tmp_path / "out", model=painter, blend="any")
    predict(bench, tmp_path / "out", blend="any")


AXES_OF_FILES = [("YX", (31, 40)), ("ZYX", (2, 31, 40)), ("TYX", (3, 31, 40)), ("TZYX", (2, 3, 31, 40))]


@pytest.mark.parametrize(("axes", "shape"), AXES_OF_FILES)
@pytest.mark.parametrize("model", ["classes", "image"])
def test_axes_and_pixel_size_are_those_of_the_image(bench, tmp_path, folder, model, axes, shape):
    """Read back by the libraries of the formats."""
    at = np.random.default_rng(1).integers(0, 200, (*shape[:-2], 3, *shape[-2:])).astype(np.uint8)
    sizes = {"X": 0.25, "Y": 0.5} | ({"Z": 2.0} if "Z" in axes else {})
    facts = {f"PhysicalSize{axis}": size for axis, size in sizes.items()}
    facts |= {f"PhysicalSize{axis}Unit": "µm" for axis in sizes}
    options = {"metadata": facts | {"axes": f"{axes[:-2]}CYX"}, "photometric": "minisblack", "ome": True}
    tifffile.imwrite(folder / "a.ome.tif", at, **options)
    bench.add([folder / "a.ome.tif"])
    name = "tiny" if model == "classes" else painted(tmp_path, 3)
    also = {"probabilities": True, "instances": "disc", "min_area": 2} if model == "classes" else {}
    named = "".join(axis for axis in "TCZYX" if axis in f"C{axes}")
    made = {"a": axes, "a-instances": axes, "a-probabilities": named} if also else {"a": named}
    for form in ("ome-zarr", "tiff"):
        predict(bench, tmp_path / form, form=form, images=["a.ome.tif"], model=name, **also)
    for stem, wanted in made.items():
        group = zarr.open_group(tmp_path / f"ome-zarr/{stem}.ome.zarr", mode="r")
        multi = group.attrs["ome"]["multiscales"][0]
        assert "".join(axis["name"] for axis in multi["axes"]).upper() == wanted
        scale = multi["datasets"][0]["coordinateTransformations"][0]["scale"]
        assert scale == [sizes.get(axis, 1.0) for axis in wanted]
        with tifffile.TiffFile(tmp_path / f"tiff/{stem}.tif") as file:
            assert file.series[0].axes == wanted
            assert np.array_equal(file.asarray(), group["0"][:])
            if len(wanted) > 2:
                told = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
                assert {axis: told[f"PhysicalSize{axis}"] for axis in sizes} == sizes


def test_objects_of_no_class_are_refused(bench, tmp_path):
    with pytest.raises(NotFound, match=r"disk.*Did you mean 'disc'"):
        predict(bench, tmp_path / "out", instances="disk")
    with pytest.raises(BadRecipe, match="instances"):
        validate(PredictRecipe, {"split": "watershed"})


def test_figures_show_image_truth_prediction_and_both(bench, painter, tmp_path):
    predict(bench, tmp_path / "out", figures=True)
    drawn = pixels(tmp_path / "out" / "figures" / "drawn2.png")
    assert drawn.shape == (1, 3, 1, 61, 3 * 75 + 2 * 4)
    image = pixels(Path(bench.collection.find("drawn2.png").uri))
    assert np.array_equal(drawn[..., :75], image)
    said = pixels(tmp_path / "out" / "drawn2.npy")[0, 0, 0]
    panel = drawn[0, :, 0, :, 79 : 79 + 75]
    assert len({tuple(color) for color in panel[:, said == 2].T.tolist()}) == 1
    drawn_masks(tmp_path / "masks", images=3)
    predict(bench, tmp_path / "with", figures=True, truth=tmp_path / "masks")
    wide = pixels(tmp_path / "with" / "figures" / "drawn2.png")
    assert wide.shape[4] == 4 * 75 + 3 * 4
    assert np.array_equal(wide[..., 2 * 79 :], drawn[..., 79:])
    right = pixels(tmp_path / "masks" / "drawn2.png")[0, 0, 0]
    truth = wide[0, :, 0, :, 79 : 79 + 75]
    assert np.array_equal(truth[:, right == 2][:, :1], panel[:, said == 2][:, :1])
    assert len({tuple(color) for color in truth[:, right == 2].T.tolist()}) == 1
    predict(bench, tmp_path / "image", figures=True, model=painter, truth=tmp_path / "masks")
    assert pixels(tmp_path / "image" / "figures" / "drawn2.png").shape[4] == 4 * 75 + 3 * 4
    with pytest.raises(BadInput, match="is no folder"):
        predict(bench, tmp_path / "no", figures=True, truth=tmp_path / "nothing")


@pytest.mark.parametrize("top", [1, 255])
def test_figures_read_true_masks_as_evaluating_does(bench, tmp_path, top):
    """Masks of 0 and 255 have the colors of the classes, as maps of the classes' own values."""
    drawn_masks(tmp_path / "masks", images=3)
    for path in (tmp_path / "masks").iterdir():
        binary = (pixels(path)[0, 0, 0] == 2) * top
        write_atomic(tmp_path / "binary" / path.name, encode_png(binary.astype(np.uint8)))
    for folder in ("masks", "binary"):
        predict(bench, tmp_path / f"with {folder}", figures=True, truth=tmp_path / folder)
    own, coded = (pixels(tmp_path / f"with {folder}" / "figures" / "drawn2.png") for folder in ("masks", "binary"))
    assert np.array_equal(own, coded)
    write_atomic(tmp_path / "binary" / "drawn2.png", encode_png(np.full((61, 75), 9, np.uint8)))
    with pytest.raises(BadInput, match=r"drawn2\.png: holds the values 9, which no class is written as"):
        predict(bench, tmp_path / "other", figures=True, truth=tmp_path / "binary")


def test_figures_show_true_masks_of_single_planes(bench, tmp_path, folder):
    """As `evaluate --truth` takes them; planes without one are black."""
    image = pixels(Path(bench.collection.find("drawn2.png").uri))
    np.save(folder / "stack.npy", np.repeat(image, 3, axis=2))
    bench.add([folder / "stack.npy"])
    drawn_masks(tmp_path / "masks", images=3)
    truth = pixels(tmp_path / "masks" / "drawn2.png")[0, 0, 0]
    np.save(tmp_path / "stack.npy", np.repeat(truth[None, None, None], 3, axis=2))
    for place, name in (("whole", "stack.npy"), ("planes", "")):
        (tmp_path / place).mkdir()
        if name:
            shutil.copy(tmp_path / name, tmp_path / place / name)
    for z in (0, 2):
        write_atomic(tmp_path / "planes" / f"stack_t0_z{z}_mask.png", encode_png(truth.astype(np.uint8)))
    for place in ("whole", "planes"):
        predict(bench, tmp_path / f"with {place}", images=["stack.npy"], figures=True, truth=tmp_path / place)
    whole, planes = (pixels(tmp_path / f"with {place}" / "figures" / "stack.png") for place in ("whole", "planes"))
    assert whole.shape == planes.shape
    known, black = np.ones(whole.shape[3], bool), slice(65, 65 + 61)
    known[black] = False
    assert np.array_equal(whole[:, :, :, known], planes[:, :, :, known])
    assert whole[:, :, :, black, 79 : 79 + 75].any()
    assert not planes[:, :, :, black, 79 : 79 + 75].any()
    write_atomic(tmp_path / "planes" / "stack_t0_z7.png", encode_png(truth.astype(np.uint8)))
    with pytest.raises(BadInput, match=r"stack_t0_z7\.png: is named as plane t0, z7 of stack\.npy, which has 1 times"):
        predict(bench, tmp_path / "no", images=["stack.npy"], figures=True, truth=tmp_path / "planes")
    (tmp_path / "planes" / "stack_t0_z7.png").unlink()
    shutil.copy(tmp_path / "stack.npy", tmp_path / "planes" / "stack_t0_z1.npy")
    with pytest.raises(BadInput, match=r"stack_t0_z1\.npy: is named as one plane, and holds several"):
        predict(bench, tmp_path / "no", images=["stack.npy"], figures=True, truth=tmp_path / "planes")


def test_stacks_fill_several_sheets_and_are_a_png_for_each_slice(bench, tmp_path, folder):
    image = pixels(Path(bench.collection.find("drawn2.png").uri))
    np.save(folder / "stack.npy", np.repeat(image, 11, axis=2))
    bench.add([folder / "stack.npy"])
    predict(bench, tmp_path / "out", images=["stack.npy"], figures=True, instances="disc")
    sheets = [pixels(tmp_path / "out" / "figures" / f"stack-{page}.png") for page in (1, 2)]
    assert [sheet.shape[3] for sheet in sheets] == [8 * 65 - 4, 3 * 65 - 4]
    assert pixels(tmp_path / "out" / "stack-instances.npy").shape == (1, 1, 11, 61, 75)
    options = {"images": ["stack.npy"], "instances": "disc", "saliency": True, "probabilities": True}
    predict(bench, tmp_path / "npy", **options)
    predict(bench, tmp_path / "png", form="png", **options)
    words = {"": "", "-instances": "-instances", "-saliency": "-saliency", "-probabilities": "-probabilities-disc"}
    for whole, word in words.items():
        stack = pixels(tmp_path / "npy" / f"stack{whole}.npy")[0, -1]
        for z in range(11):
            one = pixels(tmp_path / "png" / f"stack{word}_z{z:03}.png")
            wanted = np.rint(stack[z] * np.float32(65535)) if whole == "-probabilities" else stack[z]
            assert np.array_equal(one[0, 0, 0], wanted)
    assert len(list((tmp_path / "png").glob("*.png"))) == 11 * 5
    (tmp_path / "png" / "stack_z007.png").unlink()
    assert any(event.phase == "predict" for event in predict(bench, tmp_path / "png", form="png", **options))
    assert (tmp_path / "png" / "stack_z007.png").is_file()


def test_planes_of_a_stack_do_not_take_another_image_s_name(bench, tmp_path, folder):
    image = pixels(Path(bench.collection.find("drawn2.png").uri))
    np.save(folder / "stack.npy", np.repeat(image, 2, axis=2))
    np.save(folder / "stack_z001.npy", image)
    bench.add([folder / "stack.npy", folder / "stack_z001.npy"])
    with pytest.raises(BadInput, match=r"stack\.npy and stack_z001\.npy would both write .*stack_z001\.png"):
        predict(bench, tmp_path / "out", form="png", images=["stack.npy", "stack_z001.npy"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "stack_z000.png").write_bytes(b"mine")
    with pytest.raises(BadInput, match=r"stack_z000\.png is there already and Fieldmark did not write it"):
        predict(bench, tmp_path / "mine", form="png", images=["stack.npy"])


def test_figures_that_are_gone_are_drawn_again(bench, tmp_path):
    predict(bench, tmp_path / "out", figures=True)
    shutil.rmtree(tmp_path / "out" / "figures")
    events = predict(bench, tmp_path / "out", figures=True)
    assert any(event.phase == "predict" for event in events)
    assert (tmp_path / "out" / "figures" / "drawn2.png").is_file()


def test_figures_are_known_whatever_the_format(bench, tmp_path):
    """Every format draws under the same names; the one whose figures were replaced draws them again."""
    out = tmp_path / "out"
    figure = out / "figures" / "drawn2.png"
    predict(bench, out, form="tiff", figures=True)
    drawn = figure.read_bytes()
    events = predict(bench, out, form="npy", figures=True, min_area=5000)  # all is background
    (note,) = [event.message for event in events if event.phase == "note"]
    assert "drawn2.png: drawn2.tif of an earlier prediction" in note
    assert figure.read_bytes() != drawn
    predict(bench, out, form="tiff", figures=True)
    assert figure.read_bytes() == drawn
    events = predict(bench, out, form="tiff", figures=True)
    assert "drawn2.png: already there" in [event.message for event in events]


def test_a_prediction_does_not_make_a_figure_of_its_name_ours(bench, tmp_path):
    out = tmp_path / "out"
    predict(bench, out, form="png")
    stranger = out / "figures" / "drawn2.png"
    stranger.parent.mkdir()
    stranger.write_bytes(b"mine")
    with pytest.raises(BadInput, match=r"figures.drawn2\.png is there already and Fieldmark did not write it"):
        predict(bench, out, form="png", figures=True)
    assert stranger.read_bytes() == b"mine"
    predict(bench, tmp_path / "drawn", form="tiff", figures=True)
    (tmp_path / "drawn" / "drawn2.png").write_bytes(b"mine")
    with pytest.raises(BadInput, match=r"drawn.drawn2\.png is there already and Fieldmark did not write it"):
        predict(bench, tmp_path / "drawn", form="png")


@pytest.mark.parametrize("form", ["tiff", "ome-zarr"])
def test_an_output_that_somebody_changed_is_named_and_stays(bench, tmp_path, form):
    made = tmp_path / "out" / f"drawn2{SUFFIX[form]}"
    predict(bench, tmp_path / "out", form=form)
    first = pixels(made)
    assert not [event for event in predict(bench, tmp_path / "out", form=form) if event.phase == "note"]
    if made.is_dir():
        shutil.rmtree(made / "0")
    else:
        made.write_bytes(b"")
    (note,) = [event.message for event in predict(bench, tmp_path / "out", form=form) if event.phase == "note"]
    assert f"drawn2.png: {made.name} has been changed since it was predicted, and stays as it is" in note
    assert not (made / "0").exists() if made.is_dir() else made.read_bytes() == b""
    shutil.rmtree(made) if made.is_dir() else made.unlink()
    predict(bench, tmp_path / "out", form=form)
    assert np.array_equal(pixels(made), first)


@pytest.fixture
def another(bench) -> str:
    """A model that answers the same as `tiny`, under another training."""
    header, weights = load(bench.project.models / "tiny")
    save(bench.project.models / "another", replace(header, details={**header.details, "seed": 9}), weights)
    return "another"


def painted_over(path: Path) -> bytes:
    """Change one pixel of an .npy file, its size and its time as they were."""
    before = path.stat()
    values = np.load(path, allow_pickle=False)
    values[..., 7, 9] += 1
    np.save(path, values)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1000))
    assert path.stat().st_size == before.st_size
    return path.read_bytes()


@pytest.mark.parametrize("name", ["drawn2.npy", "drawn2-probabilities.npy", "figures/drawn2.png"])
def test_what_somebody_changed_is_not_replaced_by_another_model(bench, another, tmp_path, name):
    out = tmp_path / "out"
    predict(bench, out, probabilities=True, figures=True)
    mine = painted_over(out / name) if name.endswith("npy") else b"drawn on"
    (out / name).write_bytes(mine)
    there = {path: path.read_bytes() for path in out.glob("drawn2*.npy")}
    for changes in ({"model": another}, {"overlap": 0}, {"form": "tiff"} if "figures" in name else {"model": another}):
        with pytest.raises(
            BadInput, match=rf"{name} has been changed since .* Move it away .*, or choose another --out"
        ):
            predict(bench, out, **{"probabilities": True, "figures": True} | changes)
    assert (out / name).read_bytes() == mine
    assert {path: path.read_bytes() for path in out.glob("drawn2*.npy")} == there
    (out / name).rename(tmp_path / "mine")
    predict(bench, out, model=another, probabilities=True, figures=True)
    assert (out / name).is_file()
    assert not [
        event
        for event in predict(bench, out, model=another, probabilities=True, figures=True)
        if "changed" in event.message
    ]


def test_what_was_changed_is_known_after_runs_with_other_options(bench, another, tmp_path):
    out = tmp_path / "out"
    predict(bench, out, probabilities=True)
    mine = painted_over(out / "drawn2-probabilities.npy")
    predict(bench, out, model=another)
    with pytest.raises(BadInput, match=r"drawn2-probabilities\.npy has been changed"):
        predict(bench, out, model=another, probabilities=True)
    assert (out / "drawn2-probabilities.npy").read_bytes() == mine


def test_what_was_copied_is_not_taken_for_changed(bench, another, tmp_path):
    predict(bench, tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "copied", copy_function=shutil.copyfile)
    assert not [event for event in predict(bench, tmp_path / "copied") if event.phase == "note"]
    predict(bench, tmp_path / "copied", model=another)


def test_what_is_changed_while_another_model_predicts_is_not_replaced(bench, another, tmp_path):
    """Somebody opens the old prediction when the new one has begun."""
    predict(bench, tmp_path / "out")
    events = bench.predict(
        another, ["drawn2.png"], out=tmp_path / "out", form="npy", recipe=PredictRecipe(propagate="none")
    )
    next(event for event in events if event.phase == "predict")
    mine = painted_over(tmp_path / "out" / "drawn2.npy")
    with pytest.raises(BadInput, match=r"drawn2\.npy has been changed"):
        list(events)
    assert (tmp_path / "out" / "drawn2.npy").read_bytes() == mine


@pytest.mark.parametrize("step", ["_draw", "deliver.write_saliency", "deliver.place_instances"])
@pytest.mark.parametrize(("form", "after"), [("png", False), ("npy", True)])
def test_a_crash_beside_the_class_map_loses_nothing(bench, tmp_path, monkeypatch, form, step, after):
    """Before and after figures, saliency and objects are written: the second run ends with the same files."""
    beside = {"figures": True, "saliency": True, "probabilities": True, "instances": "disc", "min_area": 4}
    predict(bench, tmp_path / "good", form=form, **beside)
    real = attrgetter(step)(jobs)

    def crash(*arguments, **options):
        if after:
            real(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"fieldmark.infer.jobs.{step}", crash)
        with pytest.raises(KeyboardInterrupt):
            predict(bench, tmp_path / "out", form=form, **beside)
    predict(bench, tmp_path / "out", form=form, **beside)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "good")


def files_of(out: Path) -> dict[str, bytes]:
    """What was delivered, by name; of what is hidden only the names."""
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    return {name: b"" if name.startswith(".") else path.read_bytes() for name, path in files.items()}
