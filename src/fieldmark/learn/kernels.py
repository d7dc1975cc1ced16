"""From patches to unit kernels: clustering under each marker, then reduction. numpy in, numpy out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Kernels:
    """Kernels and where they came from.

    Args:
        weight: (K, D) float64 of unit length.
        patch: (K,) row of the real patch nearest to each kernel's cluster center.
    """

    weight: np.ndarray
    patch: np.ndarray


def cluster_markers(patches: np.ndarray, markers: np.ndarray, per_marker: int, seed: int) -> Kernels:
    """Cluster the patches of each marker on its own; every center of unit length is a kernel.

    A small marker keeps its voice beside a large one. A marker with fewer distinct
    patches than `per_marker` gives as many kernels as it has.

    Args:
        patches: (N, D) standardized.
        markers: (N,) the marker that each patch lies under.
        per_marker: Kernels wanted of each marker.
        seed: The same inputs and seed give the same kernels.
    """
    weights, origins = [], []
    for marker in np.unique(markers):
        own = np.flatnonzero(markers == marker)
        centers = _centers(patches[own], per_marker, seed)
        weights.append(centers)
        origins.append(own[_nearest(patches[own], centers)])
    return _unit(np.concatenate(weights), np.concatenate(origins))


def reduce_kernels(kernels: Kernels, most: int, seed: int) -> Kernels:
    """At most `most` kernels: centers of clusters of the unit kernels, of unit length again."""
    if len(kernels.weight) <= most:
        return kernels
    centers = _centers(kernels.weight, most, seed)
    return _unit(centers, kernels.patch[_nearest(kernels.weight, centers)])


def _centers(points: np.ndarray, count: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    count = min(count, len(np.unique(points, axis=0)))
    model = KMeans(n_clusters=count, n_init=1, max_iter=100, tol=1e-3, random_state=seed % (1 << 32))
    return np.asarray(model.fit(points.astype(np.float32)).cluster_centers_, np.float64)


def _nearest(points: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """(K,) the row of `points` nearest to each center."""
    squared = (points**2).sum(axis=1) - 2 * centers @ points.T
    return np.asarray(squared.argmin(axis=1))


def _unit(weights: np.ndarray, origins: np.ndarray) -> Kernels:
    lengths = np.linalg.norm(weights, axis=1)
    kept = lengths > 1e-9  # the center of an all-constant marker has no direction
    if not kept.any():
        kept[:1] = True
        lengths = np.maximum(lengths, 1.0)
    return Kernels(weights[kept] / lengths[kept, None], origins[kept])
