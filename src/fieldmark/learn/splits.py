"""Which images teach, validate and test; what belongs together is never split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.core.seeds import derive_seed
from fieldmark.errors import BadInput

if TYPE_CHECKING:
    from fieldmark.learn.samples import SampleImage
    from fieldmark.recipes.data import SplitConfig


@dataclass(frozen=True, slots=True)
class Split:
    """Places of images; none is in two parts."""

    train: list[int]
    validation: list[int]
    test: list[int]


def split_images(images: Sequence[SampleImage], usable: Sequence[int], config: SplitConfig, seed: int) -> Split:
    """Part the usable images.

    Args:
        images: Of the fit.
        usable: Places of those that have a target.
        config: By what, and how much of each.
        seed: Draws the order, where the recipe gives no seed of its own.

    Raises BadInput where the project's own split leaves nothing to learn from.
    """
    if config.by == "split":
        return _by_name(images, usable)
    groups = _groups(images, usable, by_group=config.by == "group")
    if config.order == "random":
        rng = np.random.default_rng(derive_seed(seed if config.seed is None else config.seed, "split"))
        order = [groups[n] for n in rng.permutation(len(groups))]
    else:
        order = groups
    held, tested = _count(config.validation, len(order)), _count(config.test, len(order))
    while held + tested >= len(order) and held + tested > 0:
        held, tested = (held - 1, tested) if held >= tested else (held, tested - 1)
    parts = (order[held + tested :], order[:held], order[held : held + tested])
    return Split(*(sorted(place for group in part for place in group) for part in parts))


def _count(share: float, groups: int) -> int:
    """As many groups as come nearest to the share; one where the share asks for any and there are several."""
    return max(int(share * groups + 0.5), 1 if share > 0 and groups > 2 else 0)


def _groups(images: Sequence[SampleImage], usable: Sequence[int], *, by_group: bool) -> list[list[int]]:
    """Images that belong together, in order; an image without a group stands alone."""
    found: dict[str, list[int]] = {}
    for place in usable:
        group = images[place].group if by_group else ""
        found.setdefault(f"group {group}" if group else f"image {place}", []).append(place)
    return list(found.values())


def _by_name(images: Sequence[SampleImage], usable: Sequence[int]) -> Split:
    """As the project says: `train` (or nothing), `validation` or `val`, `test`."""
    names = {place: images[place].split.lower() for place in usable}
    parts = [
        [place for place in usable if names[place] in words]
        for words in (("train", "training", ""), ("validation", "val", "valid"), ("test",))
    ]
    if unknown := sorted({name for place, name in names.items() if not any(place in part for part in parts)}):
        raise BadInput(f"Unknown split {', '.join(unknown)}. Known: train, validation, test.")
    if not parts[0]:
        raise BadInput("The project's split leaves no image to learn from. Name some `train`.")
    return Split(*parts)
