"""Features at single pixels: what a head is fitted on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fieldmark.infer.forward import fit_to_net

if TYPE_CHECKING:
    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net

TILE = 512


def features_at(net: Net, samples: Samples, images: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Features (N, F) float32 of pixels at (N, 4) t, z, y, x of (N,) images, in that order; the width of each level."""
    found, parts = [], []
    widths: list[int] = []
    for index, tile, chosen in samples.tiles_of(images, places, tile=TILE, stride=net.strides, radius=net.radii):
        prepared = torch.from_numpy(fit_to_net(samples.read(index, tile.read, spatial=net.spatial), net))[None]
        at = torch.from_numpy(places[chosen] - np.array(tile.read.start))[:, -net.spatial :]
        with torch.inference_mode():
            levels = net.levels_at(prepared, at)
        widths = [level.shape[1] for level in levels]
        found.append(chosen)
        parts.append(torch.cat(levels, dim=1).float().numpy())
    order = np.argsort(np.concatenate(found), kind="stable")
    return np.concatenate(parts)[order], widths
