"""Classes of whole images: learned, kept, refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fieldmark.checkpoint import load
from fieldmark.core.fingerprint import file_hash
from fieldmark.errors import BadInput, InputMismatch
from fieldmark.images import open_image
from fieldmark.infer.answers import MOST_PIXELS, answer_image, require_whole, rows_text, whole_tensor
from fieldmark.infer.predict import Model
from fieldmark.learn.run import FitJob, run_fit
from fieldmark.learn.samples import Answers, Marks, SampleImage, Samples
from fieldmark.learn.tasks.classify import AnswerBatches
from fieldmark.models.build import load_net
from fieldmark.models.flim import FlimNet
from fieldmark.recipes import ClassifyConfig, FitRecipe
from fieldmark.testing.drawn import CLASSES
from tests.learn.test_learning import rates

NET = {"branches": [{"layers": [{"kernel_size": 5, "out_channels": 8, "pool": "max"}]}], "scales": []}


def stripes(seed: int, across: bool, height: int = 24, width: int = 24) -> np.ndarray:
    """(y, x) stripes along x or along y, of any phase, with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    wave = 90 + 60 * np.sin((y if across else x) * 1.3 + rng.uniform(0, 6))
    return np.clip(wave + rng.normal(0, 5, wave.shape), 0, 255).astype(np.uint8)


def sorted_job(
    folder: Path, image_head: dict, *, images: int = 12, answered: int = 10, sizes=((24, 24),), net=None
) -> FitJob:
    """Images of stripes: even ones along x (class 0), odd ones along y (class 1); the last two are not answered."""
    samples, rows = [], []
    for index in range(images):
        path = folder / f"{index}.npy"
        folder.mkdir(parents=True, exist_ok=True)
        height, width = sizes[index % len(sizes)]
        np.save(path, stripes(index, index % 2 == 0, height, width))
        samples.append(SampleImage(path.name, str(path), file_hash(path)))
        if index < 2:
            rows += [(index, y, x) for y in range(6, 18) for x in range(6, 18)]
    image, y, x = np.array(rows).T
    places = np.column_stack([np.zeros((len(y), 2), np.int64), y, x])
    marks = Marks(image, places, image + 1, image)
    answers = Answers(np.arange(answered), np.arange(answered) % 2)
    recipe = FitRecipe(family="flim", net=net or NET, head={"kind": "none"}, image_head=image_head)
    return FitJob(recipe, Samples(samples, marks, 2, answers=answers), CLASSES, folder / "run")


def model_of(job: FitJob) -> Model:
    for _ in run_fit(job):
        pass
    header, net = load_net(job.folder / "model")
    return Model("sorter", header, net)


def said(model: Model, job: FitJob) -> list[int]:
    found = []
    for image in job.samples.images:
        with open_image(Path(image.uri)) as source:
            found.append(int(answer_image(model, source, image.name).argmax()))
    return found


HEADS = {
    "dense": {"kind": "dense"},
    "whole": {"kind": "dense", "descend": {"only_classifier": False, "lr": 0.002}},
    "svm": {"kind": "svm"},
    "flat": {"kind": "svm", "vector": "flatten", "levels": "last", "remove_border": 1},
    "document": {
        "kind": "dense",
        "vector": "pooled",
        "levels": "last",
        "within": None,
        "unit_length": False,
        "hidden": [64],
    },
}


@pytest.mark.parametrize("name", HEADS)
def test_images_are_told_apart(tmp_path, name):
    job = sorted_job(tmp_path, HEADS[name])
    model = model_of(job)
    assert said(model, job) == [index % 2 for index in range(12)]
    assert {image.image for image in model.header.taught} == {f"{index}.npy" for index in range(10)}


def test_fixed_features_stay_and_whole_networks_change(tmp_path):
    weights = {}
    for name in ("svm", "dense", "whole"):
        branch = model_of(sorted_job(tmp_path / name, HEADS[name])).net.branches[0]
        weights[name] = branch[0].weight
    assert torch.equal(weights["dense"], weights["svm"])
    assert not torch.equal(weights["whole"], weights["svm"])
    assert not weights["whole"].requires_grad


@pytest.fixture
def own_classifier(monkeypatch):
    """FLIM networks bring a classifier with dropout, of more outputs than there are classes."""

    def build(net, shape):
        layers = [torch.nn.Flatten(), torch.nn.Dropout(0.3), torch.nn.Linear(int(np.prod(shape)), 5)]
        net.classifier = torch.nn.Sequential(*layers)
        return net.classifier

    monkeypatch.setattr(FlimNet, "brings_classifier", True)
    monkeypatch.setattr(FlimNet, "own_classifier", build)


@pytest.mark.parametrize("only_classifier", [True, False])
def test_a_classifier_of_the_family_is_taught_kept_and_resumed(tmp_path, own_classifier, only_classifier):
    descend = {"epochs": 6, "lr": 0.002, "save_every_steps": 2, "only_classifier": only_classifier}
    head = {"kind": "dense", "descend": descend}
    job = sorted_job(tmp_path / "unbroken", head)
    model = model_of(job)
    assert said(model, job)[:10] == [index % 2 for index in range(10)]
    assert model.header.config["image_head"] == {
        "kind": "own",
        "look": {"vector": "rings", "grid": 1, "border": 0, "size": [24, 24], "levels": "last"},
        "shape": [8, 12, 12],
        "classes": 2,
        "answered": 2,
    }
    broken = sorted_job(tmp_path / "broken", head)
    for stop in (3, 2, 4):
        events = run_fit(broken)
        for _ in range(stop):
            next(events)
        events.close()
    weights = load(job.folder / "model")[1]
    model_of(broken)
    again = load(broken.folder / "model")[1]
    assert weights.keys() == again.keys() >= {"classifier.2.weight"}
    assert all(np.array_equal(weights[name], again[name]) for name in weights)


