"""Estimate the constants of a model's preparation on the images that teach it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.core.seeds import derive_seed
from fieldmark.prepare import apply, lab_step, scale_step, standardize_step

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
        color: `lab`, `raw`, or `auto`: L*a*b* where an image has 3 integer channels.
        seed: Draws the crops.
    """
    crops = _crops(samples, seed)
    top = max(float(np.abs(crop).max()) for crop in crops)
    steps = [scale_step(top if top > 0 else 1.0)]
    source = samples.source(0)
    if color == "lab" or (color == "auto" and source.shape[1] == 3 and source.dtype.kind == "u"):
        steps.append(lab_step())
    ready = np.concatenate([apply(crop, steps).reshape(len(crop), -1) for crop in crops], axis=1).astype(np.float64)
    std = ready.std(axis=1)
    return [*steps, standardize_step(ready.mean(axis=1).tolist(), np.where(std > 1e-6, std, 1.0).tolist())]


def _crops(samples: Samples, seed: int) -> list[np.ndarray]:
    """(C, y, x) raw pixels of CROPS places, spread evenly over the images."""
    chosen = np.unique(samples.marks.image) if len(samples.marks) else np.arange(len(samples.images))
    rng = np.random.default_rng(derive_seed(seed, "preparation"))
    return [_crop(samples, int(chosen[place]), rng) for place in _spread(len(chosen))]


def _spread(images: int) -> list[int]:
    """CROPS places among the images: each in turn, or every n-th where there are more images than crops."""
    return [n % images if images <= CROPS else n * images // CROPS for n in range(CROPS)]


def _crop(samples: Samples, index: int, rng: np.random.Generator) -> np.ndarray:
    t, _, z, y, x = samples.source(index).shape
    start = [int(rng.integers(n)) for n in (t, z)] + [int(rng.integers(max(1, n - SIDE + 1))) for n in (y, x)]
    stop = [start[0] + 1, start[1] + 1, min(y, start[2] + SIDE), min(x, start[3] + SIDE)]
    return samples.raw(index, Box(tuple(start), tuple(stop)))
