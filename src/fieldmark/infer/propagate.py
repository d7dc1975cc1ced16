"""Carry strokes through space on the image that holds them; what was learned is the prior."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

MAX_PIXELS = 1 << 22
"""Propagation looks at a whole plane at once; larger planes are left to the model."""


@dataclass(frozen=True, slots=True)
class Propagated:
    """The classes of a plane, how they were found, and what cross-validation said."""

    classes: np.ndarray  # (y, x) place of the class
    method: str
    scores: dict[str, float] = field(default_factory=dict)


def propagate(
    image: np.ndarray, prior: np.ndarray, seeds: np.ndarray, strokes: np.ndarray, *, method: str = "auto"
) -> Propagated:
    """TODO."""
    if method == "none" or len(np.unique(seeds)) < 3:
        return Propagated(prior.argmax(axis=0), "none")
    from skimage.segmentation import random_walker

    gray = image.astype(np.float64)
    gray /= max(1e-9, np.abs(gray).max())
    walked = random_walker(gray, seeds, beta=130, mode="cg_j", channel_axis=0)
    return Propagated(walked - 1, "random-walker")
