"""Ratios of pixel counts, and what they are where nothing divides nothing.

One rule holds for all four: a class that is neither in the truth nor in the answer has no
ratio (NaN; null in JSON; left out of means). Any other 0/0 is 0: an answer that never names
a class that is there has a precision of 0, and one that names a class that is not there has
a recall of 0. So no model gains by staying silent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fieldmark.evaluate.counts import PixelCounts


def dice(counts: PixelCounts) -> np.ndarray:
    """F1 of the pixels: 2 tp / (2 tp + fp + fn). (K,) float64 in [0, 1] or NaN."""
    return _ratio(counts, 2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def iou(counts: PixelCounts) -> np.ndarray:
    """Intersection over union: tp / (tp + fp + fn). (K,) float64 in [0, 1] or NaN."""
    return _ratio(counts, counts.tp, counts.tp + counts.fp + counts.fn)


def precision(counts: PixelCounts) -> np.ndarray:
    """How much of what was named is right: tp / (tp + fp). (K,) float64 in [0, 1] or NaN."""
    return _ratio(counts, counts.tp, counts.tp + counts.fp)


def recall(counts: PixelCounts) -> np.ndarray:
    """How much of what is there was named: tp / (tp + fn). (K,) float64 in [0, 1] or NaN."""
    return _ratio(counts, counts.tp, counts.tp + counts.fn)


def _ratio(counts: PixelCounts, part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    absent = counts.tp + counts.fp + counts.fn == 0
    ratio: np.ndarray = np.where(absent, np.nan, part / np.maximum(whole, 1))
    return ratio
