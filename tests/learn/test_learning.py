from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from fieldmark.core.fingerprint import file_hash
from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile, BadInput, BadRecipe, NothingLabelled
from fieldmark.images import encode_png
from fieldmark.infer.forward import NetForward
from fieldmark.learn.crops import CropBatches
from fieldmark.learn.descend import Descend
from fieldmark.learn.engine import make_engine
from fieldmark.learn.lr_find import Sweep
from fieldmark.learn.optimizers import load_optimizer, optimizer_arrays
from fieldmark.learn.phases import plan_phases
from fieldmark.learn.preparation import CROPS, estimate_preparation
from fieldmark.learn.run import FitJob, check_channels, prepared_net, run_fit
from fieldmark.learn.samples import Marks, SampleImage, Samples
from fieldmark.learn.splits import Split
from fieldmark.learn.state import FitState
from fieldmark.models.build import build, load_net
from fieldmark.prepare import apply
from fieldmark.recipes import BeginConfig, DescendConfig, FitRecipe, HeadConfig
from fieldmark.recipes.find import FindConfig
from fieldmark.testing.drawn import CLASSES, drawn_job


def samples_of(folder: Path, arrays: dict[str, np.ndarray], marks: Marks | None = None) -> Samples:
    """Images of (c, y, x) arrays."""
    images = []
    for name, array in arrays.items():
        np.save(folder / name, array[None, :, None])
        images.append(SampleImage(name, (folder / name).as_posix(), file_hash(folder / name)))
    return Samples(images, marks or Marks.none(), 2)


def marked(rows: list[tuple[int, ...]]) -> Marks:
    """Rows of image, t, z, y, x, stroke, class."""
    table = np.array(rows, np.int64)
    return Marks(table[:, 0], table[:, 1:5], table[:, 5], table[:, 6])


class TestPreparation:
    def test_small_images_are_seen_whole(self, tmp_path):
        """Images below the side of a crop: the constants are those of all pixels, by numpy alone."""
        rng = np.random.default_rng(0)
        arrays = {f"{n}.npy": rng.uniform(0, 50 * (n + 1), (2, 30, 40)).astype(np.float32) for n in range(4)}
        steps = estimate_preparation(samples_of(tmp_path, arrays), color="auto", seed=0)
        pixels = np.concatenate([array.reshape(2, -1) for array in arrays.values()], axis=1).astype(np.float64)
        assert [step["step"] for step in steps] == ["scale", "standardize"]
        assert steps[0]["by"] == pytest.approx(pixels.max())
        assert steps[1]["mean"] == pytest.approx((pixels / pixels.max()).mean(axis=1), rel=1e-4)
        assert steps[1]["std"] == pytest.approx((pixels / pixels.max()).std(axis=1), rel=1e-4)
        ready = np.concatenate([apply(array, steps).reshape(2, -1) for array in arrays.values()], axis=1)
        assert np.allclose(ready.mean(axis=1), 0, atol=1e-4)
        assert np.allclose(ready.std(axis=1), 1, atol=1e-4)

    def test_where_there_are_marks_their_images_count_alone(self, tmp_path):
        arrays = {"dark.npy": np.full((1, 9, 9), 10, np.uint8), "light.npy": np.full((1, 9, 9), 200, np.uint8)}
        steps = estimate_preparation(
            samples_of(tmp_path, arrays, marked([(0, 0, 0, 1, 1, 5, 0)])), color="auto", seed=0
        )
        assert steps[0]["by"] == 10

    @pytest.mark.parametrize("axis", [0, 1])
    def test_where_planes_teach_others_are_not_measured(self, tmp_path, axis):
        planes = np.full((6, 1, 1, 9, 9), 250, np.uint8)
        planes[[1, 4]] = np.array([10, 20], np.uint8)[:, None, None, None, None]
        np.save(tmp_path / "0.npy", planes if axis == 0 else planes.swapaxes(0, 2))
        samples = Samples(
            [SampleImage("0", (tmp_path / "0.npy").as_posix(), file_hash(tmp_path / "0.npy"))], Marks.none(), 2
        )
        samples.split = Split([0], [0], [0], axis, (frozenset({1, 4}), frozenset({0, 2}), frozenset({3, 5})))
        steps = estimate_preparation(samples, color="auto", seed=0)
        assert steps[0]["by"] == 20
        assert steps[1]["mean"][0] * 20 == pytest.approx(15, abs=2)

    def test_of_many_images_the_last_count_as_the_first(self, tmp_path):
        many = CROPS * 2
        arrays = {f"{n:03}.npy": np.full((1, 4, 4), n, np.uint8) for n in range(many)}
        steps = estimate_preparation(samples_of(tmp_path, arrays), color="auto", seed=0)
        assert steps[0]["by"] >= many - 2
        assert steps[1]["mean"][0] * steps[0]["by"] == pytest.approx((many - 1) / 2, abs=1)

    def test_constant_and_empty_channels_stay_finite(self, tmp_path):
        steps = estimate_preparation(
            samples_of(tmp_path, {"0.npy": np.zeros((2, 5, 5), np.uint8)}), color="auto", seed=0
        )
        assert np.array_equal(apply(np.zeros((2, 5, 5)), steps), np.zeros((2, 5, 5)))

    def test_color_images_are_seen_as_lab_unless_told(self, tmp_path):
        samples = samples_of(tmp_path, {"0.npy": np.random.default_rng(0).integers(0, 255, (3, 9, 9)).astype(np.uint8)})
        steps = {color: estimate_preparation(samples, color=color, seed=0) for color in ("auto", "raw", "lab")}
        assert [len(steps[color]) for color in ("auto", "raw", "lab")] == [3, 2, 3]

    def test_pixels_that_are_no_numbers_name_their_image(self, tmp_path):
        samples = samples_of(tmp_path, {"hole.npy": np.full((1, 5, 5), np.nan, np.float32)})
        with pytest.raises(BadInput, match=r"^hole\.npy: holds pixels that are NaN"):
            estimate_preparation(samples, color="auto", seed=0)


