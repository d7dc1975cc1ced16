"""From patches to unit kernels: clustering under each marker, then reduction. numpy in, numpy out.

Four estimators, by the names of `KernelConfig.kind`:

- `centers` (de Souza and Falcao, arXiv 2008.03549): the means of the clusters of each group;
- `nearest` (libIFT): the real patch nearest to each of them;
- `points` (FLIM-BoFP, arXiv 2602.20845): `choose_points` once, then `point_kernels` in every layer;
- `random`: `random_kernels`, the baseline that no stroke teaches.

Whose a pixel under two strokes is, is decided where labels are stored: it belongs to the newer one, and is seen once.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from fieldmark.core.seeds import derive_seed
from fieldmark.learn.kmeans import Clusters, kmeans
from fieldmark.recipes.kernels import KernelConfig

_NO_ROWS = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Kernels:
    """Kernels and where they came from.

    Args:
        weight: (K, D) float64 of unit length.
        patch: (K,) row of the real patch nearest to each kernel; (0,) where no patch taught them.
        klass: (K,) class of that patch; (0,) where classes were not told.
    """

    weight: np.ndarray
    patch: np.ndarray
    klass: np.ndarray = field(default_factory=_NO_ROWS.copy)

    def where(self, rows: np.ndarray) -> Kernels:
        """The kernels of some rows, in their order."""
        patch, klass = (own[rows] if len(own) else own for own in (self.patch, self.klass))
        return Kernels(self.weight[rows], patch, klass)


def estimate_kernels(
    patches: np.ndarray,
    strokes: np.ndarray,
    classes: np.ndarray,
    *,
    config: KernelConfig,
    per_group: int,
    most: int | None,
    seed: int,
) -> Kernels:
    """The kernels of one layer, by the estimator, reduction and pruning of `config`.

    Of kind `points`, the patches are taken for the chosen points themselves: their clusters were made at the input.

    Args:
        patches: (N, D) standardized, at least one.
        strokes: (N,) the stroke that each lies under.
        classes: (N,) the class of each.
        config: How kernels are made.
        per_group: Kernels wanted of each stroke or class.
        most: Kernels wanted of the layer; None for as many as there are.
        seed: The same inputs and seed give the same kernels, however many threads there are.
    """
    with _one_thread():
        kernels = _estimate(patches, strokes, classes, config, per_group, most, seed)
        return prune_kernels(kernels, config.similarity) if config.similarity is not None else kernels


def _estimate(
    patches: np.ndarray,
    strokes: np.ndarray,
    classes: np.ndarray,
    config: KernelConfig,
    per_group: int,
    most: int | None,
    seed: int,
) -> Kernels:
    match config.kind:
        case "random":
            return random_kernels(patches.shape[1], most or per_group * len(np.unique(strokes)), seed)
        case "points":
            return point_kernels(patches, classes, most, seed)
        case _:
            groups = strokes if config.grouping == "stroke" else classes
            kernels = cluster_markers(patches, groups, per_group, seed, classes=classes, config=config)
            return kernels if most is None else reduce_kernels(kernels, most, seed, config.reduction, config.kind)


def cluster_markers(
    patches: np.ndarray,
    markers: np.ndarray,
    per_marker: int,
    seed: int,
    *,
    classes: np.ndarray | None = None,
    config: KernelConfig | None = None,
) -> Kernels:
    """Cluster the patches of each marker on its own; every center of unit length is a kernel.

    A small marker keeps its voice beside a large one. A marker with no more distinct
    patches than `per_marker` gives each of them.

    Args:
        patches: (N, D) standardized.
        markers: (N,) the marker (or class) that each patch lies under.
        per_marker: Kernels wanted of each marker.
        seed: The same inputs and seed give the same kernels.
        classes: (N,) the class of each patch; None where it does not matter.
        config: `nearest` gives real patches; `min_share` drops small clusters.
    """
    config = config or KernelConfig()
    weights, origins = [], []
    for own, clusters in _by_group(patches, markers, per_marker, config, seed):
        nearest = own[clusters.nearest]
        weights.append(patches[nearest] if config.kind == "nearest" else clusters.centers)
        origins.append(nearest)
    return _unit(np.concatenate(weights), np.concatenate(origins), classes)


def choose_points(
    patches: np.ndarray, groups: np.ndarray, per_group: int, seed: int, *, config: KernelConfig | None = None
) -> np.ndarray:
    """The bag of feature points: for each cluster of each group, the row of the patch nearest to its center.

    Args:
        patches: (N, D) of the standardized input.
        groups: (N,) the stroke or class of each.
        per_group: Points wanted of each group.
        seed: The same inputs and seed give the same points.
        config: Its `min_share` and `n_init` hold here too.

    Returns:
        (P,) rows, by group.
    """
    with _one_thread():
        parts = _by_group(patches, groups, per_group, config or KernelConfig(), seed)
        return np.concatenate([own[clusters.nearest] for own, clusters in parts])


def point_kernels(patches: np.ndarray, classes: np.ndarray, most: int | None, seed: int) -> Kernels:
    """The patches on the bag's points in one layer, each of unit length.

    Where the layer wants fewer, every class gives its share: the points nearest to the
    centers of clusters of its patches.

    Args:
        patches: (P, D) of the layer's standardized input, one for each point.
        classes: (P,) their classes.
        most: Kernels wanted; None for one of each point.
        seed: The same inputs and seed give the same kernels.
    """
    rows = np.arange(len(patches))
    if most is not None and most < len(patches):
        found, counts = np.unique(classes, return_counts=True)
        rows = np.concatenate(
            [
                _representatives(
                    patches, np.flatnonzero(classes == klass), share, derive_seed(seed, "class", int(klass))
                )
                for klass, share in zip(found, even_shares(counts, most), strict=True)
            ]
        )
    return _unit(patches[rows], rows, classes)


def even_shares(counts: np.ndarray, most: int) -> np.ndarray:
    """How many of `most` each may give, as evenly as what they have allows; the first ones first.

    >>> even_shares(np.array([2, 9, 9]), 9)
    array([2, 4, 3])
    """
    shares = np.zeros(len(counts), np.int64)
    while shares.sum() < min(most, counts.sum()):
        open_ones = np.flatnonzero(shares < counts)
        shares[open_ones[shares[open_ones].argmin()]] += 1
    return shares


def random_kernels(dimension: int, most: int, seed: int, *, times: int = 10) -> Kernels:
    """The principal axes of `times` as many random kernels (uniform, of unit length, centered).

    Args:
        dimension: Numbers of a kernel; there are no more axes than this.
        most: Kernels wanted.
        seed: The same seed gives the same kernels.
        times: Random kernels for each one wanted.
    """
    drawn = np.random.default_rng(derive_seed(seed, "random kernels")).random((times * most, dimension))
    axes = principal_axes(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), most)
    return Kernels(axes if len(axes) else np.ones((1, dimension)) / np.sqrt(dimension), _NO_ROWS)


def reduce_kernels(kernels: Kernels, most: int, seed: int, reduction: str = "kmeans", kind: str = "centers") -> Kernels:
    """At most `most` kernels of unit length.

    Args:
        kernels: Of unit length.
        most: Kernels wanted.
        seed: The same inputs and seed give the same kernels.
        reduction: `pca`: the first principal axes, where there are more kernels than they have numbers; an axis
            stands for the kernel that it is most in line with. Else, and with `kmeans`, centers of clusters.
        kind: `nearest` keeps the kernel nearest to each center in its place: it stays a real patch.
    """
    if reduction == "pca" and kernels.weight.shape[1] < len(kernels.weight):
        axes = principal_axes(kernels.weight, most)
        if len(axes):
            aligned = np.abs(axes @ kernels.weight.T).argmax(axis=1)
            return Kernels(axes, *(own[aligned] if len(own) else own for own in (kernels.patch, kernels.klass)))
    if len(kernels.weight) <= most:
        return kernels
    clusters = kmeans(kernels.weight, most, seed=seed)
    nearest = kernels.where(clusters.nearest)
    lengths = np.linalg.norm(clusters.centers, axis=1, keepdims=True)
    if kind == "nearest" or (lengths < 1e-9).any():  # opposite kernels have no mean direction
        return nearest
    return Kernels(clusters.centers / lengths, nearest.patch, nearest.klass)


def principal_axes(points: np.ndarray, most: int) -> np.ndarray:
    """(A, D) the first `most` directions of largest variance, no more than there is variance in.

    The largest number of each is positive: an axis has no sign of its own.
    """
    triangle = np.linalg.qr(points - points.mean(axis=0), mode="r")
    _, sizes, axes = np.linalg.svd(triangle, full_matrices=False)
    axes = axes[sizes > 1e-9 * max(1.0, sizes[0])][:most]
    largest = np.abs(axes).argmax(axis=1)
    signed: np.ndarray = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
    return signed


def prune_kernels(kernels: Kernels, level: float) -> Kernels:
    """Without the kernels whose product with an earlier kept one, sign aside, is at least `level`."""
    products = np.abs(kernels.weight @ kernels.weight.T)
    kept: list[int] = []
    for row in range(len(products)):
        if not kept or products[row, kept].max() < level:
            kept.append(row)
    return kernels.where(np.array(kept, np.int64))


def fold(weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias for raw input, of weights and bias for standardized input.

    Exact inside an image, and at its borders where they are padded by values of the image
    or by `mean`; not where raw input is padded by zeros.

    Args:
        weight: (K, C, ...) for input from which `mean` was taken and which was divided by `std`.
        bias: (K,).
        mean: (C,) of each channel.
        std: (C,) of each channel, none zero.
    """
    own = (1, -1) + (1,) * (weight.ndim - 2)
    folded = weight / std.reshape(own)
    return folded, bias - (folded * mean.reshape(own)).reshape(len(weight), -1).sum(axis=1)


