"""Where there is something to see in the images of a fit, by a rule: for the choice of crops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.errors import BadRecipe
from fieldmark.learn.preparation import foreground_rule
from fieldmark.prepare import apply

if TYPE_CHECKING:
    from fieldmark.learn.samples import Samples
    from fieldmark.recipes import FitRecipe

LARGEST = 1 << 26
"""Pixels of a plane whose foreground is found at once."""


class Foreground:
    """Masks of planes, made when they are asked for and kept with the other planes.

    Args:
        samples: The images.
        rule: See `prepare.masks.foreground_of`.
        first: Steps before it.
    """

    def __init__(self, samples: Samples, rule: dict[str, Any], first: Sequence[dict[str, Any]]) -> None:
        self.samples, self.rule, self.first = samples, rule, list(first)

    def share(self, index: int, box: Box) -> float:
        """How much of a box over t, z, y, x is foreground, 0..1."""
        (t, z0, y0, x0), (_, z1, y1, x1) = box.start, box.stop
        return float(np.mean([self._plane(index, t, z)[y0:y1, x0:x1].mean() for z in range(z0, z1)]))

    def _plane(self, index: int, t: int, z: int) -> np.ndarray:
        """(y, x) bool."""
        return self.samples.blocks.get(("foreground", index, t, z), lambda: self._made(index, t, z))

    def _made(self, index: int, t: int, z: int) -> np.ndarray:
        y, x = self.samples.shape(index)[3:]
        if y * x > LARGEST:
            raise BadRecipe(
                f"train.min_fraction: the foreground of {self.samples.images[index].name} ({x} x {y} pixels) cannot be "
                "found at once. Cut the image, or set train.min_fraction to 0."
            )
        box, whole, values = Box((t, z, 0, 0), (t + 1, z + 1, y, x)), self.samples.whole(index), None
        if self.rule.get("by") != "volume":
            values = apply(self.samples.raw(index, box, steps=self.first), whole.at(self.first, box))
        return whole.foreground(self.first, self.rule, t, z, values=values, unseen=self.samples.unseen(z))


def foreground_of_fit(samples: Samples, recipe: FitRecipe, first: Sequence[dict[str, Any]]) -> Foreground | None:
    """The foreground that `train.min_fraction` is a fraction of; None where masks of the loss decide, or nothing does.

    Raises:
        BadRecipe: A fraction of masks in a folder that the loss does not know.
    """
    asked, normalize = recipe.prepare.foreground, recipe.prepare.normalize
    looked_at = recipe.train.min_fraction or (normalize is not None and normalize.min_fraction)
    is_known = recipe.data.mask is not None and recipe.data.mask.folder is not None
    if asked is not None and asked.method == "folder" and looked_at and not is_known:
        raise BadRecipe(
            "prepare.foreground.method is 'folder': name the folder of masks as data.mask.folder, where the loss finds "
            "them too; or ask for no fraction of them (train.min_fraction, prepare.normalize.min_fraction)."
        )
    ground = foreground_rule(samples, recipe.prepare, first, recipe.seed) if recipe.train.min_fraction else None
    return None if ground is None else Foreground(samples, ground.rule, ground.first)
