"""Class borders moved onto the borders of the image: random walks from where a head is certain."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

CERTAIN = 0.8
"""A pixel whose class has at least this probability keeps it, and is where walks end."""
BETA = 3.0
"""How strongly a border stops a walk: exp(-BETA d^2), d^2 the mean over prepared channels (of unit spread)."""
MOST = 1 << 17
"""Most pixels of a plane that are walked from at once: the equations are solved exactly, in about two kilobytes a
pixel. Of more uncertain ones the least certain are, and the others keep their class."""
MOST_SOLID = 1 << 14
"""The same of a volume, whose equations fill up faster than its pixels: about ten kilobytes a pixel then."""
REACH = 64
"""Pixels around a tile in which walks from its own pixels may end."""

Spread = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From an image and seeds 1..K (0 none) to (K, ...) shares."""


class Walker:
    """Refines class probabilities by the prepared pixels that they were made of.

    A head's features look around a pixel, so its borders lie beside those of the image. Where
    no class has the probability `certain`, a pixel takes the shares with which random walks
    that start there end at certain pixels of each class; borders of the image stop walks
    (Grady, "Random walks for image segmentation", 2006).
    """

    def __init__(self, certain: float = CERTAIN, beta: float = BETA) -> None:
        if not 0.5 < certain <= 1 or not 0 <= beta < inf:
            raise ValueError(f"certain must be in 0.5 to 1 and beta 0 or more, and finite; got {certain} and {beta}")
        self.certain = certain
        self.beta = beta

    def __call__(self, shares: Tensor, x: Tensor) -> Tensor:
        """(B, K, (Z,) Y, X) probabilities and (B, C, (Z,) Y, X) prepared pixels to refined probabilities."""
        pairs = zip(shares.float().cpu().numpy(), x.float().cpu().numpy(), strict=True)
        refined = np.stack([self.walk(own, pixels) for own, pixels in pairs])
        return torch.from_numpy(refined).to(shares)

    def walk(self, shares: np.ndarray, pixels: np.ndarray, unsaid: np.ndarray | None = None) -> np.ndarray:
        """The same for one image, float32.

        Args:
            shares: (K, (z,) y, x) probabilities.
            pixels: (C, (z,) y, x) prepared.
            unsaid: ((z,) y, x) bool: pixels that are taken to be uncertain whatever their probabilities.
        """
        best = shares.max(axis=0)
        if unsaid is not None:
            best = np.where(unsaid, 0.0, best)
        seeds = np.where(best < self._least(best), 0, shares.argmax(axis=0) + 1)
        if pixels.min() == pixels.max() or len(np.unique(seeds[seeds > 0])) < 2:
            return shares
        return all_classes(self._random_walks, pixels.astype(np.float64), seeds, len(shares)).astype(np.float32)

    def config(self) -> dict[str, Any]:
        return {"kind": "random-walker", "certain": self.certain, "beta": self.beta}

    def _least(self, best: np.ndarray) -> float:
        most = MOST_SOLID if sum(side > 1 for side in best.shape) > 2 else MOST
        if best.size <= most:
            return self.certain
        return min(self.certain, float(np.partition(best, most, axis=None)[most]))

    def _random_walks(self, pixels: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        from skimage.segmentation import random_walker

        if (seeds > 0).all():
            return np.stack([seeds == klass for klass in range(1, int(seeds.max()) + 1)]).astype(np.float64)
        # scikit-image divides by the spread of these very pixels, which differs from tile to tile
        beta = self.beta * 10 * pixels.std() / sqrt(len(pixels))
        options = {"mode": "bf", "return_full_prob": True, "channel_axis": 0}
        shares: np.ndarray = random_walker(pixels, seeds, beta=beta, **options)
        return shares


def all_classes(spread: Spread, pixels: np.ndarray, seeds: np.ndarray, count: int) -> np.ndarray:
    """(count, ...) shares from seeds 1..count; a class without seeds has none."""
    present = np.unique(seeds[seeds > 0])
    ranks = np.where(seeds > 0, np.searchsorted(present, seeds) + 1, 0)
    shares = np.zeros((count, *seeds.shape))
    shares[present - 1] = spread(pixels, ranks)
    return shares


def build_refiner(config: dict[str, Any]) -> Walker:
    """The refiner that `config` names."""
    match config:
        case {"kind": "random-walker", **settings}:
            return Walker(**settings)
        case _:
            raise ValueError(f"unknown refinement {config!r}")
