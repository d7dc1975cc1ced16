"""Change crops while training: one geometry for image, target and weights; intensities of the image alone.

What happens to a sample depends on its seed and on the settings alone, never on its neighbors in the batch, on an
earlier draw or on another setting: with more zoom, the same sample is flipped as before.

Order: flips and quarter turns, exactly; zoom, shear and rotation about the crop's center as one resampling; then the
image's blur, autocontrast, equalization, contrast, scale and offset, noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fieldmark.errors import BadInput
from fieldmark.learn.lessons import Lesson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fieldmark.recipes.train import AugmentConfig

CUT = 0.01
"""The share of values at each end that autocontrast gives up."""
_DRAWS = 16
"""Numbers drawn for each sample, whatever is asked for: so that one setting never moves another's draws."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What happens to one sample; the defaults change nothing."""

    flip_x: bool = False
    flip_y: bool = False
    turns: int = 0
    """Quarter turns, counterclockwise as `numpy.rot90` turns (y, x)."""
    zoom: float = 1.0
    rotate: float = 0.0
    """Degrees, counterclockwise."""
    shear: float = 0.0
    """Degrees that vertical lines lean by."""
    blur: float = 0.0
    """Sigma in pixels; 0 for none."""
    autocontrast: bool = False
    equalize: bool = False
    contrast: float = 0.0
    scale: float = 0.0
    offset: float = 0.0
    noise: float = 0.0
    """Standard deviation."""

    @property
    def bends(self) -> bool:
        """Whether pixels must be resampled."""
        return (self.zoom, self.rotate, self.shear) != (1.0, 0.0, 0.0)


def draw(config: AugmentConfig, seed: int, *, square: bool) -> Draw:
    """What happens to the sample of a seed.

    Args:
        config: The settings.
        seed: Of this sample in this epoch.
        square: Whether the crop is as high as wide; others are never turned by a quarter.
    """
    u = np.random.default_rng(seed).random(_DRAWS).tolist()
    if u[0] >= config.share:
        return Draw()
    turns = (int(4 * u[3]) if square else 2 * int(2 * u[3])) if config.rot90 else 0
    return Draw(
        flip_x=u[1] < config.flip,
        flip_y=u[2] < config.flip,
        turns=turns,
        zoom=_between(config.zoom, u[4]),
        rotate=_either_way(config.rotate, u[5]),
        shear=_either_way(config.shear, u[6]),
        blur=_between(config.blur, u[8]) if u[7] < 0.5 else 0.0,
        autocontrast=u[9] < config.autocontrast,
        equalize=u[10] < config.equalize,
        contrast=_either_way(config.contrast, u[11]),
        scale=_either_way(config.intensity_scale, u[12]),
        offset=_either_way(config.intensity_offset, u[13]),
        noise=config.noise * u[14],
    )


