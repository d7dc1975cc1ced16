"""Shrink the directions in which images of one class differ. numpy in, numpy out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Shrinking:
    """A symmetric linear map that is the identity but along some axes.

    Args:
        axes: (A, D) float32 of unit length, at right angles.
        gains: (A,) float32 in -1..0: what is added of a vector's part along each axis.
    """

    axes: np.ndarray
    gains: np.ndarray

    def of(self, vectors: np.ndarray) -> np.ndarray:
        """(N, D) to (N, D)."""
        moved: np.ndarray = vectors + (vectors @ self.axes.T * self.gains) @ self.axes
        return moved


def shrink_within(vectors: np.ndarray, klass: np.ndarray, share: float | None) -> Shrinking:
    """Within-class covariance normalization (Hatch et al. 2006), regularized for few images.

    With S the covariance of what is left of each vector without its class's mean, and V the whole variance (the sum
    over all columns), vectors are multiplied by (S / (share * V) + 1)^(-1/2): differences that images of one class have
    among themselves count for less, so that a classifier of few images does not lean on them. Where every class has
    one image, nothing changes.

    Args:
        vectors: (N, D) standardized.
        klass: (N,) class of each.
        share: Of the whole variance: a direction with as much within classes is shrunk to half of its variance. None
            for not at all.
    """
    own = np.zeros_like(vectors, dtype=np.float64)
    for one in np.unique(klass):
        rows = klass == one
        own[rows] = vectors[rows] - vectors[rows].mean(axis=0, dtype=np.float64)
    if share is None or not own.any():
        return Shrinking(np.zeros((0, vectors.shape[1]), np.float32), np.zeros(0, np.float32))
    _, sizes, axes = np.linalg.svd(own / np.sqrt(len(vectors)), full_matrices=False)
    kept = sizes > 1e-6 * sizes[0]
    whole = vectors.var(axis=0, dtype=np.float64).sum()
    gains = 1 / np.sqrt(sizes[kept] ** 2 / (share * whole) + 1) - 1
    return Shrinking(axes[kept].astype(np.float32), gains.astype(np.float32))
