"""Foreground of a plane or volume by a rule, as microDL computes it: for masked losses and for the choice of crops."""

from __future__ import annotations

from itertools import product
from math import isqrt
from typing import Any

import numpy as np

RADIUS = 5
"""Of the disk or ball that opens a mask, in pixels."""
OTSU_FACTOR = 1.1
BINS = 256
TOP = 99.5
"""Percentile that the histogram of `unimodal_mask` ends at."""


def foreground_of(values: np.ndarray, ground: dict[str, Any], *, every: int = 1) -> np.ndarray:
    """What stands out in a plane or a volume; a volume has one threshold, and is opened by a ball.

    Args:
        values: (C, y, x) or (C, z, y, x) prepared or raw pixels; the channels of `ground` are averaged.
        ground: `method` (`otsu`, `unimodal` or `threshold` with its `value`), `channels` (empty for all), `radius` of
            the disk or ball that opens the mask, and whether to `fill` its holes.
        every: Only every n-th row and column is there.

    Returns:
        (y, x) or (z, y, x) bool.
    """
    from scipy.ndimage import binary_fill_holes

    seen = values[list(ground.get("channels") or range(len(values)))].mean(axis=0)
    radius = round(ground.get("radius", RADIUS) / every)
    match ground["method"]:
        case "unimodal":
            mask = unimodal_mask(seen, radius=radius)
        case "threshold":
            mask = opened(_smoothed(seen) > ground["value"], radius)
        case _:
            mask = otsu_mask(seen, radius=radius)
    filled: np.ndarray = binary_fill_holes(mask) if ground.get("fill") else mask
    return filled


def pooled_threshold(values: np.ndarray) -> float:
    """Otsu's threshold of pixels that were pooled over a data set."""
    from skimage.filters import threshold_otsu

    if values.min() == values.max():
        return float(values.max())
    return float(threshold_otsu(values, nbins=BINS))


def otsu_mask(seen: np.ndarray, *, radius: int = RADIUS) -> np.ndarray:
    """What is brighter than 1.1 times Otsu's threshold, opened.

    Args:
        seen: (y, x) or (z, y, x) of any real dtype; slices are smoothed each by itself.
        radius: Of the disk that opens the mask of a plane, or the ball that opens that of a volume, in pixels.

    Returns:
        (y, x) or (z, y, x) bool; all false where there is one value only.
    """
    values = _adjusted(_smoothed(seen), times=2)
    if values.min() == values.max():
        return np.zeros(seen.shape, bool)
    return opened(values > OTSU_FACTOR * _otsu_of_adjusted(values), radius)


def unimodal_mask(seen: np.ndarray, *, radius: int = RADIUS) -> np.ndarray:
    """What is brighter than Rosin's threshold (2001), opened, with holes filled: for mostly background.

    A hole of a volume is what is closed on all sides.

    Arguments and result as those of `otsu_mask`.
    """
    from scipy.ndimage import binary_fill_holes

    values = _adjusted(_smoothed(seen))
    if values.min() == values.max():
        return np.zeros(seen.shape, bool)
    filled: np.ndarray = binary_fill_holes(opened(values > unimodal_threshold(values), radius))
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


def opened(mask: np.ndarray, radius: int) -> np.ndarray:
    """A mask without what a disk, (y, x), or a ball, (z, y, x), of `radius` pixels does not fit into.

    What lies outside of the image counts as part of the mask while it is eroded, so that objects at the border stay.
    """
    return ~_eroded(~_eroded(mask, radius), radius) if radius else mask


def _eroded(mask: np.ndarray, radius: int) -> np.ndarray:
    """Pixels whose whole disk or ball lies in the mask.

    Rows are eroded first, then joined: many times as fast as by pixels.
    """
    rows = [mask]
    for _ in range(radius):
        narrow = rows[-1].copy()
        narrow[..., 1:] &= rows[-1][..., :-1]
        narrow[..., :-1] &= rows[-1][..., 1:]
        rows.append(narrow)
    kept = rows[radius].copy()
    for steps in product(range(-radius, radius + 1), repeat=mask.ndim - 1):
        left = radius**2 - sum(step**2 for step in steps)
        if left >= 0 and any(steps) and all(abs(step) < n for step, n in zip(steps, mask.shape, strict=False)):
            here = tuple(slice(max(0, -step), n - max(0, step)) for step, n in zip(steps, mask.shape, strict=False))
            there = tuple(slice(max(0, step), n - max(0, -step)) for step, n in zip(steps, mask.shape, strict=False))
            kept[here] &= rows[isqrt(left)][there]
    return kept


def _otsu_of_adjusted(values: np.ndarray) -> float:
    """Otsu's threshold, by 128 bins, of values in 0..255."""
    from skimage.filters import threshold_otsu

    counts = np.bincount(np.minimum(values * (128 / 255), 127).astype(np.intp).ravel(), minlength=128)
    return float(threshold_otsu(hist=(counts, (np.arange(128) + 0.5) * (255 / 128))))


def _smoothed(seen: np.ndarray) -> np.ndarray:
    """Planes by a Gaussian of 3 x 3 pixels and sigma 0.8, whose outside is reflected: float32."""
    return _smooth_plane(seen) if seen.ndim == 2 else np.stack([_smooth_plane(plane) for plane in seen])


def _smooth_plane(plane: np.ndarray) -> np.ndarray:
    side = np.exp(-0.5 / 0.8**2)
    middle, beside = np.float32(1 / (1 + 2 * side)), np.float32(side / (1 + 2 * side))
    values = plane.astype(np.float32)
    for _ in range(2):  # a pass down the rows, and after turning one down the columns
        part = values * beside
        smooth = values * middle
        smooth[1:] += part[:-1]
        smooth[:-1] += part[1:]
        smooth[0] += part[0]
        smooth[-1] += part[-1]
        values = smooth.T
    return values


def _adjusted(values: np.ndarray, *, times: int = 1) -> np.ndarray:
    """Percentiles 1 to 99 stretched over 0..255, once or more often; what is beyond is cut. float32."""
    low, high = _limits(values, times)
    if high <= low:
        return np.zeros(values.shape, np.float32)
    share: np.ndarray = np.clip((values - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    share *= 255
    return share


def _limits(values: np.ndarray, times: int) -> tuple[float, float]:
    """The values that stretching so often brings to 0 and 255; the least and the largest where percentiles agree."""
    last = values.size - 1
    places = [last * percent / 100 for percent in (1, 99)]
    kept = sorted({min(last, int(place) + step) for place in places for step in (0, 1)})
    ordered = np.partition(values, kept, axis=None) if values.flags.c_contiguous else np.partition(values.T, kept, None)
    ends = float(values.min()), float(values.max())
    low, high = 0.0, 0.0
    for turn in range(times):
        cut = [float(ordered[n]) if not turn else min(max(float(ordered[n]), low), high) for n in kept]
        known = dict(zip(kept, cut, strict=True))
        low, high = (_between(known, place, last) for place in places)
        if high <= low:
            return ends
    return low, high


def _between(ordered: dict[int, float], place: float, last: int) -> float:
    """The value at a place between two ranks."""
    first = int(place)
    low, high = ordered[first], ordered[min(last, first + 1)]
    return low + (high - low) * (place - first)
