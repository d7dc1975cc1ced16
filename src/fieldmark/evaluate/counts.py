"""Pixels counted for each class: right, wrong, missed. Counts add up; ratios do not, so they come last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BLOCK = 1 << 22
"""Pixels counted at once: what bounds the memory, whatever the image's size."""


@dataclass(frozen=True, slots=True)
class PixelCounts:
    """Known pixels, for each class against all others. Each array is (K,) int64, in the order of the classes."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

    @classmethod
    def none(cls, classes: int) -> PixelCounts:
        """Nothing counted yet, for that many classes."""
        return cls(*(np.zeros(classes, np.int64) for _ in range(4)))

    def __add__(self, other: PixelCounts) -> PixelCounts:
        return PixelCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def known(self) -> int:
        """Pixels counted in all."""
        return int(self.tp[0] + self.fp[0] + self.fn[0] + self.tn[0]) if len(self.tp) else 0


def count_pixels(
    prediction: np.ndarray, truth: np.ndarray, values: Sequence[int], unknown: np.ndarray | None = None
) -> PixelCounts:
    """Compare two label maps pixel by pixel, a block at a time.

    Args:
        prediction: Integers of any shape. A value that is no class's is an answer that is
            right for no class.
        truth: Integers of the same shape. What is no class's value belongs to none of them:
            mark it in `unknown` if it is not known.
        values: The value that each of the K classes is written as.
        unknown: Bool of the same shape, True where nobody knows the truth: left out of all four
            counts. None where everything is known.

    Raises:
        BadInput: The shapes differ.
    """
    for name, other in (("truth", truth), ("unknown", unknown)):
        if other is not None and other.shape != prediction.shape:
            raise BadInput(
                f"The prediction has shape {prediction.shape}, but {name} has {other.shape}. "
                f"Compare maps of the same image and size."
            )
    counts = PixelCounts.none(len(values))
    for block in _blocks(prediction.shape):
        left_out = None if unknown is None else np.asarray(unknown[block])
        counts += _count(np.asarray(prediction[block]), np.asarray(truth[block]), values, left_out)
    return counts


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of the first axis that hold about `_BLOCK` pixels each."""
    rows = max(1, _BLOCK // max(1, int(np.prod(shape[1:]))))
    for start in range(0, shape[0], rows):
        yield slice(start, start + rows)


def _count(prediction: np.ndarray, truth: np.ndarray, values: Sequence[int], unknown: np.ndarray | None) -> PixelCounts:
    if unknown is not None:
        prediction, truth = prediction[~unknown], truth[~unknown]
    said = np.array([np.count_nonzero(prediction == value) for value in values], np.int64)
    true = np.array([np.count_nonzero(truth == value) for value in values], np.int64)
    both = np.array([np.count_nonzero((prediction == value) & (truth == value)) for value in values], np.int64)
    return PixelCounts(tp=both, fp=said - both, fn=true - both, tn=prediction.size - said - true + both)
