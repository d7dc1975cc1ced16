"""Weight maps: heavy where a loss must look hard."""

from __future__ import annotations

from math import ceil

import numpy as np

W0 = 10.0
SIGMA = 5.0
REACH = 8
"""Sigmas beyond which an object adds nothing: exp(-32)."""


def border_weights(labels: np.ndarray, *, w0: float = W0, sigma: float = SIGMA) -> np.ndarray:
    """The map of the U-Net paper: w = 1 + w0 exp(-(d1 + d2)^2 / (2 sigma^2)) on the background, 1 on objects.

    d1 and d2 are the distances to the nearest and the second nearest object, in pixels (Ronneberger et al. 2015). With
    one object or none there is nothing between objects, and every weight is 1.

    Args:
        labels: (y, x) integers: 0 for the background, a number for each object; or of two values only, whose connected
            parts are then the objects.
        w0: Most that is added.
        sigma: In pixels.

    Returns:
        (y, x) float64.
    """
    from scipy import ndimage

    objects = _numbered(labels)
    if objects.max(initial=0) <= 1:
        objects, _ = ndimage.label(objects)
    reach = ceil(REACH * sigma)
    near = np.full((2, *labels.shape), np.inf)
    for number, box in enumerate(ndimage.find_objects(objects), start=1):
        if box is None:
            continue
        part = tuple(slice(max(0, side.start - reach), side.stop + reach) for side in box)
        far = ndimage.distance_transform_edt(objects[part] != number)
        first, second = near[0][part], near[1][part]
        near[1][part] = np.minimum(second, np.maximum(first, far))
        near[0][part] = np.minimum(first, far)
    between = w0 * np.exp(-((near[0] + near[1]) ** 2) / (2 * sigma**2))
    return np.where(objects == 0, 1 + between, 1.0)


def _numbered(labels: np.ndarray) -> np.ndarray:
    """Objects as 1, 2, 3 and so on in the order of their numbers, 0 for the background."""
    if labels.dtype.kind in "bu" and labels.dtype.itemsize <= 2:  # a table is many times as fast as sorting
        there = np.bincount(labels.ravel()) > 0
        there[0] = False
        counted: np.ndarray = (np.cumsum(there) * there)[labels.astype(np.intp)]
        return counted
    numbers, places = np.unique(labels, return_inverse=True)
    there = numbers != 0
    found: np.ndarray = (np.cumsum(there) * there)[places.reshape(labels.shape)]
    return found
