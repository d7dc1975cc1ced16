"""Scores of answers against scikit-learn's."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from fieldmark.errors import BadInput
from fieldmark.evaluate.answers import score_answers

pairs = st.integers(2, 5).flatmap(
    lambda k: st.tuples(
        st.just(k), st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=40)
    )
)


@settings(max_examples=30, deadline=None)
@given(pairs)
def test_scores_are_those_of_scikit_learn(drawn):
    k, rows = drawn
    truth, answers = np.array(rows).T
    scores = score_answers(truth, answers, [str(n) for n in range(k)])
    assert np.array_equal(scores.confusion, metrics.confusion_matrix(truth, answers, labels=range(k)))
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(truth, answers))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kappa = metrics.cohen_kappa_score(truth, answers, labels=range(k))
        told = metrics.precision_recall_fscore_support(truth, answers, labels=range(k), zero_division=0)
    assert scores.kappa == pytest.approx(kappa, nan_ok=True)
    columns = scores.per_class()
    seen = np.isin(range(k), [*truth, *answers])
    for metric, theirs in zip(("precision", "recall", "f1"), told[:3], strict=True):
        assert columns[metric][seen] == pytest.approx(theirs[seen])
        assert np.isnan(columns[metric][~seen]).all()
    assert np.array_equal(scores.support, told[3])
    for n in range(k):
        assert columns["accuracy"][n] == pytest.approx(metrics.accuracy_score(truth == n, answers == n))


def test_what_is_unknown_is_left_out():
    truth, answers = np.array([0, 1, 99, 1]), np.array([0, 0, 1, 1])
    known = np.array([True, True, False, True])
    scores = score_answers(truth, answers, ["a", "b"], known=known)
    assert (scores.images, scores.accuracy) == (3, pytest.approx(2 / 3))
    assert scores.commonest == pytest.approx(2 / 3)


def test_the_lines_and_the_json():
    scores = score_answers(np.array([0, 0, 1]), np.array([0, 1, 1]), ["egg", "dirt", "none"])
    lines = scores.lines()
    assert lines[0] == "accuracy: 0.6667"
    assert lines[1] == "kappa: 0.4000"
    assert lines[3] == "egg: accuracy 0.6667, precision 1.0000, recall 0.5000, f1 0.6667, support 2"
    assert lines[5] == "none: no image is of it, and none was answered so, support 0"
    told = scores.to_json()
    assert told["classes"]["none"] == {"accuracy": 1.0, "precision": None, "recall": None, "f1": None, "support": 0}
    assert told["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_without_images_there_are_no_scores():
    scores = score_answers(np.zeros(0, int), np.zeros(0, int), ["a", "b"])
    assert math.isnan(scores.accuracy)
    assert math.isnan(scores.kappa)
    assert scores.to_json()["accuracy"] is None


@pytest.mark.parametrize(("truth", "answers"), [([0, 2], [0, 1]), ([-1, 0], [0, 0]), ([0], [0, 1])])
def test_what_is_no_class_is_refused(truth, answers):
    with pytest.raises(BadInput, match=r"no place of a class|one answer for each"):
        score_answers(np.array(truth), np.array(answers), ["a", "b"])