def _between(ends: tuple[float, float], u: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * u


def _either_way(most: float, u: float) -> float:
    return most * (2 * u - 1)


def augmented(lesson: Lesson, config: AugmentConfig, seeds: Sequence[int]) -> Lesson:
    """The batch as the network sees it in training; the lesson itself is not changed.

    Geometry is in the plane of y and x, the same for all channels and slices of a sample: of image (linear), target
    (nearest for classes; linear for values, over known pixels only) and weight (nearest). Where the changed crop
    shows what lies outside the original, the weight is 0. A target without y and x is left as it is.

    Args:
        lesson: B samples, 2-D (B, C, y, x) or with slices (B, C, z, y, x); of a 2.5-D network the target may have
            fewer slices than the image.
        config: What may happen, and how much.
        seeds: B integers; the same seed and settings change a sample in the same way.

    Raises:
        BadInput: There is not one seed for each sample.
    """
    if len(seeds) != len(lesson.x):
        raise BadInput(f"There are {len(lesson.x)} samples, but {len(seeds)} seeds. Give one seed for each sample.")
    square = lesson.x.shape[-1] == lesson.x.shape[-2]
    draws = [draw(config, seed, square=square) for seed in seeds]
    if all(one == Draw() for one in draws):
        return lesson
    samples = [_changed(lesson, place, one, config, seeds[place]) for place, one in enumerate(draws)]
    x, target, weight = (torch.stack(parts) for parts in zip(*samples, strict=True))
    return replace(lesson, x=x, target=target, weight=weight)


def _changed(lesson: Lesson, place: int, one: Draw, config: AugmentConfig, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image, target and weight of one sample."""
    parts = lesson.x[place], lesson.target[place], lesson.weight[place]
    x, target, weight = (_turned(part, one) for part in parts)
    if one.bends:
        x, target, weight = _bent(x, target, weight, one, outside=config.outside, classes=lesson.classes)
    return _shaded(x, one, seed), target, weight


def _turned(part: Tensor, one: Draw) -> Tensor:
    """Flips, then quarter turns, of (C, ..., y, x); every value is kept."""
    if part.ndim < 3:
        return part
    axes = [axis for axis, flipped in ((-1, one.flip_x), (-2, one.flip_y)) if flipped]
    return torch.rot90(part.flip(axes) if axes else part, one.turns, (-2, -1))


def _bent(
    x: Tensor, target: Tensor, weight: Tensor, one: Draw, *, outside: str, classes: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Zoom, shear and rotation of one sample by one matrix."""
    fill = "reflection" if outside == "reflect" else "border"
    x = _warped(x, one, "bilinear", fill)
    if target.ndim < 3:
        return x, target, weight
    if classes:
        planes = _warped(torch.cat([_flat(target), _flat(weight)]), one, "nearest", "zeros")
        count = len(_flat(target))
        return x, planes[:count].reshape(target.shape), planes[count:].reshape(weight.shape)
    return x, _warped_values(target, weight > 0, one), _warped(weight, one, "nearest", "zeros")


def _warped_values(target: Tensor, known: Tensor, one: Draw) -> Tensor:
    """Values between pixels, from the known ones among their neighbors: what is unknown, even NaN, reaches nobody."""
    known = known.expand_as(target)
    values = torch.where(known, target, torch.zeros_like(target))
    total, share = _warped(torch.stack([values, known.to(target.dtype)]), one, "bilinear", "border")
    mixed: Tensor = total / share.clamp(min=1e-6)
    return mixed


def _flat(part: Tensor) -> Tensor:
    """(planes, y, x)."""
    return part.reshape(-1, *part.shape[-2:])


def _warped(part: Tensor, one: Draw, mode: str, fill: str) -> Tensor:
    from kornia.geometry.transform import warp_affine

    height, width = part.shape[-2:]
    planes = _flat(part)[None]
    matrix = torch.tensor(_matrix(one, (height, width)), dtype=part.dtype, device=part.device)[None]
    warped: Tensor = warp_affine(planes, matrix, (height, width), mode=mode, padding_mode=fill)
    return warped.reshape(part.shape)


def _matrix(one: Draw, size: tuple[int, int]) -> list[list[float]]:
    """(2, 3): where a pixel at (x, y) of the crop goes; the center stays. Shear, then zoom, then rotation."""
    angle, lean = math.radians(one.rotate), math.tan(math.radians(one.shear))
    cos, sin = one.zoom * math.cos(angle), one.zoom * math.sin(angle)
    # y points down: a counterclockwise turn takes +x to -y
    linear = np.array([[cos, sin], [-sin, cos]]) @ np.array([[1.0, -lean], [0.0, 1.0]])
    center = np.array([size[1] - 1, size[0] - 1]) / 2
    matrix: list[list[float]] = np.column_stack([linear, center - linear @ center]).tolist()
    return matrix


def _shaded(x: Tensor, one: Draw, seed: int) -> Tensor:
    """Changes of intensity of one image, (C, ..., y, x)."""
    if one.blur > 0:
        x = _blurred(x, one.blur)
    if one.autocontrast:
        x = torch.stack([_stretched(channel) for channel in x])
    if one.equalize:
        x = torch.stack([_equalized(channel) for channel in x])
    if one.contrast:
        mean = x.flatten(1).mean(dim=1).reshape(-1, *[1] * (x.ndim - 1))
        x = mean + (x - mean) * (1 + one.contrast)
    if one.scale or one.offset:
        x = x * (1 + one.scale) + one.offset
    return x + one.noise * _normal(x, seed) if one.noise else x


def _blurred(x: Tensor, sigma: float) -> Tensor:
    from kornia.filters import gaussian_blur2d

    height, width = x.shape[-2:]
    # reflection reaches no farther than the other side
    sides = [min(2 * math.ceil(3 * sigma) + 1, 2 * n - 1) for n in (height, width)]
    blurred: Tensor = gaussian_blur2d(_flat(x)[None], (sides[0], sides[1]), (sigma, sigma))
    return blurred.reshape(x.shape)


def _stretched(channel: Tensor) -> Tensor:
    """The values between the outer `CUT` of each end, stretched over the range of all of them."""
    values = channel.flatten()
    ends = round(CUT * (len(values) - 1))
    low, high = values.kthvalue(ends + 1).values, values.kthvalue(len(values) - ends).values
    if not bool(high > low):
        return channel
    share = ((channel - low) / (high - low)).clamp(0, 1)
    least, most = values.aminmax()
    return least + share * (most - least)


def _equalized(channel: Tensor) -> Tensor:
    """Each value by its rank among the pixels, equal ones alike, over the range that there was."""
    values, place, counts = torch.unique(channel, return_inverse=True, return_counts=True)
    if len(values) < 2:
        return channel
    above = counts.cumsum(0) - counts[0]
    share = (above / above[-1]).to(channel.dtype)
    even: Tensor = values[0] + share[place] * (values[-1] - values[0])
    return even


def _normal(x: Tensor, seed: int) -> Tensor:
    """Standard normal numbers of the shape of x, from a stream of their own."""
    rng = np.random.default_rng((seed, 1))
    return torch.from_numpy(rng.standard_normal(tuple(x.shape), np.float32)).to(x.device, x.dtype)
