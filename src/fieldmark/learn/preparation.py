"""Estimate the constants of a model's preparation on the images that teach it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.core.seeds import derive_seed
from fieldmark.errors import BadInput, BadRecipe
from fieldmark.learn.targets import Weighted
from fieldmark.prepare import (
    apply,
    clip_step,
    color_steps,
    flat_field_step,
    scale_step,
    standardize_each_step,
    standardize_step,
)
from fieldmark.prepare.flat_field import fit_surface, surface_of_file
from fieldmark.prepare.masks import pooled_threshold
from fieldmark.prepare.whole import statistics
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
LARGEST_FIELD = 1 << 26
LARGEST = 3e38


def estimate_preparation(samples: Samples, *, color: str, seed: int, first: Sequence[Step] = ()) -> list[Step]:
    """Scale by the data set's maximum, L*a*b* for color images, then zero mean and unit spread.

    The constants come from crops drawn over all images of the fit (marked ones where
    there are marks), so that memory and time do not follow the images.

    Args:
        samples: The images; the marks say which ones count.
        color: One of `net.color` (see `prepare.color_steps`).
        seed: Draws the crops.
        first: Steps that come before.
    """
    crops = _crops(samples, seed, first)
    top = max(float(np.abs(crop).max()) for _, _, crop in crops)
    source = samples.source(0)
    integers = source.dtype.kind == "u"
    color_of = color_steps(color, len(crops[0][2]), by=top if top > 0 else 1.0, integers=integers)
    prepared = [
        apply(_thinned(crop), samples.whole(index).at([*first, *color_of], box)[len(first) :])
        for index, box, crop in crops
    ]
    ready = np.concatenate([crop.reshape(len(crop), -1) for crop in prepared], axis=1).astype(np.float64)
    std = np.where(ready.std(axis=1) > 1e-6, ready.std(axis=1), 1.0)
    return [*first, *color_of, standardize_step(ready.mean(axis=1).tolist(), std.tolist())]


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
        return [*first, scale_step(largest(samples.source(0).dtype))]
    meant = _places(asked.channels, first, "prepare.normalize.channels")
    ground = foreground_rule(samples, config, first, seed) if asked.min_fraction else None
    each = standardize_each_step(
        "volume" if asked.scheme == "volume" else "slice",
        asked.statistic,
        clip=asked.clip,
        channels=meant,
        min_fraction=asked.min_fraction,
        foreground=ground,
    )
    if asked.scheme != "dataset":
        require_rule(config)
        return [*first, each]
    shown = asked.min_fraction if config.foreground is not None and config.foreground.method == "folder" else 0.0
    return [*first, *_steps_of(statistics(_measured(samples, first, each, seed, shown), each))]


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
    surfaces: list[dict[str, Any] | None] = [None] * len(taken)
    if config.method == "file":
        if config.folder is None:
            raise BadRecipe("prepare.flat_field.method is 'file', and prepare.flat_field.folder names no folder.")
        for place in meant:
            surfaces[place] = surface_of_file(Path(config.folder) / f"flat-field_channel-{taken[place]}.npy")
        return [flat_field_step(surfaces)]
    mean = _mean_image(samples, first, seed)
    for place in meant:
        surfaces[place] = fit_surface(mean[place], block=config.block, order=config.order)
    return [flat_field_step(surfaces)]


def foreground_rule(samples: Samples, config: PrepareConfig, first: Sequence[Step], seed: int) -> dict[str, Any] | None:
    """What foreground is, as data: with the threshold where it is the data set's; None where nothing asks for it.

    Masks in a folder are no rule: None too (see `learn.foreground`).
    """
    asked = config.foreground
    if asked is None or asked.method == "folder":
        return None
    places = _places(asked.channels, first, "prepare.foreground.channels")
    rule: dict[str, Any] = {"method": asked.method, "channels": places, "radius": asked.radius, "fill": asked.fill}
    if asked.method == "dataset-otsu":
        chosen = [values[places or slice(None)].mean(axis=0) for _, _, values in _crops(samples, seed, first)]
        pooled = np.concatenate([values.ravel() for values in chosen])
        rule |= {"method": "threshold", "value": pooled_threshold(pooled)}
    return rule


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


def require_rule(config: PrepareConfig) -> None:
    """Raise BadRecipe where statistics of each image would need masks that only teaching images have."""
    asked = config.normalize or NormalizeConfig()
    if asked.min_fraction and config.foreground is not None and config.foreground.method == "folder":
        raise BadRecipe(
            f"prepare.foreground.method is 'folder', which has masks of teaching images alone, and "
            f"prepare.normalize.scheme={asked.scheme} measures every image. Use scheme dataset, or a computed mask."
        )


def _measured(samples: Samples, first: Sequence[Step], step: Step, seed: int, shown: float) -> np.ndarray:
    """(C, N) pixels of planes spread over the teaching images; each image alike where there are many.

    `shown` is the least share of the masks of the loss in a crop that counts.
    """
    if shown and isinstance(samples.targets, Weighted):
        weights = samples.targets.weights
        crops = [(crop, float((weights(index, box) > 0).mean())) for index, box, crop in _crops(samples, seed, first)]
        chosen = [crop for crop, share in crops if share >= shown] or [crop for crop, _ in crops]
        return np.concatenate([crop.reshape(len(crop), -1) for crop in chosen], axis=1)
    if not step.get("foreground"):
        return np.concatenate([crop.reshape(len(crop), -1) for _, _, crop in _crops(samples, seed, first)], axis=1)
    planes = {(index, box.start[0], box.start[1]) for index, box, _ in _crops(samples, seed, first)}
    return np.concatenate(
        [samples.whole(index).measured(first, step, t, z, PLANE_PIXELS) for index, t, z in sorted(planes)], axis=1
    )


def _mean_image(samples: Samples, first: Sequence[Step], seed: int) -> np.ndarray:
    """(C, y, x) mean over planes of the teaching images."""
    places = [(index, box) for index, box, _ in _crops(samples, seed, first)]
    planes = sorted({(index, box.start[0], box.start[1]) for index, box in places})
    sizes = {samples.shape(index)[3:] for index, _, _ in planes}
    if len(sizes) > 1:
        one, other = sorted(sizes)[:2]
        raise BadInput(
            f"prepare.flat_field: teaching images are {one[1]} x {one[0]} and {other[1]} x {other[0]} pixels; one "
            "illumination belongs to one size. Fit on images of one camera, or give surfaces from files."
        )
    y, x = sizes.pop()
    if y * x > LARGEST_FIELD:
        raise BadInput(
            f"prepare.flat_field: images are {x} x {y} pixels, which no camera takes at once. Fit on fields of view."
        )
    total = np.zeros((1, y, x))
    for index, t, z in planes:
        box = Box((t, z, 0, 0), (t + 1, z + 1, y, x))
        total = total + apply(samples.raw(index, box), first)
    return total / len(planes)


def normalization(values: np.ndarray, config: NormalizeConfig) -> list[Step]:
    """Steps from (C, N) raw values: clipping to percentiles, then mean and spread, or median and quartiles."""
    return _steps_of(statistics(values, {"statistic": config.statistic, "clip": config.clip}))


def _steps_of(found: dict[str, np.ndarray]) -> list[Step]:
    steps: list[Step] = []
    if np.isfinite(found["low"]).any():
        low, high = (np.nan_to_num(found[name], posinf=LARGEST, neginf=-LARGEST).tolist() for name in ("low", "high"))
        steps.append(clip_step(low, high))
    return [*steps, standardize_step(found["center"].tolist(), found["spread"].tolist())]


def largest(dtype: np.dtype) -> float:
    """The largest value that a type of whole numbers can hold; 1 for fractions."""
    return float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0


def _crops(samples: Samples, seed: int, first: Sequence[Step] = ()) -> list[tuple[int, Box, np.ndarray]]:
    """The image, box and (C, y, x) pixels of CROPS places, spread evenly over the images, after the first steps."""
    chosen = np.unique(samples.marks.image) if len(samples.marks) else np.arange(len(samples.images))
    if samples.split is not None:
        chosen = np.array(samples.split.train)
    rng = np.random.default_rng(derive_seed(seed, "preparation"))
    drawn = [int(chosen[place]) for place in _spread(len(chosen))]
    boxes = [(index, _place(samples, index, rng)) for index in drawn]
    return [(index, box, apply(samples.raw(index, box), samples.whole(index).at(first, box))) for index, box in boxes]


def _spread(images: int) -> list[int]:
    """CROPS places among the images: each in turn, or every n-th where there are more images than crops."""
    return [n % images if images <= CROPS else n * images // CROPS for n in range(CROPS)]


def _place(samples: Samples, index: int, rng: np.random.Generator) -> Box:
    t, _, z, y, x = samples.source(index).shape
    start = [int(rng.integers(n)) for n in (t, z)] + [int(rng.integers(max(1, n - SIDE + 1))) for n in (y, x)]
    stop = [start[0] + 1, start[1] + 1, min(y, start[2] + SIDE), min(x, start[3] + SIDE)]
    return Box(tuple(start), tuple(stop))
