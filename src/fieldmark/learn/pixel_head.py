"""Fit a classifier of pixels on the features under the marks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fieldmark.learn.estimate import Estimate
from fieldmark.learn.refining import choose_refiner, windows_of
from fieldmark.learn.sampling import features_at
from fieldmark.learn.views import Lesson, Viewer, fit_head, thin_rows, view_columns, weigh_viewers
from fieldmark.models.heads import PooledHead
from fieldmark.models.refine import Walker

if TYPE_CHECKING:
    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net
    from fieldmark.recipes import FitRecipe, HeadConfig
    from fieldmark.recipes.fit import Member


def pixel_head(net: Net, samples: Samples, recipe: FitRecipe) -> Estimate | None:
    """The phase that fits a head; None where nothing is marked or no head is wanted."""
    if recipe.head.kind == "none" or len(samples.marks) == 0:
        return None
    return Estimate("pixel-head", [lambda net: _solve(net, samples, recipe.head, recipe.seed)])


def _solve(net: Net, samples: Samples, config: HeadConfig, seed: int) -> dict[str, float]:
    if config.kind == "adaptive":
        from fieldmark.learn.decoders import fit_decoder

        net.refiner = Walker() if config.refine == "random-walker" else None
        return fit_decoder(net, samples, config, seed)
    rows = thin_marks(samples, config.max_pixels_per_stroke, seed)
    windows = windows_of(net, samples, seed) if config.refine == "auto" else []
    marks = samples.marks.where(rows)
    images, places = (
        np.concatenate(parts)
        for parts in ((marks.image, *(w.images for w in windows)), (marks.place, *(w.places for w in windows)))
    )
    features, widths = features_at(net, samples, images, places)
    lesson = Lesson(features[: len(rows)], marks.klass, marks.image, marks.stroke, samples.classes)
    told = {"pixels": float(len(rows)), "features": float(features.shape[1])}
    told |= _fit(net, lesson, widths, config, seed)
    return told | choose_refiner(net, samples, config.refine, windows, features[len(rows) :], widths)


def _fit(net: Net, lesson: Lesson, widths: list[int], config: HeadConfig, seed: int) -> dict[str, float]:
    """Set the head: one for each view of the levels, or one for all of them; what the views weigh."""
    views = net.views()
    if not views:
        net.head = fit_head(lesson, config, seed)
        return {}
    viewers = [
        Viewer(member, view_columns(widths, views[member.view])) for member in config.members if _fits(member, config)
    ]
    pool = PooledHead(
        [views[viewer.member.view] for viewer in viewers], [viewer.fit(lesson, config, seed) for viewer in viewers]
    )
    weights = weigh_viewers(lesson, viewers, config, seed)
    pool.weights = torch.from_numpy(weights.astype(np.float32))
    net.head = pool
    return {f"weight {place} ({v.name})": float(weights[place]) for place, v in enumerate(viewers)}


def _fits(member: Member, config: HeadConfig) -> bool:
    """Only forests are bagged: another head would look twice at the same."""
    return config.kind == "forest" or not member.bagged


def thin_marks(samples: Samples, most: int, seed: int) -> np.ndarray:
    """Rows of the marks with at most `most` pixels of each stroke, drawn by the stroke's own seed."""
    return thin_rows(samples.marks.stroke, most, seed)


def marked_features(net: Net, samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Features (N, F) float32 of the chosen marks, in the order of `rows`, and the width of each level."""
    return features_at(net, samples, samples.marks.image[rows], samples.marks.place[rows])
