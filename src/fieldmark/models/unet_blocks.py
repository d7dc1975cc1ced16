"""The parts of a U-Net, for planes, volumes and stacks of slices alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.core.geometry import Box
from fieldmark.recipes.unet import BlocksConfig, UNetConfig

GROUPS = 8
LEAST_NORMED = 8
"""Channels from which on layer norm keeps rounding small. Where the few channels of a pixel are nearly alike, their
norm magnifies the rounding of the convolution before, which differs with the tile's size: with 2 and 4 channels answers
of tiles and whole images were up to 4e-3 apart, with 4 and 8 1.5e-5, from 8 on 1.3e-6."""
_ACTIVATIONS = {"relu": nn.ReLU, "leakyrelu": nn.LeakyReLU, "elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU}
_MODES: dict[tuple[str, int], str] = {
    ("bilinear", 2): "bilinear",
    ("bilinear", 3): "trilinear",
    ("nearest", 2): "nearest",
    ("nearest", 3): "nearest",
}


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel: no statistic of the image, so that tiles equal the whole."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x.movedim(1, -1)).movedim(-1, 1)
        return normed


class Block(nn.Module):
    """Convolutions with norm, activation and dropout; with `residual` the block's input is added to its output.

    Args:
        before: Channels of the input.
        width: Channels of the output.
        config: Of the network.
        size: Of the kernels along (z,) y, x.
    """

    def __init__(self, before: int, width: int, config: BlocksConfig, size: tuple[int, ...]) -> None:
        super().__init__()
        widths = [before, *[width] * config.convs_per_block]
        steps = [_step(a, b, config, size) for a, b in pairwise(widths)]
        self.steps = nn.Sequential(*steps)
        self.across: nn.Module | None = None
        if config.residual:
            self.across = nn.Identity() if before == width else conv(before, width, (1,) * len(size))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.steps(x)
        return y if self.across is None else y + self.across(x)


class Blocks(nn.Module):
    """The whole way down and up.

    In 2.5-D the way down sees all slices of the stack and halves only the planes; where one slice is wanted,
    what is handed across is first brought to one slice by a convolution over the stack.
    """

    def __init__(self, channels: int, config: UNetConfig, out_channels: int) -> None:
        super().__init__()
        self.config = config
        self.axes = 2 if config.dims == "2" else 3
        stacked = config.dims == "2.5"
        self.flat = stacked and config.gives == "slice"
        side, widths = config.kernel_size, config.filters
        down_size = (config.depth, side, side) if stacked else (side,) * self.axes
        up_size = (1, side, side) if self.flat else down_size
        self.factor = (1, 2, 2) if stacked else (2,) * self.axes
        self.stem, self.pools, self.down = way_down(channels, config, down_size, self.factor)
        gather = widths if self.flat else ()
        self.gather = nn.ModuleList(conv(width, width, (config.depth, 1, 1), valid=True) for width in gather)
        joins = [(below, across) for below, across in zip(widths[:0:-1], widths[-2::-1], strict=True)]
        self.risers = nn.ModuleList(_riser(below, across, config, self.factor) for below, across in joins)
        self.up = nn.ModuleList(
            Block(2 * across if config.skip == "concat" else across, across, config, up_size) for _, across in joins
        )
        self.last = conv(widths[0], out_channels, (1,) * self.axes)
        self.stride = 2 ** (len(widths) - 1)
        self.radius = _radius(config)

    def forward(self, x: Tensor) -> Tensor:
        seen = seen_on_the_way(self, x)
        if self.flat:
            seen = [gather(maps) for gather, maps in zip(self.gather, seen, strict=True)]
        maps = seen.pop()
        for riser, block in zip(self.risers, self.up, strict=True):
            maps = block(self._joined(riser(maps), seen.pop()))
        scores: Tensor = self.last(maps)
        return scores

    def scores_inside(self, x: Tensor, part: Box) -> Tensor:
        """Scores of a part alone, a box over (z,) y, x: on the way up only what it needs is computed.

        For planes and volumes, without norms that take statistics over space.
        """
        seen = seen_on_the_way(self, x)
        needed = self._needed(part, [Box.whole(maps.shape[2:]) for maps in seen])
        maps = seen.pop()
        there = Box.whole(maps.shape[2:])
        for riser, block, (below, across) in zip(self.risers, self.up, reversed(needed), strict=True):
            larger = Box(_times(below.start, self.factor), _times(below.stop, self.factor))
            raised = _cut(riser(_cut(maps, below, there)), across, larger)
            maps, there = self._joined(raised, _cut(seen.pop(), across)), across
            del raised
            maps = block(maps)
        scores: Tensor = self.last(_cut(maps, part, there))
        return scores

    def _needed(self, part: Box, wholes: Sequence[Box]) -> list[tuple[Box, Box]]:
        """For each block of the way up, the largest maps first: what it needs of the maps below, and of its own.

        An enlarged pixel looks at the neighbors of the one that it lies in.
        """
        found = []
        reach = self.config.convs_per_block * (self.config.kernel_size // 2)
        for whole, smaller in pairwise(wholes):
            across = part.grown((reach,) * self.axes, whole)
            start = tuple(a // n for a, n in zip(across.start, self.factor, strict=True))
            stop = tuple(-(-b // n) for b, n in zip(across.stop, self.factor, strict=True))
            part = Box(start, stop).grown((1,) * self.axes, smaller)
            found.append((part, across))
        return found

    def _joined(self, raised: Tensor, across: Tensor) -> Tensor:
        """What a block of the way up sees; no name holds its parts while the block computes, for memory's sake."""
        return torch.cat([raised, across], dim=1) if self.config.skip == "concat" else raised + across


