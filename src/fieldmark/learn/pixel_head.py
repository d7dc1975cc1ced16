"""Fit a classifier of pixels on the features under the marks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fieldmark.core.seeds import derive_seed
from fieldmark.learn.estimate import Estimate
from fieldmark.learn.solvers import fit_forest, fit_logistic

if TYPE_CHECKING:
    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net
    from fieldmark.recipes import FitRecipe, HeadConfig

TILE = 512


def pixel_head(net: Net, samples: Samples, recipe: FitRecipe) -> Estimate | None:
    """The phase that fits a head; None where nothing is marked or no head is wanted."""
    if recipe.head.kind == "none" or len(samples.marks) == 0:
        return None
    return Estimate("pixel-head", [lambda net: _solve(net, samples, recipe.head, recipe.seed)])


def _solve(net: Net, samples: Samples, config: HeadConfig, seed: int) -> dict[str, float]:
    chosen = thin_marks(samples, config.max_pixels_per_stroke, seed)
    features, classes, strokes = marked_features(net, samples, chosen)
    weights = stroke_weights(classes, strokes)
    fit = fit_forest if config.kind == "forest" else fit_logistic
    net.head = fit(features, classes, weights, samples.classes, config, derive_seed(seed, "pixel-head"))
    return {"pixels": float(len(features)), "features": float(features.shape[1])}


def thin_marks(samples: Samples, most: int, seed: int) -> np.ndarray:
    """Rows of the marks with at most `most` pixels of each stroke, drawn by the stroke's own seed."""
    rows = []
    for stroke in np.unique(samples.marks.stroke):
        own = np.flatnonzero(samples.marks.stroke == stroke)
        if len(own) > most:
            rng = np.random.default_rng(derive_seed(seed, "thin", int(stroke)))
            own = np.sort(rng.choice(own, most, replace=False))
        rows.append(own)
    return np.sort(np.concatenate(rows))


def marked_features(net: Net, samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, F) float32, classes (N,) and strokes (N,) of the chosen marks, in the order of `rows`."""
    wanted = np.zeros(len(samples.marks), bool)
    wanted[rows] = True
    found: dict[str, list[np.ndarray]] = {"rows": [], "features": []}
    for index, tile, inside in samples.marked_tiles(tile=TILE, stride=net.stride, radius=net.radius):
        inside = inside[wanted[inside]]
        if len(inside) == 0:
            continue
        from fieldmark.infer.forward import pad_to_stride

        prepared = pad_to_stride(samples.read(index, tile.read), net.stride)
        with torch.inference_mode():
            maps = net.features(torch.from_numpy(prepared)[None])[0].numpy()
        y, x = (samples.marks.place[inside, 2:] - np.array(tile.read.start[2:])).T
        found["rows"].append(inside)
        found["features"].append(maps[:, y, x].T.astype(np.float32))
    order = np.argsort(np.concatenate(found["rows"]), kind="stable")
    features = np.concatenate(found["features"])[order]
    return features, samples.marks.klass[rows], samples.marks.stroke[rows]


def stroke_weights(classes: np.ndarray, strokes: np.ndarray) -> np.ndarray:
    """One weight a pixel, so that every class weighs the same, and within it every stroke by its root size.

    Returns:
        (N,) float64 with mean 1.
    """
    weights = np.zeros(len(classes))
    for klass in np.unique(classes):
        own = classes == klass
        _ids, inverse, counts = np.unique(strokes[own], return_inverse=True, return_counts=True)
        per_pixel = (1 / np.sqrt(counts))[inverse]
        weights[own] = per_pixel / per_pixel.sum()
    mean_one: np.ndarray = weights * (len(weights) / weights.sum())
    return mean_one
