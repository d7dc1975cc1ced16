"""Losses against formulas written in NumPy, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fieldmark.errors import BadRecipe
from fieldmark.learn.losses import FOR_CLASSES, FOR_VALUES, build_loss, dissimilarity, many_scales
from fieldmark.recipes.train import LossConfig


def drawn(seed: int = 0, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(2, classes, 16, 18)).astype(np.float32)
    target = rng.integers(0, classes, (2, 1, 16, 18)).astype(np.float32)
    weight = rng.integers(0, 3, (2, 1, 16, 18)).astype(np.float32)
    return torch.from_numpy(scores), torch.from_numpy(target), torch.from_numpy(weight)


def only(name: str, **settings: object) -> LossConfig:
    return LossConfig(terms={name: 1.0}, **settings)


def shares(scores: torch.Tensor) -> np.ndarray:
    raised = np.exp(scores.double().numpy())
    return raised / raised.sum(axis=1, keepdims=True)


def looped(per_pixel, weight) -> float:
    """The mean over samples of sum(w * l) / sum(w), by loops."""
    found = []
    for losses, own in zip(per_pixel, weight.numpy()[:, 0], strict=True):
        total = weighed = 0.0
        for y, x in np.ndindex(own.shape):
            total += own[y, x]
            weighed += own[y, x] * losses[y, x]
        found.append(weighed / total)
    return float(np.mean(found))


def test_cross_entropy_and_focal():
    scores, target, weight = drawn()
    p, places = shares(scores), target.numpy()[:, 0].astype(int)
    right = np.take_along_axis(p, places[:, None], axis=1)[:, 0]
    assert build_loss(only("ce"), classes=True)(scores, target, weight).item() == pytest.approx(
        looped(-np.log(right), weight), rel=1e-5
    )
    focal = -((1 - right) ** 2) * np.log(right)
    assert build_loss(only("focal"), classes=True)(scores, target, weight).item() == pytest.approx(
        looped(focal, weight), rel=1e-5
    )


def test_binary_cross_entropy_is_one_question_for_each_class():
    scores, target, weight = drawn()
    q = 1 / (1 + np.exp(-scores.double().numpy()))
    truth = target.numpy() == np.arange(3)[None, :, None, None]
    each = -np.where(truth, np.log(q), np.log(1 - q)).mean(axis=1)
    found = build_loss(only("bce"), classes=True)(scores, target, weight)
    assert found.item() == pytest.approx(looped(each, weight), rel=1e-5)


@pytest.mark.parametrize(("name", "alpha"), [("dice", 0.5), ("tversky", 0.2)])
def test_overlap(name, alpha):
    scores, target, weight = drawn(1)
    target[0][target[0] == 2] = 0  # a class that one sample does not show
    p, w = shares(scores), weight.numpy()[:, 0]
    samples = []
    for b in range(2):
        each = []
        for klass in range(3):
            truth = target.numpy()[b, 0] == klass
            if not (w[b] * truth).sum():
                continue
            hit = (w[b] * p[b, klass])[truth].sum()
            false, missed = (w[b] * p[b, klass])[~truth].sum(), (w[b] * (1 - p[b, klass]))[truth].sum()
            each.append(1 - hit / (hit + alpha * false + (1 - alpha) * missed))
        samples.append(np.mean(each))
    found = build_loss(only(name, tversky_alpha=0.2), classes=True)(scores, target, weight)
    assert found.item() == pytest.approx(np.mean(samples), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("mae", lambda s, t: np.abs(s - t)),
        ("mse", lambda s, t: (s - t) ** 2),
        ("kl", lambda s, t: np.clip(t, 1e-7, 1) * np.log(np.clip(t, 1e-7, 1) / np.clip(s, 1e-7, 1))),
    ],
)
def test_losses_of_values(name, formula):
    rng = np.random.default_rng(2)
    scores, target = (torch.from_numpy(rng.random((2, 1, 16, 18)).astype(np.float32)) for _ in range(2))
    weight = drawn()[2]
    found = build_loss(only(name), classes=False)(scores, target, weight)
    assert found.item() == pytest.approx(looped(formula(scores.numpy(), target.numpy())[:, 0], weight), rel=1e-4)


def test_dissimilarity_equals_scikit_images():
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng(3)
    target = rng.random((1, 1, 32, 40)).astype(np.float32)
    scores = (target + rng.normal(0, 0.2, target.shape)).astype(np.float32)
    _, each = structural_similarity(
        scores[0, 0], target[0, 0], win_size=7, data_range=float(np.ptp(target)), full=True, use_sample_covariance=False
    )
    truth = 0.8 * (1 - each[3:-3, 3:-3].mean()) / 2 + 0.2 * np.abs(scores - target).mean()
    loss = build_loss(only("dssim"), classes=False)
    found = loss(torch.from_numpy(scores), torch.from_numpy(target), torch.ones(1, 1, 32, 40))
    assert found.item() == pytest.approx(truth, rel=1e-3)


@pytest.mark.parametrize("name", FOR_VALUES)
def test_equal_images_cost_nothing(name):
    image = torch.from_numpy(np.random.default_rng(4).random((2, 1, 48, 64)).astype(np.float32))
    assert build_loss(only(name), classes=False)(image, image, torch.ones(2, 1, 48, 64)).item() == pytest.approx(
        0, abs=1e-5
    )


@pytest.mark.parametrize("name", [*FOR_CLASSES, *FOR_VALUES])
def test_a_sample_does_not_feel_the_mask_of_another(name):
    """microDL's masked losses weighed every sample with the masks of all."""
    classes = name in FOR_CLASSES
    scores, target, weight = drawn(5, 2)
    if not classes:
        target = torch.rand(2, 2, 16, 18, generator=torch.Generator().manual_seed(0))
    gradients = []
    for other in (weight[1], torch.ones_like(weight[1]), weight[1].flip(-1)):
        own = scores.clone().requires_grad_()
        build_loss(only(name), classes=classes)(own, target, torch.stack([weight[0], other])).backward()
        gradients.append(own.grad[0])
    assert gradients[0].abs().sum() > 0
    assert all(torch.equal(gradients[0], other) for other in gradients[1:])


