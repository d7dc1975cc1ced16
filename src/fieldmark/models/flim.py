"""The FLIM encoder: convolutions whose kernels are learned from marked patches.

de Souza and Falcao, "Learning CNN filters from user-drawn image markers for
coconut-tree image classification", IEEE GRSL 2020 (arXiv 2008.03549).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.models.base import Net
from fieldmark.recipes.families import FlimConfig, FlimLayer


class FlimBlock(nn.Module):
    """Normalization by the markers, convolution, ReLU, pooling.

    Borders are padded by the nearest value: a map of one pixel is a valid input, and no
    edge is drawn that the image does not have.
    """

    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor
    stroke: Tensor
    place: Tensor

    def __init__(self, config: FlimLayer) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.empty(0))  # (C,) of the marked values
        self.register_buffer("std", torch.empty(0))  # (C,)
        self.register_buffer("weight", torch.empty(0, 0, 0, 0))  # (K, C, k, k), unit length
        self.register_buffer("bias", torch.empty(0))  # (K,)
        self.register_buffer("stroke", torch.empty(0, dtype=torch.int64))  # (K,) that each kernel came from
        self.register_buffer("place", torch.empty(0, 5, dtype=torch.int64))  # (K, 5) image, t, z, y, x of its patch

    def standardize(self, x: Tensor) -> Tensor:
        return (x - self.mean.view(1, -1, 1, 1)) / self.std.view(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, y, x) to (B, K, y / pool stride, x / pool stride)."""
        reach = self.config.kernel_size // 2 * self.config.dilation
        padded = functional.pad(self.standardize(x), (reach,) * 4, mode="replicate")
        responses = functional.conv2d(padded, self.weight, self.bias, dilation=self.config.dilation)
        return self._pool(functional.relu(responses))

    def _pool(self, x: Tensor) -> Tensor:
        size, stride, margin = self.config.pool_size, self.config.pool_stride, self.config.pool_size // 2
        match self.config.pool:
            case "max":
                return functional.max_pool2d(x, size, stride, margin)
            case "avg":
                return functional.avg_pool2d(x, size, stride, margin, count_include_pad=False)
            case _:
                return x


class FlimNet(Net):
    """FLIM blocks one after the other; the features are all their outputs.

    Args:
        channels: Channels of an image.
        config: Layers and how their kernels are estimated.
    """

    phases: ClassVar[tuple[str, ...]] = ("flim-layers", "pixel-head")

    def __init__(self, channels: int, config: FlimConfig) -> None:
        super().__init__(channels)
        self.config = config
        self.blocks = nn.ModuleList(FlimBlock(layer) for layer in config.layers)
        self.stride, self.radius = _geometry(config)

    def levels(self, x: Tensor) -> list[Tensor]:
        maps = [x] if self.config.include_input else []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps

    def before(self, layer: int, x: Tensor) -> Tensor:
        """What layer `layer` sees of prepared pixels: (B, C, y, x) at that layer's stride."""
        for block in self.blocks[:layer]:
            x = block(x)
        return x

    def stride_before(self, layer: int) -> int:
        """Downsampling of what layer `layer` sees, in pixels."""
        stride = 1
        for config in self.config.layers[:layer]:
            stride *= config.pool_stride if config.pool != "none" else 1
        return stride

    def details(self) -> dict[str, Any]:
        """Where each kernel of the first layer came from: stroke and pixel."""
        first: FlimBlock = self.blocks[0]  # type: ignore[assignment]
        return {"kernel_stroke": first.stroke.tolist(), "kernel_place": first.place.tolist()}


def _geometry(config: FlimConfig) -> tuple[int, int]:
    """Total stride, and the receptive-field radius of the enlarged features, in pixels."""
    radius, jump, reach = 0, 1, 0
    for layer in config.layers:
        radius += layer.kernel_size // 2 * layer.dilation * jump
        if layer.pool != "none":
            radius += layer.pool_size // 2 * jump
            jump *= layer.pool_stride
        # enlarging reaches one more coarse pixel
        reach = max(reach, radius + (jump if jump > 1 else 0))
    return jump, reach
