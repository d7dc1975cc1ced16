"""How near a predicted image is to the right one: differences, correlation, structure, and overlap above a threshold.

One window for SSIM, masked or not, in a plane or a volume: a Gaussian of sigma 1.5 px, cut at 5 px, so 11 px wide (Wang
et al. 2004). Beyond the border the image is reflected, so thin axes count too, and the mean is over all pixels.
MS-SSIM (Wang et al. 2003) halves every axis of at least 22 px from scale to scale, up to five scales; where fewer fit,
or only left-out last pixels are known, the weights of the others are scaled to sum to 1.

A metric that does not exist is None: correlation, R2 and SSIM where the truth is constant, Dice and IoU where neither
image reaches the threshold, all of them where no pixel is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.errors import BadInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

METRICS = ("r2", "corr", "ssim", "ms_ssim", "mae", "mse", "dice", "iou", "acc")
"""`corr` is Pearson's; `dice`, `iou` and `acc` compare where the images lie above a threshold."""
LESS_IS_BETTER = ("mae", "mse")

_SIGMA = 1.5
_REACH = 5
_CUT = _REACH / _SIGMA
_SIDE = 2 * _REACH + 1
_K1, _K2 = 0.01, 0.03
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@dataclass(frozen=True, slots=True)
class _Pair:
    """What is compared: float64 images of one shape, and which pixels count."""

    prediction: np.ndarray
    truth: np.ndarray
    known: np.ndarray
    threshold: float | None

    @property
    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """(N,) predicted and right values of the pixels that count."""
        return self.prediction[self.known], self.truth[self.known]

    @property
    def range(self) -> float:
        """Of the truth."""
        finite = self.truth[np.isfinite(self.truth)]
        return float(np.ptp(finite)) if finite.size else 0.0


def score_values(
    prediction: np.ndarray,
    truth: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    metrics: Sequence[str] = METRICS,
    threshold: float | None = None,
) -> dict[str, float | None]:
    """Compare two images.

    Args:
        prediction: Real, (y, x) or (z, y, x).
        truth: Real, of the same shape. Pixels that are not finite are unknown and count nowhere.
        mask: Bool, of the same shape: True where pixels count. All of them where None.
        metrics: Which of `METRICS`, in that order.
        threshold: What lies above it overlaps; half way between the truth's least and most where None. (microDL
            takes half of each image's own maximum, so that one hot pixel of the prediction decides.)

    Returns:
        Metric to value; None where it does not exist.

    Raises:
        NotFound: There is no such metric.
        BadInput: Shapes differ, or the prediction holds values that are not finite.
    """
    for metric in metrics:
        if metric not in METRICS:
            raise NotFound("metric", metric, METRICS)
    pair = _paired(prediction, truth, mask, threshold)
    if not pair.known.any():
        return dict.fromkeys(metrics)
    return {metric: _finite(_FUNCTIONS[metric](pair)) for metric in metrics}


def require_one_shape(prediction: np.ndarray, truth: np.ndarray, mask: np.ndarray | None) -> None:
    """Raise BadInput where what is compared differs in shape."""
    if prediction.shape != truth.shape or (mask is not None and mask.shape != truth.shape):
        masked = "" if mask is None else f", and the mask {mask.shape}"
        raise BadInput(
            f"The prediction has shape {prediction.shape}, the truth {truth.shape}{masked}. "
            "Compare images of the same size."
        )


def _paired(prediction: np.ndarray, truth: np.ndarray, mask: np.ndarray | None, threshold: float | None) -> _Pair:
    require_one_shape(prediction, truth, mask)
    mask = np.ones(truth.shape, bool) if mask is None else mask
    prediction, truth = prediction.astype(np.float64), truth.astype(np.float64)
    if not np.isfinite(prediction).all():
        raise BadInput(
            "The prediction holds values that are not finite numbers. Predict it anew, or fit the model again."
        )
    return _Pair(prediction, truth, mask.astype(bool) & np.isfinite(truth), threshold)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _r2(pair: _Pair) -> float:
    """1 - residual / total sum of squares: 0 for the truth's own mean, below 0 for worse."""
    said, right = pair.values
    total = float(((right - right.mean()) ** 2).sum())
    # squares of very small differences are 0 too
    if np.ptp(right) == 0 or total == 0:
        return np.nan
    return 1 - float(((said - right) ** 2).sum()) / total


