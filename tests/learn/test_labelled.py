"""The decoder that marks teach, against its formula over whole images."""

from __future__ import annotations

import numpy as np
import pytest

import fieldmark

LAYERS = {
    "conv": {"operation": "conv2d", "params": {"kernel_size": 3, "padding": 1, "number_of_kernels_per_marker": 3}},
    "act": {"operation": "relu"},
}


@pytest.mark.parametrize("corner", [(0, 0), (-1, -1), (0, -1)])
@pytest.mark.parametrize("tile", [24, 1024])
def test_maps_are_stretched_over_the_whole_image_whatever_the_tiles(monkeypatch, tile, corner):
    """The greatest value of a map may lie in any tile, in the last one too."""
    monkeypatch.setattr("fieldmark.learn.decoders.TILE", tile)
    rng = np.random.default_rng(0)
    images = [rng.normal(size=(61, 70)), rng.normal(size=(48, 75))]
    images[0][corner] = 40
    markers = [np.zeros(image.shape, np.int64) for image in images]
    markers[0][20:24, 30:35], markers[0][40:43, 8:12], markers[1][5:9, 60:64] = 1, 2, 2
    head = {"kind": "adaptive", "decoder": "labelled", "max_pixels_per_stroke": 1000}
    learned = fieldmark.FLIM({"features": {"layers": LAYERS}}, head=head).fit(images, markers)
    shares, classes = [], []
    for maps, marks in zip(learned.transform(images), markers, strict=True):
        low, high = maps.min(axis=(0, 1)), maps.max(axis=(0, 1))
        shares.append((maps[marks > 0] - low) / np.where(high > low, high - low, 1))
        classes.append(marks[marks > 0])
    found, own = np.concatenate(shares), np.concatenate(classes)
    wanted = np.array([found[own == k].mean(axis=0) + (1 - found[own != k]).mean(axis=0) for k in (1, 2)])
    wanted -= wanted.mean(axis=1, keepdims=True)
    assert np.abs(wanted).max() > 0.01
    assert np.allclose(learned._model.net.head.importance, wanted, atol=1e-4)