@pytest.mark.parametrize("name", [*FOR_CLASSES, *FOR_VALUES])
def test_what_is_unknown_teaches_nothing(name):
    classes = name in FOR_CLASSES
    scores, target, weight = drawn(6, 2)
    weight = (weight > 0).float()
    target = target if classes else target.expand(-1, 2, -1, -1).clone()
    unknown = (weight == 0).expand_as(target)
    loss = build_loss(only(name), classes=classes)
    known = loss(scores, target, weight)
    spoiled = target.clone()
    spoiled[unknown] = torch.nan
    own = scores.clone().requires_grad_()
    found = loss(own, spoiled, weight)
    found.backward()
    assert found.item() == pytest.approx(known.item(), rel=1e-6)
    assert own.grad.isfinite().all()
    assert loss(scores, spoiled, torch.zeros_like(weight)).item() == 0
    blank = torch.zeros_like(weight[:1])
    more = [torch.cat([part, part[:1]]) for part in (scores, target)]
    assert loss(*more, torch.cat([weight, blank])).item() == pytest.approx(known.item(), rel=1e-6), "no sample for it"


def test_class_weights_move_the_loss_towards_their_class():
    scores, target, weight = drawn(7, 2)
    p = shares(scores)
    places, w = (
        target.numpy()[:, 0].astype(int),
        weight.numpy()[:, 0] * np.array([1.0, 3.0])[target.numpy()[:, 0].astype(int)],
    )
    right = np.take_along_axis(p, places[:, None], axis=1)[:, 0]
    truth = np.mean([(w[b] * -np.log(right[b])).sum() / w[b].sum() for b in range(2)])
    loss = build_loss(only("ce"), classes=True, class_weights=torch.tensor([1.0, 3.0]))
    assert loss(scores, target, weight).item() == pytest.approx(truth, rel=1e-5)


def test_terms_are_summed_by_their_weights():
    scores, target, weight = drawn(8)
    parts = [build_loss(only(name), classes=True)(scores, target, weight).item() for name in ("ce", "dice", "focal")]
    both = build_loss(LossConfig(terms={"ce": 1.0, "dice": 2.0, "focal": 0.5}), classes=True)(scores, target, weight)
    assert both.item() == pytest.approx(parts[0] + 2 * parts[1] + 0.5 * parts[2], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "classes", "words"),
    [("maes", False, "Did you mean 'mae'"), ("dice", False, "does not suit"), ("mae", True, "does not suit")],
)
def test_wrong_losses_are_named(name, classes, words):
    with pytest.raises(BadRecipe, match=words):
        build_loss(only(name), classes=classes)


def test_volumes_are_taken_plane_by_plane():
    rng = np.random.default_rng(9)
    scores, target = (torch.from_numpy(rng.random((1, 1, 3, 20, 24)).astype(np.float32)) for _ in range(2))
    weight = torch.ones(1, 1, 3, 20, 24)
    loss = build_loss(only("mse"), classes=False)
    assert loss(scores, target, weight).item() == pytest.approx(float(((scores - target) ** 2).mean()), rel=1e-5)
    planes = build_loss(only("dssim"), classes=False)
    whole = planes(scores, target, weight).item()
    flat = planes(*(part.transpose(1, 2).flatten(0, 1) for part in (scores, target, weight))).item()
    assert whole == pytest.approx(flat, rel=1e-5)


