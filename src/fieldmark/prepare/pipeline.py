"""Pointwise preparation of pixels. Each step is a JSON object with a `step` and its numbers.

Every constant belongs to the model (it was estimated on the images that taught it), never to
the image or the tile at hand: so a tile, an image and a batch give the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fieldmark.errors import BadInput
from fieldmark.prepare.color import rgb_to_lab

Step = dict[str, Any]


def scale_step(by: float) -> Step:
    """Divide by a constant of the data set, so that ordinary values lie in 0..1."""
    return {"step": "scale", "by": float(by)}


def lab_step() -> Step:
    """Red, green and blue in 0..1 to CIE L*a*b* mapped to about 0..1 (the FLIM papers' LABNorm2)."""
    return {"step": "lab"}


def standardize_step(mean: Sequence[float], std: Sequence[float]) -> Step:
    """Subtract a mean and divide by a standard deviation, one of each for a channel."""
    return {"step": "standardize", "mean": [float(m) for m in mean], "std": [float(s) for s in std]}


def apply(pixels: np.ndarray, steps: Sequence[Step]) -> np.ndarray:
    """Prepare pixels.

    Args:
        pixels: (C, ...) of any real dtype, raw values.
        steps: What `scale_step` and its siblings gave, in order.

    Returns:
        (C, ...) float32, contiguous.
    """
    values = np.ascontiguousarray(pixels, dtype=np.float32)
    for step in steps:
        values = _function(step)(values, step)
    return np.ascontiguousarray(values, dtype=np.float32)


def check(steps: Sequence[Step], channels: int) -> None:
    """Raise BadInput where a step is unknown, lacks a number, or does not fit the number of channels."""
    try:
        with np.errstate(all="ignore"):
            tried = apply(np.zeros((channels, 1, 1), np.float32), steps)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"A preparation step lacks its numbers or has wrong ones ({error}). Fit again.") from error
    if not np.isfinite(tried).all():
        raise BadInput("A preparation step divides by zero or holds numbers that are not finite. Fit again.")


def _scale(values: np.ndarray, step: Step) -> np.ndarray:
    return values / np.float32(step["by"])


def _lab(values: np.ndarray, step: Step) -> np.ndarray:
    if len(values) != 3:
        raise BadInput(f"L*a*b* needs 3 channels; found {len(values)}. Use `net.color: raw`.")
    return rgb_to_lab(values)


def _standardize(values: np.ndarray, step: Step) -> np.ndarray:
    shape = (-1,) + (1,) * (values.ndim - 1)
    mean = np.asarray(step["mean"], np.float32).reshape(shape)
    std = np.asarray(step["std"], np.float32).reshape(shape)
    if len(mean) != len(values) or len(std) != len(values):
        raise BadInput(f"A standardization of {len(mean)} channels met an image with {len(values)}.")
    return (values - mean) / std


_STEPS: dict[str, Callable[[np.ndarray, Step], np.ndarray]] = {
    "scale": _scale,
    "lab": _lab,
    "standardize": _standardize,
}


def _function(step: Step) -> Callable[[np.ndarray, Step], np.ndarray]:
    try:
        return _STEPS[step["step"]]
    except (KeyError, TypeError):
        raise BadInput(f"Unknown preparation {step!r}. Known: {', '.join(sorted(_STEPS))}.") from None
