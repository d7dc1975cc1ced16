"""Estimate the constants of a model's preparation on the images that teach it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.core.seeds import derive_seed
from fieldmark.errors import BadInput, BadRecipe
from fieldmark.learn.targets import Weighted
from fieldmark.prepare import apply, color_steps, flat_field_step, scale_step, standardize_step
from fieldmark.prepare.flat_field import require_field, surface_of_file
from fieldmark.prepare.light import Light, light_of, surfaces_of
from fieldmark.prepare.masks import pooled_threshold
from fieldmark.prepare.normalize import constant_steps, each_step, largest
from fieldmark.prepare.whole import Counted, counted, pooled, statistics
from fieldmark.recipes.prepare import NormalizeConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fieldmark.recipes.prepare import FlatFieldConfig, PrepareConfig

    Step = dict[str, Any]

    from fieldmark.learn.samples import Samples

CROPS = 64
SIDE = 256
MEASURED_SIDE = 64
"""Colors are converted, for their mean and spread, on at least so many rows and columns of a crop, evenly spread."""
PLANE_PIXELS = 1 << 16
"""Of a plane that is measured on its foreground; of larger ones every n-th row and column."""


def estimate_preparation(
    samples: Samples, *, color: str, seed: int, first: Sequence[Step] = (), standardize: bool = True
) -> list[Step]:
    """Scale by the data set's maximum, L*a*b* for color images, then zero mean and unit spread.

    The constants come from crops drawn over all images of the fit (marked ones where
    there are marks), so that memory and time do not follow the images.

    Args:
        samples: The images; the marks say which ones count.
        color: One of `net.color` (see `prepare.color_steps`).
        seed: Draws the crops.
        first: Steps that come before.
        standardize: Without it, mean and spread stay as they are.
    """
    crops = _crops(samples, seed, first)
    distinct = {(index, box): crop for index, box, crop in crops}  # small images are their only crop
    top = max(float(max(crop.max(), -crop.min())) for crop in distinct.values())
    integers = all(one.kind == "u" for one in samples.types(taken_channels(first)))
    color_of = color_steps(color, len(crops[0][2]), by=top if top > 0 else 1.0, integers=integers)
    if not standardize:
        return [*first, *color_of]
    prepared = {
        (index, box): apply(_thinned(crop), samples.whole(index).at([*first, *color_of], box)[len(first) :])
        for (index, box), crop in distinct.items()
    }
    ready = np.concatenate([_flat(prepared[index, box]) for index, box, _ in crops], axis=1)
    std = np.where(ready.std(axis=1) > 1e-6, ready.std(axis=1), 1.0)
    return [*first, *color_of, standardize_step(ready.mean(axis=1).tolist(), std.tolist())]


def _flat(crop: np.ndarray) -> np.ndarray:
    """(C, N) float64."""
    return crop.reshape(len(crop), -1).astype(np.float64)


def _thinned(crop: np.ndarray) -> np.ndarray:
    """(C, y, x): every n-th row and column."""
    rows, columns = (max(1, size // MEASURED_SIDE) for size in crop.shape[1:])
    return crop[:, ::rows, ::columns]


def estimate_normalization(samples: Samples, config: PrepareConfig, first: Sequence[Step], seed: int) -> list[Step]:
    """The steps of `prepare.normalize` after those before it: clipping, then center and spread.

    Statistics of the data set are measured here and kept; those of single images are measured in each image.
    """
    asked = config.normalize or NormalizeConfig()
    if asked.scheme == "none":
        return [*first]
    if asked.statistic == "max":
        return [*first, scale_step(_largest_of_all(samples, taken_channels(first)))]
    meant = _places(asked.channels, first, "prepare.normalize.channels")
    ground = foreground_rule(samples, config, first, seed) if asked.min_fraction else None
    if asked.scheme != "dataset":
        require_rule(config, first, ground)
        return [*first, each_step(asked, meant, None if ground is None else ground.rule)]
    shown = asked.min_fraction if config.foreground is not None and config.foreground.method == "folder" else 0.0
    each = each_step(asked, meant, None)
    pixels = (
        _measured(samples, first, seed, shown) if ground is None else _on_ground(samples, first, ground, asked, seed)
    )
    return [*first, *constant_steps(statistics(pixels, each))]


def _largest_of_all(samples: Samples, channels: Sequence[int]) -> float:
    """The largest value of the images' type. Raises BadInput where images differ in it."""
    types = samples.types(channels)
    tops = {largest(dtype): f"{name} holds {dtype}" for dtype, name in types.items()}
    if len(tops) > 1:
        raise BadInput(
            f"{' and '.join(tops.values())}: prepare.normalize.statistic=max divides all images by the largest value "
            "of their type, which must be one. Write all of them as one type."
        )
    return next(iter(tops))