def _cut(maps: Tensor, part: Box, origin: Box | None = None) -> Tensor:
    """The part of maps (B, C, ...) whose first pixel is that of `origin`."""
    inside = part if origin is None else part.relative_to(origin)
    return maps[(slice(None), slice(None), *inside.slices)]


def _times(place: tuple[int, ...], factor: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a * n for a, n in zip(place, factor, strict=True))


class Descent(nn.Module):
    """The way down alone: (B, C, ...) to the maps of the last block.

    Args:
        channels: Of the input.
        config: Of the network.
        axes: 2 for planes, 3 for volumes.
    """

    def __init__(self, channels: int, config: BlocksConfig, axes: int) -> None:
        super().__init__()
        self.stem, self.pools, self.down = way_down(channels, config, (config.kernel_size,) * axes, (2,) * axes)

    def forward(self, x: Tensor) -> Tensor:
        return seen_on_the_way(self, x)[-1]


def way_down(
    channels: int, config: BlocksConfig, size: tuple[int, ...], factor: tuple[int, ...]
) -> tuple[Block, nn.ModuleList, nn.ModuleList]:
    """The first block, the pools, and the block after each."""
    widths = config.filters
    stem = Block(channels, widths[0], config, size)
    pools = nn.ModuleList(_pool(width, config, factor) for width in widths[:-1])
    return stem, pools, nn.ModuleList(Block(a, b, config, size) for a, b in pairwise(widths))


def seen_on_the_way(net: Blocks | Descent, x: Tensor) -> list[Tensor]:
    """The maps of every block, the largest first."""
    seen = [net.stem(x)]
    for pool, block in zip(net.pools, net.down, strict=True):
        seen.append(block(pool(seen[-1])))
    return seen


class Enlarge(nn.Module):
    """Interpolate by a factor along each axis."""

    def __init__(self, factor: tuple[int, ...], mode: str) -> None:
        super().__init__()
        self.factor = tuple(float(n) for n in factor)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        aligned = {} if self.mode == "nearest" else {"align_corners": False}
        with _own_type(x):
            return functional.interpolate(x, scale_factor=self.factor, mode=self.mode, **aligned)


class _Bordered2d(nn.Conv2d):
    """A convolution whose border repeats itself."""

    def forward(self, x: Tensor) -> Tensor:
        with _own_type(x):
            grown = bordered(x, self._reversed_padding_repeated_twice)
        return functional.conv2d(grown, self.weight, self.bias)


class _Bordered3d(nn.Conv3d):
    """The same in volumes."""

    def forward(self, x: Tensor) -> Tensor:
        with _own_type(x):
            grown = bordered(x, self._reversed_padding_repeated_twice)
        return functional.conv3d(grown, self.weight, self.bias)


