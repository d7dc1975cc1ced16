"""Normalization by the data set, and targets that come back in their own units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from fieldmark.core.fingerprint import file_hash
from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile, BadInput, BadRecipe
from fieldmark.images import open_image
from fieldmark.infer.predict import Model, forward_of, in_target_units, plan_for
from fieldmark.infer.sinks import ArraySink
from fieldmark.infer.tiles import predict_tiles
from fieldmark.learn.foreground import foreground_of_fit
from fieldmark.learn.preparation import estimate_flat_field, estimate_normalization, largest, normalization
from fieldmark.learn.run import FitJob, run_fit
from fieldmark.learn.samples import Marks, SampleImage, Samples
from fieldmark.learn.splits import Split
from fieldmark.learn.target_scale import scale_targets
from fieldmark.learn.targets import targets_of
from fieldmark.models.build import load_net
from fieldmark.prepare import apply, channels_step, check, clip_step, inverse, scale_step, standardize_step
from fieldmark.prepare.flat_field import surface_at
from fieldmark.prepare.masks import otsu_mask
from fieldmark.recipes import DataConfig, FitRecipe, PredictRecipe, TrainConfig, validate
from fieldmark.recipes.data import MaskConfig, TargetConfig
from fieldmark.recipes.prepare import FlatFieldConfig, ForegroundConfig, NormalizeConfig, PrepareConfig
from fieldmark.testing.drawn import CLASSES


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


def job_of(folder, *types: str, **normalize: str) -> FitJob:
    """A fit on an image of each type, black at the left and white at the right, with strokes on both."""
    images = []
    for dtype in types:
        path = folder / f"{dtype}.npy"
        top = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
        np.save(path, np.repeat([[0, top]], 16, axis=1).repeat(32, axis=0).astype(dtype))
        images.append(SampleImage(path.name, str(path), file_hash(path)))
    places = np.array([[0, 0, 4, x] for x in (4, 28)] * len(images))
    count = np.arange(len(places))
    marks = Marks(count // 2, places, count, count % 2)
    values = {
        "family": "unet",
        "net": {"filters": [2, 2]},
        "train": {"epochs": 1, "crop": [16, 16], "crops_per_epoch": 2, "batch_size": 2},
        "prepare": {"normalize": normalize},
    }
    return FitJob(validate(FitRecipe, values), Samples(images, marks, 2), CLASSES, folder / "run")


def notes_of(job: FitJob) -> str:
    return " ".join(event.message for event in run_fit(job) if event.phase == "note")


def test_the_largest_value_is_that_of_one_type(tmp_path):
    with pytest.raises(BadInput, match=r"uint8\.npy holds uint8 and uint16\.npy holds uint16: .*statistic=max"):
        notes_of(job_of(tmp_path, "uint8", "uint16", statistic="max"))
    notes_of(job_of(tmp_path, "uint16", statistic="max"))
    header = load_net(tmp_path / "run" / "model")[0]
    assert (header.preparation, header.details["types"]) == ([scale_step(65535.0)], ["uint16"])


@pytest.mark.parametrize(
    ("types", "scheme", "said"),
    [
        (("uint8", "uint16"), "dataset", "uint8.npy holds uint8 and uint16.npy holds uint16"),
        (("uint8", "uint16"), "slice", ""),
        (("uint8", "uint8"), "dataset", ""),
    ],
)
def test_images_of_two_types_are_named_where_one_range_is_theirs(tmp_path, types, scheme, said):
    notes = notes_of(job_of(tmp_path, *types, scheme=scheme))
    assert said in notes
    assert ("values are compared" in notes) == bool(said)


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


def predicted(model: Model, path, z: int = 0, **settings) -> np.ndarray:
    with open_image(path) as source:
        sink = ArraySink(source.shape, 1)
        recipe = PredictRecipe(**settings)
        forward = forward_of(model, recipe, "image", source=source)
        for _ in predict_tiles(forward, source, plan_for(model, source, recipe, "it"), sink):
            pass
    return in_target_units(model.header, sink.answers)[0, 0, z]


def test_predictions_come_in_the_units_of_their_targets(tmp_path):
    model, stack = painted(tmp_path, {})
    assert model.header.outputs == ("image",)
    found = predicted(model, tmp_path / "2.tif")
    assert np.abs(found - stack[2]).mean() < 4  # of a spread of 9, around 415
    tifffile.imwrite(tmp_path / "alone.tif", stack[0])  # the channel that it sees is enough
    assert np.array_equal(predicted(model, tmp_path / "alone.tif"), found)


@pytest.mark.parametrize("statistic", ["mean-std", "median-iqr"])
@pytest.mark.parametrize("masked", [False, True])
def test_targets_are_normalized_with_a_masked_loss_too(tmp_path, masked, statistic):
    target = {"kind": "image", "channels": [2]}
    mask = {"channel": 1, "method": "otsu", "radius": 0} if masked else None
    model, _ = painted(
        tmp_path,
        {
            "data": {"inputs": [0], "target": target, "mask": mask, "split": {"train": 1, "validation": 0, "test": 0}},
            "prepare": {"normalize": {"statistic": statistic}},
        },
    )
    values = np.stack([tifffile.imread(tmp_path / f"{n}.tif")[2] for n in range(3)])
    (step,) = model.header.target_preparation
    spread = values.std() if statistic == "mean-std" else np.subtract(*np.percentile(values, [75, 25]))
    center = values.mean() if statistic == "mean-std" else np.median(values)
    assert step["mean"] == pytest.approx([center], rel=0.01)
    assert step["std"] == pytest.approx([spread], rel=0.1)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("empty", [0, 1])
def test_targets_are_measured_on_the_foreground_too(tmp_path, own, empty):
    """Sparse bright objects on a dark ground: by all pixels their spread were that of the ground.

    A bright speck in an image without objects is no block of them, nor counts.
    """
    rng = np.random.default_rng(4)
    (tmp_path / "masks").mkdir()
    images, inside = [], []
    for n in range(3 + empty):
        shown = np.zeros((96, 112), bool)
        shown[16 * n : 16 * n + (32 if n < 3 else 7), 32:64] = True
        target = np.where(shown, rng.normal(5000, 700, shown.shape), rng.normal(100, 3, shown.shape))
        target = target if n < 3 else target / 9
        inside += [target[shown]] if n < 3 else []
        path = tmp_path / f"{n}.tif"
        stack = np.stack([rng.random(shown.shape), target]).astype(np.float32)
        tifffile.imwrite(path, stack, photometric="minisblack", metadata={"axes": "CYX"})
        mask = tmp_path / "masks" / path.name
        tifffile.imwrite(mask, shown.astype(np.uint8))
        images.append(SampleImage(path.name, str(path), file_hash(path), mask=str(mask), mask_hash=file_hash(mask)))
    ground = {"method": "folder", "folder": str(tmp_path / "masks")} if own else {"channels": [1], "radius": 2}
    values = {
        "family": "unet",
        "net": {"filters": [4, 4]},
        "data": {
            "inputs": [0],
            "target": {"kind": "image", "channels": [1]},
            "mask": {"folder": str(tmp_path / "masks")} if own else None,
            "split": {"train": 1, "validation": 0, "test": 0},
        },
        "prepare": {"normalize": {"statistic": "median-iqr", "min_fraction": 0.9}, "foreground": ground},
        "train": {"epochs": 1, "crop": [32, 32], "crops_per_epoch": 4},
    }
    job = FitJob(validate(FitRecipe, values), Samples(images, Marks.none(), 0), (), tmp_path / "run")
    for _ in run_fit(job):
        pass
    (step,) = load_net(tmp_path / "run" / "model")[0].target_preparation
    low, median, high = np.percentile(np.concatenate(inside), [25, 50, 75])
    assert step["mean"] == pytest.approx([median], rel=0.01)
    assert step["std"] == pytest.approx([high - low], rel=0.05)


def test_shares_are_scaled_by_their_largest(tmp_path):
    """A network that answers 0 to 1 is taught 0 to 1, whatever the statistic of its input."""
    model, _ = painted(tmp_path, {"net": {"filters": [6, 8], "final_activation": "sigmoid"}})
    (step,) = model.header.target_preparation
    assert step["step"] == "scale"
    assert 425 < step["by"] <= 430


@pytest.mark.parametrize("scheme", ["slice", "volume", "stack"])
def test_statistics_of_each_image_make_brightness_and_contrast_all_one(tmp_path, scheme):
    statistic = {"stack": "mean-std"}.get(scheme, "median-iqr")
    model, stack = painted(tmp_path, {"prepare": {"normalize": {"scheme": scheme, "statistic": statistic}}})
    names = [step["step"] for step in model.header.preparation]
    assert names == ["channels", "standardize-each"]
    found = predicted(model, tmp_path / "2.tif")
    assert np.abs(found - stack[2]).mean() < 4
    tifffile.imwrite(tmp_path / "brighter.tif", 3000 + 50 * stack[0])
    assert np.allclose(predicted(model, tmp_path / "brighter.tif"), found, atol=0.02)


@pytest.mark.parametrize("scheme", ["dataset", "slice", "stack"])
@pytest.mark.parametrize("resize", [None, 0.5])
@pytest.mark.parametrize("flat", [{}, {"block": 8}], ids=["basic", "blocks"])
def test_a_slice_predicted_alone_is_that_of_its_stack(tmp_path, scheme, resize, flat):
    """In uneven light, by statistics of the data set or its own, with masks, at its own size or another."""
    prepare = {
        "flat_field": flat,
        "resize": resize,
        "foreground": {"radius": 1},
        "normalize": {"scheme": scheme, "min_fraction": 0.1},
    }
    model, _ = painted(tmp_path, {"prepare": prepare, "train": {"epochs": 1, "crop": [16, 16], "crops_per_epoch": 4}})
    rng = np.random.default_rng(5)
    stack = np.stack([n + rng.random((10, 12)).repeat(4, 0).repeat(4, 1) for n in range(3)]).astype(np.float32)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack", metadata={"axes": "ZYX"})
    for z in range(3):
        tifffile.imwrite(tmp_path / "alone.tif", stack[z])
        assert np.array_equal(predicted(model, tmp_path / "alone.tif"), predicted(model, tmp_path / "stack.tif", z))


def test_light_is_that_of_the_whole_image_in_every_tile(tmp_path):
    model, _ = painted(tmp_path, {"prepare": {"flat_field": {}}, "train": {"epochs": 1, "crops_per_epoch": 4}})
    (surface,) = model.header.preparation[1]["surfaces"]
    # steep enough that a tile which took its own border for the image's would show it
    surface["grid"] = (np.array(surface["grid"]) * np.linspace(0.2, 1.8, len(surface["u"]))).tolist()
    tifffile.imwrite(tmp_path / "large.tif", np.random.default_rng(2).random((150, 203)).astype(np.float32))
    whole = predicted(model, tmp_path / "large.tif")
    assert np.allclose(predicted(model, tmp_path / "large.tif", tile=64), whole, atol=1e-3 * np.ptp(whole))


def test_uneven_light_and_statistics_go_together(tmp_path):
    model, _ = painted(
        tmp_path,
        {
            "data": {
                "inputs": [0],
                "target": {"kind": "image", "channels": [2]},
                "split": {"train": 1, "validation": 0, "test": 0},
            },
            "prepare": {"flat_field": {"block": 8}, "normalize": {"scheme": "dataset", "statistic": "median-iqr"}},
        },
    )
    assert [step["step"] for step in model.header.preparation] == ["channels", "flat-field", "standardize"]
    images = np.stack([tifffile.imread(tmp_path / f"{n}.tif")[0] for n in range(3)])
    (surface,) = model.header.preparation[1]["surfaces"]
    field = surface_at(surface, np.arange(40), np.arange(48), (40, 48))
    assert field.mean() == pytest.approx(1, abs=1e-6)
    flat = images / field
    center, spread = np.median(flat), np.subtract(*np.percentile(flat, [75, 25]))
    assert model.header.preparation[2]["mean"] == pytest.approx([center], rel=0.02)
    assert model.header.preparation[2]["std"] == pytest.approx([spread], rel=0.02)
    assert np.isfinite(predicted(model, tmp_path / "0.tif")).all()


def test_surfaces_of_files_are_kept_with_the_model(tmp_path):
    x = np.mgrid[:40, :48][1]
    (tmp_path / "fields").mkdir()
    np.save(tmp_path / "fields" / "flat-field_channel-0.npy", 1 + 0.01 * x)
    flat = {"method": "file", "folder": str(tmp_path / "fields")}
    model, _ = painted(tmp_path, {"prepare": {"flat_field": flat, "normalize": {}}})
    (tmp_path / "fields" / "flat-field_channel-0.npy").unlink()
    (surface,) = model.header.preparation[1]["surfaces"]
    found = surface_at(surface, np.arange(40), np.arange(48), (40, 48))
    assert np.allclose(found, (1 + 0.01 * x) / (1 + 0.01 * x).mean(), rtol=1e-4)
    with pytest.raises(BadFile, match=r"flat-field_channel-0\.npy"):
        painted(tmp_path, {"prepare": {"flat_field": flat, "normalize": {}}})


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        ({"flat_field": {"method": "file"}}, "names no folder"),
        ({"flat_field": {"channels": [1], "block": 8}}, "names channel 1; the network sees"),
        (
            {"foreground": {"method": "folder"}, "normalize": {"scheme": "slice", "min_fraction": 0.5}},
            "data.mask.folder",
        ),
    ],
)
def test_what_cannot_be_prepared_is_said(tmp_path, prepare, why):
    with pytest.raises(BadRecipe, match=why):
        painted(tmp_path, {"prepare": prepare})


def test_crops_show_foreground(tmp_path):
    """Of a mostly dark image, crops with `train.min_fraction` lie on what is bright."""
    plane = np.random.default_rng(6).normal(100, 3, (160, 160)).astype(np.float32)
    plane[10:58, 90:138] += 500
    tifffile.imwrite(tmp_path / "a.tif", np.stack([plane, plane]), photometric="minisblack", metadata={"axes": "CYX"})
    image = SampleImage("a", str(tmp_path / "a.tif"), "")
    for method in ("otsu", "unimodal", "dataset-otsu"):
        recipe = FitRecipe(
            data=DataConfig(inputs=(0,)),
            prepare=PrepareConfig(foreground=ForegroundConfig(method=method, radius=2)),
            train=TrainConfig(min_fraction=0.5),
        )
        samples = Samples([image], Marks.none(), 0)
        ground = foreground_of_fit(samples, recipe, [channels_step([0])])
        assert ground.share(0, Box((0, 0, 10, 90), (1, 1, 58, 138))) > 0.9
        assert ground.share(0, Box((0, 0, 70, 0), (1, 1, 160, 80))) < 0.05
        assert ground.share(0, Box((0, 0, 10, 66), (1, 1, 58, 114))) == pytest.approx(0.5, abs=0.07)


def test_masks_of_volumes_are_those_of_all_slices(tmp_path):
    """For crops and for the loss: a slice of noise, which a threshold of its own would cut in two, shows nothing."""
    rng = np.random.default_rng(7)
    volume = rng.normal(100, 3, (9, 1, 60, 70)).astype(np.float32)
    volume[2:7, :, 10:40, 20:50] += 500
    tifffile.imwrite(tmp_path / "a.tif", volume, metadata={"axes": "ZCYX"})
    image = SampleImage("a", str(tmp_path / "a.tif"), "")
    truth = otsu_mask(volume[:, 0], radius=2)
    assert truth[4, 10:40, 20:50].mean() > 0.95
    assert not truth[0].any()
    mask = MaskConfig(method="otsu", channel=0, radius=2, by="volume")
    recipe = FitRecipe(
        data=DataConfig(target=TargetConfig(kind="image"), mask=mask),
        prepare=PrepareConfig(foreground=ForegroundConfig(radius=2, by="volume")),
        train=TrainConfig(min_fraction=0.5),
    )
    samples = Samples([image], Marks.none(), 0)
    ground = foreground_of_fit(samples, recipe, [])
    targets = targets_of(samples, recipe.data, ())
    for z in range(9):
        box = Box((0, z, 5, 15), (1, z + 1, 45, 60))
        assert ground.share(0, box) == pytest.approx(truth[z, 5:45, 15:60].mean())
        assert np.array_equal(targets.read(0, box)[1][0, 0] > 0, truth[z, 5:45, 15:60])


def parted_volume(folder: Path, held: dict[int, float]) -> tuple[Samples, FitRecipe]:
    """A bright block in nine slices, of which 1 and 6 validate and 4 tests; `held` is added to slices."""
    rng = np.random.default_rng(7)
    volume = rng.normal(100, 3, (9, 1, 60, 70)).astype(np.float32)
    volume[2:8, :, 10:40, 20:50] += 50
    for z, more in held.items():
        volume[z, :, 5:30, 5:60] += more
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", volume, metadata={"axes": "ZCYX"})
    ground = ForegroundConfig(radius=1, by="volume")
    recipe = FitRecipe(
        data=DataConfig(target=TargetConfig(kind="image"), mask=MaskConfig(method="otsu", radius=1, by="volume")),
        prepare=PrepareConfig(foreground=ground, normalize=NormalizeConfig(min_fraction=0.8)),
        train=TrainConfig(min_fraction=0.5),
    )
    samples = Samples([SampleImage("a", str(folder / "a.tif"), "")], Marks.none(), 0)
    samples.targets = targets_of(samples, recipe.data, ())
    samples.split = Split([0], [0], [0], 1, (frozenset({0, 2, 3, 5, 7, 8}), frozenset({1, 6}), frozenset({4})))
    return samples, recipe


def test_what_is_held_out_has_no_part_in_masks_of_volumes(tmp_path):
    """Light in slices that are held out would hide what the others show: of statistics, of crops, and of the loss."""
    made, teach, boxes = {}, [0, 2, 3, 5, 7, 8], [Box((0, z, 0, 0), (1, z + 1, 60, 70)) for z in range(9)]
    for name, held in {"plain": {}, "lit": {1: 4000, 4: 9000, 6: 4000}, "test": {4: 9000}}.items():
        samples, recipe = parted_volume(tmp_path / name, held)
        steps = estimate_normalization(samples, recipe.prepare, [], 0)
        ground = foreground_of_fit(samples, recipe, [])
        shares = [ground.share(0, boxes[z]) for z in teach]
        made[name] = steps, shares, [samples.targets.read(0, box)[1][0, 0] > 0 for box in boxes]
    truth = otsu_mask(tifffile.imread(tmp_path / "plain" / "a.tif").reshape(9, 60, 70)[teach], radius=1)
    assert truth[2].any()
    for steps, shares, masks in made.values():
        assert steps == made["plain"][0]
        assert shares == pytest.approx([mask.mean() for mask in truth])
        assert np.array_equal([masks[z] for z in teach], truth)
    for z in (1, 6):  # what validates never sees what tests
        assert np.array_equal(made["plain"][2][z], made["test"][2][z])


def test_images_that_show_nothing_do_not_count_with_all_their_pixels(tmp_path):
    """Of input and target alike: two images with a bright block, four that are dark."""
    rng, inside = np.random.default_rng(4), []
    for n in range(6):
        both = rng.normal(20, 2, (2, 64, 64))
        if n < 2:
            both[:, 16:48, 16:48] = rng.normal([[[200]], [[90]]], 5, (2, 32, 32))
            inside.append(both[:, 16:48, 16:48].reshape(2, -1))
        tifffile.imwrite(
            tmp_path / f"{n}.tif", both.astype(np.float32), photometric="minisblack", metadata={"axes": "CYX"}
        )
    samples = Samples([SampleImage(f"{n}", str(tmp_path / f"{n}.tif"), "") for n in range(6)], Marks.none(), 0)
    config = PrepareConfig(
        foreground=ForegroundConfig(channels=(0,), method="dataset-otsu", radius=1),
        normalize=NormalizeConfig(statistic="mean-std", min_fraction=0.5),
    )
    first = [channels_step([0])]
    (_, step) = estimate_normalization(samples, config, first, 0)
    seen, true = np.concatenate(inside, axis=1)
    assert (step["mean"][0], step["std"][0]) == (pytest.approx(seen.mean(), rel=1e-4), pytest.approx(seen.std(), 1e-3))
    samples.targets = targets_of(samples, DataConfig(inputs=(0,), target=TargetConfig(kind="image", channels=(1,))), ())
    samples.split = Split(list(range(6)), [], [])
    scale_targets(samples, config, seed=0, share=False, first=first)
    (step,) = samples.target_preparation
    assert (step["mean"][0], step["std"][0]) == (pytest.approx(true.mean(), rel=1e-4), pytest.approx(true.std(), 1e-3))


def test_masks_may_be_of_a_channel_that_the_network_does_not_see(tmp_path):
    """As microDL has it: the target's channel says where there is something to see in the input's."""
    rng = np.random.default_rng(8)
    for n in range(2):
        shown = np.zeros((128, 128), bool)
        shown[16:80, 32 + 16 * n : 96 + 16 * n] = True
        dark = np.where(shown, 50, 900) + rng.normal(0, 5, shown.shape)  # dark where it matters
        stack = np.stack([dark, np.where(shown, 2000, 100) + rng.normal(0, 5, shown.shape)]).astype(np.float32)
        tifffile.imwrite(tmp_path / f"{n}.tif", stack, photometric="minisblack", metadata={"axes": "CYX"})
    samples = Samples([SampleImage(f"{n}", str(tmp_path / f"{n}.tif"), "") for n in range(2)], Marks.none(), 0)
    config = PrepareConfig(
        foreground=ForegroundConfig(channels=(1,), radius=2),
        normalize=NormalizeConfig(statistic="mean-std", min_fraction=0.9),
    )
    first = [channels_step([0])]
    (_, step) = estimate_normalization(samples, config, first, 0)
    assert step["mean"][0] == pytest.approx(50, abs=5)
    assert step["std"][0] < 60
    recipe = FitRecipe(data=DataConfig(inputs=(0,)), prepare=config, train=TrainConfig(min_fraction=0.5))
    ground = foreground_of_fit(samples, recipe, first)
    assert ground.share(0, Box((0, 0, 16, 32), (1, 1, 80, 96))) > 0.95
    assert ground.share(0, Box((0, 0, 90, 0), (1, 1, 128, 128))) < 0.05
    each = config.model_copy(update={"normalize": NormalizeConfig(scheme="slice", min_fraction=0.9)})
    with pytest.raises(BadRecipe, match=r"names \[1\], and the network sees \[0\]"):
        estimate_normalization(samples, each, first, 0)
    none = config.model_copy(update={"foreground": ForegroundConfig(channels=(7,))})
    with pytest.raises(BadRecipe, match="names channel 7, and images have 2"):
        estimate_normalization(samples, none, first, 0)


def test_images_of_two_sizes_have_no_common_light(tmp_path):
    sizes = {"a": (64, 64), "b": (64, 96)}
    for name, size in sizes.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", np.ones(size, np.float32))
    samples = Samples([SampleImage(n, str(tmp_path / f"{n}.tif"), "") for n in sizes], Marks.none(), 0)
    with pytest.raises(BadInput, match="64 x 64 and 96 x 64"):
        estimate_flat_field(samples, FlatFieldConfig(block=8), [], 0)


def test_a_channel_without_light_is_named_as_in_its_image(tmp_path):
    pixels = np.stack([np.zeros((40, 48)), np.full((40, 48), 9.0), np.zeros((40, 48))]).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", metadata={"axes": "CYX"})
    samples = Samples([SampleImage("a", str(tmp_path / "a.tif"), "")], Marks.none(), 0)
    first = [channels_step([1, 2])]
    with pytest.raises(BadInput, match="is channel 2; "):
        estimate_flat_field(samples, FlatFieldConfig(), first, 0)
    (step,) = estimate_flat_field(samples, FlatFieldConfig(channels=(1,)), first, 0)
    assert step["surfaces"][0] is not None
    assert step["surfaces"][1] is None
