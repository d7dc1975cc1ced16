"""What a number must be compared with: guessing, and a random forest on the same strokes.

All take label maps in which 0 is unknown and other values are classes; all give the same
answer for the same seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fieldmark.core.seeds import derive_seed
from fieldmark.errors import NothingLabelled

BETA = 130.0
"""How strongly an edge stops the random walker; scikit-image's default."""
_DIRECT = 1 << 20
"""Pixels up to which its equations are solved directly: faster and exact, but in more memory."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a method says of one image."""

    labels: np.ndarray
    """(h, w) int64, the values of the label maps that taught it."""
    probabilities: np.ndarray | None = None
    """(K, h, w) float32 in the order of the classes, where the method has them."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A fitted method."""

    name: str
    summary: str
    predict: Callable[[np.ndarray, str], Answer]
    """From an image, (h, w, channels) real, and its name, which seeds what is random."""


def class_shares(labels: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Classes among the labelled pixels, and the share of each.

    Returns:
        (K,) values, rising, and (K,) shares that add up to 1.

    Raises:
        NothingLabelled: No pixel is labelled.
    """
    marked = np.concatenate([np.zeros(0, np.int64), *(one[one > 0].astype(np.int64) for one in labels)])
    if not marked.size:
        raise NothingLabelled("No pixel is labelled, so there is nothing to compare with. Draw some strokes first.")
    values, counts = np.unique(marked, return_counts=True)
    return values, counts / counts.sum()


def majority(labels: Sequence[np.ndarray]) -> Baseline:
    """Always the class with the most labelled pixels (the smaller value where two have as many).

    Args:
        labels: (h, w) integers for each image that was drawn on; 0 is unknown.

    Raises:
        NothingLabelled: No pixel is labelled.
    """
    values, shares = class_shares(labels)
    top = int(values[shares.argmax()])

    def predict(image: np.ndarray, name: str) -> Answer:  # the interface of all baselines
        return Answer(np.full(image.shape[:2], top, np.int64))

    return Baseline("majority", "always the class with the most labelled pixels", predict)


def random(labels: Sequence[np.ndarray], *, seed: int = 0) -> Baseline:
    """Each pixel by chance, a class as often as it was labelled.

    Args:
        labels: (h, w) integers for each image that was drawn on; 0 is unknown.
        seed: With the image's name, it decides every draw.

    Raises:
        NothingLabelled: No pixel is labelled.
    """
    values, shares = class_shares(labels)

    def predict(image: np.ndarray, name: str) -> Answer:
        draw = np.random.default_rng(derive_seed(seed, "random baseline", name))
        return Answer(draw.choice(values, size=image.shape[:2], p=shares).astype(np.int64))

    return Baseline("random", "each pixel by chance, a class as often as it was labelled", predict)


def forest(
    images: Sequence[np.ndarray], labels: Sequence[np.ndarray], *, classes: Sequence[int] | None = None, seed: int = 0
) -> Baseline:
    """scikit-image's trainable segmentation, taught by the same strokes.

    Features and forest are those of its gallery: intensity and texture (no edges) at the scales
    1 to 16 px; 50 trees of depth 10, each of a sample of 5 %. Features of a whole image are in
    memory at once: 60 bytes for each pixel and channel.

    Args:
        images: (h, w, channels) real, all with as many channels.
        labels: (h, w) integers for each of them; 0 is unknown.
        classes: Values in the order wanted for `probabilities`; the labelled ones, rising, where None.
        seed: Seeds the forest.

    Raises:
        NothingLabelled: No pixel is labelled.
    """
    from sklearn.ensemble import RandomForestClassifier

    values, _ = class_shares(labels)
    order = list(values) if classes is None else list(classes)
    taught = [(image, one) for image, one in zip(images, labels, strict=True) if (one > 0).any()]
    rows = np.concatenate([forest_features(image)[one > 0] for image, one in taught])
    answers = np.concatenate([one[one > 0] for _, one in taught])
    model = RandomForestClassifier(
        n_estimators=50,
        max_depth=10,
        max_samples=max(1, int(0.05 * len(rows))),
        n_jobs=1,
        random_state=derive_seed(seed, "forest") % 2**32,
    ).fit(rows, answers)

    def predict(image: np.ndarray, name: str) -> Answer:  # the interface of all baselines
        features = forest_features(image)
        found = model.predict_proba(features.reshape(-1, features.shape[-1])).T.reshape(-1, *image.shape[:2])
        probabilities = np.zeros((len(order), *image.shape[:2]), np.float32)
        for value, plane in zip(model.classes_, found, strict=True):
            if value in order:
                probabilities[order.index(value)] = plane
        return Answer(model.classes_[found.argmax(axis=0)].astype(np.int64), probabilities)

    return Baseline("forest", "multiscale features and a random forest, taught by the same strokes", predict)


def forest_features(image: np.ndarray) -> np.ndarray:
    """Intensity and texture, no edges, sigma 1 to 16. (h, w, channels) real to (h, w, 15 * channels) float32."""
    from skimage.feature import multiscale_basic_features

    # by position, for the argument's name changed between releases: one thread
    workers = 1
    features: np.ndarray = multiscale_basic_features(image, True, False, True, 1, 16, None, workers, channel_axis=-1)
    return features


def random_walker(image: np.ndarray, strokes: np.ndarray) -> Answer:
    """The image's own strokes spread to where a random walker would meet them first. Learns nothing.

    Args:
        image: (h, w, channels) real; each channel is scaled to [0, 1].
        strokes: (h, w) integers, 0 is unknown. One class alone is the answer everywhere.

    Raises:
        NothingLabelled: The image has no stroke.
    """
    from skimage.segmentation import random_walker as walk

    values, _ = class_shares([strokes])
    if len(values) == 1:
        return Answer(np.full(strokes.shape, values[0], np.int64))
    low, high = image.min(axis=(0, 1)), image.max(axis=(0, 1))
    unit = (image - low) / np.where(high > low, high - low, 1)
    # the solver wants labels 1, 2, ... without a gap
    ranks = np.where(strokes > 0, np.searchsorted(values, strokes) + 1, 0)
    mode = "bf" if strokes.size <= _DIRECT else "cg_j"
    probabilities = walk(unit, ranks, beta=BETA, mode=mode, channel_axis=-1, return_full_prob=True)
    return Answer(values[probabilities.argmax(axis=0)], probabilities.clip(0, 1).astype(np.float32))
