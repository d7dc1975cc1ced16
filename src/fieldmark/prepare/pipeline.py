"""Pointwise preparation of pixels. Each step is a JSON object with a `step` and its numbers.

Every constant belongs to the model (it was estimated on the images that taught it), never to
the image or the tile at hand: so a tile, an image and a batch give the same pixels. There is one
exception, for who asks for it by name: `scale-per-image` divides by the maximum of the whole image,
which `of_image` puts in; a tile alone is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fieldmark.errors import BadInput
from fieldmark.prepare.color import blue_to_red, rgb_to_lab

Step = dict[str, Any]


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


def of_image(steps: Sequence[Step], top: Callable[[], float]) -> list[Step]:
    """The steps for one image: its maximum, from `top`, stands in the place of `scale-per-image`."""
    return [scale_step(top() or 1.0) if step.get("step") == "scale-per-image" else step for step in steps]


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
            tried = apply(np.zeros((channels, 1, 1), np.float32), of_image(steps, lambda: 1.0))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"A preparation step lacks its numbers or has wrong ones ({error}). Fit again.") from error
    if not np.isfinite(tried).all():
        raise BadInput("A preparation step divides by zero or holds numbers that are not finite. Fit again.")
    return tried


def _scale(values: np.ndarray, step: Step) -> np.ndarray:
    return values / np.float32(step["by"])


def _unknown_scale(_values: np.ndarray, _step: Step) -> np.ndarray:
    raise BadInput(
        "This model divides by the maximum of each image (`net.color: lab-per-image`), which a tile does not know. "
        "Give it whole images."
    )


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
    "scale-per-image": _unknown_scale,
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
