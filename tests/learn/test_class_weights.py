"""Weights of classes in every loss of classes, against formulas in NumPy; where they come from in a fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from fieldmark.checkpoint import ClassSpec
from fieldmark.core.fingerprint import file_hash
from fieldmark.errors import BadRecipe
from fieldmark.learn.lessons import LessonBatches, Shape
from fieldmark.learn.losses import FOR_CLASSES, build_loss
from fieldmark.learn.samples import Marks, SampleImage, Samples
from fieldmark.learn.splits import split_images
from fieldmark.learn.targets import targets_of
from fieldmark.learn.tasks.targets import OnTargets
from fieldmark.models.build import build
from fieldmark.recipes.data import DataConfig, TargetConfig
from fieldmark.recipes.train import AugmentConfig, LossConfig, TrainConfig

SHAPE = (14, 17)
GIVEN = np.array([1.0, 5.0, 0.25])


def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (B, K, y, x), places (B, y, x), of which one sample lacks a class, and weights (B, y, x) of 0, 1, 2."""
    rng = np.random.default_rng(0)
    places = rng.integers(0, 3, (3, *SHAPE))
    places[1][places[1] == 2] = 0
    scores = rng.normal(np.array([0, 1, -2])[:, None, None], 1, (3, 3, *SHAPE))
    return scores, places, rng.integers(0, 3, (3, *SHAPE)).astype(float)


def shares(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores)
    return raised / raised.sum(axis=1, keepdims=True)


def by_pixel(scores: np.ndarray, places: np.ndarray, weight: np.ndarray, gamma: float) -> float:
    """Cross entropy, focal where gamma is above 0: every pixel weighs as its class does."""
    samples = []
    for p, right, w in zip(shares(scores), places, weight, strict=True):
        q = np.take_along_axis(p, right[None], axis=0)[0]
        own = w * GIVEN[right]
        samples.append((own * (1 - q) ** gamma * -np.log(q)).sum() / own.sum())
    return float(np.mean(samples))


def by_class(scores: np.ndarray, places: np.ndarray, weight: np.ndarray, alpha: float) -> float:
    """One minus Tversky's index: the weighted mean over the classes that a sample shows."""
    samples = []
    for p, right, w in zip(shares(scores), places, weight, strict=True):
        total = said = 0.0
        for klass, voice in enumerate(GIVEN):
            own = right == klass
            if not w[own].sum():
                continue
            hit, extra, missed = (w * p[klass])[own].sum(), (w * p[klass])[~own].sum(), (w * (1 - p[klass]))[own].sum()
            said += voice * (1 - hit / (hit + alpha * extra + (1 - alpha) * missed))
            total += voice
        samples.append(said / total)
    return float(np.mean(samples))


def by_question(scores: np.ndarray, places: np.ndarray, weight: np.ndarray) -> float:
    """Cross entropy of each class's own question: the weighted mean over classes."""
    samples = []
    for s, right, w in zip(scores, places, weight, strict=True):
        q = 1 / (1 + np.exp(-s))
        each = [(w * -np.log(np.where(right == k, q[k], 1 - q[k]))).sum() / w.sum() for k in range(3)]
        samples.append(np.average(each, weights=GIVEN))
    return float(np.mean(samples))


TRUTHS = {
    "ce": lambda *drawn: by_pixel(*drawn, gamma=0.0),
    "focal": lambda *drawn: by_pixel(*drawn, gamma=3.0),
    "dice": lambda *drawn: by_class(*drawn, alpha=0.5),
    "tversky": lambda *drawn: by_class(*drawn, alpha=0.2),
    "bce": by_question,
}


def cost(name: str, given: np.ndarray | None) -> float:
    config = LossConfig(terms={name: 1.0}, tversky_alpha=0.2, focal_gamma=3.0)
    loss = build_loss(config, classes=True, class_weights=None if given is None else torch.from_numpy(given))
    scores, places, weight = (torch.from_numpy(part) for part in drawn())
    return loss(scores, places[:, None].double(), weight[:, None]).item()


@pytest.mark.parametrize("name", FOR_CLASSES)
def test_every_loss_weighs_classes_as_its_formula(name):
    weighed = cost(name, GIVEN)
    assert weighed == pytest.approx(TRUTHS[name](*drawn()), rel=1e-6)
    assert abs(weighed - cost(name, None)) > 1e-3
    assert weighed == pytest.approx(cost(name, 7 * GIVEN), rel=1e-6)  # they are shares: their sum is nothing


