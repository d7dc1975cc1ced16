"""The constants of a preparation, measured on a whole set of images, plane by plane.

Memory follows a plane, not the set: of all that is seen, a running sum and a few million pixels are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.core.events import Event
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput, BadRecipe
from fieldmark.images.source import name_of
from fieldmark.prepare.flat_field import Surface, require_field, surface_of_file
from fieldmark.prepare.light import every_plane, light_of, surfaces_of
from fieldmark.prepare.masks import pooled_threshold
from fieldmark.prepare.normalize import constant_steps, each_step, largest
from fieldmark.prepare.pipeline import Step, apply, flat_field_step, scale_step
from fieldmark.prepare.whole import Counted, Whole, counted, statistics

if TYPE_CHECKING:
    from fieldmark.images import ImageSource
    from fieldmark.recipes.prepare import FlatFieldConfig, ForegroundConfig, NormalizeConfig, PrepareConfig

MOST_PIXELS = 1 << 21
"""Of each channel that are kept of all planes together."""
LEAST_PIXELS = 1 << 10
"""Of a plane that is measured at all; where that would be too many in all, every n-th plane is."""

Opened = Callable[[], "ImageSource"]
Work = Generator[Event, None, list[Step]]


@dataclass(frozen=True, slots=True)
class Plane:
    """One plane of an open image.

    Args:
        index: Place of the image in the set.
        t: Time.
        z: Slice.
        source: The image; open until the next one is asked for.
        whole: What its preparation asks of all of it.
    """

    index: int
    t: int
    z: int
    source: ImageSource
    whole: Whole

    @property
    def box(self) -> Box:
        """Over t, z, y, x."""
        y, x = self.source.shape[3:]
        return Box((self.t, self.z, 0, 0), (self.t + 1, self.z + 1, y, x))

    def raw(self) -> np.ndarray:
        """(C, y, x) pixels as the file holds them."""
        _, c, _, y, x = self.source.shape
        pixels: np.ndarray = self.source.read(Box((self.t, 0, self.z, 0, 0), (self.t + 1, c, self.z + 1, y, x)))[
            0, :, 0
        ]
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise BadInput(
                f"{name_of(self.source)}, time {self.t}, slice {self.z}: holds pixels that are NaN or infinite. "
                "Replace them, for example by the image's median."
            )
        return pixels


@dataclass(frozen=True, slots=True)
class Ground:
    """What a plane's foreground is made of.

    Args:
        rule: See `prepare.masks.foreground_of`; None where a person made the masks.
        first: Steps before it.
        corrected: (C, y, x) what these steps give, where it is known already.
    """

    rule: dict[str, Any] | None
    first: list[Step]
    corrected: np.ndarray | None = None

    def found(self, plane: Plane) -> np.ndarray:
        """The foreground (y, x) bool by the rule."""
        rule, values = self.rule or {}, self.corrected
        if values is None and rule.get("by") != "volume":
            values = apply(plane.raw(), plane.whole.at(self.first, plane.box))
        return plane.whole.foreground(self.first, rule, plane.t, plane.z, values=values)


MaskOf = Callable[[Plane, Ground], np.ndarray]
"""A plane's foreground (y, x) bool: kept from before, found by the rule, or made by a person."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """A preparation with its numbers.

    Args:
        first: The steps before normalization.
        steps: All of them, as a model keeps them.
        ground: What foreground is (see `prepare.masks.foreground_of`); None where nobody asked, or has own masks.
    """

    first: list[Step] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    ground: dict[str, Any] | None = None


def planes_of(images: Sequence[Opened], *, every: int = 1) -> Iterator[Plane]:
    """The planes of all images, in order; one image is open at a time. With `every`, only each n-th plane."""
    number = 0
    for index, opened in enumerate(images):
        with opened() as source:
            whole = Whole(lambda source=source: source)  # type: ignore[misc]
            for t, z in np.ndindex(source.shape[0], source.shape[2]):
                if number % every == 0:
                    yield Plane(index, t, z, source, whole)
                number += 1


def count_planes(images: Sequence[Opened]) -> int:
    """How many planes the images have in all."""
    total = 0
    for opened in images:
        with opened() as source:
            total += source.shape[0] * source.shape[2]
    return total


def estimate(
    images: Sequence[Opened],
    config: PrepareConfig,
    *,
    names: Sequence[int] = (),
    masks: MaskOf | None = None,
) -> Generator[Event, None, Estimated]:
    """Measure what a preparation must know of the images; an event a plane and step.

    Args:
        images: Each opens one; all have the same channels.
        config: Whose channels are places along the channel axis.
        names: The number that a channel has in names of files, for each channel; its place where there are none.
        masks: Gives the foreground of planes, each of which may be asked for once; by itself it is found by the rule.
            Where `foreground.method` is `folder`, it gives what a person made.
    """
    total = count_planes(images)
    _require_channels(config, _require_alike(images))
    first: list[Step] = []
    if config.flat_field is not None:
        first += yield from _flat_field(images, config.flat_field, names, total)
    ground: dict[str, Any] | None = None
    if config.foreground is not None and config.foreground.method != "folder":
        ground = yield from _ground(images, config.foreground, first, total)
    steps = yield from _normalization(images, config, first, ground, masks, total)
    return Estimated(first, steps, ground)


def _flat_field(images: Sequence[Opened], config: FlatFieldConfig, names: Sequence[int], total: int) -> Work:
    with images[0]() as source:
        channels = source.shape[1]
    meant = list(config.channels or range(channels))
    if config.method == "file":
        surfaces: list[Surface | None] = [None] * channels
        if config.folder is None:
            raise BadRecipe("prepare.flat_field.method is 'file', and prepare.flat_field.folder names no folder.")
        for place in meant:
            number = names[place] if names else place
            surfaces[place] = surface_of_file(Path(config.folder) / f"flat-field_channel-{number}.npy")
        return [flat_field_step(surfaces)]
    _require_field(images)
    lights = {place: light_of(config) for place in meant}
    every = every_plane(config, total)
    for number, plane in enumerate(planes_of(images, every=every), start=1):
        raw = plane.raw()
        for place, light in lights.items():
            light.add(raw[place])
        yield Event("flat field", number, -(-total // every))
    return [flat_field_step(surfaces_of(lights, names or range(channels)))]


def _require_alike(images: Sequence[Opened]) -> int:
    """How many channels all images have. Raises BadInput where one has others than the first."""
    first = 0
    for opened in images:
        with opened() as source:
            first = first or source.shape[1]
            if source.shape[1] != first:
                raise BadInput(
                    f"{name_of(source)} has {source.shape[1]} channels, and the first image {first}. Prepare images "
                    "with the same channels together."
                )
    return first


def _require_channels(config: PrepareConfig, count: int) -> None:
    """Raise BadRecipe where a channel is named that images do not have."""
    for name in ("flat_field", "normalize", "foreground"):
        group = getattr(config, name)
        if group is not None and max(group.channels, default=0) >= count:
            raise BadRecipe(
                f"prepare.{name}.channels names channel {max(group.channels)}, and images have {count}. Correct the "
                "channels, which are counted from 0."
            )


def _require_field(images: Sequence[Opened]) -> None:
    sizes = set()
    for opened in images:
        with opened() as source:
            sizes.add(source.shape[3:])
    require_field(sizes)


def _ground(
    images: Sequence[Opened], config: ForegroundConfig, first: Sequence[Step], total: int
) -> Generator[Event, None, dict[str, Any]]:
    """What foreground is: with a threshold of all images together where that is asked for."""
    rule: dict[str, Any] = {
        "method": config.method,
        "channels": list(config.channels),
        "radius": config.radius,
        "fill": config.fill,
        "by": config.by,
    }
    if config.method != "dataset-otsu":
        return rule
    every, most = _spread(total)
    pooled = _Pool(-(-total // every) * most)
    for number, plane in enumerate(planes_of(images, every=every), start=1):
        values = plane.whole.values(first, plane.t, plane.z, most)
        pooled.add(values[list(config.channels) or slice(None)].mean(axis=0).reshape(1, -1))
        yield Event("threshold", number, -(-total // every))
    return rule | {"method": "threshold", "value": pooled_threshold(pooled.values[0])}


def _normalization(
    images: Sequence[Opened],
    config: PrepareConfig,
    first: Sequence[Step],
    ground: dict[str, Any] | None,
    masks: MaskOf | None,
    total: int,
) -> Work:
    asked = config.normalize
    if asked is None or asked.scheme == "none":
        return [*first]
    if asked.statistic == "max":
        with images[0]() as source:
            return [*first, scale_step(largest(source.dtype))]
    own = config.foreground is not None and config.foreground.method == "folder"
    if asked.min_fraction and ground is None and not (own and masks is not None):
        raise BadRecipe(
            f"prepare.normalize.min_fraction is {asked.min_fraction:g}, and nothing says what foreground is. "
            "Ask for masks (prepare.foreground), or set it to 0."
        )
    step = each_step(asked, asked.channels, ground)
    if asked.scheme != "dataset":
        if asked.min_fraction and own:
            raise BadRecipe(
                f"prepare.foreground.method is 'folder', which has masks of these images alone, and "
                f"prepare.normalize.scheme={asked.scheme} measures every image. Use scheme dataset, or a computed mask."
            )
        return [*first, step]
    every, most = _spread(total)
    pooled = _Pool(-(-total // every) * most)
    for number, plane in enumerate(planes_of(images, every=every), start=1):
        rank, values = _counting(plane, Ground(ground, [*first]), asked, masks, most)
        pooled.add(values, rank)
        yield Event("statistics", number, -(-total // every))
    return [*first, *constant_steps(statistics(pooled.values, step))]


def _counting(plane: Plane, ground: Ground, asked: NormalizeConfig, masks: MaskOf | None, most: int) -> Counted:
    """The pixels of a plane that are measured: spread over it, or over its blocks with enough foreground."""
    if not asked.min_fraction:
        values = plane.whole.values(ground.first, plane.t, plane.z, most)
        return 0, values.reshape(len(values), -1)
    values = plane.whole.values(ground.first, plane.t, plane.z)
    every = plane.whole.every()
    if masks is None:
        mask = plane.whole.foreground(ground.first, ground.rule or {}, plane.t, plane.z, values=values, every=every)
    else:
        mask = masks(plane, replace(ground, corrected=values) if every == 1 else ground)[::every, ::every]
    rank, counts = counted(values, mask, asked.min_fraction)
    return rank, counts[:, :: max(1, -(-counts.shape[1] // most))]


class _Pool:
    """Pixels of the planes that show most, in one array that is made once: kept pieces would scatter over the memory.

    Args:
        most: Of each channel.
    """

    def __init__(self, most: int) -> None:
        self._most, self._count, self._rank = most, 0, 0
        self._kept = np.zeros((0, 0), np.float32)

    def add(self, values: np.ndarray, rank: int = 0) -> None:
        """(C, N) float32 of a plane, and how much it shows; see `prepare.whole.best_of`."""
        if rank < self._rank:
            return
        if rank > self._rank:
            self._rank, self._count = rank, 0
        if not len(self._kept):
            self._kept = np.empty((len(values), self._most), np.float32)
        part = values[:, : self._most - self._count]
        self._kept[:, self._count : self._count + part.shape[1]] = part
        self._count += part.shape[1]

    @property
    def values(self) -> np.ndarray:
        """(C, N) of all."""
        return self._kept[:, : self._count]


def _spread(total: int) -> tuple[int, int]:
    """Every how many planes one is measured, and how many pixels of it."""
    every = max(1, -(-total * LEAST_PIXELS // MOST_PIXELS))
    return every, max(LEAST_PIXELS, MOST_PIXELS * every // max(1, total))
