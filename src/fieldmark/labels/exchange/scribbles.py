"""Strokes in a picture: the connected pieces of one label."""

from __future__ import annotations

import numpy as np


def connected_strokes(classes: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Number the 8-connected pieces of equal class.

    Args:
        classes: (h, w) integers, 0 for none.

    Returns:
        The number of each pixel's piece, from 1 (int32, (h, w), 0 for none), and the class of piece 1, 2, ...
    """
    from skimage.measure import label

    pieces = np.asarray(label(classes, background=0, connectivity=2), dtype=np.int32)
    found, first = np.unique(pieces, return_index=True)
    class_of = classes.reshape(-1)[first[found > 0]]
    return pieces, [int(value) for value in class_of]
