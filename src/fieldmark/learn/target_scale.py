"""The scale of target images, so that every loss sees values of about one; kept in the model to go back by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.core.seeds import derive_seed
from fieldmark.errors import BadInput
from fieldmark.learn.targets import ImageTargets, Weighted
from fieldmark.prepare import apply, scale_step, standardize_step
from fieldmark.prepare.whole import statistics

if TYPE_CHECKING:
    from fieldmark.learn.samples import Samples
    from fieldmark.learn.splits import Split
    from fieldmark.learn.targets import Targets
    from fieldmark.recipes.prepare import NormalizeConfig

CROPS = 64
SIDE = 256


def scale_targets(
    samples: Samples, targets: Targets, split: Split, *, seed: int, config: NormalizeConfig, share: bool
) -> None:
    """Estimate `samples.target_preparation` on crops of what teaches, and the span of the prepared values.

    Args:
        samples: The images.
        targets: Classes are left as they are.
        split: What teaches.
        seed: Draws the crops.
        config: By what center and spread values are normalized, and whether they are; else they stay as they are.
        share: Whether the network answers shares from 0 to 1: then values are divided by their maximum.
    """
    images = targets.targets if isinstance(targets, Weighted) else targets
    if not isinstance(images, ImageTargets):
        return
    values = _values(samples, images, split, seed)
    if share:
        _require_positive(values)
        samples.target_preparation = [scale_step(float(max(np.nanmax(own) for own in values)) or 1.0)]
    elif config.targets:
        measured = [statistics(own[None], {"statistic": config.statistic}) for own in values]
        center, spread = ([float(one[name][0]) for one in measured] for name in ("center", "spread"))
        samples.target_preparation = [standardize_step(center, spread)]
    ready = [apply(own[None], [_one(step, n) for step in samples.target_preparation]) for n, own in enumerate(values)]
    images.span = max(1e-3, *(float(np.ptp(own)) for own in ready))


def _values(samples: Samples, targets: ImageTargets, split: Split, seed: int) -> list[np.ndarray]:
    """Known values (N,) of each channel, from places spread over the teaching images."""
    rng = np.random.default_rng(derive_seed(seed, "target-scale"))
    count = len(split.train)
    drawn = [split.train[n % count if count <= CROPS else n * count // CROPS] for n in range(CROPS)]
    parts = [_crop(samples, targets, split, index, rng) for index in drawn]
    every = np.concatenate(parts, axis=1).astype(np.float64)
    found = [own[np.isfinite(own)] for own in every]
    if any(len(own) == 0 for own in found):
        raise BadInput("A channel of the target images holds no finite value. Choose others: data.target.channels.")
    return found


def _crop(samples: Samples, targets: ImageTargets, split: Split, index: int, rng: np.random.Generator) -> np.ndarray:
    """(T, N) raw values of one plane's part that teaches."""
    _, _, _, y, x = samples.shape(index)
    at = targets.somewhere(index, rng, split.within(0))
    if at is None:
        at = tuple(int(rng.integers(n)) for n in (samples.shape(index)[0], samples.shape(index)[2], y, x))
    start = [min(at[2], max(0, y - SIDE)), min(at[3], max(0, x - SIDE))]
    stop = [min(y, start[0] + SIDE), min(x, start[1] + SIDE)]
    values = targets.raw(index, Box((at[0], at[1], *start), (at[0] + 1, at[1] + 1, *stop)))
    return values.reshape(len(values), -1)


def _require_positive(values: list[np.ndarray]) -> None:
    least = min(float(own.min()) for own in values)
    if least < 0:
        raise BadInput(
            f"net.final_activation=sigmoid answers 0 to 1, and the target images hold {least:g}. Use linear."
        )


def _one(step: dict[str, object], channel: int) -> dict[str, object]:
    """A step for all channels as one for a single of them."""
    return {key: [value[channel]] if isinstance(value, list) else value for key, value in step.items()}
