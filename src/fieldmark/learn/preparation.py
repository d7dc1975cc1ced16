"""Estimate the constants of a model's preparation on the images that teach it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.core.seeds import derive_seed
from fieldmark.errors import BadRecipe
from fieldmark.learn.targets import ImageTargets
from fieldmark.prepare import apply, channels_step, clip_step, color_steps, scale_step, standardize_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fieldmark.recipes.prepare import NormalizeConfig

    Step = dict[str, Any]

    from fieldmark.learn.samples import Samples

CROPS = 64
SIDE = 256


def estimate_preparation(samples: Samples, *, color: str, seed: int) -> list[Step]:
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


def estimate_normalization(samples: Samples, config: NormalizeConfig, inputs: Sequence[int], seed: int) -> list[Step]:
    """The steps that `prepare.normalize` asks for: channels, then clipping, then center and spread.

    Raises BadRecipe for statistics of single images, which belong to `net.color: lab-per-image` alone so far.
    """
    first = [channels_step(inputs)] if inputs else []
    if config.scheme == "none":
        return first
    if config.scheme != "dataset" and config.statistic != "max":
        raise BadRecipe(
            f"prepare.normalize.scheme: {config.scheme!r} is not there yet. Use 'dataset', which is kept with the "
            "model, or 'none'."
        )
    if config.statistic == "max":
        return [*first, scale_step(largest(samples.source(0).dtype))]
    crops = [apply(crop, first) for _, crop in _crops(samples, seed)]
    return [*first, *normalization(np.concatenate([crop.reshape(len(crop), -1) for crop in crops], axis=1), config)]


def estimate_target(samples: Samples, config: NormalizeConfig, seed: int) -> list[Step]:
    """Center and spread of the target images' channels; predictions go the same way back."""
    if not isinstance(samples.targets, ImageTargets) or not config.targets:
        return []
    places = _spread(len(samples.targets.images()))
    chosen = [samples.targets.images()[n] for n in places]
    rng = np.random.default_rng(derive_seed(seed, "targets"))
    crops = [samples.targets.raw(index, _place(samples, index, rng)) for index in chosen]
    values = np.concatenate([crop.reshape(len(crop), -1) for crop in crops], axis=1)
    return normalization(values, config.model_copy(update={"clip": None}))


def normalization(values: np.ndarray, config: NormalizeConfig) -> list[Step]:
    """Steps from (C, N) raw values: clipping to percentiles, then mean and spread, or median and quartiles."""
    steps: list[Step] = []
    ready = values.astype(np.float64)
    if config.clip is not None:
        low, high = np.percentile(ready, config.clip, axis=1)
        steps, ready = [clip_step(low.tolist(), high.tolist())], np.clip(ready, low[:, None], high[:, None])
    if config.statistic == "median-iqr":
        first, middle, last = np.percentile(ready, (25, 50, 75), axis=1)
        center, spread = middle, last - first
    else:
        center, spread = ready.mean(axis=1), ready.std(axis=1)
    return [*steps, standardize_step(center.tolist(), np.where(spread > 1e-6, spread, 1.0).tolist())]


def largest(dtype: np.dtype) -> float:
    """The largest value that a type of whole numbers can hold; 1 for fractions."""
    return float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0


def _crops(samples: Samples, seed: int) -> list[tuple[int, np.ndarray]]:
    """The image and (C, y, x) raw pixels of CROPS places, spread evenly over the images."""
    chosen = np.unique(samples.marks.image) if len(samples.marks) else np.arange(len(samples.images))
    if samples.split is not None:
        chosen = np.array(samples.split.train)
    rng = np.random.default_rng(derive_seed(seed, "preparation"))
    drawn = [int(chosen[place]) for place in _spread(len(chosen))]
    return [(index, _crop(samples, index, rng)) for index in drawn]


def _spread(images: int) -> list[int]:
    """CROPS places among the images: each in turn, or every n-th where there are more images than crops."""
    return [n % images if images <= CROPS else n * images // CROPS for n in range(CROPS)]


def _crop(samples: Samples, index: int, rng: np.random.Generator) -> np.ndarray:
    return samples.raw(index, _place(samples, index, rng))


def _place(samples: Samples, index: int, rng: np.random.Generator) -> Box:
    t, _, z, y, x = samples.source(index).shape
    start = [int(rng.integers(n)) for n in (t, z)] + [int(rng.integers(max(1, n - SIDE + 1))) for n in (y, x)]
    stop = [start[0] + 1, start[1] + 1, min(y, start[2] + SIDE), min(x, start[3] + SIDE)]
    return Box(tuple(start), tuple(stop))
