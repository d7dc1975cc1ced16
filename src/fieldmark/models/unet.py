"""U-Nets in 2-D, 2.5-D and 3-D: blocks of convolutions down, and up again beside what was seen on the way.

Ronneberger et al. 2015; Çiçek et al. 2016 for volumes; Guo et al., eLife 2020;9:e55502 for the stack of slices (2.5-D).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.core.geometry import Box
from fieldmark.models.encoders import RADIUS, STRIDE, encoded_unet
from fieldmark.models.taught import TaughtNet
from fieldmark.models.unet_blocks import LEAST_NORMED, Blocks, norms_maps_alone
from fieldmark.recipes.families import NetConfig
from fieldmark.recipes.unet import UNetConfig

PIXELS_AT_ONCE = 1 << 20
"""Windows of a stack that are computed together have at most so many pixels, or are one: memory follows this."""


class UNet(TaughtNet):
    """Encoder, decoder and skip connections.

    What is padded repeats the border. Normalization over the batch keeps the statistics of training, so that a tile and
    a whole image are normalized alike; instance and group norm look at the tile (`tile_exact` is then false, and
    with layer norm over fewer than `LEAST_NORMED` channels).

    Args:
        channels: Channels of prepared images.
        config: See `UNetConfig`; `task` and `out_channels` are known when a network is built.

    Attributes:
        window: Slices of one training input of a 2.5-D network; 0 for others.
    """

    config_class: ClassVar[type[NetConfig]] = UNetConfig
    config: UNetConfig

    def __init__(self, channels: int, config: UNetConfig) -> None:
        super().__init__(channels, config)
        self.spatial = 2 if config.dims == "2" else 3
        self.window = config.depth if config.dims == "2.5" else 0
        self.body: nn.Module
        if config.encoder == "unet":
            blocks = Blocks(channels, config, self.out_channels)
            self.body, self.stride, self.radius = blocks, blocks.stride, blocks.radius
        else:
            self.body = encoded_unet(channels, config, self.out_channels)
            self.stride, self.radius = STRIDE, RADIUS

    @property
    def gives(self) -> str:
        """`slice` or `stack`: what a 2.5-D network answers for a window."""
        return self.config.gives

    @property
    def encoder(self) -> nn.Module | None:
        """The published part of the network, whose weights may rest at first."""
        found = getattr(self.body, "encoder", None)
        return found if isinstance(found, nn.Module) else None

    @property
    def strides(self) -> tuple[int, int, int]:
        return self.stride if self.config.dims == "3" else 1, self.stride, self.stride

    @property
    def radii(self) -> tuple[int, int, int]:
        z = self.radius if self.config.dims == "3" else self.window // 2
        return z, self.radius, self.radius

    @property
    def least(self) -> tuple[int, ...]:
        """Norms of one map by itself need more than one pixel at the bottom."""
        *deep, y, x = super().least
        return (*deep, 2 * y, 2 * x) if norms_maps_alone(self.config) else (*deep, y, x)

    @property
    def tile_exact(self) -> bool:
        if self.config.norm == "layer" and self.config.encoder == "unet":
            return min(self.config.filters) >= LEAST_NORMED
        return self.config.norm not in ("instance", "group")

    def forward(self, x: Tensor) -> Tensor:
        """Raw scores (B, K, ...) of a training input."""
        scores: Tensor = self.body(x)
        return scores

    def scores(self, x: Tensor) -> Tensor:
        """(B, K, ...) scores of every pixel: a 2.5-D network sees each slice in its window of the stack."""
        if not self.window:
            scores: Tensor = self(x)
            return scores
        half = self.window // 2
        stack = functional.pad(x, (0, 0, 0, 0, half, half), mode="replicate")
        windows = stack.unfold(2, self.window, 1).movedim(-1, 3)  # (B, C, Z, D, Y, X)
        slices = []
        at_once = max(1, PIXELS_AT_ONCE // (self.window * x.shape[3] * x.shape[4]))
        for first in range(0, x.shape[2], at_once):
            some = windows[:, :, first : first + at_once].transpose(1, 2)
            answers = self(some.flatten(0, 1))
            middle = answers[:, :, answers.shape[2] // 2]
            slices.append(middle.unflatten(0, some.shape[:2]).transpose(1, 2))
        return torch.cat(slices, dim=2)

    def values(self, x: Tensor) -> Tensor:
        return self._painted(super().values(x))

    def answer_inside(self, x: Tensor, output: str, part: Box) -> Tensor:
        changed = type(self) is not UNet  # somebody's own network may say more than the body does
        other = output not in ("classes", "image")
        if changed or other or self.window or not self.tile_exact or not isinstance(self.body, Blocks):
            return super().answer_inside(x, output, part)
        scores = self.body.scores_inside(x, part)
        return self._painted(scores) if output == "image" else scores.softmax(dim=1)

    def _painted(self, scores: Tensor) -> Tensor:
        return scores.sigmoid() if self.config.final_activation == "sigmoid" else scores
