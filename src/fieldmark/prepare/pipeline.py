"""Pointwise preparation of pixels. Each step is a JSON object with a `step` and its numbers.

Every constant belongs to the model (it was estimated on the images that taught it), never to
the tile at hand: so a tile, an image and a batch give the same pixels. Steps that look at the whole
image (its maximum, its planes' statistics, where a pixel lies under uneven light) get their numbers
from `prepare.whole`; a tile alone is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fieldmark.core.axes import AS_IS, Factors, factors_of
from fieldmark.errors import BadInput
from fieldmark.prepare.color import blue_to_red, rgb_to_lab

Step = dict[str, Any]

PLACED = frozenset({"resize", "scale-per-image", "flat-field", "standardize-each"})
"""Steps whose numbers depend on the image, or on the place in it."""


LARGEST_FACTOR = 64.0
"""Of a resize; larger ones would fill any memory."""


def scale_step(by: float) -> Step:
    """Divide by a constant of the data set, so that ordinary values lie in 0..1."""
    return {"step": "scale", "by": float(by)}


def scale_per_image_step() -> Step:
    """Divide by the maximum of each image. The same object then looks different in a brighter image."""
    return {"step": "scale-per-image"}


def replicate_step() -> Step:
    """A single channel three times over."""
    return {"step": "replicate"}


def color_table_step() -> Step:
    """A single channel in 0..1 as red, green and blue: blue is dark, red is bright (libIFT's table)."""
    return {"step": "color-table"}


def color_steps(color: str, channels: int, *, by: float, integers: bool) -> list[Step]:
    """The first steps that a setting of `net.color` stands for.

    Args:
        color: `raw`; `lab`, for images of 3 channels or of one, which is replicated; `lab-per-image`, the same with
            each image divided by its own maximum; `lab-color-table`, for images of one channel, colored by
            `color_table_step`; or `auto`: `lab` where an image has 3 channels of unsigned integers, else `raw`.
        channels: Of an image.
        by: The data set's maximum.
        integers: Whether values are unsigned integers.
    """
    if color == "auto":
        color = "lab" if channels == 3 and integers else "raw"
    scale = scale_per_image_step() if color == "lab-per-image" else scale_step(by)
    if color == "raw":
        return [scale]
    if color == "lab-color-table":
        return [scale, color_table_step(), lab_step()]
    return [scale, *([replicate_step()] if channels == 1 else []), lab_step()]


def resize_step(by: float | Sequence[float]) -> Step:
    """Scale an image before all other steps (see `images.resized`): by one factor along y and x, or three, z, y, x."""
    z, y, x = factors_of(by)
    return {"step": "resize", "by": y if z == 1 and y == x else [z, y, x]}


def resize_of(steps: Sequence[Step]) -> Factors:
    """The factors along z, y and x by which images are resized first; `AS_IS` for none."""
    return factors_of(steps[0]["by"]) if steps and steps[0].get("step") == "resize" else AS_IS


def flat_field_step(surfaces: Sequence[dict[str, Any] | None]) -> Step:
    """Divide by a surface of `prepare.flat_field`, one for each channel; None leaves a channel as it is."""
    return {"step": "flat-field", "surfaces": list(surfaces)}


def standardize_each_step(
    of: str,
    statistic: str,
    *,
    clip: Sequence[float] | None = None,
    channels: Sequence[int] = (),
    min_fraction: float = 0.0,
    foreground: dict[str, Any] | None = None,
) -> Step:
    """Subtract a center and divide by a spread of each image's own `slice` or `volume`.

    Args:
        of: `slice` or `volume`.
        statistic: `mean-std` or `median-iqr`.
        clip: Percentiles outside of which values are cut first.
        channels: Those that are meant; empty for all.
        min_fraction: Only blocks with at least this share of foreground are measured.
        foreground: What foreground is (see `prepare.masks.foreground_of`).
    """
    made: Step = {"step": "standardize-each", "of": of, "statistic": statistic, "channels": [int(n) for n in channels]}
    if clip is not None:
        made["clip"] = [float(n) for n in clip]
    if foreground is not None and min_fraction:
        made |= {"min_fraction": float(min_fraction), "foreground": foreground}
    return made


def _of_black(step: Step, channels: int) -> Step:
    """A step as it would be for one black pixel, which stands for any image."""
    match step.get("step"):
        case "resize":
            if not all(0 < factor <= LARGEST_FACTOR for factor in factors_of(step["by"])):
                raise ValueError(f"resize by {step['by']}")
            return scale_step(1.0)
        case "scale-per-image":
            return scale_step(1.0)
        case "flat-field":
            from fieldmark.prepare.flat_field import surface_at

            middle = np.zeros(1, int)
            return {
                "step": "divide",
                "by": np.stack([surface_at(one, middle, middle, (1, 1)) for one in step["surfaces"]]),
            }
        case "standardize-each":
            if step["of"] not in ("slice", "volume") or step["statistic"] not in ("mean-std", "median-iqr"):
                raise ValueError(f"{step['of']} {step['statistic']}")
            zeros = np.zeros((channels, 1, 1, 1))
            return {"step": "affine", "low": zeros, "high": zeros, "center": zeros, "spread": zeros + 1}
    return step


def prepared_channels(steps: Sequence[Step], channels: int) -> int:
    """How many channels the network sees of images with `channels`. Raises BadInput as `check` does."""
    return len(check(steps, channels))


def lab_step() -> Step:
    """Red, green and blue in 0..1 to CIE L*a*b* mapped to about 0..1 (the FLIM papers' LABNorm2)."""
    return {"step": "lab"}


def standardize_step(mean: Sequence[float], std: Sequence[float]) -> Step:
    """Subtract a mean and divide by a standard deviation, one of each for a channel."""
    return {"step": "standardize", "mean": [float(m) for m in mean], "std": [float(s) for s in std]}


def channels_step(take: Sequence[int]) -> Step:
    """Some channels of an image, in this order; an image that has only as many is taken as it is."""
    return {"step": "channels", "take": [int(n) for n in take]}


def clip_step(low: Sequence[float], high: Sequence[float]) -> Step:
    """Cut values outside of a range, one of each for a channel."""
    return {"step": "clip", "low": [float(n) for n in low], "high": [float(n) for n in high]}


def measures_each(steps: Sequence[Step]) -> bool:
    """Whether each image is brought to one range by its own numbers, so that its type does not matter."""
    return any(step.get("step") in ("standardize-each", "scale-per-image") for step in steps)


def inverse(steps: Sequence[Step]) -> list[Step]:
    """Steps that bring prepared values back to raw ones. What was clipped stays clipped, what was left out is gone."""
    back: list[Step] = []
    for step in reversed(steps):
        match step["step"]:
            case "scale":
                back.append(scale_step(1 / step["by"]))
            case "standardize":
                mean, std = np.asarray(step["mean"], np.float64), np.asarray(step["std"], np.float64)
                back.append(standardize_step((-mean / std).tolist(), (1 / std).tolist()))
            case "clip" | "channels":
                pass
            case other:
                raise BadInput(f"What the step {other!r} did cannot be undone.")
    return back


def apply(pixels: np.ndarray, steps: Sequence[Step]) -> np.ndarray:
    """Prepare pixels.

    Args:
        pixels: (C, ...) of any real dtype, raw values.
        steps: What `scale_step` and its siblings gave, in order.

    Returns:
        (C, ...) float32, contiguous.
    """
    values = np.ascontiguousarray(pixels, dtype=np.float32)
    for step in steps:
        values = _function(step)(values, step)
    return np.ascontiguousarray(values, dtype=np.float32)


def check(steps: Sequence[Step], channels: int) -> np.ndarray:
    """Raise BadInput where a step is unknown, lacks a number, or does not fit the number of channels.

    Returns:
        A black pixel prepared: (C, 1, 1) float32.
    """
    try:
        with np.errstate(all="ignore"):
            tried = np.zeros((channels, 1, 1), np.float32)
            for step in steps:
                tried = apply(tried, [_of_black(step, len(tried))])
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"A preparation step lacks its numbers or has wrong ones ({error}). Fit again.") from error
    if not np.isfinite(tried).all():
        raise BadInput("A preparation step divides by zero or holds numbers that are not finite. Fit again.")
    return tried