def test_images_of_different_sizes(tmp_path):
    sizes = ((24, 24), (30, 20), (41, 37))
    pooled = sorted_job(tmp_path / "pooled", HEADS["dense"], sizes=sizes)
    assert said(model_of(pooled), pooled)[:10] == [index % 2 for index in range(10)]
    with pytest.raises(BadInput, match=r"0\.npy has 24 x 24 pixels and 1\.npy has 30 x 20; .*image_head\.size"):
        next(run_fit(sorted_job(tmp_path / "flat", HEADS["flat"], sizes=sizes)))
    resized = sorted_job(tmp_path / "resized", HEADS["flat"] | {"size": [24, 26]}, sizes=sizes)
    model = model_of(resized)
    assert model.net.image_head.look.size == (24, 26)
    with open_image(Path(resized.samples.images[2].uri)) as source:
        assert answer_image(model, source, "2.npy", "vector").shape == (8 * 10 * 11,)


def test_a_flat_vector_keeps_the_size_that_taught_it(tmp_path):
    model = model_of(sorted_job(tmp_path, HEADS["flat"]))
    assert model.header.config["image_head"]["look"]["size"] == [24, 24]


def test_what_decides_the_answers_is_in_the_fingerprint(tmp_path):
    job = sorted_job(tmp_path, HEADS["svm"])
    other = Answers(job.samples.answers.image, job.samples.answers.klass[::-1])
    changed = Samples(job.samples.images, job.samples.marks, 2, answers=other)
    assert FitJob(job.recipe, changed, CLASSES, job.folder).made_from() != job.made_from()


def test_a_class_without_answers_is_said(tmp_path):
    job = sorted_job(tmp_path, HEADS["svm"])
    three = (*CLASSES, type(CLASSES[0])(id=3, name="dots", value=3))
    samples = Samples(job.samples.images, job.samples.marks, 3, answers=job.samples.answers)
    events = list(run_fit(FitJob(job.recipe, samples, three, job.folder)))
    notes = [event.message for event in events if event.phase == "note"]
    assert notes == ["No image is answered as class dots: the model will never answer that."]


def test_batches_hold_every_answer_once_an_epoch():
    batches = AnswerBatches(10, 4, seed=0)
    assert batches.per_epoch == 3
    epochs = [np.concatenate([batches.get(epoch, index).rows for index in range(3)]) for epoch in range(2)]
    assert all(sorted(rows) == list(range(10)) for rows in epochs)
    assert not np.array_equal(*epochs)
    assert len({batches.get(0, index).seed for index in range(3)}) == 3


def test_the_rate_falls_in_steps():
    found = rates(lr=0.5, epochs=5, warmup_steps=0, schedule="step", step_epochs=2, gamma=0.1)
    assert found == pytest.approx([0.5] * 10 + [0.05] * 10 + [0.005] * 5)


def test_the_defaults_are_flims():
    config = ClassifyConfig()
    assert (config.epochs, config.batch_size, config.lr, config.weight_decay) == (15, 4, 0.01, 0.001)
    assert (config.step_epochs, config.gamma, config.first_clip_norm, config.first_epochs) == (15, 0.1, 0.1, 3)


def test_resizing_halves_by_the_mean_and_nothing_else_is_changed():
    pixels = np.arange(2 * 4 * 6, dtype=np.uint16).reshape(2, 4, 6)
    same = whole_tensor(pixels, [], size=(4, 6), stride=1)
    assert np.array_equal(same[0].numpy(), pixels)
    constant = whole_tensor(np.full((1, 8, 8), 9, np.uint8), [], size=(3, 5), stride=4)
    assert constant.shape == (1, 1, 4, 8)
    assert np.allclose(constant, 9)
    ramp = whole_tensor(np.tile(np.arange(8.0), (1, 8, 1)), [], size=(4, 4), stride=1)[0, 0, 0].numpy()
    assert np.allclose(ramp[1:3], [2.5, 4.5], atol=1e-5)


def test_what_cannot_be_judged_whole_is_refused(tmp_path):
    with pytest.raises(BadInput, match="stack has 3 planes"):
        require_whole((1, 1, 3, 5, 5), "stack")
    with pytest.raises(BadInput, match=f"up to {MOST_PIXELS} pixels"):
        require_whole((1, 1, 1, 1 << 13, 1 << 13), "large")
    model = model_of(sorted_job(tmp_path, HEADS["svm"]))
    np.save(tmp_path / "rgb.npy", np.zeros((1, 3, 1, 9, 9), np.uint8))
    with open_image(tmp_path / "rgb.npy") as source, pytest.raises(InputMismatch, match=r"rgb\.npy.*has 3"):
        answer_image(model, source, "rgb.npy")
    with pytest.raises(BadInput, match=r"\.csv or \.json"):
        rows_text([], ["a"], ".txt")
