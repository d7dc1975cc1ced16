"""Fit a linear support vector machine on the features of whole images."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import torch

from fieldmark.core.seeds import derive_seed
from fieldmark.learn.estimate import Estimate
from fieldmark.learn.images import image_maps, look_for, require_answers
from fieldmark.learn.within import shrink_within
from fieldmark.models.image_heads import Look, PooledVector, SvmHead

if TYPE_CHECKING:
    from sklearn.svm import SVC

    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net
    from fieldmark.recipes import FitRecipe, ImageHeadConfig

TRIED_C = (1.0, 10.0, 100.0)
USUAL_C = 10.0
MOST_PARTS = 5


def svm(net: Net, samples: Samples, recipe: FitRecipe) -> Estimate | None:
    """The phase that fits the machine; None where the recipe asks for none."""
    config = recipe.image_head
    if config.kind != "svm":
        return None
    require_answers(samples)
    look = look_for(samples, config, fixed=False)
    seed = derive_seed(recipe.seed, "svm")
    return Estimate("svm", [lambda net: _solve(net, samples, config, look, seed)])


def _solve(net: Net, samples: Samples, config: ImageHeadConfig, look: Look, seed: int) -> dict[str, float]:
    vectors = image_vectors(net, samples, look)
    net.image_head, unfinished = fit_svm(vectors, samples.answers.klass, look, samples.classes, config, seed)
    told = {"images": float(len(vectors)), "features": float(vectors.shape[1])}
    return told | ({"pairs stopped early": float(unfinished)} if unfinished else {})


def image_vectors(net: Net, samples: Samples, look: Look) -> np.ndarray:
    """(N, D) float32, in the order of the answers."""
    pooled = PooledVector(look)
    rows = [pooled(image_maps(net, samples, int(index), look)) for index in samples.answers.image]
    vectors: np.ndarray = torch.cat(rows).cpu().numpy()
    return vectors


def fit_svm(
    vectors: np.ndarray, klass: np.ndarray, look: Look, classes: int, config: ImageHeadConfig, seed: int
) -> tuple[SvmHead, int]:
    """The machine as tensors, and how many pairs of classes the solver left before it was done.

    Args:
        vectors: (N, D) float32.
        klass: (N,) place of the class.
        look: How images became vectors.
        classes: K.
        config: `unit_length`, `within`, `svm_c`, `svm_ties` and `svm_max_iter`.
        seed: Not used: the solution is unique, and parts that are held out go by the images' order.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    mean, std = standardization(vectors, unit=config.unit_length)
    c = best_c(vectors, klass, config) if config.svm_c == "auto" else config.svm_c
    shrinking = shrink_within((vectors - mean) / std, klass, config.within)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told as a number of the event
        machine = _machine(c, config).fit(shrinking.of((vectors - mean) / std), klass)
    head = SvmHead(look, classes, ties=config.svm_ties)
    head.mean, head.std = torch.from_numpy(mean), torch.from_numpy(std)
    # with two classes, scikit-learn turns the sign: positive is the second class
    sign = -1.0 if len(machine.classes_) == 2 else 1.0
    # shrinking is symmetric: done to the weights, it need not be done to the vectors
    head.weight = torch.from_numpy((sign * shrinking.of(machine.coef_)).astype(np.float32))
    head.bias = torch.from_numpy((sign * machine.intercept_).astype(np.float32))
    head.pairs = torch.from_numpy(np.array(list(combinations(machine.classes_, 2)), np.int64))
    limit = config.svm_max_iter
    return head, int((machine.n_iter_ >= limit).sum()) if limit > 0 else 0


def best_c(vectors: np.ndarray, klass: np.ndarray, config: ImageHeadConfig) -> float:
    """The C that answers most of the held-out images right: each class in parts, all else learned without them.

    Of several, the smallest. `USUAL_C` where a class has one image only: nothing can be held out then.
    """
    place = np.array([np.count_nonzero(klass[:row] == klass[row]) for row in range(len(klass))])
    parts = min(MOST_PARTS, np.bincount(klass)[np.unique(klass)].min())
    if parts < 2:
        return USUAL_C
    right = np.zeros(len(TRIED_C))
    for part in range(parts):
        out = place % parts == part
        mean, std = standardization(vectors[~out], unit=config.unit_length)
        shrinking = shrink_within((vectors[~out] - mean) / std, klass[~out], config.within)
        known, new = (shrinking.of((vectors[rows] - mean) / std) for rows in (~out, out))
        right += [_right(c, config, known @ known.T, new @ known.T, klass, out) for c in TRIED_C]
    return TRIED_C[int(right.argmax())]


def _right(
    c: float, config: ImageHeadConfig, gram: np.ndarray, across: np.ndarray, klass: np.ndarray, out: np.ndarray
) -> int:
    """How many of the images that are held `out` a machine on all others answers right."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        machine = _machine(c, config, kernel="precomputed").fit(gram, klass[~out])
    return int((machine.predict(across) == klass[out]).sum())


def _machine(c: float, config: ImageHeadConfig, kernel: str = "linear") -> SVC:
    from sklearn.svm import SVC

    return SVC(
        kernel=kernel,
        C=c,
        max_iter=config.svm_max_iter,
        decision_function_shape="ovo" if kernel == "linear" else "ovr",
        break_ties=kernel != "linear" and config.svm_ties == "margin",
        random_state=0,  # of probabilities, which are not asked for
    )


def standardization(vectors: np.ndarray, *, unit: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """What is taken from each column and what it is divided by, float32: mean and standard deviation.

    A constant column is divided by 1. With `unit`, by as much more as makes vectors 1 long on average, so that a
    classifier's settings mean the same whatever their length.
    """
    std = vectors.std(axis=0, dtype=np.float64)
    scale = np.where(std > 1e-6, std, 1.0) * (np.sqrt(vectors.shape[1]) if unit else 1.0)
    return vectors.mean(axis=0, dtype=np.float64).astype(np.float32), scale.astype(np.float32)