class TestCrops:
    CONFIG = DescendConfig(crop=16, batch_size=3, crops_per_epoch=12)

    def batches(self, folder: Path, seed: int = 0) -> CropBatches:
        arrays = {f"{n}.npy": np.random.default_rng(n).uniform(0, 1, (1, 40, 50)).astype(np.float32) for n in range(3)}
        return CropBatches(samples_of(folder, arrays), self.CONFIG, stride=8, seed=seed)

    def test_a_crop_depends_on_seed_epoch_and_index_alone(self, tmp_path):
        first, second = self.batches(tmp_path), self.batches(tmp_path)
        forwards = {(e, i): first.get(e, i) for e in range(2) for i in range(4)}
        backwards = {(e, i): second.get(e, i) for e in (1, 0) for i in (3, 1, 2, 0)}
        assert all(torch.equal(forwards[at], backwards[at]) for at in forwards)
        assert len({batch.numpy().tobytes() for batch in forwards.values()}) == len(forwards)
        assert not torch.equal(self.batches(tmp_path, seed=1).get(0, 0), forwards[0, 0])

    def test_crops_are_pieces_of_the_images(self, tmp_path):
        batches = self.batches(tmp_path)
        wholes = [np.load(tmp_path / f"{n}.npy", allow_pickle=False)[0, 0, 0] for n in range(3)]
        for crop in batches.get(0, 0).numpy()[:, 0]:
            assert crop.shape == (16, 16)
            found = [np.argwhere(whole == crop[0, 0]) for whole in wholes]
            (owner,) = [n for n, at in enumerate(found) if len(at)]
            y, x = found[owner][0]
            assert np.array_equal(wholes[owner][y : y + 16, x : x + 16], crop)

    def test_images_smaller_than_a_crop_are_grown(self, tmp_path):
        samples = samples_of(tmp_path, {"dot.npy": np.full((1, 1, 3), 7, np.float32)})
        assert CropBatches(samples, self.CONFIG, stride=8, seed=0).get(0, 0).unique().tolist() == [7]


