"""Carry strokes through space on the image that holds them; what was learned is the prior."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, log, sqrt

import numpy as np

from fieldmark.models.heads import FLOOR
from fieldmark.models.refine import Spread, all_classes

MAX_PIXELS = 1 << 22
"""Propagation looks at a whole plane at once; larger planes are left to the model."""

BETA = 3000.0
"""How strongly a border in the image stops the random walker (scikit-image's `beta`)."""
NEARNESS = 0.6
"""Weight of where it was drawn against what was learned. Not one half: where both are certain of
opposite classes, half against half is a tie that rounding decides."""
DIRECT_PIXELS = 1 << 18
"""The walker's equations are solved exactly up to this many pixels; larger planes on a coarser grid."""
TRUSTED = 0.75
"""A method is used by itself (`auto`) where it gives held-out pieces of the strokes at least this
probability, in the geometric mean. Thin, scattered things such as vessels are not found again by
spreading from elsewhere: there the model answers alone."""
FOLDS = 3
JUDGED_SIDE = 128
"""Methods are compared on images of at most about this side, in pixels."""


@dataclass(frozen=True, slots=True)
class Propagated:
    """The classes of a plane, how they were found, and what cross-validation said of each method."""

    classes: np.ndarray  # (y, x) place of the class
    method: str
    scores: dict[str, float] = field(default_factory=dict)


def propagate(image: np.ndarray, prior: np.ndarray, seeds: np.ndarray, *, method: str = "auto") -> Propagated:
    """Blend what was learned with where it was drawn, in logarithms of probability.

    Args:
        image: (C, y, x) pixels, of any real dtype.
        prior: (K, y, x) probabilities that the model learned.
        seeds: (y, x) integers: 0 where nobody drew, else 1 + the place of the class.
        method: `random-walker` (Grady 2006), `shortest-path` (geodesic distance, Protiere and
            Sapiro 2007), `none`, or `auto`: the one that finds held-out pieces of these strokes
            again with the greater likelihood, or none where neither does well.

    Returns:
        Classes that keep every seed. With strokes of one class only, or an image of one
        value, there is nothing to carry: the prior alone answers, and the method is `none`.
    """
    unit = _unit(image)
    if method == "none" or unit is None or len(np.unique(seeds[seeds > 0])) < 2:
        return Propagated(_keep_seeds(prior.argmax(axis=0), seeds), "none")
    scores: dict[str, float] = {}
    if method == "auto":
        scores = judge_methods(unit, seeds)
        method = max(scores, key=lambda name: scores[name])
        if scores[method] < log(TRUSTED):
            return Propagated(_keep_seeds(prior.argmax(axis=0), seeds), "none", scores)
    shares = all_classes(METHODS[method], unit, seeds, len(prior))
    blend = NEARNESS * np.log(np.maximum(shares, FLOOR)) + (1 - NEARNESS) * np.log(np.maximum(prior, FLOOR))
    return Propagated(_keep_seeds(blend.argmax(axis=0), seeds), method, scores)


def judge_methods(unit: np.ndarray, seeds: np.ndarray) -> dict[str, float]:
    """Mean log-likelihood that each method gives to pieces of the strokes that it was not shown.

    Args:
        unit: (C, y, x) in 0..1.
        seeds: (y, x), 0 none.
    """
    step = max(1, -(-max(seeds.shape) // JUDGED_SIDE))
    small, thin = unit[:, ::step, ::step], _shrunk(seeds, step)
    parts = hold_out(thin)
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    for part in range(FOLDS):
        shown = np.where(parts == part, 0, thin)
        hidden = np.nonzero((parts == part) & (thin > 0))
        if len(np.unique(shown[shown > 0])) < len(np.unique(thin[thin > 0])) or not len(hidden[0]):
            continue
        for name, spread in METHODS.items():
            shares = all_classes(spread, small, shown, int(seeds.max()))
            found[name].append(_balanced(shares[thin[hidden] - 1, *hidden], thin[hidden]))
    return {name: float(np.mean(values)) if values else log(TRUSTED) for name, values in found.items()}


def hold_out(seeds: np.ndarray, block: int = 16) -> np.ndarray:
    """(y, x) the part, 0..FOLDS-1, that each seed is held out with: strokes are cut in blocks, dealt class by class."""
    parts = np.zeros(seeds.shape, np.int64)
    for klass in np.unique(seeds[seeds > 0]):
        y, x = np.nonzero(seeds == klass)
        blocks = (y // block) * (seeds.shape[1] // block + 1) + x // block
        _, order = np.unique(blocks, return_inverse=True)
        parts[y, x] = order % FOLDS
    return parts


def _walk(unit: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    from skimage.segmentation import random_walker

    step = ceil(sqrt(seeds.size / DIRECT_PIXELS))
    small, thin = unit[:, ::step, ::step], _shrunk(seeds, step)
    # the iterative solvers stop far from the solution at this beta
    shares: np.ndarray = random_walker(small, thin, beta=BETA, mode="bf", return_full_prob=True, channel_axis=0)
    if step > 1:
        height, width = seeds.shape
        shares = shares.repeat(step, axis=1)[:, :height].repeat(step, axis=2)[:, :, :width]
    return shares


def _shortest_paths(unit: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Shares by nearness: one over the cheapest path from each class, where crossing borders is dear."""
    from skimage.filters import sobel
    from skimage.graph import MCP_Geometric

    border = np.max([sobel(channel) for channel in unit], axis=0)
    cost = 0.01 + border / max(1e-9, float(border.max()))
    near = []
    for klass in range(1, int(seeds.max()) + 1):
        reached, _ = MCP_Geometric(cost).find_costs(np.argwhere(seeds == klass))
        near.append(1.0 / np.maximum(reached, 1e-6))
    shares: np.ndarray = np.stack(near) / np.sum(near, axis=0)
    return shares


METHODS: dict[str, Spread] = {"random-walker": _walk, "shortest-path": _shortest_paths}


def _balanced(shares: np.ndarray, classes: np.ndarray) -> float:
    """Mean over classes of the mean log share of the right class."""
    told = np.log(np.maximum(shares, FLOOR))
    return float(np.mean([told[classes == klass].mean() for klass in np.unique(classes)]))


def _unit(image: np.ndarray) -> np.ndarray | None:
    """The image in 0..1, all channels alike; None where it has one value only."""
    values = image.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else None


def _shrunk(seeds: np.ndarray, step: int) -> np.ndarray:
    """Every seed on a grid `step` times coarser; none is lost."""
    small = np.zeros((-(-seeds.shape[0] // step), -(-seeds.shape[1] // step)), np.int64)
    y, x = np.nonzero(seeds)
    small[y // step, x // step] = seeds[y, x]
    return small


def _keep_seeds(classes: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    return np.where(seeds > 0, seeds - 1, classes)
