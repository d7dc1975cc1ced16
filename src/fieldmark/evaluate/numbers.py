"""How near predicted numbers of whole images are to the true ones, each number by itself and all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fieldmark.core.seeds import derive_seed
from fieldmark.errors import BadInput, NotFound
from fieldmark.evaluate.summary import CONFIDENCE, MIN_IMAGES, RESAMPLES

METRICS = ("r2", "corr", "mae", "mse")
"""1 - squared error / variance of the truth, Pearson's correlation, mean absolute and mean squared difference."""
ALL = "all"
"""Each metric's mean over the numbers; a number in large units then weighs as much as any other in `r2` and `corr`."""


def score_numbers(
    said: np.ndarray, right: np.ndarray, names: Sequence[str], *, metrics: Sequence[str] = METRICS, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Compare rows of numbers.

    Args:
        said: (N, D) real, what was predicted.
        right: (N, D) real; NaN is unknown and counts nowhere.
        names: Of the D numbers.
        metrics: Which of `METRICS`.
        seed: Seeds the resampling of images for the intervals.

    Returns:
        By name, and for several numbers by `ALL`: each metric, `METRIC_interval` (95 % over resampled images; None
        below five), and `images`, how many are known. A metric is None where it does not exist: R2 and correlation
        where the truth is constant, and correlation where the prediction is.

    Raises:
        NotFound: There is no such metric.
        BadInput: Shapes differ, or the prediction holds values that are not finite.
    """
    require_metrics(metrics)
    if said.shape != right.shape or said.shape[1:] != (len(names),):
        raise BadInput(f"There are {said.shape} predicted, {right.shape} true numbers and {len(names)} names.")
    if not np.isfinite(said).all():
        raise BadInput("The prediction holds values that are not finite numbers. Predict it anew.")
    whole = _measured(said, right)
    resampled = _resampled(said, right, seed) if len(said) >= MIN_IMAGES else None
    known = np.isfinite(right).sum(axis=0)
    found = {}
    for place, name in enumerate(names):
        enough = resampled if known[place] >= MIN_IMAGES else None
        found[name] = {"images": int(known[place]), **_row(metrics, whole, enough, np.array([place]))}
    if len(names) > 1:
        title = ALL if ALL not in names else f"{ALL} numbers"
        enough = resampled if known.min() >= MIN_IMAGES else None
        found[title] = {
            "images": int(np.isfinite(right).any(axis=1).sum()),
            **_row(metrics, whole, enough, np.arange(len(names))),
        }
    return found


def require_metrics(metrics: Sequence[str]) -> None:
    """Raise NotFound for one that is none of `METRICS`."""
    for metric in metrics:
        if metric not in METRICS:
            raise NotFound("metric of numbers", metric, METRICS)


def _row(
    metrics: Sequence[str], whole: np.ndarray, resampled: np.ndarray | None, places: np.ndarray
) -> dict[str, float | list[float] | None]:
    """Each metric's mean over some numbers, with its interval."""
    row: dict[str, float | list[float] | None] = {}
    for metric in metrics:
        kind = METRICS.index(metric)
        row[metric] = _known(_mean(whole[kind][places]))
        row[f"{metric}_interval"] = None
        if resampled is not None and row[metric] is not None:
            means = np.array([_mean(values) for values in resampled[:, kind][:, places]])
            tail = (1 - CONFIDENCE) / 2
            row[f"{metric}_interval"] = [float(n) for n in np.nanquantile(means, [tail, 1 - tail])]
    return row


def _resampled(said: np.ndarray, right: np.ndarray, seed: int) -> np.ndarray:
    """(R, metrics, D): what is measured on images drawn with replacement."""
    rng = np.random.default_rng(derive_seed(seed, "bootstrap", "numbers"))
    drawn = (rng.integers(len(said), size=len(said)) for _ in range(RESAMPLES))
    return np.stack([_measured(said[rows], right[rows]) for rows in drawn])


def _measured(said: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(metrics, D) float64 in the order of `METRICS`; NaN where one does not exist."""
    known = np.isfinite(right)
    count = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.where(known, said - right, 0)
        ours, true = (np.where(known, values, 0) for values in (said, right))
        ours, true = (np.where(known, values - values.sum(axis=0) / count, 0) for values in (ours, true))
        r2 = 1 - (gap**2).sum(axis=0) / (true**2).sum(axis=0)
        corr = (ours * true).sum(axis=0) / np.sqrt((ours**2).sum(axis=0) * (true**2).sum(axis=0))
        mae, mse = np.abs(gap).sum(axis=0) / count, (gap**2).sum(axis=0) / count
    # by the values, not by their variance, which rounding keeps above zero
    flat, still = _constant(right, known), _constant(said, known)
    return np.stack([np.where(flat, np.nan, r2), np.where(flat | still, np.nan, corr), mae, mse])


def _constant(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(D,) bool: whether all known values of a number are one."""
    least = np.where(known, values, np.inf).min(axis=0, initial=np.inf)
    most = np.where(known, values, -np.inf).max(axis=0, initial=-np.inf)
    constant: np.ndarray = least >= most
    return constant


def _mean(values: np.ndarray) -> float:
    """Of those that exist; NaN for none."""
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
