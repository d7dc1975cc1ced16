"""The steps of `prepare.normalize`: which numbers are measured, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.prepare.pipeline import Step, clip_step, standardize_each_step, standardize_step

if TYPE_CHECKING:
    from fieldmark.recipes.prepare import NormalizeConfig

LARGEST = 3e38


def largest(dtype: np.dtype) -> float:
    """The largest value that a type of whole numbers can hold; 1 for fractions."""
    return float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0


def each_step(config: NormalizeConfig, channels: Sequence[int], ground: dict[str, Any] | None) -> Step:
    """What is measured of each plane or volume; for the scheme `dataset`, what is measured of all of them together.

    Args:
        config: A scheme that is not `none`, and a statistic that is not `max`.
        channels: Places of the channels that are meant; empty for all.
        ground: What foreground is; None for statistics of whole planes.
    """
    return standardize_each_step(
        "volume" if config.scheme == "volume" else "slice",
        config.statistic,
        clip=config.clip,
        channels=channels,
        min_fraction=config.min_fraction,
        foreground=ground if config.min_fraction else None,
    )


def constant_steps(found: dict[str, np.ndarray]) -> list[Step]:
    """Low, high, center and spread of each channel, (C,), as steps that look at no image."""
    steps: list[Step] = []
    if np.isfinite(found["low"]).any():
        low, high = (np.nan_to_num(found[name], posinf=LARGEST, neginf=-LARGEST).tolist() for name in ("low", "high"))
        steps.append(clip_step(low, high))
    return [*steps, standardize_step(found["center"].tolist(), found["spread"].tolist())]
