"""k-means of one small group after another, in float32.

scikit-learn's `KMeans` spends more than half of its time on a few thousand points outside
Lloyd's loop (`benchmarks/bench_kernels.py`). This one draws its seeds in float32, goes to the
neighborhood of the answer on a sample, and then moves only what changes its cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldmark.core.seeds import derive_seed

SAMPLE = 300
"""Points on which the way to the answer is found."""


@dataclass(frozen=True, slots=True)
class Clusters:
    """Groups of points around their means.

    Args:
        centers: (K, D) float64.
        labels: (N,) the cluster of each point; no cluster is empty.
        inertia: Sum of the squared distances to the own center.
    """

    centers: np.ndarray
    labels: np.ndarray
    inertia: float


def kmeans(
    points: np.ndarray, count: int, *, seed: int, n_init: int = 1, max_iter: int = 100, tol: float = 1e-3
) -> Clusters:
    """Lloyd's algorithm from k-means++ seeds.

    Args:
        points: (N, D), at least one.
        count: Clusters wanted; with no more distinct points than this, each distinct point is a center.
        seed: The same points and seed give the same clusters.
        n_init: Starts; the one of least inertia is kept.
        max_iter: Most rounds of Lloyd's algorithm.
        tol: It has converged where the centers move less than this, relative to the mean variance.
    """
    distinct = distinct_rows(points, count + 1)
    if len(distinct) <= count:
        return _as_they_are(points, distinct)
    middle = points.mean(axis=0)
    near_zero = np.ascontiguousarray(points - middle, np.float32)  # squared distances lose no digits to a far origin
    starts = (_start(near_zero, count, derive_seed(seed, "start", i), max_iter, tol) for i in range(n_init))
    best = min(starts, key=lambda clusters: clusters.inertia)
    return Clusters(best.centers + middle, best.labels, best.inertia)


def distinct_rows(points: np.ndarray, most: int) -> np.ndarray:
    """Rows of the first `most` distinct points; looks no further than it must."""
    seen: dict[bytes, int] = {}
    for row, point in enumerate(points + 0.0):  # -0.0 is 0.0
        seen.setdefault(point.tobytes(), row)
        if len(seen) == most:
            break
    return np.array(list(seen.values()), np.int64)


def _as_they_are(points: np.ndarray, rows: np.ndarray) -> Clusters:
    centers = np.asarray(points[rows], np.float64)
    squared = ((points[:, None] - centers[None]) ** 2).sum(axis=2)
    return Clusters(centers, squared.argmin(axis=1), 0.0)


def _start(points: np.ndarray, count: int, seed: int, max_iter: int, tol: float) -> Clusters:
    rng = np.random.default_rng(seed)
    limit = tol * float(points.var(axis=0).mean())
    sample = points
    if len(points) > SAMPLE:
        sample = points[np.sort(rng.choice(len(points), SAMPLE, replace=False))]
    centers = _lloyd(sample, _seeds(sample, count, rng), max_iter, limit)
    if sample is not points:
        centers = _lloyd(points, centers, max_iter, limit)
    return _settle(points, centers)


def _seeds(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(at most count, D) greedy k-means++: each seed is the best of a few drawn by their squared distance."""
    trials = 2 + int(np.log(count))
    lengths = np.einsum("nd,nd->n", points, points)
    chosen = [int(rng.integers(len(points)))]
    near = _squared(points, lengths, np.array(chosen))[0]
    while len(chosen) < count:
        mass = np.cumsum(near, dtype=np.float64)
        if mass[-1] <= 0:
            break  # what differs by less than float32 can tell
        drawn = np.minimum(np.searchsorted(mass, rng.random(trials) * mass[-1], side="right"), len(points) - 1)
        left = np.minimum(_squared(points, lengths, drawn), near)
        best = int(left.sum(axis=1).argmin())
        chosen.append(int(drawn[best]))
        near = left[best]
    return points[chosen]


def _squared(points: np.ndarray, lengths: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(R, N) squared distances from some of the points to all of them."""
    distances = lengths[rows, None] - 2 * (points[rows] @ points.T)
    distances += lengths
    distances[np.arange(len(rows)), rows] = 0
    positive: np.ndarray = np.maximum(distances, 0, out=distances)
    return positive


def _lloyd(points: np.ndarray, centers: np.ndarray, max_iter: int, limit: float) -> np.ndarray:
    """(K, D) centers after they have stopped to move; one that lost all points moves to the farthest point."""
    sums, counts = np.zeros_like(centers), np.zeros(len(centers), np.float32)
    labels = np.full(len(points), len(centers))
    for _ in range(max_iter):
        scores = _scores(points, centers)
        found = scores.argmax(axis=0)
        moved = np.flatnonzero(found != labels)
        if len(moved) == 0:
            break
        if len(moved) * 2 > len(points):
            sums, counts = _sums(points, found, len(centers))
        else:
            change = _members(found[moved], len(centers)) - _members(labels[moved], len(centers))
            sums, counts = sums + change @ points[moved], counts + change.sum(axis=1)
        means = sums / np.maximum(counts, 1)[:, None]
        _fill_empty(means, counts, points, scores)
        shift = float(((means - centers) ** 2).sum())
        centers, labels = means, found
        if shift <= limit:
            break
    return centers


def _scores(points: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """(K, N): the larger, the nearer; half the point's squared length less half its squared distance."""
    scores: np.ndarray = centers @ points.T
    scores -= 0.5 * np.einsum("kd,kd->k", centers, centers)[:, None]
    return scores


def _members(labels: np.ndarray, count: int) -> np.ndarray:
    """(K, N) float32: 1 where a point is in a cluster."""
    members: np.ndarray = (labels == np.arange(count)[:, None]).astype(np.float32)
    return members


def _sums(points: np.ndarray, labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    members = _members(labels, count)
    return members @ points, members.sum(axis=1)


def _fill_empty(means: np.ndarray, counts: np.ndarray, points: np.ndarray, scores: np.ndarray) -> None:
    empty = np.flatnonzero(counts < 0.5)
    if len(empty):
        distance = np.einsum("nd,nd->n", points, points) - 2 * scores.max(axis=0)
        means[empty] = points[np.argsort(-distance, kind="stable")[: len(empty)]]


def _settle(points: np.ndarray, centers: np.ndarray) -> Clusters:
    """Labels of all points, and the means of those that have any."""
    _, labels = np.unique(_scores(points, centers).argmax(axis=0), return_inverse=True)
    sums, counts = _sums(points, labels, int(labels.max()) + 1)
    means = sums / counts[:, None]
    inertia = float(((points - means[labels]) ** 2).sum(dtype=np.float64))
    return Clusters(means.astype(np.float64), labels, inertia)
