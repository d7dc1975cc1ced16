"""Settings of U-Nets, our own and those on published encoders, and of networks from an image to numbers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from fieldmark.recipes.families import TaughtConfig
from fieldmark.recipes.places import IsPath

_Width = Annotated[int, Field(ge=1, le=8192)]
_Side = Annotated[int, Field(ge=1, le=8192)]


def _as_word(value: object) -> object:
    """A number as it is written: YAML and `--set net.dims=2.5` give numbers."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"{value:g}" if is_number else value


_Word = BeforeValidator(_as_word)


def _centered(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"must be odd, so that it has a center; got {value}")
    return value


KernelSize = Annotated[int, Field(ge=1, le=15), AfterValidator(_centered)]
StackDepth = Annotated[int, Field(ge=1, le=63), AfterValidator(_centered)]
Dropout = Annotated[float, Field(ge=0, lt=1)]


class BlocksConfig(TaughtConfig, frozen=True, extra="forbid"):
    """Blocks of convolutions on the way down, or a published encoder in their place."""

    encoder: str = "unet"
    """`unet`: blocks as below; else a published encoder by name, such as `resnet34` or `efficientnet-lite0`."""
    weights: Annotated[str, IsPath(names=("imagenet",))] | None = None
    """Of a published encoder: a local file (`.safetensors`, or a state dict `.pt`), `imagenet`, or None for those that
    come with it: ImageNet's of `efficientnet-lite0`, random ones of all others."""
    filters: tuple[_Width, ...] = Field(default=(16, 32, 64, 128, 256), min_length=2, max_length=8)
    """Of each block on the way down; each block but the first halves the image."""
    convs_per_block: int = Field(default=2, ge=1, le=8)
    kernel_size: KernelSize = 3
    block: Literal["conv-norm-activation", "conv-activation-norm"] = "conv-norm-activation"
    activation: Literal["relu", "leakyrelu", "elu", "gelu", "silu"] = "relu"
    norm: Literal["batch", "instance", "group", "layer", "none"] = "batch"
    residual: bool = False
    """A block's input is added to its output."""
    pool: Literal["max", "average", "conv"] = "max"
    dropout: Dropout = 0.0


class UNetConfig(BlocksConfig, frozen=True, extra="forbid"):
    """A U-Net: what goes down in blocks of convolutions comes up again beside what was seen on the way."""

    dims: Annotated[Literal["2", "2.5", "3"], _Word] = "2"
    """`2.5`: a stack of `depth` slices in, the middle slice (or the stack) out."""
    gives: Literal["slice", "stack"] = "slice"
    """Of 2.5-D networks: the middle slice or all."""
    depth: StackDepth = 5
    """Slices of a 2.5-D stack; odd."""
    skip: Literal["concat", "add"] = "concat"
    up: Literal["bilinear", "nearest", "transposed"] = "bilinear"
    final_activation: Literal["linear", "sigmoid"] = "linear"
    """Of `regress`; classes are always shares that sum to one."""

    @model_validator(mode="after")
    def _fits(self) -> UNetConfig:
        if self.encoder != "unet" and self.dims != "2":
            raise ValueError(f"encoder {self.encoder!r} sees planes: leave dims at 2, or take the encoder 'unet'")
        return self


class NumbersConfig(BlocksConfig, frozen=True, extra="forbid"):
    """From a whole image to numbers: blocks down, mean and maximum of what they see, dense layers."""

    dims: Annotated[Literal["2", "3"], _Word] = "2"
    hidden: tuple[_Width, ...] = Field(default=(64,), max_length=8)
    """Widths of the dense layers before the last."""
    size: tuple[_Side, _Side] | None = None
    """Height and width in pixels that images are resized to; without it they are all of one size."""

    @model_validator(mode="after")
    def _fits(self) -> NumbersConfig:
        if self.dims == "3" and (self.encoder != "unet" or self.size is not None):
            raise ValueError("volumes are seen by the encoder 'unet', at their own size: leave encoder and size out")
        return self
