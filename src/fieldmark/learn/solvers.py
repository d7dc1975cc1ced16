"""Classifiers fitted with scikit-learn and kept as tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fieldmark.models.heads import ForestHead, LogisticHead

if TYPE_CHECKING:
    from fieldmark.recipes import HeadConfig


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
    features: np.ndarray, classes: np.ndarray, weights: np.ndarray, count: int, config: HeadConfig, seed: int
) -> ForestHead:
    """A random forest, its trees laid out as tensors of one size.

    Args:
        features: (N, F) float32.
        classes: (N,) 0..count-1.
        weights: (N,) of the pixels.
        count: Classes of the model.
        config: Trees and their depth.
        seed: Seeds the forest.
    """
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(config.trees, max_depth=config.max_depth, random_state=seed % (1 << 32), n_jobs=1)
    forest.fit(features, classes, sample_weight=weights)
    trees = [estimator.tree_ for estimator in forest.estimators_]
    nodes = max(tree.node_count for tree in trees)
    head = ForestHead(config.max_depth)
    laid = [_lay_out(tree, nodes, count, forest.classes_.astype(np.int64)) for tree in trees]
    head.feature, head.threshold, head.child, head.value = (
        torch.from_numpy(np.stack(part)) for part in zip(*laid, strict=True)
    )
    return head


def _lay_out(tree: Any, nodes: int, count: int, present: np.ndarray) -> tuple[np.ndarray, ...]:
    own = tree.node_count
    leaf = tree.children_left < 0
    feature, threshold = np.zeros(nodes, np.int64), np.full(nodes, np.inf, np.float32)
    child = np.repeat(np.arange(nodes)[:, None], 2, axis=1)
    value = np.zeros((nodes, count), np.float32)
    feature[:own] = np.where(leaf, 0, tree.feature)
    threshold[:own] = np.where(leaf, np.inf, _rounded_down(tree.threshold))
    child[:own][~leaf] = np.stack([tree.children_left, tree.children_right], axis=1)[~leaf]
    shares = tree.value[:, 0]
    value[:own, present] = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)
    return feature, threshold, child, value


def _rounded_down(values: np.ndarray) -> np.ndarray:
    """float64 to the float32 below: then `x > t` is the same question for every float32 x."""
    near = values.astype(np.float32)
    return np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near)