def estimate_flat_field(samples: Samples, config: FlatFieldConfig, first: Sequence[Step], seed: int) -> list[Step]:
    """The step of `prepare.flat_field`, for the channels that are seen: estimated on the teaching images, or of files.

    Raises:
        BadRecipe: No folder for `file`, or a channel that the network does not see.
        BadInput: Images of different sizes, or illumination that is not positive.
        BadFile: A file that holds no flat field.
    """
    places = _places(config.channels, first, "prepare.flat_field.channels")
    taken = taken_channels(first) or tuple(range(samples.shape(0)[1]))
    meant = places or list(range(len(taken)))
    if config.method == "file":
        surfaces: list[dict[str, Any] | None] = [None] * len(taken)
        if config.folder is None:
            raise BadRecipe("prepare.flat_field.method is 'file', and prepare.flat_field.folder names no folder.")
        for place in meant:
            surfaces[place] = surface_of_file(Path(config.folder) / f"flat-field_channel-{taken[place]}.npy")
        return [flat_field_step(surfaces)]
    return [flat_field_step(surfaces_of(_lights(samples, config, first, meant, seed), taken))]


@dataclass(frozen=True, slots=True)
class Ground:
    """What foreground is, as data.

    Args:
        rule: See `prepare.masks.foreground_of`.
        first: Steps before it: those of the network's pixels, or others where masks are of channels it does not see.
    """

    rule: dict[str, Any]
    first: list[Step]


def foreground_rule(samples: Samples, config: PrepareConfig, first: Sequence[Step], seed: int) -> Ground | None:
    """What foreground is: with the threshold where it is the data set's; None where nothing asks for it.

    Masks in a folder are no rule: None too (see `learn.foreground`).
    """
    asked = config.foreground
    if asked is None or asked.method == "folder":
        return None
    steps, places = _ground_steps(samples, config, first, seed)
    rule = asked.model_dump(include={"method", "radius", "fill", "by"}) | {"channels": places}
    if asked.method == "dataset-otsu":
        chosen = [values[places or slice(None)].mean(axis=0) for _, _, values in _crops(samples, seed, steps)]
        pooled = np.concatenate([values.ravel() for values in chosen])
        rule |= {"method": "threshold", "value": pooled_threshold(pooled)}
    return Ground(rule, steps)


def _ground_steps(
    samples: Samples, config: PrepareConfig, first: Sequence[Step], seed: int
) -> tuple[list[Step], list[int]]:
    """Steps before the masks, and the places of their channels among what these steps give.

    Masks of channels that the network does not see, such as a target's, are made of these alone, in even light.
    """
    channels = list(config.foreground.channels) if config.foreground is not None else []
    taken = taken_channels(first)
    if not taken or set(channels) <= set(taken):
        return [*first], _places(channels, first, "prepare.foreground.channels")
    count = samples.shape(0)[1]
    if max(channels) >= count:
        raise BadRecipe(f"prepare.foreground.channels names channel {max(channels)}, and images have {count}.")
    flat = config.flat_field
    lit = [] if flat is None else [channel for channel in channels if not flat.channels or channel in flat.channels]
    if flat is None or not lit:
        return [], channels
    return estimate_flat_field(samples, flat.model_copy(update={"channels": tuple(lit)}), [], seed), channels


def before_normalization(steps: Sequence[Step]) -> list[Step]:
    """What a preparation does before values are normalized: channels, and light."""
    return [step for step in steps if step["step"] in ("channels", "flat-field")]


def taken_channels(first: Sequence[Step]) -> tuple[int, ...]:
    """Channels of the images that the first step takes; empty for all."""
    return tuple(first[0]["take"]) if first and first[0]["step"] == "channels" else ()


def _places(channels: Sequence[int], first: Sequence[Step], name: str) -> list[int]:
    """Channels of the images as places among those that the network sees."""
    taken = taken_channels(first)
    if not taken:
        return list(channels)
    if unseen := [channel for channel in channels if channel not in taken]:
        # a target's channel is not prepared here: it is normalized with the targets
        seen = [channel for channel in channels if channel in taken]
        if not seen:
            raise BadRecipe(f"{name} names channel {unseen[0]}; the network sees {list(taken)} (data.inputs).")
    return [taken.index(channel) for channel in channels if channel in taken]


def require_rule(config: PrepareConfig, first: Sequence[Step], ground: Ground | None) -> None:
    """Raise BadRecipe where statistics of each image would need masks that only teaching images have."""
    asked = config.normalize or NormalizeConfig()
    if not asked.min_fraction or config.foreground is None:
        return
    if config.foreground.method == "folder":
        raise BadRecipe(
            f"prepare.foreground.method is 'folder', which has masks of teaching images alone, and "
            f"prepare.normalize.scheme={asked.scheme} measures every image. Use scheme dataset, or a computed mask."
        )
    if ground is not None and ground.first != [*first]:
        raise BadRecipe(
            f"prepare.foreground.channels names {list(config.foreground.channels)}, and the network sees "
            f"{list(taken_channels(first))}: prepare.normalize.scheme={asked.scheme} measures every image, and images "
            "to be predicted may lack the others. Use scheme dataset, or masks of a channel that the network sees."
        )


