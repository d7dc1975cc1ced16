"""The weighted F-measure against the paper's dense formulation, written out pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fieldmark.errors import BadInput
from fieldmark.evaluate.weighted import mean_absolute_error, weighted_fbeta


def dense(foreground, truth, unknown=None, beta2=1.0):
    """The measure with loops: for each pixel its nearest object pixel and its window.

    Beyond the border the error is 0 but counts as known, as in the authors' program.
    """
    height, width = truth.shape
    known = np.ones(truth.shape, bool) if unknown is None else ~unknown
    pixels = [(y, x) for y in range(height) for x in range(width)]
    object_ = [p for p in pixels if truth[p] and known[p]]
    error = {p: abs(float(foreground[p]) - float(truth[p])) for p in pixels if known[p]}
    nearest = {p: min(object_, key=lambda q: math.dist(p, q)) for p in error}
    window = [(a, b, math.exp(-(a * a + b * b) / 50)) for a in range(-3, 4) for b in range(-3, 4)]
    weighted = {}
    for p, own in error.items():
        if not truth[p]:
            weighted[p] = own * (2 - math.exp(math.log(0.5) / 5 * math.dist(p, nearest[p])))
            continue
        total = mass = 0.0
        for a, b, weight in window:
            q = p[0] + a, p[1] + b
            inside = 0 <= q[0] < height and 0 <= q[1] < width
            if inside and not known[q]:
                continue
            mass += weight
            total += weight * error[nearest[q]] if inside else 0.0
        weighted[p] = min(own, total / mass)
    missed = sum(weighted[p] for p in object_)
    alarms = sum(value for p, value in weighted.items() if not truth[p])
    recall = 1 - missed / len(object_)
    precision = (len(object_) - missed) / (len(object_) - missed + alarms)
    return (1 + beta2) * recall * precision / (recall + beta2 * precision)


@st.composite
def rectangles(draw):
    """A map, a rectangle as truth (each pixel has one nearest object pixel) and unknown pixels outside it."""
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    truth = np.zeros((height, width), bool)
    truth[top : draw(st.integers(top + 1, height)), left : draw(st.integers(left + 1, width))] = True
    unknown = draw(hnp.arrays(np.bool_, truth.shape)) & ~truth
    steps = draw(hnp.arrays(np.int8, truth.shape, elements=st.integers(0, 8)))
    return steps / 8, truth, unknown


@given(rectangles(), st.sampled_from([0.3, 1.0, 4.0]))
@settings(max_examples=40, deadline=None)
def test_equals_the_dense_formulation(case, beta2):
    foreground, truth, unknown = case
    foreground = np.clip(foreground, 0.01, 1)  # all zero would divide nothing by nothing in the loops
    assert weighted_fbeta(foreground, truth, beta2=beta2) == pytest.approx(dense(foreground, truth, None, beta2), 1e-9)
    assert weighted_fbeta(foreground, truth, unknown, beta2=beta2) == pytest.approx(
        dense(foreground, truth, unknown, beta2), 1e-9
    )


def test_equals_the_dense_formulation_on_any_shape():
    rng = np.random.default_rng(0)
    for _ in range(5):
        truth = rng.random((14, 17)) < 0.15
        truth[3, 3] = True
        # one value on the object: which of two equally near pixels lends its error makes no difference
        foreground = np.where(truth, 0.7, rng.random(truth.shape))
        assert weighted_fbeta(foreground, truth) == pytest.approx(dense(foreground, truth), 1e-9)


def test_an_unknown_object_is_no_object():
    truth = np.zeros((9, 9), bool)
    truth[2:4, 2:4] = truth[7, 7] = True
    unknown = np.zeros_like(truth)
    unknown[6:, 6:] = True
    without = truth & ~unknown
    foreground = np.random.default_rng(2).random(truth.shape)
    assert weighted_fbeta(foreground, truth, unknown) == weighted_fbeta(foreground, without, unknown)


def test_the_perfect_map_and_the_empty_ones():
    truth = np.zeros((20, 20), bool)
    truth[5:12, 6:15] = True
    assert weighted_fbeta(truth, truth) == pytest.approx(1.0)
    assert weighted_fbeta(np.zeros((20, 20)), truth) == 0.0
    assert math.isnan(weighted_fbeta(np.zeros((20, 20)), np.zeros((20, 20), bool)))
    assert weighted_fbeta(truth, np.zeros((20, 20), bool)) == 0.0
    assert math.isnan(weighted_fbeta(truth, truth, np.ones((20, 20), bool)))


def test_what_the_paper_wants():
    truth = np.zeros((40, 40), bool)
    truth[15:25, 15:25] = True
    near, far = truth.copy(), truth.copy()
    near[14, 15:25] = True
    far[2, 15:25] = True
    assert weighted_fbeta(near, truth) > weighted_fbeta(far, truth)
    scattered, hole = truth.copy(), truth.copy()
    scattered[15:25:3, 15:25:3] = False
    hole[18:22, 18:22] = False
    assert scattered.sum() == hole.sum()
    assert weighted_fbeta(scattered, truth) > weighted_fbeta(hole, truth)


def test_mean_absolute_error():
    foreground = np.array([[0.0, 0.5], [1.0, 0.25]])
    truth = np.array([[False, True], [True, True]])
    assert mean_absolute_error(foreground, truth) == pytest.approx((0 + 0.5 + 0 + 0.75) / 4)
    unknown = np.array([[False, False], [False, True]])
    assert mean_absolute_error(foreground, truth, unknown) == pytest.approx(0.5 / 3)
    assert math.isnan(mean_absolute_error(foreground, truth, np.ones((2, 2), bool)))


def test_wrong_maps_are_refused():
    with pytest.raises(BadInput, match="shape"):
        weighted_fbeta(np.zeros((2, 3)), np.zeros((3, 2), bool))
    with pytest.raises(BadInput, match=r"\[0, 1\]"):
        mean_absolute_error(np.array([[255.0]]), np.array([[True]]))
    with pytest.raises(BadInput, match=r"\[0, 1\]"):
        mean_absolute_error(np.array([[np.nan]]), np.array([[True]]))
