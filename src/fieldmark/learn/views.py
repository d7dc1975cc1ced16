"""Which view of an image to trust: heads on sets of levels, weighed by what they say of strokes they have not seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.core.seeds import derive_seed
from fieldmark.learn.solvers import fit_forest, fit_logistic
from fieldmark.models.heads import FLOOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fieldmark.models.heads import Head
    from fieldmark.recipes import HeadConfig
    from fieldmark.recipes.fit import Member

STEPS = 4
"""Weights are tried in fourths."""
JUDGED_TREES = 10
JUDGED_PIXELS = 200
"""Members are compared by forests of fewer trees, on fewer pixels of a stroke, than they then have."""
SHARPNESS = 10.0
"""How fast trust falls with the mean log-likelihood: a loss of 0.04 costs a factor e."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """Labelled pixels as a classifier sees them.

    Args:
        features: (N, F) float32.
        classes: (N,) place of the class.
        images: (N,) which image.
        strokes: (N,) which stroke.
        count: Classes of the model.
    """

    features: np.ndarray
    classes: np.ndarray
    images: np.ndarray
    strokes: np.ndarray
    count: int

    def seen_by(self, columns: np.ndarray) -> Lesson:
        return replace(self, features=self.features[:, columns])

    def where(self, rows: np.ndarray) -> Lesson:
        return Lesson(self.features[rows], self.classes[rows], self.images[rows], self.strokes[rows], self.count)


@dataclass(frozen=True, slots=True)
class Viewer:
    """A member of a pool and the columns of the features that it sees."""

    member: Member
    columns: np.ndarray

    @property
    def name(self) -> str:
        return f"{self.member.view}, bagged" if self.member.bagged else self.member.view

    def fit(self, lesson: Lesson, config: HeadConfig, seed: int) -> Head:
        return fit_head(lesson.seen_by(self.columns), config, seed, bagged=self.member.bagged)


def fit_head(lesson: Lesson, config: HeadConfig, seed: int, *, bagged: bool = False) -> Head:
    """The head that the recipe asks for, every class and in it every stroke with the same voice."""
    weights = stroke_weights(lesson.classes, lesson.strokes)
    own = derive_seed(seed, "pixel-head")
    if config.kind == "logistic":
        return fit_logistic(lesson.features, lesson.classes, weights, lesson.count, config, own)
    return fit_forest(lesson.features, lesson.classes, weights, lesson.count, config, own, bagged=bagged)


def stroke_weights(classes: np.ndarray, strokes: np.ndarray) -> np.ndarray:
    """One weight a pixel: every class weighs the same, and within it every stroke.

    Returns:
        (N,) float64 with mean 1.
    """
    weights = np.zeros(len(classes))
    for klass in np.unique(classes):
        own = classes == klass
        _, inverse, counts = np.unique(strokes[own], return_inverse=True, return_counts=True)
        weights[own] = (1.0 / counts)[inverse] / len(counts)
    mean_one: np.ndarray = weights * (len(weights) / weights.sum())
    return mean_one


def view_columns(widths: Sequence[int], view: Sequence[int]) -> np.ndarray:
    """The columns of a feature matrix that belong to some levels."""
    ends = np.cumsum(widths)
    return np.concatenate([np.arange(ends[level] - widths[level], ends[level]) for level in view])


def weigh_viewers(lesson: Lesson, viewers: Sequence[Viewer], config: HeadConfig, seed: int) -> np.ndarray:
    """How much to trust each member: (V,) weights that sum to 1.

    The strokes are held out in parts (whole images where several are marked, else whole
    strokes), and every mixture of members is judged by the log-likelihood of its pool on
    what was held out. The weights are the mean over mixtures, each by how well it does:
    where nothing tells the members apart, or nothing is held out, all are trusted alike.
    """
    if not config.folds:
        return np.full(len(viewers), 1 / len(viewers))
    config = config.model_copy(update={"trees": max(1, min(config.trees, JUDGED_TREES))})
    lesson = lesson.where(thin_rows(lesson.strokes, JUDGED_PIXELS, seed))
    parts = hold_out(lesson, config.folds)
    judged = np.zeros((len(viewers), len(lesson.classes), lesson.count))
    known = np.zeros(len(lesson.classes), bool)
    for part in np.unique(parts):
        out = parts == part
        if len(np.unique(lesson.classes[~out])) < len(np.unique(lesson.classes)):
            continue
        known |= out
        for place, viewer in enumerate(viewers):
            head = viewer.fit(lesson.where(~out), config, seed)
            judged[place, out] = _log_shares(head, lesson.features[out][:, viewer.columns])
    if not known.any():
        return np.full(len(viewers), 1 / len(viewers))
    weights = stroke_weights(lesson.classes[known], lesson.strokes[known])
    return _trust(judged[:, known], lesson.classes[known], weights)


def thin_rows(strokes: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Places among (N,) pixels with at most `most` of each stroke, drawn by the stroke's own seed, in order."""
    rows = []
    for stroke in np.unique(strokes):
        own = np.flatnonzero(strokes == stroke)
        if len(own) > most:
            rng = np.random.default_rng(derive_seed(seed, "thin", int(stroke)))
            own = np.sort(rng.choice(own, most, replace=False))
        rows.append(own)
    return np.sort(np.concatenate(rows))


def hold_out(lesson: Lesson, folds: int) -> np.ndarray:
    """(N,) the part that each pixel is held out with; a class of one stroke is cut along it."""
    images, parts = np.unique(lesson.images, return_inverse=True)
    if len(images) > 1:
        return parts % max(folds, 2)
    parts = np.zeros(len(lesson.classes), np.int64)
    for klass in np.unique(lesson.classes):
        own = np.flatnonzero(lesson.classes == klass)
        strokes, inverse = np.unique(lesson.strokes[own], return_inverse=True)
        parts[own] = inverse % folds if len(strokes) > 1 else np.arange(len(own)) * folds // len(own)
    return parts


def _log_shares(head: Head, features: np.ndarray) -> np.ndarray:
    """(N, F) features to (N, K) logarithms of probabilities."""
    import torch

    rows = torch.from_numpy(np.ascontiguousarray(features.T))[None, :, None]
    with torch.inference_mode():
        shares = head([rows], rows.shape[-2:])[0, :, 0].T
    told: np.ndarray = np.log(np.maximum(shares.numpy(), FLOOR))
    return told


def _trust(judged: np.ndarray, classes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(V, N, K) log shares of the views and the truth to (V,) weights."""
    mixtures = [mix for mix in product(range(STEPS + 1), repeat=len(judged)) if sum(mix) == STEPS]
    grid = np.array(mixtures) / STEPS
    likelihood = np.empty(len(grid))
    for place, mixture in enumerate(grid):
        pooled = np.tensordot(mixture, judged, axes=1)
        truth = pooled[np.arange(len(classes)), classes] - np.logaddexp.reduce(pooled, axis=1)
        likelihood[place] = (weights * truth).sum() / weights.sum()
    trust = np.exp(SHARPNESS * (likelihood - likelihood.max()))
    mean: np.ndarray = (trust[:, None] * grid).sum(axis=0) / trust.sum()
    return mean