def _measured(samples: Samples, first: Sequence[Step], seed: int, shown: float) -> np.ndarray:
    """(C, N) pixels of crops spread over the teaching images; each image alike where there are many.

    `shown` is the least share of the masks of the loss in a crop that counts.
    """
    crops = [(index, box, crop) for index, box, crop in _crops(samples, seed, first)]
    if shown and isinstance(samples.targets, Weighted):
        weights = samples.targets.weights
        enough = [one for one in crops if float((weights(one[0], one[1]) > 0).mean()) >= shown]
        crops = enough or crops
    return np.concatenate([crop.reshape(len(crop), -1) for _, _, crop in crops], axis=1)


def _on_ground(
    samples: Samples, first: Sequence[Step], ground: Ground, asked: NormalizeConfig, seed: int
) -> np.ndarray:
    """(C, N) pixels of planes spread over the teaching images, of blocks with enough foreground."""
    planes = {(index, box.start[0], box.start[1]) for index, box, _ in _crops(samples, seed, first)}
    return pooled([_plane_on_ground(samples, first, ground, asked, *at) for at in sorted(planes)])


def _plane_on_ground(
    samples: Samples, first: Sequence[Step], ground: Ground, asked: NormalizeConfig, index: int, t: int, z: int
) -> Counted:
    values = samples.whole(index).values(first, t, z, PLANE_PIXELS)
    mask, _ = thin_mask(samples, ground, index, t, z, seen=values if ground.first == [*first] else None)
    return counted(values, mask, asked.min_fraction)


def thin_mask(
    samples: Samples, ground: Ground, index: int, t: int, z: int, *, seen: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """The foreground of every n-th row and column of a plane, (y, x) bool, and n.

    `seen` are the pixels that the rule looks at, (C, y, x), where they are there already.
    """
    whole = samples.whole(index)
    every = whole.every(PLANE_PIXELS)
    values = whole.values(ground.first, t, z, PLANE_PIXELS) if seen is None else seen
    mask = whole.foreground(ground.first, ground.rule, t, z, values=values, every=every, unseen=samples.unseen(z))
    return mask, every


def _lights(
    samples: Samples, config: FlatFieldConfig, first: Sequence[Step], channels: Sequence[int], seed: int
) -> dict[int, Light]:
    """The light of each channel, shown planes of the teaching images."""
    places = [(index, box) for index, box, _ in _crops(samples, seed, first)]
    planes = sorted({(index, box.start[0], box.start[1]) for index, box in places})
    sizes = {samples.shape(index)[3:] for index, _, _ in planes}
    y, x = require_field(sizes)
    lights = {channel: light_of(config) for channel in channels}
    for index, t, z in planes:
        shown = apply(samples.raw(index, Box((t, z, 0, 0), (t + 1, z + 1, y, x)), steps=first), first)
        for channel, light in lights.items():
            light.add(shown[channel])
    return lights


def normalization(values: np.ndarray, config: NormalizeConfig) -> list[Step]:
    """Steps from (C, N) raw values: clipping to percentiles, then mean and spread, or median and quartiles."""
    return constant_steps(statistics(values, {"statistic": config.statistic, "clip": config.clip}))


def _crops(samples: Samples, seed: int, first: Sequence[Step] = ()) -> list[tuple[int, Box, np.ndarray]]:
    """The image, box and (C, y, x) pixels of CROPS places, spread evenly over the images, after the first steps."""
    chosen = np.unique(samples.marks.image) if len(samples.marks) else np.arange(len(samples.images))
    if samples.split is not None:
        chosen = np.array(samples.split.train)
    rng = np.random.default_rng(derive_seed(seed, "preparation"))
    drawn = [int(chosen[place]) for place in _spread(len(chosen))]
    boxes = [(index, _place(samples, index, rng)) for index in drawn]
    distinct = {
        (index, box): apply(samples.raw(index, box, steps=first), samples.whole(index).at(first, box))
        for index, box in dict.fromkeys(boxes)
    }
    return [(index, box, distinct[index, box]) for index, box in boxes]


def _spread(images: int) -> list[int]:
    """CROPS places among the images: each in turn, or every n-th where there are more images than crops."""
    return [n % images if images <= CROPS else n * images // CROPS for n in range(CROPS)]


def _place(samples: Samples, index: int, rng: np.random.Generator) -> Box:
    """A crop of a plane that teaches."""
    t, _, z, y, x = samples.shape(index)
    planes: list[Sequence[int]] = [range(t), range(z)]
    within = samples.split.within(0) if samples.split is not None else None
    if within is not None:
        planes[within[0]] = sorted(within[1] & {*planes[within[0]]})
    start = [int(along[int(rng.integers(len(along)))]) for along in planes] + [
        int(rng.integers(max(1, n - SIDE + 1))) for n in (y, x)
    ]
    stop = [start[0] + 1, start[1] + 1, min(y, start[2] + SIDE), min(x, start[3] + SIDE)]
    return Box(tuple(start), tuple(stop))
