"""Classifiers fitted with scikit-learn and kept as tensors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fieldmark.models.heads import ForestHead, LogisticHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fieldmark.recipes import HeadConfig

SHARE = 0.05
"""The share of the pixels that each tree of a bagged forest sees, as in scikit-image's trainable segmentation."""
FEWEST = 100
"""The fewest pixels that such a tree sees."""


def fit_logistic(
    features: np.ndarray, classes: np.ndarray, weights: np.ndarray, count: int, config: HeadConfig, seed: int
) -> LogisticHead:
    """Multinomial logistic regression on standardized features, folded back to raw ones.

    Args:
        features: (N, F) float32.
        classes: (N,) 0..count-1.
        weights: (N,) of the pixels.
        count: Classes of the model; one with no pixel gets probability 0.
        config: `l2` is the ridge penalty for the mean loss.
        seed: Not used: the solution is unique.
    """
    from sklearn.linear_model import LogisticRegression

    mean, std = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    std = np.where(std > 1e-6, std, 1.0)  # a constant feature stays constant
    standardized = (features - mean) / std
    present = np.unique(classes)
    weight, bias = np.zeros((count, features.shape[1])), np.full(count, -1e4)
    if len(present) == 1:
        bias[present[0]] = 0.0
    else:
        model = LogisticRegression(C=1.0 / config.l2, max_iter=200, tol=1e-4)
        model.fit(standardized, classes, sample_weight=weights)
        two = len(present) == 2
        coefficients = np.concatenate([-model.coef_, model.coef_]) / 2 if two else model.coef_
        intercepts = np.concatenate([-model.intercept_, model.intercept_]) / 2 if two else model.intercept_
        weight[present] = coefficients / std
        bias[present] = intercepts - weight[present] @ mean
    head = LogisticHead()
    head.weight = torch.from_numpy(weight.astype(np.float32))
    head.bias = torch.from_numpy(bias.astype(np.float32))
    return head


def fit_forest(
    features: np.ndarray,
    classes: np.ndarray,
    weights: np.ndarray,
    count: int,
    config: HeadConfig,
    seed: int,
    *,
    bagged: bool = False,
) -> ForestHead:
    """Extremely randomized trees (Geurts, Ernst and Wehenkel 2006), laid out as tensors.

    Args:
        features: (N, F) float32.
        classes: (N,) 0..count-1.
        weights: (N,) of the pixels.
        count: Classes of the model.
        config: Trees, their depth, and the fewest pixels of a leaf.
        seed: Seeds the trees.
        bagged: A random forest instead (Breiman 2001), each tree from a small share of the
            pixels: it gives way to strokes that contradict each other.
    """
    trees = _grown(features, classes, weights, config, seed, bagged=bagged)
    depth = max(1, *(tree.tree_.max_depth for tree in trees))
    head = ForestHead(depth)
    head.feature, head.threshold, head.value = map(torch.from_numpy, _complete(trees, depth, count))
    return head


def _grown(
    features: np.ndarray, classes: np.ndarray, weights: np.ndarray, config: HeadConfig, seed: int, *, bagged: bool
) -> list[Any]:
    """The trees of scikit-learn's own forests, bit for bit; those check and copy anew for each small tree."""
    from sklearn.utils import check_array

    table = check_array(features, dtype=np.float32, order="F")  # trees read a column after the other
    bag = max(int(SHARE * len(table)), min(FEWEST, len(table))) if bagged else None
    grow = partial(_tree, table, classes.astype(np.int16), weights, config, bag)
    seeds = np.random.RandomState(seed % (1 << 32)).randint(np.iinfo(np.int32).max, size=config.trees)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(grow, seeds))


def _tree(
    table: np.ndarray, classes: np.ndarray, weights: np.ndarray, config: HeadConfig, bag: int | None, seed: int
) -> Any:
    """One tree, on all pixels or on so many that are drawn by their weights."""
    from sklearn import config_context
    from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

    options = {"max_features": "sqrt", "max_depth": config.max_depth, "random_state": seed}
    with config_context(assume_finite=True, skip_parameter_validation=True):  # it holds for a thread
        if bag is None:
            tree = ExtraTreeClassifier(min_samples_leaf=config.min_pixels_per_leaf, **options)
            return tree.fit(table, classes, sample_weight=weights, check_input=False)
        drawn = np.random.RandomState(seed).choice(len(table), bag, p=weights / weights.sum())
        rows, counts = np.unique(drawn, return_counts=True)
        tree = DecisionTreeClassifier(**options)
        return tree.fit(table[rows], classes[rows], sample_weight=counts, check_input=False)


def _complete(fitted: Sequence[Any], depth: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """T trees of scikit-learn as complete ones: features and thresholds (T, 2^depth - 1), shares (T, 2^depth, count).

    Below a leaf, every node of the complete tree stands for that leaf and sends all to the left.
    """
    trees = [one.tree_ for one in fitted]
    first = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1, None]  # the nodes of all trees in a row
    left, right = (
        np.concatenate([getattr(tree, name) + at for tree, at in zip(trees, first, strict=True)])
        for name in ("children_left", "children_right")
    )
    leaf = np.concatenate([tree.children_left for tree in trees]) < 0
    feature = np.where(leaf, 0, np.concatenate([tree.feature for tree in trees])).astype(np.int32)
    limits = _rounded_down(np.concatenate([tree.threshold for tree in trees]))
    threshold = np.where(leaf, np.float32(np.inf), limits)
    node = np.arange(len(leaf))
    left, right = np.where(leaf, node, left), np.where(leaf, node, right)
    levels = [first]
    for _ in range(depth):
        levels.append(np.stack([left[levels[-1]], right[levels[-1]]], axis=2).reshape(len(trees), -1))
    inner, last = np.concatenate(levels[:-1], axis=1), levels[-1]
    shares = np.zeros((len(leaf), count), np.float32)
    for one, at in zip(fitted, first[:, 0], strict=True):
        own = one.tree_.value[:, 0]
        shares[at : at + len(own), one.classes_] = own / np.maximum(own.sum(axis=1, keepdims=True), 1e-12)
    return feature[inner], threshold[inner], shares[last]


def _rounded_down(values: np.ndarray) -> np.ndarray:
    """float64 to the float32 below: then `x > t` is the same question for every float32 x."""
    near = values.astype(np.float32)
    return np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near)