def test_optimizers_go_on_as_torchs_own_state_would():
    def steps(optimizer, weight, count):
        for n in range(count):
            optimizer.zero_grad()
            ((weight - n) ** 2).sum().backward()
            optimizer.step()

    def pair():
        weight = torch.nn.Parameter(torch.arange(24.0).reshape(1, 4, 2, 3).to(memory_format=torch.channels_last))
        return weight, torch.optim.AdamW([weight], lr=0.1, weight_decay=0.01, fused=True)

    weight, optimizer = pair()
    steps(optimizer, weight, 4)
    arrays = optimizer_arrays(optimizer)
    assert {name.partition("/")[2] for name in arrays} == {"step", "exp_avg", "exp_avg_sq"}
    results = []
    for load in (lambda o: load_optimizer(o, arrays), lambda o: o.load_state_dict(optimizer.state_dict())):
        other, again = pair()
        with torch.no_grad():
            other.copy_(weight)
        load(again)
        steps(again, other, 3)
        results.append(other.detach().clone())
    assert torch.equal(*results)


class Counting:
    per_epoch = 5

    def get(self, epoch, index):
        return torch.zeros(1)


class NoTask:
    def optimizers(self):
        return []


def rates(**settings) -> list[float]:
    config = DescendConfig(**settings)
    phase = Descend("d", NoTask(), Counting(), config)  # type: ignore[arg-type]
    return [phase._rate(step) for step in range(phase.total)]


def test_the_rate_warms_up_and_then_follows_half_a_cosine():
    found = rates(lr=0.5, epochs=4, warmup_steps=4, schedule="cosine")
    assert found[:4] == pytest.approx([0.125, 0.25, 0.375, 0.5])
    assert found[4] == 0.5
    assert found[12] == pytest.approx(0.25)
    assert found[19] == pytest.approx(0.25 * (1 + math.cos(math.pi * 15 / 16)))
    assert rates(lr=0.5, epochs=2, warmup_steps=0, schedule="constant") == [0.5] * 10


def test_a_fit_of_no_image_and_of_other_channels(tmp_path):
    with pytest.raises(BadInput, match="no image to learn from"):
        check_channels(Samples([], Marks.none(), 0))
    counts = {"a.npy": 3, "b.npy": 1, "c.npy": 3, "d.npy": 1}
    samples = samples_of(tmp_path, {name: np.zeros((count, 4, 4), np.uint8) for name, count in counts.items()})
    told = r"differ\. 3 channels: a\.npy, c\.npy; 1 channel: b\.npy, d\.npy\. Leave one kind out.*gray image as RGB"
    with pytest.raises(BadInput, match=told):
        check_channels(samples)


def test_an_image_that_changed_after_it_was_added_stops_the_fit(tmp_path):
    job = drawn_job(tmp_path, FitRecipe())
    path = tmp_path / "images" / "drawn1.png"
    path.write_bytes(encode_png(np.zeros((10, 10, 3), np.uint8)))
    with pytest.raises(BadFile, match=r"drawn1\.png: its content has changed"):
        next(run_fit(job))
    path.unlink()
    with pytest.raises(BadFile, match=r"drawn1\.png: .* is not there any more"):
        next(run_fit(job))


SMALL = FitRecipe(
    family="autoencoder",
    net={"width": 4, "latent": 4, "depth": 1},
    descend=DescendConfig(epochs=1, crops_per_epoch=4, batch_size=2, crop=16),
    head=HeadConfig(kind="logistic"),
)


def without_marks(job: FitJob) -> FitJob:
    return FitJob(job.recipe, Samples(job.samples.images, Marks.none(), 2), CLASSES, job.folder)


def test_without_labels_flim_says_so_and_an_autoencoder_learns(tmp_path):
    with pytest.raises(NothingLabelled, match="FLIM learns from strokes"):
        list(run_fit(without_marks(drawn_job(tmp_path / "flim", FitRecipe()))))
    job = without_marks(drawn_job(tmp_path / "auto", SMALL))
    events = list(run_fit(job))
    assert {event.phase for event in events} == {"reconstruct"}
    header = json.loads((job.folder / "model" / "model.json").read_text())
    assert (header["classes"], header["outputs"]) == ([], ["features", "image"])
    assert len(header["taught"]) == 2  # every image taught it


