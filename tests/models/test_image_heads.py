"""Heads of whole images against scikit-learn and formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import SVC

from fieldmark.errors import BadInput
from fieldmark.learn.svm import fit_svm, standardization
from fieldmark.models.build import build
from fieldmark.models.image_heads import DenseHead, Look, OwnHead, PooledVector, SvmHead, build_image_head, trimmed
from fieldmark.recipes import ImageHeadConfig


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(2, 6), spread=st.floats(0.3, 3))
def test_the_votes_are_scikit_learns_predictions(seed, k, spread):
    rng = np.random.default_rng(seed)
    klass = np.repeat(np.arange(k), 6)
    vectors = (rng.normal(size=(k, 5))[klass] + spread * rng.normal(size=(len(klass), 5))).astype(np.float32)
    head, _ = fit_svm(vectors, klass, Look(), k, ImageHeadConfig(), 0)
    mean, std = standardization(vectors)
    peer = SVC(kernel="linear", C=100).fit((vectors - mean) / std, klass)
    new = (3 * rng.normal(size=(200, 5))).astype(np.float32)
    decisions = peer.decision_function((new - mean) / std) if k == 2 else None
    certain = np.ones(200, bool) if decisions is None else np.abs(decisions) > 1e-4
    said = head.probabilities(torch.from_numpy(new)).argmax(dim=1).numpy()
    assert np.array_equal(said[certain], peer.predict((new - mean) / std)[certain])


def test_a_class_that_taught_nothing_gets_no_vote():
    vectors = np.array([[0.0], [0.1], [1.0], [1.1]], np.float32)
    head, _ = fit_svm(vectors, np.array([0, 0, 3, 3]), Look(), 5, ImageHeadConfig(kind="svm"), 0)
    assert head.pairs.tolist() == [[0, 3]]
    assert head.probabilities(torch.tensor([[0.0], [1.0]])).tolist() == [[1, 0, 0, 0, 0], [0, 0, 0, 1, 0]]


def test_a_solver_that_was_stopped_is_told():
    rng = np.random.default_rng(0)
    vectors, klass = rng.normal(size=(40, 3)).astype(np.float32), np.arange(40) % 2
    assert fit_svm(vectors, klass, Look(), 2, ImageHeadConfig(svm_max_iter=3), 0)[1] == 1
    assert fit_svm(vectors[:4], np.array([0, 0, 1, 1]), Look(), 2, ImageHeadConfig(), 0)[1] == 0


def test_pooling_is_mean_and_maximum_of_the_parts():
    maps = [torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6), torch.rand(2, 1, 4, 4)]
    found = PooledVector(Look(grid=2))(maps)
    parts = maps[0].reshape(2, 3, 2, 2, 2, 3)
    assert torch.allclose(found[:, :12], parts.mean(dim=(3, 5)).flatten(1))
    assert torch.equal(found[:, 12:24], parts.amax(dim=(3, 5)).flatten(1))
    assert found.shape == (2, 24 + 8)
    flat = PooledVector(Look("flatten", border=1))(maps)
    assert torch.equal(flat[:, :24], maps[0][:, :, 1:-1, 1:-1].flatten(1))


def test_a_border_that_leaves_nothing_is_refused():
    assert trimmed(torch.zeros(1, 1, 5, 3), 1).shape == (1, 1, 3, 1)
    with pytest.raises(BadInput, match="border of 2 leaves nothing of a map of 5 x 4"):
        trimmed(torch.zeros(1, 1, 5, 4), 2)


def test_a_dense_head_is_its_formula():
    head = DenseHead(Look(), 4, [3], 2)
    head.mean, head.std = torch.tensor([1.0, 0, 0, 2]), torch.tensor([2.0, 1, 1, 4])
    x = torch.rand(5, 4)
    (first, second) = [(layer.weight, layer.bias) for layer in head.layers]
    hidden = ((x - head.mean) / head.std @ first[0].T + first[1]).clamp(min=0)
    assert torch.allclose(head.scores(x), hidden @ second[0].T + second[1])


def test_outputs_beyond_the_classes_are_never_answered():
    classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 6))
    head = OwnHead(Look(), classifier, (2, 2, 2), 4)
    seen = head.view([torch.rand(3, 2, 2, 2)])
    assert torch.equal(head.probabilities(seen), classifier(seen)[:, :4].softmax(dim=1))
    assert head.state_dict() == {}
    with pytest.raises(BadInput, match=r"6,.* outputs for 7 classes"):
        OwnHead(Look(), classifier, (2, 2, 2), 7).scores(seen)


@pytest.mark.parametrize("head", [DenseHead(Look("flatten", size=(9, 8)), 4, [3, 2], 5), SvmHead(Look(grid=2), 3)])
def test_a_head_is_built_again_from_its_settings(head):
    net = build("flim", {}, 3)
    assert build_image_head(head.config(), net).config() == head.config()


LOOK = Look().config()
ODD = [
    {"kind": "svm"},
    {"kind": "svm", "look": LOOK | {"grid": 0}, "classes": 2},
    {"kind": "svm", "look": LOOK | {"vector": "eval"}, "classes": 2},
    {"kind": "svm", "look": LOOK | {"size": [1 << 40, 3]}, "classes": 2},
    {"kind": "own", "look": LOOK, "shape": [1, 2, 3], "classes": 2},
]


@pytest.mark.parametrize("config", ODD)
def test_odd_settings_are_refused(config):
    with pytest.raises(ValueError, match=r"unknown|no number|brings no classifier"):
        build_image_head(config, build("flim", {}, 3))
