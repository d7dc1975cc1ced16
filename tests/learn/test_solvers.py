"""Heads kept as tensors say what scikit-learn's own estimators say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from fieldmark.learn.solvers import fit_forest, fit_logistic
from fieldmark.recipes import HeadConfig


def problem(classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(3, 2, (400, 7)).astype(np.float32)
    scores = features @ rng.normal(size=(7, classes)) + rng.normal(size=(400, classes))
    return features, scores.argmax(axis=1), rng.uniform(0.5, 2, 400)


def probabilities(head: torch.nn.Module, features: np.ndarray) -> np.ndarray:
    """(N, K) from a head that is given N pixels as an image of one row."""
    maps = torch.from_numpy(features.T.copy())[None, :, None]
    return head([maps[:, :3], maps[:, 3:]], maps.shape[-2:])[0, :, 0].numpy().T


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("depth", [1, 4, 12])
def test_a_forest_says_what_scikit_learn_says(classes, depth):
    features, labels, weights = problem(classes)
    config = HeadConfig(kind="forest", trees=7, max_depth=depth, min_pixels_per_leaf=3)
    head = fit_forest(features, labels, weights, classes, config, seed=11)
    twin = ExtraTreesClassifier(7, max_depth=depth, min_samples_leaf=3, random_state=11)
    twin.fit(features, labels, sample_weight=weights)
    queries = np.random.default_rng(1).normal(3, 4, (20000, 7)).astype(np.float32)
    expected = np.zeros((20000, classes))
    expected[:, twin.classes_] = twin.predict_proba(queries)
    assert np.abs(probabilities(head, queries) - expected).max() < 1e-6


@pytest.mark.parametrize("classes", [2, 5])
def test_a_bagged_forest_says_what_scikit_learn_says(classes):
    """Also where some trees see no pixel of a class."""
    features, labels, weights = problem(classes)
    weights[labels == 0] /= 100
    weights /= weights.mean()
    config = HeadConfig(kind="forest", trees=7, max_depth=6)
    head = fit_forest(features, labels, weights, classes, config, seed=11, bagged=True)
    twin = RandomForestClassifier(7, max_depth=6, max_samples=100, random_state=11)
    twin.fit(features, labels, sample_weight=weights)
    queries = np.random.default_rng(1).normal(3, 4, (2000, 7)).astype(np.float32)
    expected = np.zeros((2000, classes))
    expected[:, twin.classes_] = twin.predict_proba(queries)
    assert np.abs(probabilities(head, queries) - expected).max() < 1e-6


def test_a_forest_refuses_what_is_no_number():
    features, labels, weights = problem(2)
    features[7, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        fit_forest(features, labels, weights, 2, HeadConfig(kind="forest", trees=2), seed=0)


@pytest.mark.parametrize("bagged", [False, True])
def test_a_forest_is_the_same_on_several_threads(bagged, monkeypatch):
    features, labels, weights = problem(3)
    heads = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        heads.append(fit_forest(features, labels, weights, 3, HeadConfig(kind="forest"), seed=4, bagged=bagged))
    for head in heads[1:]:
        assert torch.equal(head.feature, heads[0].feature)
        assert torch.equal(head.threshold, heads[0].threshold)
        assert torch.equal(head.value, heads[0].value)


def test_a_forest_decides_as_scikit_learn_exactly_at_its_thresholds():
    features, labels, weights = problem(2)
    head = fit_forest(features, labels, weights, 2, HeadConfig(kind="forest", trees=3, max_depth=3), seed=2)
    twin = ExtraTreesClassifier(3, max_depth=3, min_samples_leaf=5, random_state=2)
    twin.fit(features, labels, sample_weight=weights)
    edges = np.concatenate([tree.tree_.threshold for tree in twin.estimators_]).astype(np.float32)
    steps = [np.nextafter(edges, np.float32(way)) for way in (-np.inf, np.inf)]
    queries = np.repeat(np.concatenate([edges, *steps])[:, None], 7, axis=1)
    assert np.abs(probabilities(head, queries) - twin.predict_proba(queries)).max() < 1e-6


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_regression_says_what_scikit_learn_says(classes):
    features, labels, weights = problem(classes)
    head = fit_logistic(features, labels, weights, classes, HeadConfig(kind="logistic", l2=2.0), seed=0)
    mean, std = features.mean(axis=0), features.std(axis=0)
    twin = LogisticRegression(C=0.5, max_iter=500).fit((features - mean) / std, labels, sample_weight=weights)
    assert np.abs(probabilities(head, features) - twin.predict_proba((features - mean) / std)).max() < 1e-3


@pytest.mark.parametrize("kind", ["logistic", "forest"])
def test_a_class_without_pixels_is_never_predicted(kind):
    features, labels, weights = problem(2)
    fit = fit_forest if kind == "forest" else fit_logistic
    head = fit(features, labels * 2, weights, 3, HeadConfig(kind=kind, trees=5), 0)
    found = probabilities(head, features)
    assert found.shape == (400, 3)
    assert found[:, 1].max() < 1e-6
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", ["logistic", "forest"])
def test_one_class_alone_is_certain(kind):
    features, labels, weights = problem(2)
    fit = fit_forest if kind == "forest" else fit_logistic
    found = probabilities(fit(features, labels * 0 + 1, weights, 2, HeadConfig(kind=kind, trees=5), 0), features)
    assert found[:, 1].min() > 1 - 1e-6