def test_a_class_without_strokes_is_said_and_never_answered(tmp_path):
    job = drawn_job(tmp_path, SMALL)
    one = Samples(job.samples.images, job.samples.marks.where(job.samples.marks.klass == 1), 2)
    events = list(run_fit(FitJob(SMALL, one, CLASSES, job.folder)))
    assert [event.message for event in events if event.phase == "note"] == [
        "No stroke is of class ground: the model will never answer that."
    ]
    assert not [event for event in run_fit(drawn_job(tmp_path / "both", SMALL)) if event.phase == "note"]
    header, net = load_net(job.folder / "model")
    answers = NetForward(net, header.preparation)(np.random.default_rng(0).integers(0, 255, (1, 3, 1, 9, 9)))
    assert (answers.argmax(axis=1) == 1).all()


DAMAGED = ['{"weights": null}', "[]", "", '{"made_from": 1}', "{"]


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_state_is_one_error_that_names_it(tmp_path, damage):
    net = build("autoencoder", SMALL.net, 3)
    FitState(tmp_path, "one").save(net)
    (tmp_path / "state.json").write_text(damage)
    with pytest.raises(BadFile, match=r"state\.json"):
        FitState(tmp_path, "one").restore(net)


@pytest.mark.parametrize("key", ["progress", "notes", "head"])
@pytest.mark.parametrize("value", [5, ["x"], {"a": "b"}])
def test_odd_values_in_a_state_are_one_error(tmp_path, key, value):
    net = build("autoencoder", SMALL.net, 3)
    FitState(tmp_path, "one").save(net)
    path = tmp_path / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(BadFile, match=r"state\.json: is no resume point"):
        FitState(tmp_path, "one").restore(net)


def test_a_state_of_another_fit_is_refused(tmp_path):
    net = build("autoencoder", SMALL.net, 3)
    FitState(tmp_path, "one").save(net)
    with pytest.raises(BadFile, match="another recipe, other images or other labels"):
        FitState(tmp_path, "two").restore(net)
    assert FitState(tmp_path, "one").restore(net)
    assert not FitState(tmp_path / "none", "one").restore(net)


def test_what_decides_the_weights_is_in_the_fingerprint(tmp_path):
    job = drawn_job(tmp_path, SMALL)
    marks = job.samples.marks
    moved = Marks(marks.image, marks.place + np.array([0, 0, 0, 1]), marks.stroke, marks.klass)
    other_image = [SampleImage(i.name, i.uri, i.content_hash[::-1]) for i in job.samples.images]
    others = [
        FitJob(SMALL.model_copy(update={"seed": 1}), job.samples, CLASSES, job.folder),
        FitJob(SMALL.model_copy(update={"net": {"width": 8}}), job.samples, CLASSES, job.folder),
        FitJob(SMALL, Samples(job.samples.images, moved, 2), CLASSES, job.folder),
        FitJob(SMALL, Samples(other_image, marks, 2), CLASSES, job.folder),
        FitJob(SMALL, job.samples, CLASSES[::-1], job.folder),
    ]
    assert len({job.made_from(), *(other.made_from() for other in others)}) == 6
    spelled_out = SMALL.model_copy(update={"net": {**SMALL.net, "blocks": 1}})  # the default, written out
    assert FitJob(spelled_out, job.samples, CLASSES, tmp_path).made_from() == job.made_from()


def test_the_order_of_layers_is_in_the_fingerprint(tmp_path):
    layers = {
        "relu": {"operation": "relu"},
        "pool": {"operation": "avg_pool2d", "params": {"kernel_size": 3, "padding": 1, "stride": 1}},
    }
    orders = [layers, dict(reversed(layers.items()))]
    recipes = [FitRecipe(family="flim-net", net={"arch": {"features": {"layers": own}}}) for own in orders]
    samples = drawn_job(tmp_path, SMALL).samples
    first, second = (FitJob(recipe, samples, CLASSES, tmp_path).made_from() for recipe in recipes)
    assert first != second


def test_a_family_that_takes_no_given_filters_says_so(tmp_path):
    job = drawn_job(tmp_path, SMALL.model_copy(update={"begin": BeginConfig(folder=str(tmp_path))}))
    with pytest.raises(BadInput, match="'autoencoder' takes no filters of libIFT"):
        next(run_fit(job))


