"""k-means of one small group after another, in float32 on one thread.

On a few thousand points scikit-learn's `KMeans` spends more than half of its time outside Lloyd's loop
(`benchmarks/bench_kernels.py`). This one works in float32 on a table with a column a point, which small products are
fastest on, tells membership by equality with the best score, and sums up again only what changes its cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldmark.core.seeds import derive_seed

SEEDED = 1000
"""Points that seeds are drawn from; more of them make no better start, but each costs as much as a round of Lloyd's."""


@dataclass(frozen=True, slots=True)
class Clusters:
    """Groups of points around their means.

    Args:
        centers: (K, D) float64.
        counts: (K,) points of each; no cluster is empty.
        nearest: (K,) row of a cluster's own point nearest to its center.
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
    table = np.empty((points.shape[1] + 1, len(points)), np.float32)
    np.subtract(points.T, middle[:, None], out=table[:-1], casting="same_kind")  # far from 0, float32 loses digits
    table[-1] = 1
    starts = (_start(table, count, derive_seed(seed, "start", i), max_iter, tol) for i in range(n_init))
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


def _start(table: np.ndarray, count: int, seed: int, max_iter: int, tol: float) -> Clusters:
    """One start, for points near zero, a column each, with a 1 below each."""
    points, rng = table[:-1], np.random.default_rng(seed)
    lengths = np.einsum("dn,dn->n", points, points)
    some = slice(None) if len(lengths) <= SEEDED else rng.choice(len(lengths), SEEDED, replace=False)
    seeds = _seeds(points[:, some], lengths[some], count, rng)
    limit = tol * float(lengths.mean(dtype=np.float64)) / len(points)
    return _settle(table, lengths, _lloyd(table, lengths, seeds, max_iter, limit))


def _seeds(points: np.ndarray, lengths: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(at most count, D) greedy k-means++: each seed is the best of a few drawn by their squared distance."""
    trials, total = 2 + int(np.log(count)), points.shape[1]
    chosen = [int(rng.integers(total))]
    near = _squared(points, lengths, np.array(chosen))[0]
    while len(chosen) < count:
        mass = np.cumsum(near, dtype=np.float64)
        if mass[-1] <= 0:
            break  # the rest differs by less than float32 can tell
        drawn = np.minimum(np.searchsorted(mass, rng.random(trials) * mass[-1], side="right"), total - 1)
        left = np.minimum(_squared(points, lengths, drawn), near)
        best = int(left.sum(axis=1).argmin())
        chosen.append(int(drawn[best]))
        near = left[best]
    return points[:, chosen].T


def _squared(points: np.ndarray, lengths: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(R, N) squared distances from some of the points (D, N) to all of them."""
    distances = (-2 * points[:, places].T) @ points
    distances += lengths
    distances += lengths[places, None]
    distances[np.arange(len(places)), places] = 0
    positive: np.ndarray = np.maximum(distances, 0, out=distances)
    return positive


def _lloyd(table: np.ndarray, lengths: np.ndarray, centers: np.ndarray, max_iter: int, limit: float) -> np.ndarray:
    """(K, D) centers after they have stopped to move; one that lost all points moves to the farthest point.

    Args:
        table: (D + 1, N) points, and a 1 below each: a sum of them has their number below it.
        lengths: (N,) squared, of the points.
        centers: (K, D) to begin with.
        max_iter: Most rounds.
        limit: Sum of the squared movements below which they stand.
    """
    sums = np.zeros((len(table), len(centers)), np.float32)
    members = np.zeros((len(centers), table.shape[1]), bool)
    for _ in range(max_iter):
        scores = _scores(table, centers)
        found = _members(scores)
        moved = np.flatnonzero((found ^ members).any(axis=0))
        if len(moved) == 0:
            break
        if len(moved) * 3 > table.shape[1]:
            sums = table @ found.T.astype(np.float32)
        else:  # they are few in most rounds
            change = found[:, moved].astype(np.float32) - members[:, moved]
            sums += table[:, moved] @ change.T
        means = (sums[:-1] / np.maximum(sums[-1], 1)).T
        empty = np.flatnonzero(sums[-1] < 0.5)
        if len(empty):
            farthest = np.argsort(2 * scores.max(axis=0) - lengths, kind="stable")
            means[empty] = table[:-1, farthest[: len(empty)]].T
        shift = float(((means - centers) ** 2).sum())
        centers, members = means, found
        if shift <= limit:
            break
    return centers


def _scores(table: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """(K, N): the larger, the nearer; half the point's squared length less half its squared distance."""
    factors = np.empty((len(centers), len(table)), table.dtype)
    factors[:, :-1] = centers
    factors[:, -1] = -0.5 * np.einsum("kd,kd->k", centers, centers)
    scores: np.ndarray = factors @ table
    return scores


def _members(scores: np.ndarray) -> np.ndarray:
    """(K, N) bool: whose score is the best for a point; of equal ones the first."""
    best: np.ndarray = scores == scores.max(axis=0)
    if np.count_nonzero(best) != scores.shape[1]:
        best = scores.argmax(axis=0) == np.arange(len(scores))[:, None]  # slower, so only where some are equal
    return best


def _settle(table: np.ndarray, lengths: np.ndarray, centers: np.ndarray) -> Clusters:
    """The means of the points nearest to each center, where there are any."""
    members = _members(_scores(table, centers))
    sums = members.astype(np.float32) @ table.T
    filled = sums[:, -1] > 0.5
    sums, members = sums[filled].astype(np.float64), members[filled]
    counts = sums[:, -1]
    means = sums[:, :-1] / counts[:, None]
    distances = lengths - 2 * _scores(table, means.astype(np.float32))
    nearest = np.where(members, distances, np.inf).argmin(axis=1)  # of its own points: none stands for two clusters
    inertia = float(lengths.sum(dtype=np.float64) - (counts * (means**2).sum(axis=1)).sum())
    return Clusters(means, np.rint(counts).astype(np.int64), nearest, max(inertia, 0.0))
