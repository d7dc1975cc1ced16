"""Fit a linear support vector machine on the features of whole images."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import torch

from fieldmark.core.seeds import derive_seed
from fieldmark.learn.estimate import Estimate
from fieldmark.learn.images import image_maps, look_for, require_answers
from fieldmark.models.image_heads import Look, PooledVector, SvmHead

if TYPE_CHECKING:
    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net
    from fieldmark.recipes import FitRecipe, ImageHeadConfig


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
        config: `svm_c` and `svm_max_iter`.
        seed: Not used by the solver: the solution is unique.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import SVC

    mean, std = standardization(vectors)
    machine = SVC(
        kernel="linear",
        C=config.svm_c,
        max_iter=config.svm_max_iter,
        decision_function_shape="ovo",
        random_state=seed % (1 << 32),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told as a number of the event
        machine.fit((vectors - mean) / std, klass)
    head = SvmHead(look, classes)
    head.mean, head.std = torch.from_numpy(mean), torch.from_numpy(std)
    # with two classes, scikit-learn turns the sign: positive is the second class
    sign = -1.0 if len(machine.classes_) == 2 else 1.0
    head.weight = torch.from_numpy((sign * machine.coef_).astype(np.float32))
    head.bias = torch.from_numpy((sign * machine.intercept_).astype(np.float32))
    head.pairs = torch.from_numpy(np.array(list(combinations(machine.classes_, 2)), np.int64))
    limit = config.svm_max_iter
    return head, int((machine.n_iter_ >= limit).sum()) if limit > 0 else 0


def standardization(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, float32; a constant column is divided by 1."""
    std = vectors.std(axis=0, dtype=np.float64)
    scale = np.where(std > 1e-6, std, 1.0)
    return vectors.mean(axis=0, dtype=np.float64).astype(np.float32), scale.astype(np.float32)
