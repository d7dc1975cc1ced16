"""From images to one answer: means over images, how far to trust them, baselines beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fieldmark.core.seeds import derive_seed
from fieldmark.evaluate import ratios
from fieldmark.evaluate.counts import count_pixels
from fieldmark.evaluate.weighted import mean_absolute_error, weighted_fbeta

METRICS = ("dice", "iou", "precision", "recall", "weighted_fbeta", "mae")
"""What is measured for each class. All in [0, 1]; more is better, but for `mae`."""
MIN_IMAGES = 5
"""With fewer images than this, an interval would say more than anybody knows."""
RESAMPLES = 2000
CONFIDENCE = 0.95

Scores = dict[str, float | None]
"""Metric to value; None where it does not exist."""


@dataclass(frozen=True, slots=True)
class ImageScore:
    """The metrics of one image, by class name."""

    image: str
    classes: dict[str, Scores]


def score_image(
    image: str,
    prediction: np.ndarray,
    truth: np.ndarray,
    class_values: Mapping[str, int],
    *,
    unknown: np.ndarray | None = None,
    probabilities: np.ndarray | None = None,
) -> ImageScore:
    """All metrics of one image.

    Args:
        image: Its name, for lists.
        prediction: (h, w) integers, the value that each predicted class is written as.
        truth: (h, w) integers, the same values.
        class_values: Names of the K classes and the value each is written as, in order.
        unknown: (h, w) bool, True where nobody knows the truth: left out of every metric.
        probabilities: (K, h, w) in [0, 1] in the order of the classes, for `weighted_fbeta` and
            `mae`; the prediction itself, as 0 and 1, where None.

    Raises:
        BadInput: Shapes differ.
    """
    counts = count_pixels(prediction, truth, tuple(class_values.values()), unknown)
    columns = {
        "dice": ratios.dice(counts),
        "iou": ratios.iou(counts),
        "precision": ratios.precision(counts),
        "recall": ratios.recall(counts),
    }
    classes = {}
    for index, (name, value) in enumerate(class_values.items()):
        foreground = (prediction == value) if probabilities is None else probabilities[index]
        scores: Scores = {metric: _known(column[index]) for metric, column in columns.items()}
        scores["weighted_fbeta"] = _known(weighted_fbeta(foreground, truth == value, unknown))
        scores["mae"] = _known(mean_absolute_error(foreground, truth == value, unknown))
        classes[name] = scores
    return ImageScore(image, classes)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def summarize(
    scores: Sequence[ImageScore],
    *,
    taught: Sequence[str] = (),
    baselines: Mapping[str, Sequence[ImageScore]] | None = None,
    without_truth: Sequence[str] = (),
    notes: Sequence[str] = (),
    metrics: Sequence[str] = METRICS,
    seed: int = 0,
) -> dict[str, Any]:
    """Means over the images that taught nothing, with bootstrap intervals, ready for JSON.

    Args:
        scores: One for each image with truth.
        taught: Names of images that taught the model: listed apart, counted nowhere, for the
            baselines neither.
        baselines: Scores of other methods on the same images, by the method's name.
        without_truth: Names of images that could not be scored.
        notes: Sentences that a reader must see, such as how masks were read.
        metrics: Those of the scores that are wanted.
        seed: Seeds the resampling; the same scores give the same intervals.

    Returns:
        `{"images": n, "taught": [...], "without_truth": [...], "notes": [...], "classes":
        {class: {metric: mean, metric_interval: [low, high]}}, "baselines": {method: {class: ...}}}`.
        A mean is null where no image has the metric; an interval is null below five images.
    """
    left_out = set(taught)
    return {
        "images": sum(score.image not in left_out for score in scores),
        "taught": sorted(left_out),
        "without_truth": sorted(without_truth),
        "notes": list(notes),
        "classes": _classes(scores, left_out, metrics, seed),
        "baselines": {
            method: _classes(theirs, left_out, metrics, seed) for method, theirs in (baselines or {}).items()
        },
    }


def _classes(
    scores: Sequence[ImageScore], left_out: set[str], metrics: Sequence[str], seed: int
) -> dict[str, dict[str, Any]]:
    names = list(dict.fromkeys(name for score in scores for name in score.classes))
    counted = [score for score in scores if score.image not in left_out]
    return {name: _one_class([score.classes.get(name, {}) for score in counted], name, metrics, seed) for name in names}


def _one_class(scores: Sequence[Scores], name: str, metrics: Sequence[str], seed: int) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for metric in metrics:
        values = [value for score in scores if (value := score.get(metric)) is not None]
        summary[metric] = float(np.mean(values)) if values else None
        summary[f"{metric}_interval"] = bootstrap_interval(values, derive_seed(seed, "bootstrap", name, metric))
    return summary


def bootstrap_interval(values: Sequence[float], seed: int) -> list[float] | None:
    """The 95 % percentile interval of the mean, from 2000 resamples of the images.

    Args:
        values: One for each image.
        seed: The same values and seed give the same interval.

    Returns:
        `[low, high]`, or None below five values.
    """
    if len(values) < MIN_IMAGES:
        return None
    sample = np.asarray(values, np.float64)
    rng = np.random.default_rng(seed)
    # one resample at a time: all of them together would be 2000 times the images
    means = [sample[rng.integers(len(sample), size=len(sample))].mean() for _ in range(RESAMPLES)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return [float(low), float(high)]