def test_marks_are_found_in_the_tile_that_owns_them(tmp_path):
    rows = [(0, 0, 0, y, x, 1, 0) for y, x in [(0, 0), (15, 15), (16, 15), (39, 49), (20, 20)]]
    samples = samples_of(tmp_path, {"a.npy": np.zeros((1, 40, 50), np.uint8)}, marked(rows))
    seen = []
    for image, tile, inside in samples.marked_tiles(tile=16, stride=4, radius=5):
        assert image == 0
        for row in inside:
            t, z, y, x = samples.marks.place[row]
            assert tile.core.contains(Box((t, z, y, x), (t + 1, z + 1, y + 1, x + 1)))
            seen.append(int(row))
    assert sorted(seen) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("net", "batch_size"),
    [
        ({"filters": [2, 2, 2, 2]}, 1),
        ({"encoder": "resnet10"}, 1),
        ({"filters": [2, 2, 2, 2], "norm": "instance"}, 2),
        ({"filters": [2, 2, 2, 1], "norm": "group"}, 2),
        ({"filters": [2, 2, 2, 2], "norm": "instance", "dims": "3"}, 2),
    ],
)
def test_norms_never_meet_a_single_pixel(tmp_path, net, batch_size):
    """A crop of one stride has one pixel at the bottom, of which no norm takes a spread."""
    train = {"epochs": 1, "crops_per_epoch": 1, "batch_size": batch_size, "crop": [8, 8], "depth": 8}
    job = drawn_job(tmp_path, FitRecipe.model_validate({"family": "unet", "net": net, "train": train}))
    assert list(run_fit(job))[-1].metrics["loss"] > 0
    assert load_net(job.folder / "model")[1].channels == 3


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize(("lr", "epochs"), [(1e30, 8), (1e45, 1)])
def test_a_fit_that_diverges_says_so_and_keeps_nothing_of_it(tmp_path, clip_norm, lr, epochs):
    """The second is over before a loss could tell: one step, of an infinite length."""
    steps = {"lr": lr, "optimizer": "sgd", "schedule": "constant", "warmup_steps": 0, "clip_norm": clip_norm}
    train = steps | {"epochs": epochs, "crops_per_epoch": 1, "batch_size": 2, "crop": [16, 16], "momentum": 0.0}
    net = {"filters": [2, 2], "norm": "none"}
    job = drawn_job(tmp_path, FitRecipe.model_validate({"family": "unet", "net": net, "train": train}))
    with pytest.raises(
        BadRecipe, match=r"targets: .*(nan|inf|NaN or infinite) after \d steps, at a rate of .*Lower lr"
    ):
        list(run_fit(job))
    assert not (tmp_path / "run" / "model").exists()
    for path in (tmp_path / "run" / "state").glob("*.safetensors"):
        assert all(np.isfinite(value).all() for value in load_file(path).values())


def test_a_sweep_of_rates_ends_where_the_gradients_are_no_numbers(tmp_path):
    """Gradients are clipped by itself; that must not end the search in an error."""
    train = {"crops_per_epoch": 2, "batch_size": 2, "crop": [16, 16], "optimizer": "sgd"}
    net = {"filters": [2, 2], "norm": "none"}
    recipe = FitRecipe.model_validate({"family": "unet", "net": net, "train": train})
    job = drawn_job(tmp_path, recipe)
    built = prepared_net(job)[0]
    (phase,) = plan_phases(built, job.samples, recipe)
    sweep = Sweep(phase, built, FindConfig(base_lr=1e-3, max_lr=1e30, steps=20, diverged=1e30))
    assert len(list(sweep.run(make_engine(recipe, [phase])))) < 20
    assert not math.isfinite(sweep.losses[-1])


def test_shipped_weights_without_an_encoder_are_refused(tmp_path):
    """They would be asked for and not taken: the fit would begin by chance, and say nothing."""
    net = {"filters": [2, 2], "weights": "imagenet"}
    recipe = FitRecipe.model_validate({"family": "unet", "net": net, "train": {"crop": [16, 16]}})
    with pytest.raises(BadRecipe, match=r"net\.weights: .* net\.encoder is 'unet'"):
        next(run_fit(drawn_job(tmp_path, recipe)))
