"""Features at single pixels: what a head is fitted on."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fieldmark.infer.forward import fit_to_net

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net

TILE = 512


def features_at(net: Net, samples: Samples, images: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Features (N, F) float32 of pixels at (N, 4) t, z, y, x of (N,) images, in that order; the width of each level."""
    found, parts = [], []
    widths: list[int] = []
    for index, tile, chosen in samples.tiles_of(images, places, tile=TILE, stride=net.strides, radius=net.radii):
        prepared = torch.from_numpy(fit_to_net(samples.read(index, tile.read, spatial=net.spatial), net))[None]
        at = (places[chosen] - np.array(tile.read.start))[:, -net.spatial :]
        with torch.inference_mode():
            levels = [picked(level[0], at, prepared.shape[2:]) for level in net.levels(prepared)]
        widths = [level.shape[1] for level in levels]
        found.append(chosen)
        parts.append(np.concatenate(levels, axis=1, dtype=np.float32))
    order = np.argsort(np.concatenate(found), kind="stable")
    return np.concatenate(parts)[order], widths


def picked(level: Tensor, at: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """(N, F) values of a level (F, (z,) y, x) at pixels (N, axes) of the full size, as `heads.enlarge` gives them."""
    axes = [_between(places, full, own) for places, full, own in zip(at.T, size, level.shape[1:], strict=True)]
    total = np.zeros((len(at), level.shape[0]), np.float32)
    for corner in product((0, 1), repeat=len(axes)):
        share = np.prod([weights[side] for side, (_, weights) in zip(corner, axes, strict=True)], axis=0)
        if (share > 0).any():
            cells = (torch.from_numpy(both[side]) for side, (both, _) in zip(corner, axes, strict=True))
            index: tuple[slice | Tensor, ...] = (slice(None), *cells)
            total += share[:, None] * level[index].T.numpy()
    return total


def _between(places: np.ndarray, full: int, own: int) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """The two cells of an axis that a pixel lies between, its center among theirs, and their weights, float32."""
    exact = np.maximum((places + 0.5) * (own / full) - 0.5, 0)
    first = np.minimum(exact.astype(np.int64), own - 1)
    share = (exact - first).astype(np.float32)
    return (first, np.minimum(first + 1, own - 1)), (1 - share, share)
