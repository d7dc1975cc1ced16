"""Estimate the constants of a model's preparation on the images that teach it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.core.seeds import derive_seed
from fieldmark.prepare import apply, color_steps, standardize_step

if TYPE_CHECKING:
    from fieldmark.learn.samples import Samples

CROPS = 64
SIDE = 256


def estimate_preparation(samples: Samples, *, color: str, seed: int) -> list[dict[str, Any]]:
    """Scale by the data set's maximum, L*a*b* for color images, then zero mean and unit spread.

    The constants come from crops drawn over all images of the fit (marked ones where
    there are marks), so that memory and time do not follow the images.

    Args:
        samples: The images; the marks say which ones count.
        color: One of `net.color` (see `prepare.color_steps`).
        seed: Draws the crops.
    """
    crops = _crops(samples, seed)
    top = max(float(np.abs(crop).max()) for _, crop in crops)
    source = samples.source(0)
    steps = color_steps(color, source.shape[1], by=top if top > 0 else 1.0, integers=source.dtype.kind == "u")
    prepared = [apply(crop, samples.of_image(index, steps)) for index, crop in crops]
    ready = np.concatenate([crop.reshape(len(crop), -1) for crop in prepared], axis=1).astype(np.float64)
    std = ready.std(axis=1)
    return [*steps, standardize_step(ready.mean(axis=1).tolist(), np.where(std > 1e-6, std, 1.0).tolist())]


def _crops(samples: Samples, seed: int) -> list[tuple[int, np.ndarray]]:
    """The image and (C, y, x) raw pixels of CROPS places, spread evenly over the images."""
    chosen = np.unique(samples.marks.image) if len(samples.marks) else np.arange(len(samples.images))
    rng = np.random.default_rng(derive_seed(seed, "preparation"))
    drawn = [int(chosen[place]) for place in _spread(len(chosen))]
    return [(index, _crop(samples, index, rng)) for index in drawn]


def _spread(images: int) -> list[int]:
    """CROPS places among the images: each in turn, or every n-th where there are more images than crops."""
    return [n % images if images <= CROPS else n * images // CROPS for n in range(CROPS)]


def _crop(samples: Samples, index: int, rng: np.random.Generator) -> np.ndarray:
    t, _, z, y, x = samples.source(index).shape
    start = [int(rng.integers(n)) for n in (t, z)] + [int(rng.integers(max(1, n - SIDE + 1))) for n in (y, x)]
    stop = [start[0] + 1, start[1] + 1, min(y, start[2] + SIDE), min(x, start[3] + SIDE)]
    return samples.raw(index, Box(tuple(start), tuple(stop)))