def _correlation(pair: _Pair) -> float:
    said, right = pair.values
    # asked of the values themselves: what is left of a constant after its mean is rounding
    if np.ptp(said) == 0 or np.ptp(right) == 0:
        return np.nan
    said, right = said - said.mean(), right - right.mean()
    lengths = float(np.linalg.norm(said) * np.linalg.norm(right))
    # squares of very small differences are 0 too
    return float(np.clip((said @ right) / lengths, -1, 1)) if lengths else np.nan


def _mae(pair: _Pair) -> float:
    said, right = pair.values
    return float(np.abs(said - right).mean())


def _mse(pair: _Pair) -> float:
    said, right = pair.values
    return float(((said - right) ** 2).mean())


def _ssim(pair: _Pair) -> float:
    images = _seen(pair)
    if images is None:
        return np.nan
    said, right, known = images
    structure, _ = _similarity(said, right, pair.range)
    return float(structure[known].mean())


def _ms_ssim(pair: _Pair) -> float:
    """The product over scales of contrast and structure, with luminance at the coarsest, each to its weight's power."""
    images = _seen(pair)
    if images is None:
        return np.nan
    said, right, known = images
    weight, means = known.astype(np.float64), []
    for scale in range(len(_SCALES)):
        both, structure = _similarity(said, right, pair.range)
        halved = [axis for axis, side in enumerate(said.shape) if side >= 2 * _SIDE]
        smaller = _halved(weight, halved)
        last = scale == len(_SCALES) - 1 or not halved or not smaller.any()
        means.append(float(((both if last else structure) * weight).sum() / weight.sum()))
        if last:
            break
        said, right, weight = _halved(said, halved), _halved(right, halved), smaller
    powers = np.array(_SCALES[: len(means)]) / sum(_SCALES[: len(means)])
    # what is less alike than chance counts as not alike: a negative number has no such power
    return float(np.prod(np.maximum(means, 0.0) ** powers))


def _seen(pair: _Pair) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Images without a hole, and the pixels whose window sees no hole; None where nothing can be compared."""
    from scipy.ndimage import maximum_filter

    holes = ~np.isfinite(pair.truth)
    known = pair.known
    if holes.any():
        known = known & ~maximum_filter(holes, _SIDE)
    # without its small constants SSIM divides 0 by 0
    if (_K1 * pair.range) ** 2 == 0 or not known.any():
        return None
    return np.where(holes, 0.0, pair.prediction), np.where(holes, 0.0, pair.truth), known


def _similarity(said: np.ndarray, right: np.ndarray, span: float) -> tuple[np.ndarray, np.ndarray]:
    """SSIM at each pixel, and its part that compares contrast and structure alone."""
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    mean_s, mean_r = _blurred(said), _blurred(right)
    var_s = _blurred(said * said) - mean_s**2
    var_r = _blurred(right * right) - mean_r**2
    cov = _blurred(said * right) - mean_s * mean_r
    structure = (2 * cov + c2) / (var_s + var_r + c2)
    luminance = (2 * mean_s * mean_r + c1) / (mean_s**2 + mean_r**2 + c1)
    return luminance * structure, structure


def _blurred(image: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    blurred: np.ndarray = gaussian_filter(image, _SIGMA, mode="reflect", truncate=_CUT)
    return blurred


def _halved(image: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """Means of two neighbors along some axes; an odd last one is left out."""
    for axis in axes:
        even = image.shape[axis] // 2 * 2
        image = (image.take(range(0, even, 2), axis) + image.take(range(1, even, 2), axis)) / 2
    return image


def _above(pair: _Pair) -> tuple[int, int, int, int]:
    """Pixels above the threshold in both, in the prediction alone, in the truth alone, in neither."""
    said, right = pair.values
    cut = (right.min() + right.max()) / 2 if pair.threshold is None else pair.threshold
    a, b = said > cut, right > cut
    return int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum())


def _dice(pair: _Pair) -> float:
    both, extra, missed, _ = _above(pair)
    return 2 * both / (2 * both + extra + missed) if both + extra + missed else np.nan


def _iou(pair: _Pair) -> float:
    both, extra, missed, _ = _above(pair)
    return both / (both + extra + missed) if both + extra + missed else np.nan


def _accuracy(pair: _Pair) -> float:
    both, _, _, neither = _above(pair)
    return (both + neither) / int(pair.known.sum())


_FUNCTIONS = {
    "r2": _r2,
    "corr": _correlation,
    "ssim": _ssim,
    "ms_ssim": _ms_ssim,
    "mae": _mae,
    "mse": _mse,
    "dice": _dice,
    "iou": _iou,
    "acc": _accuracy,
}
