"""Half-size levels of an image."""

from __future__ import annotations

import numpy as np


def halve(values: np.ndarray, *, single: bool = False) -> np.ndarray:
    """Half as many rows and columns, rounded up.

    Args:
        values: (..., y, x). An odd last row or column is repeated.
        single: Keep the first of four pixels (for labels) in place of their mean. The mean of
            integers is rounded; a mean with unknown (NaN) pixels is unknown.

    Returns:
        (..., ceil(y / 2), ceil(x / 2)) of the same type.
    """
    if single:
        return np.ascontiguousarray(values[..., ::2, ::2])
    odd = [(0, 0)] * (values.ndim - 2) + [(0, n % 2) for n in values.shape[-2:]]
    even = np.pad(values, odd, mode="edge")
    *outer, height, width = even.shape
    mean = even.reshape(*outer, height // 2, 2, width // 2, 2).mean(axis=(-3, -1), dtype=np.float64)
    if values.dtype.kind in "iu":
        mean = np.rint(mean)
    halved: np.ndarray = mean.astype(values.dtype)
    return halved
