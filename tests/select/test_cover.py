"""Choosing images: against brute force over all choices."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.errors import BadInput
from fieldmark.select.cover import at_random, k_center, nearest_to_means, per_class


def radius(points: np.ndarray, chosen: object) -> float:
    """How far the loneliest point is from the nearest chosen one, pair by pair."""
    return max(min(float(np.linalg.norm(p - points[c])) for c in chosen) for p in points)


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 9), st.integers(1, 3), st.integers(0, 1000))
def test_a_cover_is_at_most_twice_as_wide_as_the_best(total, count, seed):
    points = np.random.default_rng(seed).normal(size=(total, 2))
    chosen = k_center(points, count).tolist()
    best = min(radius(points, some) for some in combinations(range(total), count))
    assert len(set(chosen)) == count
    # the first is fixed, so one more center than the bound knows of is not spent well for count = 1
    assert radius(points, chosen) <= 2 * best + 1e-9


def test_a_cover_goes_on_from_what_is_marked():
    points = np.array([[0.0], [1.0], [10.0], [11.0], [5.0]])
    assert k_center(points, 2, chosen=np.array([0])).tolist() == [3, 4]


def test_a_cover_of_equal_images_takes_each_once():
    assert sorted(k_center(np.zeros((4, 3)), 9).tolist()) == [0, 1, 2, 3]


def test_means_find_the_middle_of_each_heap():
    rng = np.random.default_rng(0)
    heaps = [rng.normal(center, 0.1, (size, 2)) for center, size in (((0, 0), 9), ((8, 0), 7), ((0, 8), 5))]
    points = np.concatenate(heaps)
    starts = (0, 9, 16)
    middles = [
        start + int(np.linalg.norm(h - h.mean(axis=0), axis=1).argmin()) for start, h in zip(starts, heaps, strict=True)
    ]
    assert nearest_to_means(points, 3, seed=0).tolist() == middles


def test_each_class_gives_its_share_and_small_classes_all():
    classes = np.array([1, 1, 1, 1, 2])
    vectors = np.arange(10.0).reshape(5, 2)
    for how in ("kmeans", "random", "cover"):
        chosen = per_class(vectors, classes, 2, how=how, seed=3)
        assert sorted(classes[chosen].tolist()) == [1, 1, 2]
        assert np.array_equal(chosen, per_class(vectors, classes, 2, how=how, seed=3))


def test_random_depends_on_the_seed_alone():
    assert at_random(50, 10, seed=1).tolist() == at_random(50, 10, seed=1).tolist()
    assert at_random(50, 10, seed=1).tolist() != at_random(50, 10, seed=2).tolist()


def test_classes_that_are_listed_alike_do_not_give_the_same_places():
    """As where each class has its smears, or plates, in one order."""
    classes = np.repeat(np.arange(1, 21), 30)
    chosen = per_class(np.zeros((len(classes), 1)), classes, 3, how="random", seed=42)
    places = (chosen % 30).reshape(20, 3)
    assert len({tuple(row) for row in places.tolist()}) > 15
    assert all(len(set(row)) == 3 for row in places.tolist())


def test_nonsense_is_refused():
    with pytest.raises(BadInput, match="kmeans, random or cover"):
        per_class(np.zeros((2, 2)), np.zeros(2), 1, how="best", seed=0)
    with pytest.raises(BadInput, match="finite"):
        k_center(np.full((2, 2), np.nan), 1)
