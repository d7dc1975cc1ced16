"""What is minimized: losses that look at known pixels alone, with their weights, sample by sample.

Every loss is a mean over a sample's (and channel's) pixels, sum(w * l) / sum(w), then over the samples that have any
known pixel: what one sample's mask hides changes nothing for another. (microDL's masked losses weighed every sample
with the masks of all, and did not divide by the mask's sum.)
"""

from __future__ import annotations

from collections.abc import Callable
from math import log2
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from fieldmark.errors import BadRecipe, near_miss

if TYPE_CHECKING:
    from fieldmark.recipes.train import LossConfig

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Raw scores (B, K, *S), target (B, T, *S), weight (B, 1, *S) to one number."""

TINY = 1e-7
WINDOW = 7
"""Side in pixels of the window of SSIM, as scikit-image's."""
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the scales of MS-SSIM (Wang, Simoncelli and Bovik 2003)."""
SSIM_SHARE, MS_SHARE = 0.8, 0.84
"""What similarity weighs against the mean absolute error, in `dssim` and `ms-ssim` (microDL's numbers)."""

FOR_CLASSES = ("ce", "bce", "dice", "focal", "tversky")
FOR_VALUES = ("mae", "mse", "kl", "dssim", "ms-ssim")


def build_loss(
    config: LossConfig, *, classes: bool, class_weights: Tensor | None = None, span: float | None = None
) -> Loss:
    """The sum that a recipe asks for.

    Args:
        config: Names and weights.
        classes: Whether targets are places of classes; else values of images.
        class_weights: (K,) of the classes; None for ones.
        span: The range of the targets' values, for SSIM; None for that of each sample's known pixels.

    Raises BadRecipe for a loss that is unknown, or for the other kind of target, and for weights of classes where
    there are none.
    """
    own, others = (FOR_CLASSES, FOR_VALUES) if classes else (FOR_VALUES, FOR_CLASSES)
    terms = dict(config.terms) or ({"ce": 1.0, "dice": 1.0} if classes else {"mae": 1.0})
    for name in terms:
        if name in others:
            kind = "classes" if classes else "images"
            raise BadRecipe(f"train.loss.terms: {name!r} does not suit targets that are {kind}. Use {', '.join(own)}.")
        if name not in own:
            raise BadRecipe(f"train.loss.terms: unknown loss {name!r}. {near_miss(name, own)}")
    if config.class_weights is not None and not classes:
        raise BadRecipe("train.loss.class_weights: these targets are values, which have no classes. Leave it out.")
    parts = [(share, _loss(name, config, class_weights, span)) for name, share in terms.items()]

    def total(scores: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        known = torch.where(weight > 0, target, torch.zeros_like(target))
        return torch.stack([share * part(scores, known, weight) for share, part in parts]).sum()

    return total


def masked_mean(loss: Tensor, weight: Tensor) -> Tensor:
    """sum(w * l) / sum(w) of each sample and channel, then the mean over samples with any known pixel.

    Args:
        loss: (B, C, *S).
        weight: (B, 1, *S).
    """
    axes = tuple(range(2, loss.ndim))
    total = weight.sum(dim=axes)  # (B, 1)
    each = (loss * weight).sum(dim=axes) / total.clamp_min(TINY)
    return over_samples(each, total[:, 0] > 0)


def over_samples(each: Tensor, known: Tensor) -> Tensor:
    """(B, ...) losses to their mean over the samples with any known pixel; 0 where there is none."""
    rows = each.flatten(1).mean(dim=1)
    return (rows * known).sum() / known.sum().clamp_min(1)


def _loss(name: str, config: LossConfig, class_weights: Tensor | None, span: float | None) -> Loss:
    match name:
        case "ce":
            return lambda s, t, w: masked_mean(_cross_entropy(s, t), _classed(w, t, class_weights))
        case "focal":
            return lambda s, t, w: masked_mean(_focal(s, t, config.focal_gamma), _classed(w, t, class_weights))
        case "bce":
            return lambda s, t, w: masked_mean(_questions(s, t, class_weights), w)
        case "dice":
            return lambda s, t, w: overlap_loss(s, t, w, 0.5, 0.5, class_weights)
        case "tversky":
            alpha = config.tversky_alpha
            return lambda s, t, w: overlap_loss(s, t, w, alpha, 1 - alpha, class_weights)
        case "mae":
            return lambda s, t, w: masked_mean((s - t).abs(), w)
        case "mse":
            return lambda s, t, w: masked_mean((s - t) ** 2, w)
        case "kl":
            return lambda s, t, w: masked_mean(_kl(s, t), w)
        case "dssim":
            return lambda s, t, w: (
                SSIM_SHARE * dissimilarity(s, t, w, span) + (1 - SSIM_SHARE) * masked_mean((s - t).abs(), w)
            )
        case _:
            return lambda s, t, w: (
                MS_SHARE * many_scales(s, t, w, span) + (1 - MS_SHARE) * masked_mean((s - t).abs(), w)
            )


def one_hot(target: Tensor, count: int) -> Tensor:
    """(B, 1, *S) places of classes to (B, K, *S) of 0 and 1."""
    places = torch.arange(count, device=target.device).reshape(1, -1, *[1] * (target.ndim - 2))
    return (target == places).to(target.dtype)


def _cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(scores, target[:, 0].long(), reduction="none")[:, None]


def _classed(weight: Tensor, target: Tensor, class_weights: Tensor | None) -> Tensor:
    """The pixels' weights, times those of their classes."""
    if class_weights is None:
        return weight
    return weight * class_weights.to(weight)[target.long()]


def _questions(scores: Tensor, target: Tensor, class_weights: Tensor | None) -> Tensor:
    """(B, K, *S) cross entropy of "is it this class?"; classes weigh in the mean over K as they are asked to."""
    each = functional.binary_cross_entropy_with_logits(scores, one_hot(target, scores.shape[1]), reduction="none")
    if class_weights is None:
        return each
    shares = class_weights.to(each) / class_weights.mean()
    return each * shares.reshape(-1, *[1] * (each.ndim - 2))


def _focal(scores: Tensor, target: Tensor, gamma: float) -> Tensor:
    """Lin et al. 2017: what is nearly right already counts little."""
    entropy = _cross_entropy(scores, target)
    # not 0: its power of less than 1 has no gradient
    return (1 - torch.exp(-entropy)).clamp_min(TINY) ** gamma * entropy


def overlap_loss(
    scores: Tensor, target: Tensor, weight: Tensor, alpha: float, beta: float, class_weights: Tensor | None
) -> Tensor:
    """One minus the Tversky index of each class that a sample shows; with alpha = beta = .5 that is Dice.

    `alpha` weighs false positives, `beta` false negatives.
    """
    shares, truth = scores.softmax(dim=1), weight * one_hot(target, scores.shape[1])
    axes = tuple(range(2, scores.ndim))
    hit, said, right = (part.sum(dim=axes) for part in (shares * truth, shares * weight, truth))
    index = (hit + TINY) / (hit + alpha * (said - hit) + beta * (right - hit) + TINY)
    shown = (right > 0).to(scores.dtype)
    if class_weights is not None:
        shown = shown * class_weights.to(scores)
    each = ((1 - index) * shown).sum(dim=1) / shown.sum(dim=1).clamp_min(TINY)
    return over_samples(each[:, None], shown.sum(dim=1) > 0)


def _kl(scores: Tensor, target: Tensor) -> Tensor:
    """Sum y log(y / p), both cut to 1e-7..1."""
    y, p = target.clamp(TINY, 1), scores.clamp(TINY, 1)
    return y * (y / p).log()


def dissimilarity(scores: Tensor, target: Tensor, weight: Tensor, span: float | None = None) -> Tensor:
    """(1 - SSIM) / 2, plane by plane: 0 for equal images. (microDL's was 1 - SSIM / 2, at least one half)."""
    similar, _, known = _similar(*_planes(scores, target, weight), span)
    return masked_mean(*(_of_samples(part, len(scores)) for part in ((1 - similar) / 2, known)))


def many_scales(scores: Tensor, target: Tensor, weight: Tensor, span: float | None = None) -> Tensor:
    """1 - MS-SSIM, plane by plane, over the scales at which a plane has a window of known pixels.

    Brightness is compared at the last of them alone.
    """
    x, y, w = _planes(scores, target, weight)
    count = max(1, min(len(SCALES), int(log2(max(1.0, min(x.shape[2:]) / WINDOW))) + 1))
    total = brightness = shares = torch.zeros_like(x[:, :1, 0, 0])
    has = shares == 0
    for share in SCALES[:count]:
        similar, contrast, seen = _similar(x, y, w, span)
        sums = seen.sum(dim=(2, 3))
        whole, part = (
            ((values * seen).sum(dim=(2, 3)) / sums.clamp_min(TINY)).clamp_min(TINY).log()
            for values in (similar, contrast)
        )
        has = has & (sums > 0)
        total, shares = total + share * has * part, shares + share * has
        brightness = torch.where(has, share * (whole - part), brightness)
        known = functional.avg_pool2d((w > 0).to(w.dtype), 2) == 1  # what is unknown reaches no coarser pixel
        x, y, w = (functional.avg_pool2d(values, 2) for values in (x, y, w))
        w = w * known
    each = 1 - ((total + brightness) / shares.clamp_min(TINY)).exp()
    return masked_mean(*(_of_samples(part, len(scores)) for part in (each, (shares > 0).to(each.dtype))))


def _of_samples(part: Tensor, count: int) -> Tensor:
    """(B, C, Z, ...) of (B * Z, C, ...) planes: a volume is one sample, however many of its planes are known."""
    return part.reshape(count, -1, *part.shape[1:]).transpose(1, 2)


def _planes(scores: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Volumes as batches of planes."""
    if scores.ndim == 4:
        return scores, target, weight
    return tuple(part.transpose(1, 2).flatten(0, 1) for part in (scores, target, weight))  # type: ignore[return-value]


def _similar(x: Tensor, y: Tensor, weight: Tensor, span: float | None) -> tuple[Tensor, Tensor, Tensor]:
    """SSIM, its part of contrast and structure, and the weight, at the places where the window fits.

    Args:
        x: (B, C, y, x), as y.
        y: What is right; its range decides the small constants.
        weight: (B, 1, y, x).
        span: Of the values of y; None for that of each sample, so that none changes another's loss.
    """
    side = min(WINDOW, *x.shape[2:])
    unknown = weight == 0
    high, low = (y.masked_fill(unknown, far).flatten(1) for far in (-torch.inf, torch.inf))
    own = (high.amax(dim=1) - low.amin(dim=1)).detach().clamp_min(1e-3)[:, None, None, None]
    x, y = x.masked_fill(unknown, 0), y.masked_fill(unknown, 0)
    values = own if span is None else torch.full_like(own, span)
    small, little = (0.01 * values) ** 2, (0.03 * values) ** 2

    def mean(values: Tensor) -> Tensor:
        return functional.avg_pool2d(values, side, stride=1)

    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    contrast = (2 * both + little) / (vx + vy + little)
    similar = contrast * (2 * mx * my + small) / (mx * mx + my * my + small)
    known = (mean((weight > 0).to(x.dtype)) > 1 - 1e-4).to(x.dtype) * mean(weight)
    return similar, contrast, known
