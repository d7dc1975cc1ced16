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
    features = np.zeros((len(images), 0), np.float32)
    widths: list[int] = []
    for index, tile, chosen in samples.tiles_of(images, places, tile=TILE, stride=net.strides, radius=net.radii):
        prepared = torch.from_numpy(fit_to_net(samples.read(index, tile.read, spatial=net.spatial), net))[None]
        at = torch.from_numpy(places[chosen] - np.array(tile.read.start))[:, -net.spatial :]
        with torch.inference_mode():
            levels = net.levels_at(prepared, at)
        if not widths:
            widths = [level.shape[1] for level in levels]
            features = np.empty((len(images), sum(widths)), np.float32)
        features[chosen] = torch.cat(levels, dim=1).float().numpy()
    return features, widths
