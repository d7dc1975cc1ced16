"""Batches of images with what they should answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Lesson:
    """A batch of samples, B of them; S is (y, x) or (z, y, x).

    Args:
        x: (B, C, *S) float32, prepared pixels.
        target: (B, T, *S) float32: places of classes (T = 1) or values of images. Where the weight is 0 it may be
            anything, NaN too. A 2.5-D network's target may have fewer slices than x.
        weight: (B, 1, *S) float32, as large as the target; 0 where nobody knows the answer.
        classes: Whether the target holds places of classes.
    """

    x: Tensor
    target: Tensor
    weight: Tensor
    classes: bool = False
