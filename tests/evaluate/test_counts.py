"""Counts and ratios against a confusion matrix, and the 0/0 rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, precision_score, recall_score

from fieldmark.errors import BadInput
from fieldmark.evaluate import counts as counting
from fieldmark.evaluate import ratios
from fieldmark.evaluate.counts import PixelCounts, count_pixels

VALUES = (3, 0, 7)
SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, max_side=6)


@st.composite
def maps(draw):
    shape = draw(SHAPES)
    labels = hnp.arrays(np.int32, shape, elements=st.sampled_from(VALUES))
    return draw(labels), draw(labels), draw(hnp.arrays(np.bool_, shape))


def one_by_one(prediction, truth, unknown):
    """The four counts by visiting each pixel."""
    table = {value: dict.fromkeys(("tp", "fp", "fn", "tn"), 0) for value in VALUES}
    for said, true, skip in zip(prediction.flat, truth.flat, unknown.flat, strict=True):
        for value, row in table.items():
            if not skip:
                row[{(1, 1): "tp", (1, 0): "fp", (0, 1): "fn", (0, 0): "tn"}[(said == value, true == value)]] += 1
    return table


@given(maps())
def test_counts_are_those_of_visiting_each_pixel(arrays):
    found = count_pixels(arrays[0], arrays[1], VALUES, arrays[2])
    expected = one_by_one(*arrays)
    for name in ("tp", "fp", "fn", "tn"):
        assert getattr(found, name).tolist() == [expected[value][name] for value in VALUES]
        assert getattr(found, name).dtype == np.int64
    assert found.known == (~arrays[2]).sum()


@given(maps())
def test_unknown_pixels_change_nothing(arrays):
    prediction, truth, unknown = arrays
    other = np.where(unknown, 99, truth)
    first, second = count_pixels(prediction, truth, VALUES, unknown), count_pixels(prediction, other, VALUES, unknown)
    assert all((getattr(first, k) == getattr(second, k)).all() for k in ("tp", "fp", "fn", "tn"))


def test_blocks_add_up_to_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    prediction, truth = rng.choice(VALUES, (2, 37, 11))
    unknown = rng.random((37, 11)) < 0.3
    whole = count_pixels(prediction, truth, VALUES, unknown)
    monkeypatch.setattr(counting, "_BLOCK", 25)
    pieces = count_pixels(prediction, truth, VALUES, unknown)
    halves = count_pixels(prediction[:20], truth[:20], VALUES, unknown[:20]) + count_pixels(
        prediction[20:], truth[20:], VALUES, unknown[20:]
    )
    for name in ("tp", "fp", "fn", "tn"):
        assert (getattr(whole, name) == getattr(pieces, name)).all()
        assert (getattr(whole, name) == getattr(halves, name)).all()


@given(maps())
@settings(max_examples=25)
def test_ratios_agree_with_scikit_learn_where_both_have_the_class(arrays):
    prediction, truth, _ = arrays
    counts = count_pixels(prediction, truth, VALUES)
    settings = {"labels": list(VALUES), "average": None, "zero_division": 0}
    present = np.array([value in truth or value in prediction for value in VALUES])
    pairs = (
        (ratios.dice, f1_score),
        (ratios.iou, jaccard_score),
        (ratios.precision, precision_score),
        (ratios.recall, recall_score),
    )
    for ours, theirs in pairs:
        expected = theirs(truth.ravel(), prediction.ravel(), **settings)
        np.testing.assert_allclose(ours(counts)[present], expected[present], atol=1e-12)
        assert np.isnan(ours(counts)[~present]).all()


def test_the_confusion_matrix_gives_the_same_counts():
    rng = np.random.default_rng(1)
    prediction, truth = rng.choice(VALUES, (2, 50, 50))
    table = confusion_matrix(truth.ravel(), prediction.ravel(), labels=list(VALUES))
    counts = count_pixels(prediction, truth, VALUES)
    assert (counts.tp == table.diagonal()).all()
    assert (counts.fp == table.sum(axis=0) - table.diagonal()).all()
    assert (counts.fn == table.sum(axis=1) - table.diagonal()).all()


@pytest.mark.parametrize(
    ("said", "true", "expected"),
    [(0, 0, np.nan), (1, 0, 0.0), (0, 1, 0.0), (1, 1, 1.0)],
    ids=["absent in both", "false alarm", "missed", "found"],
)
def test_nothing_over_nothing(said, true, expected):
    counts = count_pixels(np.full((2, 2), said), np.full((2, 2), true), (1,))
    for ratio in (ratios.dice, ratios.iou, ratios.precision, ratios.recall):
        np.testing.assert_equal(ratio(counts), [expected])


def test_an_answer_that_is_no_class_is_right_for_none():
    counts = count_pixels(np.full((2, 2), 9), np.array([[1, 1], [2, 2]]), (1, 2))
    assert counts.tp.tolist() == [0, 0]
    assert counts.fp.tolist() == [0, 0]
    assert counts.fn.tolist() == [2, 2]


def test_other_shapes_are_refused():
    with pytest.raises(BadInput, match=r"truth has \(2, 3\)"):
        count_pixels(np.zeros((3, 2)), np.zeros((2, 3)), (1,))
    with pytest.raises(BadInput, match="unknown has"):
        count_pixels(np.zeros((3, 2)), np.zeros((3, 2)), (1,), np.zeros(6, bool))


def test_no_pixel_and_no_class():
    assert np.isnan(ratios.dice(count_pixels(np.zeros((0, 4)), np.zeros((0, 4)), (1,)))).all()
    assert PixelCounts.none(0).known == 0
