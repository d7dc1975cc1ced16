"""Which images teach, validate and test; what belongs together is never split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.core.seeds import derive_seed
from fieldmark.errors import BadInput

if TYPE_CHECKING:
    from fieldmark.learn.samples import SampleImage
    from fieldmark.learn.target_files import Planes, Within
    from fieldmark.recipes.data import SplitConfig


@dataclass(frozen=True, slots=True)
class Split:
    """Places of images; none is in two parts, unless each part has its own planes of the images.

    Args:
        train: Images that teach.
        validation: Images that choose the epoch.
        test: Images that the fit does not look at.
        axis: 0 where the images are parted along t, 1 along z, None where whole images are.
        planes: Of each part along that axis.
    """

    train: list[int]
    validation: list[int]
    test: list[int]
    axis: int | None = None
    planes: tuple[frozenset[int], frozenset[int], frozenset[int]] = (frozenset(), frozenset(), frozenset())

    def told(self, names: Sequence[str]) -> dict[str, Any]:
        """The names of each part's images, and, where images were parted along an axis, that and their planes."""
        parts = zip(("train", "validation", "test"), (self.train, self.validation, self.test), self.planes, strict=True)
        told: dict[str, Any] = {"along": "" if self.axis is None else ("time", "slice")[self.axis], "planes": {}}
        for name, places, planes in parts:
            told[name] = [names[place] for place in places]
            told["planes"][name] = sorted(planes)
        return told

    def within(self, part: int) -> Within | None:
        """The planes of a part, 0 train, 1 validation, 2 test; None where it has whole images."""
        return None if self.axis is None else (self.axis, self.planes[part])

    def unseen(self, z: int) -> frozenset[int]:
        """The slices that nothing may be measured on for a slice's sake: those of the parts after its own.

        What teaches sees neither what validates nor what tests. A slice that is in no part has no target, and is held
        out from nobody.
        """
        if self.axis != 1:
            return frozenset()
        part = next((number for number, own in enumerate(self.planes) if z in own), 0)
        return frozenset().union(*self.planes[part + 1 :])


def split_images(
    images: Sequence[SampleImage],
    usable: Sequence[int],
    config: SplitConfig,
    seed: int,
    *,
    planes: Callable[[int], Planes] | None = None,
) -> Split:
    """Part the usable images, or the planes of each.

    Args:
        images: Of the fit.
        usable: Places of those that have a target.
        config: By what, and how much of each.
        seed: Draws the order, where the recipe gives no seed of its own.
        planes: Places along t and z that an image has targets for; needed to part images by time or slice.

    Raises BadInput where the project's own split leaves nothing to learn from.
    """
    if config.by == "split":
        return _by_name(images, usable)
    axis = config.axis
    if axis is not None:
        if planes is None:
            raise ValueError("planes are needed to part images along an axis")
        places = sorted({place for index in usable for place in planes(index)[axis]})
        parts = _parted([[place] for place in places], config, seed)
        train, validation, test = (frozenset(part) for part in parts)
        held = {index: frozenset(planes(index)[axis]) for index in usable}
        return Split(
            [index for index in usable if train & held[index]],
            [index for index in usable if validation & held[index]],
            [index for index in usable if test & held[index]],
            axis,
            (train, validation, test),
        )
    groups = _groups(images, usable, config)
    if config.column is not None and len(groups) == 1 and config.train < 1 and len(usable) > 1:
        values = sorted({images[place].column for place in usable})
        why = f"all have {values[0]!r}" if len(values) == 1 else "groups join the images of its values"
        raise BadInput(
            f"data.split.by={config.by}: {why}, so that all images belong together and none can be held out. Choose "
            "another column, or part images whatever their groups: --set data.split.by=image."
        )
    return Split(*_parted(groups, config, seed))


def _parted(groups: list[list[int]], config: SplitConfig, seed: int) -> tuple[list[int], list[int], list[int]]:
    """Training, validation and test; at least one group trains."""
    order = groups
    if config.order == "random":
        rng = np.random.default_rng(derive_seed(seed if config.seed is None else config.seed, "split"))
        order = [groups[n] for n in rng.permutation(len(groups))]
    nearest = 0.5 if config.order == "random" else 0.0
    held, tested = (_count(share, len(order), nearest) for share in (config.validation, config.test))
    while held + tested >= len(order) and held + tested > 0:
        held, tested = (held - 1, tested) if held >= tested else (held, tested - 1)
    parts = (order[held + tested :], order[:held], order[held : held + tested])
    train, validation, test = (sorted(place for group in part for place in group) for part in parts)
    return train, validation, test


def _count(share: float, groups: int, nearest: float) -> int:
    """As many groups as come nearest to the share (0.5), or fit into it (0.0); one where there are several."""
    return max(int(share * groups + nearest), 1 if share > 0 and groups > 2 else 0)


def _groups(images: Sequence[SampleImage], usable: Sequence[int], config: SplitConfig) -> list[list[int]]:
    """Images that belong together, in order; an image of which nothing is said stands alone.

    Where a column parts them, images belong together by it, by their groups, and by both in turn.
    """
    joined = {place: place for place in usable}

    def first(place: int) -> int:
        while joined[place] != place:
            place = joined[place]
        return place

    seen: dict[tuple[str, str], int] = {}
    for place in usable:
        image = images[place]
        ties = {"column": image.column, "group": "" if config.by == "image" else image.group}
        for tie in ((kind, value) for kind, value in ties.items() if value):
            other = first(seen.setdefault(tie, place))
            mine = first(place)
            joined[max(other, mine)] = min(other, mine)
    found: dict[int, list[int]] = {}
    for place in usable:
        found.setdefault(first(place), []).append(place)
    return list(found.values())


def _by_name(images: Sequence[SampleImage], usable: Sequence[int]) -> Split:
    """As the project says: `train` (or nothing), `validation` or `val`, `test`."""
    names = {place: images[place].split.lower() for place in usable}
    words = (("train", "training", ""), ("validation", "val", "valid"), ("test",))
    if unknown := sorted(set(names.values()) - {word for known in words for word in known}):
        raise BadInput(f"Unknown split {', '.join(unknown)}. Known: train, validation, test.")
    train, validation, test = ([place for place in usable if names[place] in known] for known in words)
    if not train:
        raise BadInput("The project's split leaves no image to learn from. Name some `train`.")
    return Split(train, validation, test)
