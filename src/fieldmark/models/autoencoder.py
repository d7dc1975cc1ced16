"""A small convolutional autoencoder: strided convolutions down, interpolation and convolutions up."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from fieldmark.models.base import Net
from fieldmark.recipes.families import AutoEncoderConfig


class AutoEncoder(Net):
    """Encoder and decoder of `depth` levels, each halving the image.

    Batch norm keeps its statistics from training (`eval`), so a tile and a whole image
    are normalized alike. The features are the levels of the encoder; the embedding is the
    mean of the latent map.

    Args:
        channels: Channels of an image.
        config: Widths and depth.
    """

    phases: ClassVar[tuple[str, ...]] = ("reconstruct", "pixel-head", "classify", "svm")
    outputs: ClassVar[tuple[str, ...]] = ("features", "image")

    def __init__(self, channels: int, config: AutoEncoderConfig) -> None:
        super().__init__(channels)
        widths = [config.width * 2**i for i in range(config.depth)]
        self.stride = 2**config.depth
        self.stem = _block(channels, config.width)
        self.down = nn.ModuleList(
            nn.Sequential(_block(before, width, stride=2), *(_block(width, width) for _ in range(config.blocks)))
            for before, width in zip([config.width, *widths], widths, strict=False)
        )
        self.latent = nn.Conv2d(widths[-1], config.latent, 1)
        steps = list(zip([config.latent, *reversed(widths[:-1])], [*reversed(widths[:-1]), config.width], strict=True))
        self.up = nn.ModuleList(_block(before, after) for before, after in steps)
        self.paint = nn.Conv2d(config.width, channels, 3, padding=1, padding_mode="replicate")
        self.radius = _radius(config.depth, config.blocks)

    def levels(self, x: Tensor) -> list[Tensor]:
        maps = [self.stem(x)]
        for block in self.down:
            maps.append(block(maps[-1]))
        return maps

    def encode(self, x: Tensor) -> Tensor:
        """The latent map: (B, latent, Y / stride, X / stride)."""
        latent: Tensor = self.latent(self.levels(x)[-1])
        return latent

    def forward(self, x: Tensor) -> Tensor:
        """The image as the decoder paints it: (B, C, Y, X), prepared values."""
        latent = self.encode(x)
        for block in self.up:
            latent = block(nn.functional.interpolate(latent, scale_factor=2.0, mode="bilinear", align_corners=False))
        painted: Tensor = self.paint(latent)
        return painted

    def answer(self, x: Tensor, output: str) -> Tensor:
        return self(x) if output == "image" else super().answer(x, output)


def _block(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1, padding_mode="replicate", bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )


def _radius(depth: int, blocks: int) -> int:
    """Pixels that a painted pixel depends on, on each side: encoder, interpolations and decoder."""
    radius, jump = 1, 1
    for _ in range(depth):
        radius += jump
        jump *= 2
        radius += blocks * jump
    for _ in range(depth):
        radius += jump
        jump //= 2
        radius += jump
    return radius + 1
