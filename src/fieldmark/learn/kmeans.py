"""k-means of one small group after another, in float32 on one thread.

On a few thousand points scikit-learn's `KMeans` spends more than half of its time outside Lloyd's loop
(`benchmarks/bench_kernels.py`). This one draws its seeds in float32 and sums up again only what changes its cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldmark.core.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class Clusters:
    """Groups of points around their means.

    Args:
        centers: (K, D) float64.
        counts: (K,) points of each; no cluster is empty.
        nearest: (K,) row of the point nearest to each center.
        inertia: Sum of the squared distances to the own center.
    """

    centers: np.ndarray
    counts: np.ndarray
    nearest: np.ndarray
    inertia: float

    def where(self, kept: np.ndarray) -> Clusters:
        """Some of the clusters; the inertia stays that of all."""
        return Clusters(self.centers[kept], self.counts[kept], self.nearest[kept], self.inertia)


def kmeans(
    points: np.ndarray, count: int, *, seed: int, n_init: int = 1, max_iter: int = 100, tol: float = 1e-2
) -> Clusters:
    """Lloyd's algorithm from k-means++ seeds.

    Args:
        points: (N, D), at least one.
        count: Clusters wanted; with no more distinct points than this, each distinct point is a center.
        seed: The same points and seed give the same clusters.
        n_init: Starts; the one of least inertia is kept.
        max_iter: Most rounds of Lloyd's algorithm.
        tol: It has converged where the squared movements of the centers sum up to this part of the mean variance.
            FLIM takes 1e-3, which costs a sixth more and gains less than 0.1 % of the inertia.
    """
    distinct = _distinct(points, count + 1)
    if len(distinct) <= count:
        return _as_they_are(points, distinct)
    middle = points.mean(axis=0)
    counted = np.ones((len(points), points.shape[1] + 1), np.float32)
    np.subtract(points, middle, out=counted[:, :-1], casting="same_kind")  # far from 0, float32 loses digits
    starts = (_start(counted, count, derive_seed(seed, "start", i), max_iter, tol) for i in range(n_init))
    best = min(starts, key=lambda clusters: clusters.inertia)
    return Clusters(best.centers + middle, best.counts, best.nearest, best.inertia)


def _distinct(points: np.ndarray, most: int) -> dict[bytes, list[int]]:
    """The rows of the first `most` distinct points; looks no further than it must."""
    seen: dict[bytes, list[int]] = {}
    for row, point in enumerate(points):
        seen.setdefault((point + 0.0).tobytes(), []).append(row)  # -0.0 is 0.0
        if len(seen) == most:
            break
    return seen


def _as_they_are(points: np.ndarray, distinct: dict[bytes, list[int]]) -> Clusters:
    first = np.array([rows[0] for rows in distinct.values()])
    counts = np.array([len(rows) for rows in distinct.values()])
    return Clusters(points[first].astype(np.float64), counts, first, 0.0)


def _start(counted: np.ndarray, count: int, seed: int, max_iter: int, tol: float) -> Clusters:
    """One start, for points near zero with a 1 behind each."""
    points = counted[:, :-1]
    lengths = np.einsum("nd,nd->n", points, points)
    seeds = _seeds(points, lengths, count, np.random.default_rng(seed))
    limit = tol * float(lengths.mean(dtype=np.float64)) / points.shape[1]
    return _settle(counted, lengths, _lloyd(counted, lengths, seeds, max_iter, limit))


def _seeds(points: np.ndarray, lengths: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(at most count, D) greedy k-means++: each seed is the best of a few drawn by their squared distance."""
    trials = 2 + int(np.log(count))
    chosen = [int(rng.integers(len(points)))]
    near = _squared(points, lengths, np.array(chosen))[0]
    while len(chosen) < count:
        mass = np.cumsum(near, dtype=np.float64)
        if mass[-1] <= 0:
            break  # the rest differs by less than float32 can tell
        drawn = np.minimum(np.searchsorted(mass, rng.random(trials) * mass[-1], side="right"), len(points) - 1)
        left = np.minimum(_squared(points, lengths, drawn), near)
        best = int(left.sum(axis=1).argmin())
        chosen.append(int(drawn[best]))
        near = left[best]
    return points[chosen]


def _squared(points: np.ndarray, lengths: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(R, N) squared distances from some of the points to all of them."""
    distances = (-2 * points[rows]) @ points.T
    distances += lengths
    distances += lengths[rows, None]
    distances[np.arange(len(rows)), rows] = 0
    positive: np.ndarray = np.maximum(distances, 0, out=distances)
    return positive


def _lloyd(counted: np.ndarray, lengths: np.ndarray, centers: np.ndarray, max_iter: int, limit: float) -> np.ndarray:
    """(K, D) centers after they have stopped to move; one that lost all points moves to the farthest point.

    Args:
        counted: (N, D + 1) points, and a 1 behind each: a sum of them has their number behind it.
        lengths: (N,) squared, of the points.
        centers: (K, D) to begin with.
        max_iter: Most rounds.
        limit: Sum of the squared movements below which they stand.
    """
    labels = np.full(len(counted), len(centers))
    for _ in range(max_iter):
        scores = _scores(counted, centers)
        found = scores.argmax(axis=1)
        moved = np.flatnonzero(found != labels)
        if len(moved) == 0:
            break
        if len(moved) * 5 > len(counted):
            sums = _members(found, len(centers)) @ counted
        else:
            change = _members(found[moved], len(centers)) - _members(labels[moved], len(centers))
            sums = sums + change @ counted[moved]
        means = sums[:, :-1] / np.maximum(sums[:, -1:], 1)
        empty = np.flatnonzero(sums[:, -1] < 0.5)
        if len(empty):
            farthest = np.argsort(2 * scores.max(axis=1) - lengths, kind="stable")
            means[empty] = counted[farthest[: len(empty)], :-1]
        shift = float(((means - centers) ** 2).sum())
        centers, labels = means, found
        if shift <= limit:
            break
    return centers


def _scores(counted: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """(N, K): the larger, the nearer; half the point's squared length less half its squared distance."""
    halves = -0.5 * np.einsum("kd,kd->k", centers, centers)
    scores: np.ndarray = counted @ np.column_stack([centers, halves]).T
    return scores


def _members(labels: np.ndarray, count: int) -> np.ndarray:
    """(K, N) float32: 1 where a point is in a cluster."""
    members: np.ndarray = (labels == np.arange(count)[:, None]).astype(np.float32)
    return members


def _settle(counted: np.ndarray, lengths: np.ndarray, centers: np.ndarray) -> Clusters:
    """The means of the points nearest to each center, where there are any."""
    sums = _members(_scores(counted, centers).argmax(axis=1), len(centers)) @ counted
    sums = sums[sums[:, -1] > 0.5].astype(np.float64)
    counts = sums[:, -1]
    means = sums[:, :-1] / counts[:, None]
    nearest = (lengths[:, None] - 2 * _scores(counted, means.astype(np.float32))).argmin(axis=0)
    inertia = float(lengths.sum(dtype=np.float64) - (counts * (means**2).sum(axis=1)).sum())
    return Clusters(means, np.rint(counts).astype(np.int64), nearest, max(inertia, 0.0))
