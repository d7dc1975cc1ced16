"""How networks are trained by gradient descent on targets: crops, losses, augmentation, rates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from fieldmark.recipes.steps import StepsConfig

Chance = Annotated[float, Field(ge=0, le=1)]


def _rising(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"from {ends[0]:g} to {ends[1]:g} runs backwards; give the smaller one first")
    return ends


_Side = Annotated[float, Field(gt=0, le=16)]
_Sigma = Annotated[float, Field(ge=0, le=64)]
Turn = Annotated[float, Field(ge=0, le=180)]
Lean = Annotated[float, Field(ge=0, le=60)]
Zooms = Annotated[tuple[_Side, _Side], AfterValidator(_rising)]
Sigmas = Annotated[tuple[_Sigma, _Sigma], AfterValidator(_rising)]


class AugmentConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Changes of crops while training. Geometry is shared by image, target and weights; the rest is the image's alone.

    Every draw depends on the seed, the epoch and the sample's number alone. Validation is never augmented.
    """

    flip: Chance = 0.5
    """The chance of a flip along x, and of one along y."""
    rot90: bool = True
    """A quarter turn, a half, three quarters or none, each as often; crops that are not square: a half or none."""
    zoom: Zooms = (1.0, 1.0)
    """From and to; above 1 objects grow."""
    rotate: Turn = 0.0
    """Degrees, either way."""
    shear: Lean = 0.0
    """Degrees, either way."""
    outside: Literal["reflect", "border"] = "reflect"
    """What fills the image where a turn or a zoom shows more than the crop holds. The loss never looks there."""
    intensity_offset: NonNegativeFloat = 0.0
    """Most that is added, either way, in units of prepared values (microDL's `intensity_jitter` mean)."""
    intensity_scale: Chance = 0.0
    """Most that values are scaled by, either way: x * (1 + s)."""
    contrast: Chance = 0.0
    """Most that the distance to each channel's mean over the crop is scaled by, either way."""
    noise: NonNegativeFloat = 0.0
    """Most standard deviation of added Gaussian noise, in units of prepared values."""
    blur: Sigmas = (0.0, 0.0)
    """Sigma in pixels, from and to; half of the samples are blurred."""
    autocontrast: Chance = 0.0
    """The chance that each channel is stretched so that its middle 98 % fill its range; the rest is cut off."""
    equalize: Chance = 0.0
    """The chance that each channel's values are spread evenly over its range, by rank."""
    share: Chance = 1.0
    """The share of samples that are changed at all (microDL changes 5 in 6)."""


class LossConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What is minimized: a weighted sum of losses, each a mean over known pixels, weights included.

    Classes: `ce`, `bce`, `dice`, `focal`, `tversky`. Values: `mae`, `mse`, `kl`, `dssim`, `ms-ssim`.
    """

    terms: dict[str, PositiveFloat] = Field(default_factory=dict)
    """Name to weight; empty for cross entropy and Dice (classes) or the mean absolute error (values)."""
    class_weights: tuple[NonNegativeFloat, ...] | Literal["balanced"] | None = None
    """One for each class, in their order; `balanced`: each as one over how many of the pixels are its own."""
    tversky_alpha: float = Field(default=0.3, gt=0, le=1)
    """Weight of false positives; that of false negatives is one minus it."""
    focal_gamma: NonNegativeFloat = 2.0


class TrainConfig(StepsConfig, frozen=True, extra="forbid", allow_inf_nan=False):
    """Training of a network on targets."""

    epochs: NonNegativeInt = 40
    batch_size: PositiveInt = 8
    lr: PositiveFloat = 1e-3
    crop: tuple[PositiveInt, PositiveInt] = (128, 128)
    """Height and width in pixels; smaller images are seen whole, grown by reflection."""
    depth: PositiveInt = 16
    """Slices of a crop of 3-D networks."""
    crops_per_epoch: NonNegativeInt = 0
    """0 for as many as cover the images once."""
    crops_share: float = Field(default=1.0, gt=0, le=1)
    """Of those that cover the images once, so many make an epoch (microDL's `train_fraction`)."""
    min_fraction: float = Field(default=0.0, ge=0, le=1)
    """Crops with less known (or foreground) share are drawn again, up to ten times."""
    loss: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()
    only_decoder_epochs: NonNegativeInt = 0
    """Epochs at the start in which a published encoder's weights stay."""
    compile: bool = False
    """`torch.compile` of the network."""