@pytest.mark.parametrize("name", FOR_CLASSES)
def test_equal_weights_are_none(name):
    assert cost(name, np.full(3, 2.0)) == pytest.approx(cost(name, None), rel=1e-6)


def task(folder: Path, kind: str, asked: object, *, others: int = 0) -> OnTargets:
    """What one image teaches: 3 in 4 of its pixels are ground; none is of the `others`."""
    image = np.random.default_rng(1).integers(0, 255, (16, 24)).astype(np.uint8)
    target = np.zeros((16, 24), np.uint8)
    target[:, 18:] = 9
    paths = {}
    for name, pixels in (("image", image), ("target", target)):
        paths[name] = folder / f"{name}.tif"
        tifffile.imwrite(paths[name], pixels, photometric="minisblack")
    one = SampleImage(
        "image.tif",
        str(paths["image"]),
        file_hash(paths["image"]),
        target=str(paths["target"]),
        target_hash=file_hash(paths["target"]),
    )
    classes = (ClassSpec(id=1, name="ground", value=0), ClassSpec(id=2, name="cell", value=9))
    classes += tuple(ClassSpec(id=3 + n, name=f"class {n}", value=20 + n) for n in range(others))
    samples = Samples([one], Marks.none(), len(classes))
    data = DataConfig(target=TargetConfig(kind=kind, folder=str(folder)))
    targets = targets_of(samples, data, classes)
    config = TrainConfig(
        crop=(16, 24),
        crops_per_epoch=2,
        batch_size=2,
        loss=LossConfig(terms={"ce": 1.0} if kind == "labels" else {}, class_weights=asked),
        augment=AugmentConfig(flip=0.0, rot90=False),
    )
    batches = LessonBatches(samples, targets, Shape((1, 16, 24), 0, stack=False, spatial=2), config, [0], seed=0)
    net = build("unet", {"filters": [2, 2], "out_channels": len(classes) if kind == "labels" else 1}, 1)
    return OnTargets(net, targets, batches, config, split_images(samples.images, [0], data.split, 0))


def of_ground(task: OnTargets) -> float:
    """What pixels of ground weigh in the loss, beside as many of the other class."""
    scores = torch.zeros(1, 2, 1, 2)
    scores[0, 1, 0, 0] = 3.0  # the pixel of ground is wrong, and the other one costs log 2
    wrong, unsure = np.log(1 + np.exp(3)), np.log(2)
    found = task.loss(scores, torch.tensor([[[[0.0, 1.0]]]]), torch.ones(1, 1, 1, 2)).item()
    return (found - unsure) / (wrong - unsure)


@pytest.mark.parametrize(("asked", "ground"), [(None, 0.5), ((3.0, 1.0), 0.75), ("balanced", 0.25)])
def test_a_fit_takes_the_weights_that_are_asked_for(tmp_path, asked, ground):
    assert of_ground(task(tmp_path, "labels", asked)) == pytest.approx(ground, abs=1e-5)


def test_a_class_that_is_not_there_leaves_the_others_their_voices(tmp_path):
    """3 in 4 pixels are ground, the rest is the cell's; nothing is the third's, which counts as the rarest does."""
    made = task(tmp_path, "labels", "balanced", others=1)
    asked = LossConfig(terms={"bce": 1.0})
    questions = build_loss(asked, classes=True, class_weights=made._class_weights())
    scores = torch.tensor([1.0, -2.0, 0.5]).reshape(1, 3, 1, 1)
    voices, answers = np.array([4 / 3, 4, 4]), 1 / (1 + np.exp(-np.array([1.0, -2.0, 0.5])))
    truth = np.average(-np.log([answers[0], 1 - answers[1], 1 - answers[2]]), weights=voices)
    found = questions(scores, torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)).item()
    assert found == pytest.approx(truth, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "asked", "words"),
    [
        ("labels", (1.0,), "found 1 of them for 2 classes"),
        ("labels", (1.0, 1.0, 1.0), "found 3 of them for 2 classes"),
        ("labels", (0.0, 0.0), "all of them are 0"),
        ("image", (1.0, 1.0), "have no classes"),
        ("image", "balanced", "have no classes"),
    ],
)
def test_weights_that_cannot_count_are_refused(tmp_path, kind, asked, words):
    with pytest.raises(BadRecipe, match=words):
        task(tmp_path, kind, asked)
