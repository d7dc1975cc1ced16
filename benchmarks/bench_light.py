"""Estimate uneven light that real images were put into, beside microDL's way and BaSiCPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.microscopy_data import DATA, pixels
from benchmarks.rows import Row
from fieldmark.errors import BadInput
from fieldmark.prepare.flat_field import surface_at
from fieldmark.prepare.light import BasicLight, BlockLight, Light

CLAIM = "Light is found from few images, with less error than microDL's way, about BaSiCPy's."
PEER = (
    "microDL's way (a polynomial of order 2 through medians of blocks of the mean image, by our own code), and "
    "BaSiCPy 2.0 with its defaults, where it is installed without what it depends on: it asks for `scipy<1.13`."
)
SIDE = 256
SEEDS = 3
COUNTS = (3, 5, 20, 60)

Estimate = Callable[[np.ndarray], np.ndarray]
"""From (n, y, x) planes to their light, (y, x) of mean 1."""


def measure(counts: Sequence[int] = COUNTS) -> list[Row]:
    """Mean relative error of the light, over seeds and two lamps."""
    rows = []
    for name, planes_of in (("fluorescence nuclei", _nuclei), ("phase contrast of tissue", _tissue)):
        for count in counts:
            cases = [(planes_of(count, seed), lamp) for seed in range(SEEDS) for lamp in _lamps()]
            ours = _errors(cases, _by(BasicLight))
            for peer, estimate in _peers():
                theirs = _errors(cases, estimate)
                told = f"worst {max(ours):.3f} and {max(theirs):.3f}, n={len(cases)}"
                mean = float(np.mean(theirs))
                rows.append(
                    Row(f"{name}, {count} planes, {peer}", float(np.mean(ours)), mean, "of the light", spread=told)
                )
    return rows


def _peers() -> list[tuple[str, Estimate]]:
    found: list[tuple[str, Estimate]] = [("microDL's way", _by(lambda: BlockLight(32, 2)))]
    try:
        from basicpy import BaSiC  # type: ignore[import-not-found]
    except ImportError:
        return found

    def basicpy(planes: np.ndarray) -> np.ndarray:
        model: Any = BaSiC(get_darkfield=False)
        model.fit(planes.astype(np.float32))
        field = np.asarray(model.flatfield, np.float64)
        light: np.ndarray = field / field.mean()
        return light

    return [*found, ("BaSiCPy", basicpy)]


def _by(light_of: Callable[[], Light]) -> Estimate:
    def estimate(planes: np.ndarray) -> np.ndarray:
        light = light_of()
        for plane in planes:
            light.add(plane)
        places = np.arange(SIDE)
        return surface_at(light.surface(), places, places, (SIDE, SIDE))

    return estimate


def _errors(cases: list[tuple[np.ndarray, np.ndarray]], estimate: Estimate) -> list[float]:
    """A light that is refused counts as even light."""
    found = []
    for planes, lamp in cases:
        try:
            light = estimate(planes * lamp)
        except BadInput:
            light = np.ones((SIDE, SIDE))
        found.append(float(np.abs(light / lamp - 1).mean()))
    return found


def _lamps() -> list[np.ndarray]:
    v, u = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE), indexing="ij")
    shapes = 1 + 0.3 * u - 0.2 * v - 0.25 * u**2 - 0.1 * v * u, np.exp(-((u - 0.2) ** 2 + (v + 0.1) ** 2) / 1.62)
    return [shape / shape.mean() for shape in shapes]


def _nuclei(count: int, seed: int) -> np.ndarray:
    """Dark fields of 256 px with bright nuclei, and five gray levels of ground."""
    rng = np.random.default_rng(seed)
    files = sorted((DATA / "nuclei" / "images").iterdir())
    rng.shuffle(files)
    planes: list[np.ndarray] = []
    while len(planes) < count:
        gray = pixels(files.pop())[:3].mean(axis=0)
        if gray.shape == (SIDE, SIDE) and gray.mean() < 60:
            planes.append(gray + 5)
    return np.stack(planes)


def _tissue(count: int, seed: int) -> np.ndarray:
    """Windows of 256 px of one large field, in focus."""
    rng = np.random.default_rng(seed)
    field = pixels(DATA / "stain" / "phase_contrast_z7.ome.tif")[3]
    corners = [(rng.integers(field.shape[0] - SIDE), rng.integers(field.shape[1] - SIDE)) for _ in range(count)]
    return np.stack([field[y : y + SIDE, x : x + SIDE].astype(np.float64) for y, x in corners])
