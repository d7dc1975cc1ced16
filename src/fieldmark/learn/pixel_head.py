"""Fit a classifier of pixels on the features under the marks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fieldmark.core.seeds import derive_seed
from fieldmark.infer.forward import fit_to_net
from fieldmark.learn.estimate import Estimate
from fieldmark.learn.views import Lesson, Viewer, fit_head, view_columns, weigh_viewers
from fieldmark.models.heads import PooledHead, enlarge

if TYPE_CHECKING:
    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net
    from fieldmark.recipes import FitRecipe, HeadConfig
    from fieldmark.recipes.fit import Member

TILE = 512


def pixel_head(net: Net, samples: Samples, recipe: FitRecipe) -> Estimate | None:
    """The phase that fits a head; None where nothing is marked or no head is wanted."""
    if recipe.head.kind == "none" or len(samples.marks) == 0:
        return None
    return Estimate("pixel-head", [lambda net: _solve(net, samples, recipe.head, recipe.seed)])


def _solve(net: Net, samples: Samples, config: HeadConfig, seed: int) -> dict[str, float]:
    if config.kind == "adaptive":
        from fieldmark.learn.decoders import fit_decoder

        return fit_decoder(net, samples, config, seed)
    rows = thin_marks(samples, config.max_pixels_per_stroke, seed)
    features, widths = marked_features(net, samples, rows)
    marks = samples.marks.where(rows)
    lesson = Lesson(features, marks.klass, marks.image, marks.stroke, samples.classes)
    told = {"pixels": float(len(features)), "features": float(features.shape[1])}
    views = net.views()
    if not views:
        net.head = fit_head(lesson, config, seed)
        return told
    viewers = [
        Viewer(member, view_columns(widths, views[member.view])) for member in config.members if _fits(member, config)
    ]
    pool = PooledHead(
        [views[viewer.member.view] for viewer in viewers], [viewer.fit(lesson, config, seed) for viewer in viewers]
    )
    weights = weigh_viewers(lesson, viewers, config, seed)
    pool.weights = torch.from_numpy(weights.astype(np.float32))
    net.head = pool
    return told | {f"weight {place} ({v.name})": float(weights[place]) for place, v in enumerate(viewers)}


def _fits(member: Member, config: HeadConfig) -> bool:
    """Only forests are bagged: another head would look twice at the same."""
    return config.kind == "forest" or not member.bagged


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


def marked_features(net: Net, samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Features (N, F) float32 of the chosen marks, in the order of `rows`, and the width of each level."""
    wanted = np.zeros(len(samples.marks), bool)
    wanted[rows] = True
    found, parts = [], []
    widths: list[int] = []
    for index, tile, inside in samples.marked_tiles(tile=TILE, stride=net.strides, radius=net.radii):
        chosen = inside[wanted[inside]]
        if len(chosen) == 0:
            continue
        prepared = torch.from_numpy(fit_to_net(samples.read(index, tile.read, spatial=net.spatial), net))[None]
        at = (samples.marks.place[chosen] - np.array(tile.read.start))[:, -net.spatial :].T
        with torch.inference_mode():
            levels = [enlarge(level, prepared.shape[2:])[0][:, *at].T.numpy() for level in net.levels(prepared)]
        widths = [level.shape[1] for level in levels]
        found.append(chosen)
        parts.append(np.concatenate(levels, axis=1, dtype=np.float32))
    order = np.argsort(np.concatenate(found), kind="stable")
    return np.concatenate(parts)[order], widths