def bordered(x: Tensor, pads: Sequence[int]) -> Tensor:
    """(B, C, *S) with its border repeated by `pads`: before and after along the last axis, then the one before it.

    In a network that `torch.compile` compiles, by joining slices: the compiler takes the gradient of PyTorch's own pad
    to lie in memory otherwise than it does, and stops (2.13).
    """
    if not torch.compiler.is_compiling():
        return functional.pad(x, tuple(pads), mode="replicate")
    for place, (before, after) in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        axis = x.ndim - 1 - place
        ends = (x.narrow(axis, 0, 1),) * before, (x.narrow(axis, x.shape[axis] - 1, 1),) * after
        x = torch.cat([*ends[0], x, *ends[1]], dim=axis)
    return x


def _own_type(x: Tensor) -> torch.autocast:
    """Compute in the type that there is: autocast would make float32 of what only moves or mixes pixels."""
    return torch.autocast(x.device.type, enabled=False)


def conv(before: int, after: int, size: tuple[int, ...], *, valid: bool = False) -> nn.Module:
    """A convolution with a center, whose border repeats itself; `valid` looks at nothing beyond the border."""
    padding = (0,) if valid else tuple(n // 2 for n in size)
    if not any(padding):
        plain: Any = nn.Conv2d if len(size) == 2 else nn.Conv3d
        return cast("nn.Module", plain(before, after, size))
    bordered: Any = _Bordered2d if len(size) == 2 else _Bordered3d
    return cast("nn.Module", bordered(before, after, size, padding=padding, padding_mode="replicate"))


def _step(before: int, after: int, config: BlocksConfig, size: tuple[int, ...]) -> nn.Sequential:
    norm, activation = _norm(after, config.norm, len(size)), _ACTIVATIONS[config.activation]()
    tail = [norm, activation] if config.block == "conv-norm-activation" else [activation, norm]
    if config.dropout:
        tail.append(nn.Dropout2d(config.dropout) if len(size) == 2 else nn.Dropout3d(config.dropout))
    return nn.Sequential(conv(before, after, size), *tail)


def _norm(width: int, kind: str, axes: int) -> nn.Module:
    match kind:
        case "batch":
            return nn.BatchNorm2d(width) if axes == 2 else nn.BatchNorm3d(width)
        case "instance":
            made = nn.InstanceNorm2d if axes == 2 else nn.InstanceNorm3d
            return made(width, affine=True)
        case "group":
            return nn.GroupNorm(next(n for n in range(max(1, min(GROUPS, width // 2)), 0, -1) if width % n == 0), width)
        case "layer":
            return ChannelNorm(width)
    return nn.Identity()


def norms_maps_alone(config: BlocksConfig) -> bool:
    """Whether maps at the bottom are normalized by their own pixels alone: with group norm, where there is one."""
    return config.norm == "instance" or (config.norm == "group" and config.filters[-1] == 1)


def _pool(width: int, config: BlocksConfig, factor: tuple[int, ...]) -> nn.Module:
    flat = len(factor) == 2
    if config.pool == "conv":
        kind: Any = nn.Conv2d if flat else nn.Conv3d
        return cast("nn.Module", kind(width, width, factor, stride=factor))
    pools: dict[tuple[str, bool], Any] = {
        ("max", True): nn.MaxPool2d,
        ("max", False): nn.MaxPool3d,
        ("average", True): nn.AvgPool2d,
        ("average", False): nn.AvgPool3d,
    }
    return cast("nn.Module", pools[config.pool, flat](factor))


def _riser(below: int, across: int, config: UNetConfig, factor: tuple[int, ...]) -> nn.Module:
    """Twice as large, as wide as what comes across."""
    flat = len(factor) == 2
    if config.up == "transposed":
        kind: Any = nn.ConvTranspose2d if flat else nn.ConvTranspose3d
        return cast("nn.Module", kind(below, across, factor, stride=factor))
    mode = _MODES[config.up, len(factor)]
    return nn.Sequential(conv(below, across, (1,) * len(factor)), Enlarge(factor, mode))


def _radius(config: UNetConfig) -> int:
    """Pixels along y and x that a score depends on, on each side; a few more than is exact."""
    block = config.convs_per_block * (config.kernel_size // 2)
    radius, jump = block, 1
    for _ in config.filters[1:]:
        radius += jump  # the pool
        jump *= 2
        radius += block * jump
    for _ in config.filters[1:]:
        radius += jump if config.up == "bilinear" else jump - 1
        jump //= 2
        radius += block * jump
    return radius
