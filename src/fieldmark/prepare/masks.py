"""Foreground of a plane by a rule, as microDL computes it: for masked losses and for the choice of crops."""

from __future__ import annotations

from typing import Any

import numpy as np

RADIUS = 5
"""Of the disk that opens a mask, in pixels."""
OTSU_FACTOR = 1.1
BINS = 256
TOP = 99.5
"""Percentile that the histogram of `unimodal_mask` ends at."""


def foreground_of(values: np.ndarray, ground: dict[str, Any], *, every: int = 1) -> np.ndarray:
    """What stands out in a plane.

    Args:
        values: (C, y, x) prepared or raw pixels; the channels of `ground` are averaged.
        ground: `method` (`otsu`, `unimodal` or `threshold` with its `value`), `channels` (empty for all), `radius` of
            the disk that opens the mask, and whether to `fill` its holes.
        every: Only every n-th row and column is there.

    Returns:
        (y, x) bool.
    """
    from scipy.ndimage import binary_fill_holes

    plane = values[list(ground.get("channels") or range(len(values)))].mean(axis=0)
    radius = round(ground.get("radius", RADIUS) / every)
    match ground["method"]:
        case "unimodal":
            mask = unimodal_mask(plane, radius=radius)
        case "threshold":
            mask = _opened(_smoothed(plane) > ground["value"], radius)
        case _:
            mask = otsu_mask(plane, radius=radius)
    filled: np.ndarray = binary_fill_holes(mask) if ground.get("fill") else mask
    return filled


def pooled_threshold(values: np.ndarray) -> float:
    """Otsu's threshold of pixels that were pooled over a data set."""
    from skimage.filters import threshold_otsu

    if values.min() == values.max():
        return float(values.max())
    return float(threshold_otsu(values, nbins=BINS))


def otsu_mask(plane: np.ndarray, *, radius: int = RADIUS) -> np.ndarray:
    """What is brighter than 1.1 times Otsu's threshold, opened.

    Args:
        plane: (y, x) of any real dtype.
        radius: Of the disk that opens the mask, in pixels.

    Returns:
        (y, x) bool; all false for a plane of one value.
    """
    from skimage.filters import threshold_otsu

    values = _adjusted(_adjusted(_smoothed(plane)))
    if values.min() == values.max():
        return np.zeros(plane.shape, bool)
    return _opened(values > OTSU_FACTOR * threshold_otsu(values, nbins=128), radius)


def unimodal_mask(plane: np.ndarray, *, radius: int = RADIUS) -> np.ndarray:
    """What is brighter than Rosin's threshold (2001), opened, with holes filled: for planes of mostly background.

    Arguments and result as those of `otsu_mask`.
    """
    from scipy.ndimage import binary_fill_holes

    values = _adjusted(_smoothed(plane))
    if values.min() == values.max():
        return np.zeros(plane.shape, bool)
    filled: np.ndarray = binary_fill_holes(_opened(values > unimodal_threshold(values), radius))
    return filled


def unimodal_threshold(values: np.ndarray) -> float:
    """The corner of a histogram with one peak: where it lies farthest below the line from its peak to its end."""
    counts, edges = np.histogram(values, BINS, (float(values.min()), float(np.percentile(values, TOP)) or 1.0))
    peak = int(counts.argmax())
    last = int(np.flatnonzero(counts)[-1])
    if last <= peak:
        return float(edges[peak + 1])
    at = np.arange(peak, last + 1)
    line = counts[peak] + (counts[last] - counts[peak]) * (at - peak) / (last - peak)
    corner = peak + int((line - counts[peak : last + 1]).argmax())
    return float(edges[corner : corner + 2].mean())


def _smoothed(plane: np.ndarray) -> np.ndarray:
    """By a Gaussian of 3 x 3 pixels."""
    from scipy.ndimage import gaussian_filter

    smooth: np.ndarray = gaussian_filter(plane.astype(np.float64), sigma=0.8, radius=1)
    return smooth


def _adjusted(values: np.ndarray) -> np.ndarray:
    """Percentiles 1 to 99 stretched over 0..255; what is beyond is cut."""
    low, high = np.percentile(values, (1, 99))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(values.shape)
    share: np.ndarray = np.clip((values - low) / (high - low), 0, 1)
    return 255 * share


def _opened(mask: np.ndarray, radius: int) -> np.ndarray:
    """Without what a disk does not fit into."""
    from scipy.ndimage import distance_transform_edt

    if not radius:
        return mask
    # erosion and dilation by a disk are thresholds on distances
    padded = np.pad(mask, 1, mode="edge")
    kept = distance_transform_edt(padded)[1:-1, 1:-1] > radius
    opened: np.ndarray = mask & (distance_transform_edt(~kept) <= radius) if kept.any() else kept
    return opened
