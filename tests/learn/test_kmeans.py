"""k-means against brute force, against a loop and against scikit-learn."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from fieldmark.learn.kmeans import _lloyd, _members, _scores, kmeans


def blobs(count: int = 4, each: int = 40, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    middles = rng.normal(0, 20, (count, 6))
    return (np.repeat(middles, each, axis=0) + rng.normal(0, 0.5, (count * each, 6))).astype(np.float32)


def best_split(points: np.ndarray, count: int) -> float:
    """Least inertia over every way to put the points into groups."""
    least = np.inf
    for labels in product(range(count), repeat=len(points)):
        groups = [points[np.array(labels) == group] for group in set(labels)]
        least = min(least, sum(((own - own.mean(axis=0)) ** 2).sum() for own in groups))
    return least


def loop_of_lloyd(points: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Until nothing moves, point by point."""
    before = None
    while True:
        labels = [min(range(len(centers)), key=lambda k: sum((p - centers[k]) ** 2)) for p in points]
        if labels == before:
            return centers
        before = labels
        centers = np.array(
            [np.mean([p for p, k in zip(points, labels, strict=True) if k == j], axis=0) for j in range(len(centers))]
        )


@pytest.mark.parametrize("seed", range(5))
def test_few_points_are_split_as_well_as_can_be(seed):
    points = np.random.default_rng(seed).normal(size=(8, 2))
    found = kmeans(points, 3, seed=seed, n_init=30, tol=0)
    assert found.inertia == pytest.approx(best_split(points, 3), rel=1e-5)


def test_lloyd_goes_where_a_plain_loop_goes():
    points = np.random.default_rng(3).normal(size=(90, 5)).astype(np.float32)
    table = np.vstack([points.T, np.ones(90, np.float32)])
    found = _lloyd(table, (points**2).sum(axis=1), points[:6], 100, 0.0)
    assert np.allclose(found, loop_of_lloyd(points.astype(np.float64), points[:6].astype(np.float64)), atol=1e-5)


def test_centers_counts_nearest_and_inertia_belong_together():
    points = blobs()
    found = kmeans(points, 4, seed=1)
    assert sorted(found.counts) == [40, 40, 40, 40]
    total = 0.0
    for center, nearest in zip(found.centers, found.nearest, strict=True):
        own = points[np.linalg.norm(points - center, axis=1) < 10]
        assert np.allclose(center, own.mean(axis=0), atol=1e-4)
        assert nearest == np.linalg.norm(points - center, axis=1).argmin()
        total += ((own - own.mean(axis=0)) ** 2).sum()
    assert found.inertia == pytest.approx(total, rel=1e-3)


def test_far_from_zero_nothing_is_lost():
    near, far = (kmeans(blobs().astype(np.float64) + shift, 4, seed=1) for shift in (0, 1e5))
    assert np.allclose(near.centers + 1e5, far.centers, atol=1e-3)
    assert far.inertia == pytest.approx(near.inertia, rel=1e-2)


def test_a_start_is_as_good_as_one_of_scikit_learn():
    points = np.random.default_rng(5).normal(size=(1500, 20)).astype(np.float32)
    points[:500] *= 4
    twins = [KMeans(8, n_init=1, max_iter=100, tol=1e-3, random_state=s).fit(points).inertia_ for s in range(8)]
    ours = [kmeans(points, 8, seed=s).inertia for s in range(8)]
    assert np.mean(ours) < np.mean(twins) * 1.01
    assert kmeans(points, 8, seed=0, n_init=4).inertia <= min(ours[0], max(ours))


@pytest.mark.parametrize("points", [np.zeros((7, 3)), np.full((1, 2), 5.0), np.tile([[0.0, 1.0], [-0.0, 1.0]], (4, 1))])
def test_one_distinct_point_is_one_cluster(points):
    found = kmeans(points, 4, seed=0)
    assert np.array_equal(found.centers, points[:1])
    assert found.inertia == 0
    assert found.nearest.tolist() == [0]
    assert found.counts.tolist() == [len(points)]


def test_points_that_float32_cannot_tell_apart_are_no_trouble():
    points = np.column_stack([np.full(50, 1e6), np.arange(50) * 1e-12])
    found = kmeans(points, 5, seed=0)
    assert 1 <= len(found.centers) <= 5
    assert found.counts.sum() == 50
    assert np.isfinite(found.centers).all()


def test_a_point_between_two_centers_belongs_to_one():
    points = np.array([[-2.0, 0], [0, 0], [2, 0], [0, 7]], np.float32)
    table = np.vstack([points.T, np.ones(4, np.float32)])
    members = _members(_scores(table, points[[0, 2, 3]]))
    assert members.sum(axis=0).tolist() == [1, 1, 1, 1]
    assert members[:, 1].tolist() == [True, False, False]


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 3), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_every_point_is_in_one_cluster_and_no_cluster_is_empty(many, count, levels, seed):
    points = np.random.default_rng(seed).integers(0, 2 + levels, (many, 3)).astype(np.float64)
    found = kmeans(points, count, seed=seed)
    distinct = len(np.unique(points, axis=0))
    assert len(found.centers) <= min(count, distinct)
    assert (found.counts > 0).all()
    assert found.counts.sum() == many
    if distinct <= count:
        assert {tuple(c) for c in found.centers} == {tuple(p) for p in points}
    squared = ((points[:, None] - found.centers[None]) ** 2).sum(axis=2)
    assert found.inertia == pytest.approx(squared.min(axis=1).sum(), rel=0.2, abs=1e-3)
    assert np.allclose(squared[found.nearest, range(len(found.centers))], squared.min(axis=0), atol=1e-4)


def test_the_same_seed_gives_the_same_bits():
    first, second = (kmeans(blobs(seed=2), 7, seed=9) for _ in range(2))
    assert np.array_equal(first.centers, second.centers)


def test_no_point_stands_for_two_clusters():
    points = np.random.default_rng(214).normal(size=(40, 6))  # one is nearest to two of the eight centers
    found = kmeans(points, 8, seed=0)
    assert len(set(found.nearest)) == len(found.centers) == 8
