"""Heads of whole images against scikit-learn and formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import SVC

from fieldmark.errors import BadInput
from fieldmark.learn.svm import TRIED_C, USUAL_C, best_c, fit_svm, standardization
from fieldmark.learn.within import shrink_within
from fieldmark.models.build import build
from fieldmark.models.image_heads import (
    DenseHead,
    Look,
    OwnHead,
    PooledVector,
    SvmHead,
    build_image_head,
    ring_shares,
    trimmed,
)
from fieldmark.recipes import ImageHeadConfig

PLAIN = ImageHeadConfig(kind="svm", unit_length=False, within=None, svm_c=100.0, svm_ties="first")
"""The machine of FLIM's document."""


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(2, 6), spread=st.floats(0.3, 3))
def test_the_votes_are_scikit_learns_predictions(seed, k, spread):
    rng = np.random.default_rng(seed)
    klass = np.repeat(np.arange(k), 6)
    vectors = (rng.normal(size=(k, 5))[klass] + spread * rng.normal(size=(len(klass), 5))).astype(np.float32)
    head, _ = fit_svm(vectors, klass, Look(), k, PLAIN, 0)
    mean, std = standardization(vectors)
    peer = SVC(kernel="linear", C=100).fit((vectors - mean) / std, klass)
    new = (3 * rng.normal(size=(200, 5))).astype(np.float32)
    decisions = peer.decision_function((new - mean) / std) if k == 2 else None
    certain = np.ones(200, bool) if decisions is None else np.abs(decisions) > 1e-4
    said = head.probabilities(torch.from_numpy(new)).argmax(dim=1).numpy()
    assert np.array_equal(said[certain], peer.predict((new - mean) / std)[certain])


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(3, 6))
def test_ties_go_to_the_larger_margin_as_in_scikit_learn(seed, k):
    rng = np.random.default_rng(seed)
    klass = np.repeat(np.arange(k), 2)
    vectors = rng.normal(size=(len(klass), 4)).astype(np.float32)
    config = PLAIN.model_copy(update={"svm_ties": "margin"})
    head, _ = fit_svm(vectors, klass, Look(), k, config, 0)
    mean, std = standardization(vectors)
    peer = SVC(kernel="linear", C=100, decision_function_shape="ovr").fit((vectors - mean) / std, klass)
    new = (3 * rng.normal(size=(200, 4))).astype(np.float32)
    scores = peer.decision_function((new - mean) / std)
    second, first = np.sort(scores, axis=1)[:, -2:].T
    decided = first - second > 1e-3
    shares = head.probabilities(torch.from_numpy(new))
    assert torch.allclose(shares.sum(dim=1), torch.ones(200))
    assert np.array_equal(shares.argmax(dim=1).numpy()[decided], scores.argmax(axis=1)[decided])


def test_shrinking_is_the_inverse_root_of_what_classes_vary_by():
    rng = np.random.default_rng(3)
    klass = np.repeat([4, 0, 7], [5, 3, 1])
    vectors = rng.normal(size=(9, 6)) * [3, 1, 1, 1, 0.1, 0]
    left = np.concatenate([vectors[klass == one] - vectors[klass == one].mean(axis=0) for one in (4, 0, 7)])
    values, axes = np.linalg.eigh(left.T @ left / 9 / (0.01 * vectors.var(axis=0).sum()) + np.eye(6))
    new = rng.normal(size=(4, 6))
    assert np.allclose(shrink_within(vectors, klass, 0.01).of(new), new @ (axes / np.sqrt(values)) @ axes.T, atol=1e-5)


@pytest.mark.parametrize(("klass", "share"), [([0, 1, 2], 0.01), ([0, 0, 1], None)])
def test_nothing_is_shrunk_where_no_class_says_how_or_nobody_asks(klass, share):
    vectors = np.random.default_rng(0).normal(size=(3, 5))
    assert np.array_equal(shrink_within(vectors, np.array(klass), share).of(vectors), vectors)


