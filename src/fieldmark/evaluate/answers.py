"""How good answers for whole images are: a confusion matrix first, ratios last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fieldmark.errors import BadInput
from fieldmark.evaluate import ratios
from fieldmark.evaluate.counts import PixelCounts


@dataclass(frozen=True, slots=True)
class AnswerScores:
    """Scores of K classes on the images whose class is known.

    Args:
        confusion: (K, K) int64: images of the row's class that were answered as the column's.
        classes: The names of the K classes.
    """

    confusion: np.ndarray
    classes: tuple[str, ...]

    @property
    def images(self) -> int:
        """Images whose class is known."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """The share of images that were answered rightly; NaN without images."""
        return float(np.trace(self.confusion) / self.images) if self.images else float("nan")

    @property
    def commonest(self) -> float:
        """The accuracy of always answering the commonest class: what any accuracy stands beside."""
        return float(self.confusion.sum(axis=1).max() / self.images) if self.images else float("nan")

    @property
    def kappa(self) -> float:
        """Cohen's kappa (Cohen 1960): agreement beyond chance; NaN where truth and answers are all of one class."""
        if not self.images:
            return float("nan")
        chance = float((self.confusion.sum(axis=0) * self.confusion.sum(axis=1)).sum() / self.images**2)
        return (self.accuracy - chance) / (1 - chance) if chance < 1 else float("nan")

    @property
    def support(self) -> np.ndarray:
        """(K,) int64 images of each class."""
        counts: np.ndarray = self.confusion.sum(axis=1)
        return counts

    def per_class(self) -> dict[str, np.ndarray]:
        """Accuracy (of yes or no), precision, recall and F1 of each class: (K,) float64.

        What is neither in the truth nor answered is NaN; any other 0/0 is 0 (see `fieldmark.evaluate.ratios`).
        """
        counts = _one_against_all(self.confusion)
        return {
            "accuracy": (counts.tp + counts.tn) / max(1, self.images),
            "precision": ratios.precision(counts),
            "recall": ratios.recall(counts),
            "f1": ratios.dice(counts),
        }

    def to_json(self) -> dict[str, Any]:
        """JSON values; null for what does not exist."""
        columns = self.per_class()
        support = self.support.tolist()
        return {
            "images": self.images,
            "accuracy": _known(self.accuracy),
            "kappa": _known(self.kappa),
            "baselines": {"always the commonest class": {"accuracy": _known(self.commonest), "kappa": 0.0}},
            "classes": {
                name: {metric: _known(column[place]) for metric, column in columns.items()}
                | {"support": support[place]}
                for place, name in enumerate(self.classes)
            },
            "confusion": self.confusion.tolist(),
        }

    def lines(self) -> list[str]:
        """What `flim validate` prints."""
        columns = self.per_class()
        each = [
            f"{name}: {_told({metric: column[place] for metric, column in columns.items()})}, "
            f"support {self.support[place]}"
            for place, name in enumerate(self.classes)
        ]
        baseline = f"always the commonest class: accuracy {self.commonest:.4f}, kappa 0.0000"
        return [f"accuracy: {self.accuracy:.4f}", f"kappa: {self.kappa:.4f}", baseline, *each]


def score_answers(
    truth: np.ndarray, answers: np.ndarray, classes: Sequence[str], *, known: np.ndarray | None = None
) -> AnswerScores:
    """Compare answers with the truth.

    Args:
        truth: (N,) integers, place of each image's class among the classes.
        answers: (N,) integers, place of the class that was answered.
        classes: The names of the K classes.
        known: (N,) bool, False where nobody knows the class: left out, whatever stands in `truth`.

    Raises:
        BadInput: The lengths differ, or a known truth or an answer is no place of a class.
    """
    if len(truth) != len(answers) or (known is not None and len(known) != len(truth)):
        raise BadInput(f"There are {len(truth)} images with {len(answers)} answers. Give one answer for each image.")
    chosen = np.ones(len(truth), bool) if known is None else np.asarray(known, bool)
    pairs = np.column_stack([truth, answers])[chosen].astype(np.int64)
    if len(pairs) and not (pairs.min() >= 0 and pairs.max() < len(classes)):
        wrong = pairs[(pairs < 0) | (pairs >= len(classes))][0]
        raise BadInput(f"{wrong} is no place of a class: there are {len(classes)}. Mark what is unknown in `known`.")
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (pairs[:, 0], pairs[:, 1]), 1)
    return AnswerScores(confusion, tuple(classes))


def _one_against_all(confusion: np.ndarray) -> PixelCounts:
    tp = np.diag(confusion)
    fp, fn = confusion.sum(axis=0) - tp, confusion.sum(axis=1) - tp
    return PixelCounts(tp=tp, fp=fp, fn=fn, tn=confusion.sum() - tp - fp - fn)


def _told(ratios_of: dict[str, float]) -> str:
    """One class's ratios; in the place of numbers that do not exist, why there are none."""
    if any(np.isnan(value) for value in ratios_of.values()):
        return "no image is of it, and none was answered so"
    return ", ".join(f"{metric} {value:.4f}" for metric, value in ratios_of.items())


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
