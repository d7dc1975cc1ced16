"""Lengths in micrometers, from the units that image formats use."""

from __future__ import annotations

from math import isfinite

_MICROMETERS = {
    "angstrom": 1e-4,
    "å": 1e-4,
    "pm": 1e-6,
    "picometer": 1e-6,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "um": 1.0,
    "µm": 1.0,  # micro sign
    "μm": 1.0,  # Greek mu
    "\\u00b5m": 1.0,  # as ImageJ writes it
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "inch": 25_400.0,
    "in": 25_400.0,
}


def micrometers(size: float | str, unit: str) -> float | None:
    """A positive length in micrometers; None for a unit that is no length, or a size that is none."""
    factor = _MICROMETERS.get(unit.strip().lower())
    try:
        value = float(size)
    except ValueError:
        return None
    if factor is None or not isfinite(value) or value <= 0:
        return None
    return value * factor
