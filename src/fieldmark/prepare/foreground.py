"""Marks on what stands out in an image, by a rule, for data without strokes."""

from __future__ import annotations

import numpy as np

PLACES = 4
RADIUS = 3


def foreground_mask(image: np.ndarray) -> np.ndarray:
    """What stands out: the side of Otsu's threshold (Otsu 1979) that holds less of the image's edge.

    Args:
        image: (y, x) or (y, x, c) of any real dtype; channels are averaged.

    Returns:
        (y, x) bool. Everything, where the image has one value only.
    """
    from skimage.filters import threshold_otsu

    gray = image.astype(np.float64)
    gray = gray.mean(axis=2) if gray.ndim == 3 else gray
    if gray.min() == gray.max():
        return np.ones(gray.shape, bool)
    bright = gray > threshold_otsu(gray)
    edge = np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]])
    mask: np.ndarray = ~bright if edge.mean() > 0.5 else bright
    return mask


def markers_from_foreground(image: np.ndarray, *, places: int = PLACES, radius: int = RADIUS) -> np.ndarray:
    """Discs of marked pixels on the foreground: one at its middle, the others as far from each other as can be.

    The first is at the foreground pixel nearest to the foreground's centroid, each further
    one at the foreground pixel farthest from all before it, so that they reach the object's
    ends and its outline. Of several such pixels, the first in reading order. Only
    foreground pixels are marked. Nothing is random.

    Args:
        image: (y, x) or (y, x, c) of any real dtype.
        places: How many discs; fewer where the foreground has fewer pixels.
        radius: Of the discs, in pixels.

    Returns:
        (N, 2) int64 y, x in reading order, each pixel once.
    """
    mask = foreground_mask(image)
    pixels = np.argwhere(mask)
    nearest = ((pixels - pixels.mean(axis=0)) ** 2).sum(axis=1)
    chosen = [pixels[nearest.argmin()]]
    far = ((pixels - chosen[0]) ** 2).sum(axis=1)
    while len(chosen) < places and far.max() > 0:
        chosen.append(pixels[far.argmax()])
        far = np.minimum(far, ((pixels - chosen[-1]) ** 2).sum(axis=1))
    marked: np.ndarray = pixels[far <= radius**2]
    return marked
