"""The FLIM encoder: convolutions whose kernels are learned from marked patches.

de Souza and Falcao, "Learning CNN filters from user-drawn image markers for
coconut-tree image classification", IEEE GRSL 2020 (arXiv 2008.03549).
"""

from __future__ import annotations

from math import lcm, prod
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.models.base import Net
from fieldmark.models.heads import enlarged_at
from fieldmark.models.scale_space import ScaleSpace
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
    klass: Tensor
    stroke: Tensor
    place: Tensor

    def __init__(self, config: FlimLayer) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.empty(0))  # (C,) of the marked values
        self.register_buffer("std", torch.empty(0))  # (C,)
        self.register_buffer("weight", torch.empty(0, 0, 0, 0))  # (K, C, k, k), unit length
        self.register_buffer("bias", torch.empty(0))  # (K,)
        self.register_buffer("klass", torch.empty(0, dtype=torch.int64))  # (K,) class of the patch, (0,) if of none
        self.register_buffer("stroke", torch.empty(0, dtype=torch.int64))  # (K,) that each kernel came from
        self.register_buffer("place", torch.empty(0, 5, dtype=torch.int64))  # (K, 5) image, t, z, y, x of its patch

    def standardize(self, x: Tensor) -> Tensor:
        return (x - self.mean.view(1, -1, 1, 1)).div_(self.std.view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, y, x) to (B, K, y / pool stride, x / pool stride)."""
        reach = self.config.kernel_size // 2 * self.config.dilation
        padded = functional.pad(self.standardize(x), (reach,) * 4, mode="replicate")
        responses = functional.conv2d(padded, self.weight, self.bias, dilation=self.config.dilation)
        if self.config.pool == "max":  # the largest response is the same before and after, and there are fewer after
            return self._pool(responses).relu_()
        return self._pool(responses.relu_())

    def _pool(self, x: Tensor) -> Tensor:
        size, stride = self.config.pool_size, self.config.pool_stride
        # windows as large as their stride begin on the grid, so that enlarging puts them back where they were
        margin = 0 if size == stride else size // 2
        match self.config.pool:
            case "max":
                return functional.max_pool2d(x, size, stride, margin)
            case "avg":
                return functional.avg_pool2d(x, size, stride, margin, count_include_pad=False)
            case _:
                return x

    def reach(self, jump: int) -> tuple[int, int]:
        """Receptive-field radius in pixels on a map of stride `jump`, and the stride after it."""
        config = self.config
        radius = config.kernel_size // 2 * config.dilation * jump
        if config.pool == "none":
            return radius, jump
        return radius + (config.pool_size - 1) * jump, jump * config.pool_stride


class FlimNet(Net):
    """Branches of FLIM blocks, beside the image and its scale space; the features are all their outputs.

    Args:
        channels: Channels of an image.
        config: Branches, and how their kernels are estimated.
    """

    phases: ClassVar[tuple[str, ...]] = ("flim-layers", "pixel-head", "classify", "svm")

    def __init__(self, channels: int, config: FlimConfig) -> None:
        super().__init__(channels)
        self.config = config
        self.scale_space = ScaleSpace(config.scales)
        self.branches = nn.ModuleList(
            nn.ModuleList(FlimBlock(layer) for layer in branch.layers) for branch in config.branches
        )
        self.stride = lcm(*(self.stride_before(index, len(b.layers)) for index, b in enumerate(config.branches)))
        self.radius = max(self.scale_space.radius, *(self.reach(index) for index in range(len(config.branches))))

    def levels(self, x: Tensor) -> list[Tensor]:
        return [x, *self.scale_space(x.contiguous()), *self._seen(x)]

    def levels_at(self, x: Tensor, places: Tensor) -> list[Tensor]:
        """As the base class has it; edges and curvature are computed at these pixels alone."""
        near, seen = self.scale_space.at(x.contiguous(), places), self._seen(x)
        size = x.shape[2:]
        return [enlarged_at(x[0], places, size), *near, *(enlarged_at(level[0], places, size) for level in seen)]

    def _seen(self, x: Tensor) -> list[Tensor]:
        """The maps of all layers, branch after branch."""
        maps = []
        x = x.contiguous(memory_format=torch.channels_last)  # pools are several times as fast
        for branch in self.branches:
            seen = x
            for block in branch:  # type: ignore[attr-defined]
                seen = block(seen)
                maps.append(seen)
        return maps

    def kernel_classes(self) -> dict[int, Tensor]:
        """Every layer; the last of the first branch comes last."""
        found, level = [], 1 + len(self.config.scales)
        for branch, own in enumerate(self.config.branches):
            blocks = [self.block(branch, layer) for layer in range(len(own.layers))]
            found.append([(level + place, block.klass) for place, block in enumerate(blocks)])
            level += len(blocks)
        return dict(item for own in reversed(found) for item in own)

    def image_maps(self, x: Tensor) -> list[Tensor]:
        """The last map of each branch."""
        maps = []
        for branch, own in enumerate(self.config.branches):
            maps.append(self.before(branch, len(own.layers), x))
        return maps

    def tunable(self) -> list[Tensor]:
        """Kernels and biases; what the markers said of each channel's mean and spread stays."""
        blocks = [block for branch in self.branches for block in branch]  # type: ignore[attr-defined]
        return [weight for block in blocks for weight in (block.weight, block.bias)]

    def views(self) -> dict[str, list[int]]:
        """What is near (the image and its scale space), and everything."""
        near = [0, *range(1, 1 + len(self.config.scales))]
        count = len(near) + sum(len(branch.layers) for branch in self.config.branches)
        return {"near": near, "all": list(range(count))}

    def block(self, branch: int, layer: int) -> FlimBlock:
        return cast("FlimBlock", cast("nn.ModuleList", self.branches[branch])[layer])

    def before(self, branch: int, layer: int, x: Tensor) -> Tensor:
        """What a layer sees of prepared pixels: (B, C, y, x) at that layer's stride."""
        for index in range(layer):
            x = self.block(branch, index)(x)
        return x

    def stride_before(self, branch: int, layer: int) -> int:
        """Downsampling of what a layer sees, in pixels."""
        layers = self.config.branches[branch].layers[:layer]
        return prod(config.pool_stride for config in layers if config.pool != "none")

    def details(self) -> dict[str, Any]:
        """Where each kernel came from, layer by layer: its weights' name, strokes and pixels."""
        branches = enumerate(self.config.branches)
        paths = [f"branches.{branch}.{layer}" for branch, own in branches for layer in range(len(own.layers))]
        blocks = [(path, cast("FlimBlock", self.get_submodule(path))) for path in paths]
        return {
            "kernels": [
                {"weight": f"{path}.weight", "stroke": block.stroke.tolist(), "place": block.place.tolist()}
                for path, block in blocks
            ]
        }

    def reach(self, branch: int) -> int:
        """Receptive-field radius of a branch's enlarged features, in pixels."""
        total, jump, farthest = 0, 1, 0
        for layer in range(len(self.config.branches[branch].layers)):
            radius, jump = self.block(branch, layer).reach(jump)
            total += radius
            # enlarging reaches one more coarse pixel
            farthest = max(farthest, total + (jump if jump > 1 else 0))
        return farthest
