"""From a whole image to numbers: an encoder, the mean and the maximum of its maps, dense layers."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.models.base import Net
from fieldmark.models.encoders import STRIDE, published_encoder
from fieldmark.models.unet_blocks import Descent, norms_maps_alone
from fieldmark.recipes.families import NetConfig
from fieldmark.recipes.unet import NumbersConfig


class NumbersNet(Net):
    """One row of numbers for an image of any size. It looks at the whole image, and knows no tiles.

    Args:
        channels: Channels of prepared images.
        config: See `NumbersConfig`; `out_channels` is known when a network is built.

    Attributes:
        out_channels: Numbers of a row.
        size: Height and width in pixels that images are resized to; None for their own.
    """

    config_class: ClassVar[type[NetConfig]] = NumbersConfig
    phases: ClassVar[tuple[str, ...]] = ("numbers",)
    outputs: ClassVar[tuple[str, ...]] = ("numbers",)

    def __init__(self, channels: int, config: NumbersConfig) -> None:
        super().__init__(channels)
        self.config = config
        self.out_channels = max(1, config.out_channels)
        self.spatial = int(config.dims)
        self.radius = 0
        self.size = config.size
        width = config.filters[-1]
        if config.encoder == "unet":
            self.stride = 2 ** (len(config.filters) - 1)
            self.body: nn.Module = Descent(channels, config, self.spatial)
        else:
            encoder = published_encoder(channels, config)
            self.stride, self.body, width = STRIDE, encoder, encoder.widths[-1]
        widths = [2 * width, *config.hidden, self.out_channels]
        self.dense = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))

    @property
    def encoder(self) -> nn.Module | None:
        """The published part of the network."""
        return None if self.config.encoder == "unet" else self.body

    @property
    def strides(self) -> tuple[int, int, int]:
        return self.stride if self.spatial == 3 else 1, self.stride, self.stride

    @property
    def least(self) -> tuple[int, ...]:
        """Norms of one map by itself need more than one pixel at the bottom."""
        *deep, y, x = super().least
        return (*deep, 2 * y, 2 * x) if norms_maps_alone(self.config) else (*deep, y, x)

    def levels(self, x: Tensor) -> list[Tensor]:
        maps = self.body(x)
        return [maps[-1] if isinstance(maps, list) else maps]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, (z,) y, x) to rows (B, D), in prepared units of the targets."""
        maps = self.levels(x)[-1].flatten(2)
        row = torch.cat([maps.mean(dim=2), maps.amax(dim=2)], dim=1)
        for layer in self.dense[:-1]:
            row = functional.dropout(functional.relu(layer(row)), self.config.dropout, self.training)
        scores: Tensor = self.dense[-1](row)
        return scores

    def answer(self, x: Tensor, output: str) -> Tensor:
        return self(x) if output == "numbers" else super().answer(x, output)
