"""The correlation of what validates: numpy's, and none where the truth does not vary."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fieldmark.learn.tasks import numbers, targets


def of_pixels(found: np.ndarray, true: np.ndarray, known: np.ndarray) -> float:
    """In two parts, as crops come."""
    scoring = targets._Correlation(1)
    for part in (slice(0, 2), slice(2, None)):
        scoring.add(*(torch.from_numpy(one[part]) for one in (found, true, known)))
    return scoring.value()


def drawn(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(3, 2, (5, 1, 8, 9)).astype(np.float32)


def test_it_is_that_of_known_pixels():
    true, known = drawn(0), drawn(1) > 3
    found = true + drawn(2)
    assert of_pixels(found, true, known) == pytest.approx(np.corrcoef(found[known], true[known])[0, 1])


@pytest.mark.parametrize("value", [0.0, 7.1, -1234.567])
def test_a_truth_that_does_not_vary_has_none(value):
    """0 would be a number like any other: the first epoch would be the best, and the fit end early."""
    true, known = np.full((5, 1, 8, 9), value, np.float32), np.ones((5, 1, 8, 9), bool)
    assert math.isnan(of_pixels(drawn(0), true, known))


def test_an_answer_that_does_not_vary_has_0_and_one_that_is_no_number_none():
    known = np.ones((5, 1, 8, 9), bool)
    assert of_pixels(np.full((5, 1, 8, 9), 7.1, np.float32), drawn(0), known) == 0
    broken = drawn(1)
    broken[3] = np.nan
    assert math.isnan(of_pixels(broken, drawn(0), known))


def test_numbers_of_images_too():
    true, found = drawn(0)[:, 0, 0, :3], drawn(1)[:, 0, 0, :3]
    each = [np.corrcoef(found[:, n], true[:, n])[0, 1] for n in range(3)]
    assert numbers._correlation(found, true) == pytest.approx(np.mean(each))
    assert math.isnan(numbers._correlation(found[:1], true[:1]))  # a single image that validates
    dead = found.copy()
    dead[:, 1] = 4
    assert numbers._correlation(dead, true) == pytest.approx((each[0] + each[2]) / 3)
    flat = true.copy()
    flat[:, 1] = 4
    assert numbers._correlation(found, flat) == pytest.approx((each[0] + each[2]) / 2)
