"""Leave filters out that somebody has looked at and found useless."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.errors import BadRecipe

if TYPE_CHECKING:
    from fieldmark.learn.kernels import Kernels


def without(kernels: Kernels, dropped: Sequence[int], layer: str) -> Kernels:
    """The kernels but those of the numbers in `dropped`; BadRecipe where there is no such kernel, or none is left."""
    if not dropped:
        return kernels
    count = len(kernels.weight)
    if max(dropped) >= count:
        raise BadRecipe(f"{layer}: dropped names filter {max(dropped)}; there are 0 to {count - 1}.")
    kept = np.setdiff1d(np.arange(count), dropped)
    if len(kept) == 0:
        raise BadRecipe(f"{layer}: dropped names all of its {count} filters. Keep one, or take the layer out.")
    return kernels.where(kept)