def _scale(values: np.ndarray, step: Step) -> np.ndarray:
    return values / np.float32(step["by"])


def _unplaced(_values: np.ndarray, step: Step) -> np.ndarray:
    raise BadInput(
        f"This model looks at whole images ({step['step']}: net.color=lab-per-image, prepare.resize, "
        "prepare.flat_field or prepare.normalize.scheme), which a tile does not know. Give it whole images."
    )


def _divide(values: np.ndarray, step: Step) -> np.ndarray:
    by = np.asarray(step["by"], np.float32)
    if len(by) != len(values):
        raise BadInput(f"A flat field of {len(by)} channels met an image with {len(values)}.")
    return values / (by if values.ndim == by.ndim else by[:, None])


def _affine(values: np.ndarray, step: Step) -> np.ndarray:
    low, high, center, spread = (
        np.asarray(step[name], np.float32) if values.ndim == 4 else np.asarray(step[name], np.float32)[:, 0]
        for name in ("low", "high", "center", "spread")
    )
    done: np.ndarray = (np.clip(values, low, high) - center) / spread
    return done


def _replicate(values: np.ndarray, _step: Step) -> np.ndarray:
    _require_one(values, "Replication to 3 channels")
    return np.repeat(values, 3, axis=0)


def _color_table(values: np.ndarray, _step: Step) -> np.ndarray:
    _require_one(values, "A color table")
    return blue_to_red(values)


