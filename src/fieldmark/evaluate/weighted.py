"""How good a foreground map is: the weighted F-measure, and the mean absolute error.

R. Margolin, L. Zelnik-Manor, A. Tal, "How to evaluate foreground maps?", CVPR 2014. An error
near a right pixel weighs less than one alone (pixels depend on their neighbors), and a false
alarm far from the object weighs up to twice as much as one beside it (pixels differ in importance).
"""

from __future__ import annotations

import numpy as np

from fieldmark.errors import BadInput

_EPS = float(np.finfo(np.float64).eps)
# The paper's constants, as its authors' program has them: a window of 7 x 7 with sigma 5,
# and an importance that is half-way from 1 to 2 at 5 pixels from the object.
_WINDOW, _SIGMA = 7, 5.0
_HALF_WAY = 5.0


def weighted_fbeta(
    foreground: np.ndarray, truth: np.ndarray, unknown: np.ndarray | None = None, *, beta2: float = 1.0
) -> float:
    """The weighted F-measure of one foreground map.

    Args:
        foreground: (h, w) real in [0, 1], a probability or a mask.
        truth: (h, w) bool, True on the object.
        unknown: (h, w) bool, True where nobody knows. Such pixels are in no sum, lend no
            error to their neighbors and are no object to measure distances from.
        beta2: Weight of recall against precision, squared; 1 is the paper's choice.

    Returns:
        A number in [0, 1]. NaN where there is no known pixel, or no object and nothing in the
        map; 0 where there is no object but something in the map. As in the authors' program,
        pixels beyond the image's border count as free of error.

    Raises:
        BadInput: The shapes differ, or the map leaves [0, 1].
    """
    known = _known(foreground, truth, unknown)
    object_ = truth & known
    if not object_.any():
        return 0.0 if bool((foreground[known] > 0).any()) else float("nan")
    error = np.where(known, np.abs(foreground.astype(np.float64) - object_), 0.0)
    weighted = _weighted_error(error, object_, known)
    missed, alarms = float(weighted[object_].sum()), float(weighted[known & ~object_].sum())
    size = float(object_.sum())
    recall = 1.0 - missed / size
    precision = (size - missed) / (_EPS + (size - missed) + alarms)
    return (1.0 + beta2) * recall * precision / (_EPS + recall + beta2 * precision)


def mean_absolute_error(foreground: np.ndarray, truth: np.ndarray, unknown: np.ndarray | None = None) -> float:
    """Mean of |foreground - truth| over the known pixels; NaN where there is none.

    Args:
        foreground: (h, w) real in [0, 1], a probability or a mask.
        truth: (h, w) bool.
        unknown: (h, w) bool, True where nobody knows.

    Raises:
        BadInput: The shapes differ, or the map leaves [0, 1].
    """
    known = _known(foreground, truth, unknown)
    error = np.abs(foreground.astype(np.float64) - truth)[known]
    return float(error.mean()) if error.size else float("nan")


def _known(foreground: np.ndarray, truth: np.ndarray, unknown: np.ndarray | None) -> np.ndarray:
    known = np.ones(truth.shape, bool) if unknown is None else ~unknown
    if not foreground.shape == truth.shape == known.shape:
        raise BadInput(
            f"The map has shape {foreground.shape}, the truth {truth.shape} and the mask of known pixels "
            f"{known.shape}. Compare maps of the same image and size."
        )
    if not bool(((foreground >= 0) & (foreground <= 1))[known].all()):
        raise BadInput("A foreground map has values in [0, 1], but this one leaves that range. Scale it first.")
    return known


def _weighted_error(error: np.ndarray, object_: np.ndarray, known: np.ndarray) -> np.ndarray:
    """E_w of the paper: dependence between object pixels, importance of background pixels."""
    from scipy.ndimage import distance_transform_edt

    distance, nearest = distance_transform_edt(~object_, return_indices=True)
    # An object pixel at the edge must not profit from right background pixels beside it, so
    # each background pixel lends the error of the object pixel that is nearest to it.
    lent = np.where(known, error[tuple(nearest)], 0.0)
    smooth = _blurred(lent, 0.0) / np.maximum(_blurred(known.astype(np.float64), 1.0), _EPS)
    dependent = np.where(object_ & (smooth < error), smooth, error)
    importance = np.where(object_, 1.0, 2.0 - np.exp(np.log(0.5) / _HALF_WAY * distance))
    weighted: np.ndarray = dependent * importance
    return weighted


def _blurred(image: np.ndarray, outside: float) -> np.ndarray:
    from scipy.ndimage import correlate1d

    offsets = np.arange(_WINDOW) - _WINDOW // 2
    line = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    line /= line.sum()
    rows = correlate1d(image, line, axis=0, mode="constant", cval=outside)
    blurred: np.ndarray = correlate1d(rows, line, axis=1, mode="constant", cval=outside)
    return blurred