def _by_group(
    patches: np.ndarray, groups: np.ndarray, per_group: int, config: KernelConfig, seed: int
) -> list[tuple[np.ndarray, Clusters]]:
    """The rows of each group, and the clusters of its patches that are large enough."""
    parts = []
    table = np.ascontiguousarray(patches.T)
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        clusters = kmeans(
            table.take(own, axis=1).T, per_group, seed=derive_seed(seed, "group", int(group)), n_init=config.n_init
        )
        parts.append((own, _large(clusters, config.min_share)))
    return parts


def _large(clusters: Clusters, share: float) -> Clusters:
    """The clusters with that share of the points; the largest one in any case."""
    return clusters.where(clusters.counts >= min(share * clusters.counts.sum(), clusters.counts.max()))


def _representatives(patches: np.ndarray, own: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Rows of `own` nearest to the centers of `count` clusters, in order, none twice."""
    if count == 0:
        return _NO_ROWS
    return np.asarray(own[np.unique(kmeans(patches[own], count, seed=seed).nearest)])


def _unit(weights: np.ndarray, origins: np.ndarray, classes: np.ndarray | None) -> Kernels:
    weights = np.asarray(weights, np.float64)
    lengths = np.linalg.norm(weights, axis=1)
    kept = lengths > 1e-9  # the center of an all-constant marker has no direction
    if not kept.any():
        kept[:1] = True
        lengths = np.maximum(lengths, 1.0)
    origins = origins[kept]
    return Kernels(weights[kept] / lengths[kept, None], origins, _NO_ROWS if classes is None else classes[origins])


def _one_thread() -> AbstractContextManager[Any]:
    """Sums in one order, whatever the number of threads; small products are slower on several."""
    limits: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limits


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()  # looks through all loaded libraries: 10 ms, so once
