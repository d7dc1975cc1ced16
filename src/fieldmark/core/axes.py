"""The order of an image's axes, and how large a pixel is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

AXES = "tczyx"
"""Every image is seen in this order: time, channel, depth, row, column."""


@dataclass(frozen=True, slots=True)
class PixelSize:
    """Size of a pixel in micrometers; None where the file does not say."""

    z: float | None = None
    y: float | None = None
    x: float | None = None


Factors = tuple[float, float, float]
"""By how much an image is scaled along z, y and x."""

AS_IS: Factors = (1.0, 1.0, 1.0)


def factors_of(by: float | Sequence[float] | None) -> Factors:
    """Factors along z, y and x: one alone is for y and x, three are for each axis, None is for an image as it is."""
    if by is None:
        return AS_IS
    if isinstance(by, int | float):
        return (1.0, float(by), float(by))
    z, y, x = (float(factor) for factor in by)
    return z, y, x


def spelled_factors(factors: Factors) -> str:
    """Factors as a recipe has them: `0.5`, or `[2, 1, 1]`."""
    z, y, x = factors
    return f"{y:g}" if z == 1 and y == x else f"[{z:g}, {y:g}, {x:g}]"
