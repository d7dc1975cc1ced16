"""Settings of the built-in model families; a plug-in brings its own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from fieldmark.recipes.kernels import KernelConfig

# A model's header comes from anywhere: no setting may make a network that takes minutes to put together, or reaches
# farther than any image. Real ones stay far below.
_Side = Annotated[int, Field(ge=1, le=63)]  # pixels
_Step = Annotated[int, Field(ge=1, le=64)]  # pixels
_Width = Annotated[int, Field(ge=1, le=8192)]  # maps
_Sigma = Annotated[float, Field(gt=0, le=256)]  # pixels


class NetConfig(BaseModel, frozen=True, extra="forbid"):
    """What every family's network can be told."""

    color: Literal["auto", "raw", "lab", "lab-per-image", "lab-color-table"] = "auto"
    """`lab`: L*a*b* of values divided by a constant of the data set; `auto`: that for color images of integers."""


class TaughtConfig(NetConfig, frozen=True, extra="forbid"):
    """What a network is told that learns from targets; the fit completes it by them."""

    color: Literal["auto", "raw", "lab", "lab-per-image", "lab-color-table"] = "raw"
    task: Literal["auto", "segment", "regress"] = "auto"
    """By itself what the targets are: label maps and strokes are classes, images and numbers are values."""
    out_channels: NonNegativeInt = 0
    """Classes or channels of the answer; 0 for those of the targets."""


class FlimLayer(BaseModel, frozen=True, extra="forbid"):
    """One FLIM layer: normalization by the markers, convolution, ReLU, pooling."""

    kernel_size: _Side = 3
    dilation: _Step = 1
    kernels_per_marker: _Width = 5
    out_channels: _Width = 32
    centered: bool = False
    """Patches lose their mean before they are clustered: kernels for structure, blind to brightness."""
    dropped: tuple[NonNegativeInt, ...] = Field(default=(), max_length=8192)
    """Filters that are left out after they were learned, by their number from 0 (see `fieldmark flim inspect`)."""
    pool: Literal["max", "avg", "none"] = "none"
    pool_size: _Step = 2
    pool_stride: _Step = 2

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"must be odd, so that it has a center; got {value}")
        return value

    @model_validator(mode="after")
    def _pool_has_a_center(self) -> FlimLayer:
        if self.pool != "none" and self.pool_size != self.pool_stride and not self.pool_size % 2:
            raise ValueError(f"pool_size must be odd, or equal to pool_stride; got {self.pool_size}")
        return self


class FlimBranch(BaseModel, frozen=True, extra="forbid"):
    """FLIM layers one after the other."""

    layers: tuple[FlimLayer, ...] = Field(min_length=1, max_length=32)


def _stack() -> FlimBranch:
    """Four layers that each halve the image: from edges to the surroundings of a pixel."""
    return FlimBranch(layers=tuple(FlimLayer(out_channels=n, pool="max") for n in (24, 32, 48, 48)))


def _fine() -> FlimBranch:
    """Centered kernels at full size, for lines and borders."""
    return FlimBranch(layers=(FlimLayer(kernel_size=5, out_channels=16, centered=True),))


class FlimConfig(NetConfig, frozen=True, extra="forbid"):
    """A FLIM encoder: branches of layers beside a scale space of the image, all brought to the image's size."""

    branches: tuple[FlimBranch, ...] = Field(default_factory=lambda: (_stack(), _fine()), max_length=16)
    scales: tuple[_Sigma, ...] = Field(default=(0.5, 1.0, 2.0, 4.0, 8.0, 16.0), max_length=64)
    """Standard deviations of the scale space in pixels; empty for none."""
    kernels: KernelConfig = KernelConfig()
    max_patches_per_marker: PositiveInt = 1000
    """Drawn by chance from a stroke that has more; with 300, clusters are about 4 % looser than with all."""
    epsilon: PositiveFloat = 0.01
    """Part of the mean spread that is added to each channel's."""


class AutoEncoderConfig(NetConfig, frozen=True, extra="forbid"):
    """A convolutional autoencoder that halves the image `depth` times."""

    width: _Width = 16
    depth: int = Field(default=3, ge=1, le=10)
    latent: _Width = 32
    blocks: int = Field(default=1, ge=0, le=32)