def test_a_machine_on_shrunk_vectors_is_scikit_learns():
    rng = np.random.default_rng(2)
    klass = np.arange(30) % 3
    vectors = (rng.normal(size=(3, 8))[klass] + 2 * rng.normal(size=(30, 8))).astype(np.float32)
    config = ImageHeadConfig(kind="svm", svm_c=10.0, within=0.01)
    head, _ = fit_svm(vectors, klass, Look(), 3, config, 0)
    long = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0) / np.sqrt(8)
    assert np.isclose((long**2).sum(axis=1).mean(), 1)
    shrinking = shrink_within(long, klass, 0.01)
    peer = SVC(kernel="linear", C=10, decision_function_shape="ovo").fit(shrinking.of(long), klass)
    assert np.allclose(head.decisions(torch.from_numpy(vectors)), peer.decision_function(shrinking.of(long)), atol=2e-3)


def test_c_is_what_answers_best_in_parts_that_are_held_out():
    rng = np.random.default_rng(5)
    klass = np.repeat([2, 5, 6], [2, 6, 3])
    vectors = (rng.normal(size=(7, 12))[klass] + 1.5 * rng.normal(size=(11, 12))).astype(np.float32)
    config = ImageHeadConfig(kind="svm", within=None)
    part = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0])
    right = []
    for c in TRIED_C:
        hits = 0
        for out in (part == 0, part == 1):
            known = vectors[~out]
            scaled = (vectors - known.mean(axis=0)) / known.std(axis=0) / np.sqrt(12)
            machine = SVC(kernel="linear", C=c, break_ties=True).fit(scaled[~out], klass[~out])
            hits += (machine.predict(scaled[out]) == klass[out]).sum()
        right.append(hits)
    assert best_c(vectors, klass, config) == TRIED_C[int(np.argmax(right))]
    assert best_c(vectors[:3], np.array([0, 0, 1]), config) == USUAL_C


def test_a_class_that_taught_nothing_gets_no_vote():
    vectors = np.array([[0.0], [0.1], [1.0], [1.1]], np.float32)
    head, _ = fit_svm(vectors, np.array([0, 0, 3, 3]), Look(), 5, PLAIN, 0)
    assert head.pairs.tolist() == [[0, 3]]
    assert head.probabilities(torch.tensor([[0.0], [1.0]])).tolist() == [[1, 0, 0, 0, 0], [0, 0, 0, 1, 0]]


def test_a_solver_that_was_stopped_is_told():
    rng = np.random.default_rng(0)
    vectors, klass = rng.normal(size=(40, 3)).astype(np.float32), np.arange(40) % 2
    assert fit_svm(vectors, klass, Look(), 2, PLAIN.model_copy(update={"svm_max_iter": 3}), 0)[1] == 1
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


def test_rings_are_sums_over_pixels():
    maps = torch.randn(2, 3, 4, 7)
    found = PooledVector(Look("rings"))([maps]).numpy()
    told = []
    for image in maps.double().numpy():
        rows = [image.mean(axis=(1, 2)), image.max(axis=(1, 2)), image.std(axis=(1, 2))]
        rings = np.zeros((3, 4))
        for ring in range(4):
            total, weight = 0.5 * image.mean(axis=(1, 2)), 0.5
            for y in range(4):
                for x in range(7):
                    away = np.hypot((y - 1.5) / 2, (x - 3) / 3.5)
                    own = max(0.0, 1 - abs(3 * min(away, 1.0) - ring))
                    total, weight = total + own * image[:, y, x], weight + own
            rings[:, ring] = total / weight
        told.append(np.concatenate([*rows, rings.ravel()]))
    expected = np.sign(told) * np.sqrt(np.abs(told) + 1e-6)
    assert np.allclose(found, expected, atol=1e-4)


