"""The scale space against scipy's filters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from fieldmark.models.scale_space import TRUNCATE, ScaleSpace


@pytest.mark.parametrize("shape", [(40, 57), (1, 9), (1, 1), (130, 20)])
@pytest.mark.parametrize("scale", [0.5, 2.0, 16.0])
def test_brightness_is_scipys_gaussian(shape, scale):
    image = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    (described,) = ScaleSpace([scale])(torch.from_numpy(image)[None])
    for channel in range(2):
        expected = gaussian_filter(image[channel].astype(float), scale, mode="nearest", truncate=TRUNCATE)
        assert np.abs(described[0, channel].numpy() - expected).max() < 1e-5


def test_edges_and_curvature_of_known_surfaces():
    y, x = np.mgrid[:40, :60].astype(np.float32)
    slope = torch.from_numpy(3 * x + 4 * y)[None, None]
    bowl = torch.from_numpy(0.5 * (2 * x**2 + 6 * y**2))[None, None]
    inside = (slice(None), slice(10, -10), slice(10, -10))
    (sloped,), (curved,) = (ScaleSpace([1.0])(surface) for surface in (slope, bowl))
    assert torch.allclose(sloped[0][inside][1], torch.tensor(5.0), atol=1e-3)
    assert torch.allclose(curved[0][inside][2], torch.tensor(6.0), atol=0.02)
    assert torch.allclose(curved[0][inside][3], torch.tensor(2.0), atol=0.02)


def test_the_radius_reaches_as_far_as_the_response():
    space = ScaleSpace([2.0, 4.0])
    image = torch.zeros(1, 1, 81, 81)
    image[0, 0, 40, 40] = 1
    blank = space(torch.zeros_like(image))
    changed = sum((a - b).abs().sum(dim=1)[0] for a, b in zip(space(image), blank, strict=True)) > 0
    rows = np.flatnonzero(changed.any(dim=1).numpy())
    assert 40 - space.radius <= rows.min()
    assert rows.max() <= 40 + space.radius
    assert rows.max() >= 40 + space.radius - 1
