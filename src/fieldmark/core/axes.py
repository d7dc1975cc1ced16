"""The order of an image's axes, and how large a pixel is."""

from __future__ import annotations

from dataclasses import dataclass

AXES = "tczyx"
"""Every image is seen in this order: time, channel, depth, row, column."""


@dataclass(frozen=True, slots=True)
class PixelSize:
    """Size of a pixel in micrometers; None where the file does not say."""

    z: float | None = None
    y: float | None = None
    x: float | None = None