def test_rings_do_not_see_how_an_image_is_turned():
    maps = torch.rand(1, 4, 9, 9)
    look = PooledVector(Look("rings"))
    for turned in (maps.rot90(1, (2, 3)), maps.flip(3)):
        assert torch.allclose(look([turned]), look([maps]), atol=1e-5)
    moved = maps.roll(4, 3)
    assert not torch.allclose(look([moved]), look([maps]), atol=1e-2)
    assert torch.allclose(ring_shares(9, 5).sum(dim=0), torch.ones(45))


def test_a_ring_without_pixels_says_what_the_whole_says():
    one = PooledVector(Look("rings"))([torch.full((1, 1, 1, 1), 4.0)])
    assert torch.allclose(one, torch.tensor([[2.0, 2, 0, 2, 2, 2, 2]]), atol=1e-5)


def test_constant_maps_have_a_slope_to_train_through():
    maps = torch.zeros(1, 2, 3, 3, requires_grad=True)
    PooledVector(Look("rings"))([maps]).sum().backward()
    assert maps.grad is not None
    assert torch.isfinite(maps.grad).all()


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


def test_classes_that_no_image_is_of_need_no_output():
    """Marks of the background are of a class of their own, which a documented classifier knows nothing of."""
    classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 3))
    head = OwnHead(Look(), classifier, (2, 2, 2), 5, 3)
    seen = head.view([torch.rand(4, 2, 2, 2)])
    shares = head.probabilities(seen)
    assert torch.equal(shares[:, :3], classifier(seen).softmax(dim=1))
    assert (shares[:, 3:] == 0).all()
    assert head.config()["answered"] == 3
    with pytest.raises(BadInput, match=r"3,.* outputs for 4 classes"):
        OwnHead(Look(), classifier, (2, 2, 2), 5, 4).scores(seen)


def test_a_dense_head_shrinks_along_its_axes():
    head = DenseHead(Look(), 3, [], 2, axes=1)
    head.axes, head.gains = torch.tensor([[0.6, 0.8, 0]]), torch.tensor([-0.5])
    (layer,) = head.layers
    matrix = torch.eye(3) - 0.5 * torch.outer(head.axes[0], head.axes[0])
    x = torch.rand(5, 3)
    assert torch.allclose(head.scores(x), x @ matrix @ layer.weight.T + layer.bias, atol=1e-6)


def test_a_head_of_before_there_was_a_choice_is_read_as_it_was():
    look = {"vector": "pooled", "grid": 1, "border": 0, "size": None}
    net = build("flim", {}, 3)
    old = build_image_head({"kind": "svm", "look": look, "classes": 2}, net)
    assert (old.look, old.ties) == (Look("pooled", levels="last"), "first")
    dense = build_image_head({"kind": "dense", "look": look, "features": 4, "hidden": [3], "classes": 2}, net)
    assert "axes" not in dense.state_dict()


HEADS = [
    DenseHead(Look("flatten", size=(9, 8)), 4, [3, 2], 5),
    DenseHead(Look("rings", levels="all"), 4, [], 5, 3),
    SvmHead(Look(grid=2), 3, ties="margin"),
]


@pytest.mark.parametrize("head", HEADS)
def test_a_head_is_built_again_from_its_settings(head):
    net = build("flim", {}, 3)
    assert build_image_head(head.config(), net).config() == head.config()


LOOK = Look().config()
ODD = [
    {"kind": "svm"},
    {"kind": "svm", "look": LOOK | {"grid": 0}, "classes": 2},
    {"kind": "svm", "look": LOOK | {"vector": "eval"}, "classes": 2},
    {"kind": "svm", "look": LOOK | {"size": [1 << 40, 3]}, "classes": 2},
    {"kind": "svm", "look": LOOK | {"levels": "some"}, "classes": 2},
    {"kind": "svm", "look": LOOK, "classes": 2, "ties": "random"},
    {"kind": "own", "look": LOOK, "shape": [1, 2, 3], "classes": 2},
]


@pytest.mark.parametrize("config", ODD)
def test_odd_settings_are_refused(config):
    with pytest.raises(ValueError, match=r"unknown|no number|brings no classifier"):
        build_image_head(config, build("flim", {}, 3))
