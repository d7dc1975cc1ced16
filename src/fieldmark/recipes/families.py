"""Settings of the built-in model families; a plug-in brings its own."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, NonNegativeInt, PositiveFloat, PositiveInt, field_validator


class NetConfig(BaseModel, frozen=True, extra="forbid"):
    """What every family's network can be told."""

    color: Literal["auto", "raw", "lab"] = "auto"


class FlimLayer(BaseModel, frozen=True, extra="forbid"):
    """One FLIM layer: normalization by the markers, convolution, ReLU, pooling."""

    kernel_size: PositiveInt = 5
    dilation: PositiveInt = 1
    kernels_per_marker: PositiveInt = 4
    out_channels: PositiveInt = 32
    pool: Literal["max", "avg", "none"] = "max"
    pool_size: PositiveInt = 3
    pool_stride: PositiveInt = 1

    @field_validator("kernel_size", "pool_size")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"must be odd, so that it has a center; got {value}")
        return value


class FlimConfig(NetConfig, frozen=True, extra="forbid"):
    """A FLIM encoder whose features are its layers, brought back to the image's size."""

    layers: tuple[FlimLayer, ...] = (
        FlimLayer(kernel_size=5, pool_stride=2),
        FlimLayer(kernel_size=3, pool_stride=2),
        FlimLayer(kernel_size=3, pool_stride=2),
    )
    max_patches_per_marker: PositiveInt = 1000
    epsilon: PositiveFloat = 0.01
    include_input: bool = True


class AutoEncoderConfig(NetConfig, frozen=True, extra="forbid"):
    """A convolutional autoencoder that halves the image `depth` times."""

    width: PositiveInt = 16
    depth: PositiveInt = 3
    latent: PositiveInt = 32
    blocks: NonNegativeInt = 1
