"""Means and intervals over images; the shape of the answer."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fieldmark.evaluate.summary import METRICS, ImageScore, bootstrap_interval, score_image, summarize

CLASSES = {"background": 0, "cell": 5}


def score(name, dice):
    return ImageScore(name, {"cell": dict.fromkeys(METRICS, dice)})


def test_one_image():
    truth = np.array([[0, 0, 5, 5], [0, 0, 5, 5]])
    prediction = np.array([[0, 5, 5, 5], [0, 0, 5, 0]])
    result = score_image("a", prediction, truth, CLASSES)
    cell = result.classes["cell"]
    assert cell["dice"] == pytest.approx(2 * 3 / (4 + 4))
    assert cell["iou"] == pytest.approx(3 / 5)
    assert cell["precision"] == pytest.approx(3 / 4)
    assert cell["recall"] == pytest.approx(3 / 4)
    assert cell["mae"] == pytest.approx(2 / 8)
    assert set(cell) == set(METRICS)
    assert list(result.classes) == ["background", "cell"]


def test_probabilities_decide_the_soft_metrics_only():
    truth = np.array([[0, 5]])
    soft = np.array([[[0.75, 0.25]], [[0.25, 0.75]]])
    result = score_image("a", truth, truth, CLASSES, probabilities=soft).classes["cell"]
    assert result["dice"] == 1.0
    assert result["mae"] == pytest.approx(0.25)


def test_a_class_that_is_nowhere_has_no_value():
    nothing = np.zeros((3, 3), int)
    result = score_image("a", nothing, nothing, CLASSES).classes["cell"]
    assert [result[m] for m in ("dice", "iou", "precision", "recall", "weighted_fbeta")] == [None] * 5
    assert result["mae"] == 0.0


def test_unknown_pixels_are_left_out_of_every_metric():
    rng = np.random.default_rng(0)
    prediction, truth = rng.choice([0, 5], (2, 12, 12))
    unknown = rng.random((12, 12)) < 0.4
    other = np.where(unknown, 5 - truth, truth)
    noisy = np.where(unknown, 5 - prediction, prediction)
    assert score_image("a", prediction, truth, CLASSES, unknown=unknown) == score_image(
        "a", noisy, other, CLASSES, unknown=unknown
    )


def test_the_answer_has_the_documented_shape():
    scores = [score(f"im{i}", v) for i, v in enumerate([0.5, 0.6, 0.7, 0.8, None, 0.9])]
    answer = summarize(scores, taught=["t"], baselines={"random": scores[:2]}, without_truth=["z"], notes=["n"])
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    assert list(answer) == ["images", "taught", "without_truth", "notes", "classes", "baselines"]
    assert answer["images"] == 6
    assert set(answer["classes"]["cell"]) == {*METRICS, *(f"{m}_interval" for m in METRICS)}
    assert answer["classes"]["cell"]["dice"] == pytest.approx(0.7)
    low, high = answer["classes"]["cell"]["dice_interval"]
    assert 0.5 <= low < 0.7 < high <= 0.9
    assert answer["baselines"]["random"]["cell"]["dice"] == pytest.approx(0.55)
    assert answer["baselines"]["random"]["cell"]["dice_interval"] is None


def test_images_that_taught_count_nowhere():
    scores = [score("a", 1.0), score("b", 0.0)]
    answer = summarize(scores, taught=["a"], baselines={"majority": scores})
    assert answer["taught"] == ["a"]
    assert answer["images"] == 1
    assert answer["classes"]["cell"]["dice"] == 0.0
    assert answer["baselines"]["majority"]["cell"]["dice"] == 0.0


def test_no_image_is_left():
    answer = summarize([score("a", 1.0)], taught=["a"])
    assert answer["images"] == 0
    assert answer["classes"]["cell"]["dice"] is None
    assert summarize([])["classes"] == {}


def test_intervals_need_five_images():
    assert bootstrap_interval([0.1, 0.2, 0.3, 0.4], 0) is None
    assert bootstrap_interval([0.5] * 5, 0) == [0.5, 0.5]


def test_the_same_seed_gives_the_same_interval():
    values = list(np.random.default_rng(0).random(9))
    assert bootstrap_interval(values, 3) == bootstrap_interval(values, 3)
    assert bootstrap_interval(values, 3) != bootstrap_interval(values, 4)


def test_the_interval_is_as_wide_as_the_mean_is_uncertain():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_interval(list(values), 0)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