def _require_one(values: np.ndarray, what: str) -> None:
    if len(values) != 1:
        raise BadInput(f"{what} needs images of one channel; found {len(values)}. Use `net.color: lab` or `raw`.")


def _lab(values: np.ndarray, step: Step) -> np.ndarray:
    if len(values) != 3:
        raise BadInput(f"L*a*b* needs 3 channels; found {len(values)}. Use `net.color: raw`.")
    return rgb_to_lab(values)


def _standardize(values: np.ndarray, step: Step) -> np.ndarray:
    shape = (-1,) + (1,) * (values.ndim - 1)
    mean = np.asarray(step["mean"], np.float32).reshape(shape)
    std = np.asarray(step["std"], np.float32).reshape(shape)
    if len(mean) != len(values) or len(std) != len(values):
        raise BadInput(f"A standardization of {len(mean)} channels met an image with {len(values)}.")
    return (values - mean) / std


def _channels(values: np.ndarray, step: Step) -> np.ndarray:
    take = [int(n) for n in step["take"]]
    if not take or min(take) < 0:
        raise BadInput(f"A selection of channels must name some from 0; found {take}.")
    if max(take) < len(values):
        return values[take]
    if len(values) == len(take):
        return values
    raise BadInput(f"The model sees channels {', '.join(map(str, take))}; the image has {len(values)}.")


def _clip(values: np.ndarray, step: Step) -> np.ndarray:
    shape = (-1,) + (1,) * (values.ndim - 1)
    low, high = (np.asarray(step[name], np.float32).reshape(shape) for name in ("low", "high"))
    if len(low) != len(values) or len(high) != len(values):
        raise BadInput(f"Limits of {len(low)} channels met an image with {len(values)}.")
    clipped: np.ndarray = np.clip(values, low, high)
    return clipped


_STEPS: dict[str, Callable[[np.ndarray, Step], np.ndarray]] = {
    "channels": _channels,
    "clip": _clip,
    "scale": _scale,
    **dict.fromkeys(PLACED, _unplaced),
    "divide": _divide,
    "affine": _affine,
    "replicate": _replicate,
    "color-table": _color_table,
    "lab": _lab,
    "standardize": _standardize,
}


def _function(step: Step) -> Callable[[np.ndarray, Step], np.ndarray]:
    try:
        return _STEPS[step["step"]]
    except (KeyError, TypeError):
        raise BadInput(f"Unknown preparation {step!r}. Known: {', '.join(sorted(_STEPS))}.") from None