@pytest.mark.parametrize("name", ["dssim", "ms-ssim"])
def test_answers_at_unknown_pixels_do_not_count_at_any_scale(name):
    rng = np.random.default_rng(10)
    target, noise = (torch.from_numpy(rng.random((1, 1, 64, 104)).astype(np.float32)) for _ in range(2))
    scores = target + 0.2 * noise  # unlike images have no similarity left to change
    weight = torch.ones(1, 1, 64, 104)
    weight[..., :13] = 0  # odd: coarser pixels are half known
    own = scores.clone().requires_grad_()
    build_loss(only(name), classes=False)(own, target, weight).backward()
    assert own.grad[..., :13].abs().max() == 0
    assert own.grad[..., 13:].abs().max() > 0


@pytest.mark.parametrize("name", ["dssim", "ms-ssim"])
def test_a_volume_does_not_feel_which_slices_of_another_are_known(name):
    rng = np.random.default_rng(11)
    scores, target = (torch.from_numpy(rng.random((2, 1, 3, 16, 16)).astype(np.float32)) for _ in range(2))
    gradients = []
    for unknown in (0, 2):
        weight = torch.ones(2, 1, 3, 16, 16)
        weight[1, :, :unknown] = 0
        own = scores.clone().requires_grad_()
        build_loss(only(name), classes=False)(own, target, weight).backward()
        gradients.append(own.grad[0])
    assert torch.allclose(*gradients, rtol=1e-5, atol=0)


def multiscale(x: np.ndarray, y: np.ndarray, known: np.ndarray, span: float) -> float:
    """MS-SSIM of one plane by Wang, Simoncelli and Bovik 2003, with square windows of 7 x 7 known pixels."""
    small, little = (0.01 * span) ** 2, (0.03 * span) ** 2
    terms = []
    while min(x.shape) >= 7 and len(terms) < 5:
        both = []
        for i, j in np.ndindex(x.shape[0] - 6, x.shape[1] - 6):
            a, b, seen = (part[i : i + 7, j : j + 7] for part in (x, y, known))
            if seen.all():
                structure = (2 * np.mean((a - a.mean()) * (b - b.mean())) + little) / (a.var() + b.var() + little)
                light = (2 * a.mean() * b.mean() + small) / (a.mean() ** 2 + b.mean() ** 2 + small)
                both.append((structure, structure * light))
        if not both:
            break
        terms.append(np.mean(both, axis=0))
        x, y, known = (
            part[: part.shape[0] // 2 * 2, : part.shape[1] // 2 * 2].reshape(len(part) // 2, 2, -1, 2)
            for part in (x, y, known)
        )
        x, y, known = x.mean(axis=(1, 3)), y.mean(axis=(1, 3)), known.all(axis=(1, 3))
    shares = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[: len(terms)]
    parts = [structure for structure, _ in terms[:-1]] + [terms[-1][1]]
    return float(np.prod(np.array(parts) ** (shares / shares.sum())))


@pytest.mark.parametrize("unknown", [0, 5, 13, 40])
def test_multiscale_similarity_equals_the_formula(unknown):
    """A mask that leaves no window at a coarse scale leaves the finer ones."""
    rng = np.random.default_rng(12)
    y = 5 + rng.random((56, 56))
    x = y + 0.3 * rng.random((56, 56))
    known = np.ones((56, 56), bool)
    known[:, :unknown] = False
    tensors = [torch.from_numpy(part.astype(np.float64))[None, None] for part in (x, y, known)]
    found = many_scales(*tensors, span=1.5).item()
    assert found == pytest.approx(1 - multiscale(x, y, known, 1.5), rel=1e-6)


def test_a_mask_that_leaves_no_window_at_the_coarsest_scale_still_teaches():
    rng = np.random.default_rng(13)
    target = torch.from_numpy(rng.random((1, 1, 56, 56)).astype(np.float32))
    own = (target + 0.1).requires_grad_()
    weight = torch.ones(1, 1, 56, 56)
    weight[..., ::16] = 0
    many_scales(own, target, weight).backward()
    assert own.grad[..., 1:].abs().max() > 0


def test_the_range_of_values_is_that_of_known_ones():
    rng = np.random.default_rng(14)
    target = torch.from_numpy((5 + rng.random((1, 1, 20, 24))).astype(np.float32))
    weight = torch.ones(1, 1, 20, 24)
    weight[..., :6] = 0
    scores, seen = target + 0.1, target[..., 6:]
    told = dissimilarity(scores, target, weight, span=float(seen.max() - seen.min())).item()
    assert dissimilarity(scores, target, weight).item() == pytest.approx(told, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_focal_of_a_certain_answer_has_a_gradient(gamma):
    own = torch.tensor([60.0, 0.0]).reshape(1, 2, 1, 1).requires_grad_()
    build_loss(only("focal", focal_gamma=gamma), classes=True)(
        own, torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    ).backward()
    assert own.grad.isfinite().all()
