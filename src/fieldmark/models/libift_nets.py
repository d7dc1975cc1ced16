"""Between our networks and libIFT's layers: relu of a normalized convolution, then a pool, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fieldmark.errors import BadInput
from fieldmark.models.flim import FlimNet
from fieldmark.models.libift import LibiftLayer, require_layers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fieldmark.models.base import Net
    from fieldmark.models.flim import FlimBlock

_POOLS = {"max": "max_pool", "avg": "avg_pool", "none": "no_pool"}


def stacks_of(net: Net) -> dict[str, list[LibiftLayer]]:
    """The layers of each branch; BadInput for a network that is not made of such layers, or has not learned."""
    if not isinstance(net, FlimNet):
        raise BadInput(
            f"{type(net).__name__} is no stack of FLIM layers. libIFT folders hold those of the family flim; "
            "export this model with --format onnx."
        )
    return {
        f"branch{number}": [_layer_of(net.block(number - 1, index)) for index in range(len(branch.layers))]
        for number, branch in enumerate(net.config.branches, start=1)
    }


def put_layers(net: FlimNet, branch: int, layers: Sequence[LibiftLayer], folder: Path) -> None:
    """Give a branch the weights of a folder. BadInput where their numbers or sizes differ."""
    configs = net.config.branches[branch].layers
    require_layers(layers, len(configs), folder)
    for index, layer in enumerate(layers):
        block = net.block(branch, index)
        side = block.config.kernel_size
        if layer.weight.shape[2:] != (side, side):
            found = " x ".join(map(str, layer.weight.shape[2:]))
            raise BadInput(f"{folder}: layer {index + 1} has kernels of {found}, the architecture {side} x {side}.")
        _put(block, layer)


def architecture_of(net: Net, name: str) -> dict[str, Any]:
    """A branch in libIFT's own words (the `nlayers` dialect)."""
    if not isinstance(net, FlimNet):
        raise BadInput(f"{type(net).__name__} is no stack of FLIM layers.")
    branch = int(name.removeprefix("branch")) - 1
    blocks = [net.block(branch, index) for index in range(len(net.config.branches[branch].layers))]
    layers = {f"layer{number}": _words(block) for number, block in enumerate(blocks, start=1)}
    return {"nlayers": len(blocks), "stdev_factor": net.config.epsilon, **layers}


def _layer_of(block: FlimBlock) -> LibiftLayer:
    parts = (block.weight, block.bias, block.mean, block.std)
    if any(part.numel() == 0 for part in parts):
        raise BadInput("This model has layers without kernels: its fit was not finished. Resume it first.")
    weight, bias, mean, std = (part.detach().cpu().numpy().copy() for part in parts)
    return LibiftLayer(weight, bias, mean, std)


def _put(block: FlimBlock, layer: LibiftLayer) -> None:
    count = len(layer.weight)
    block.weight, block.bias = torch.from_numpy(layer.weight.copy()), torch.from_numpy(layer.bias.copy())
    block.mean, block.std = torch.from_numpy(layer.mean.copy()), torch.from_numpy(layer.std.copy())
    block.stroke = torch.zeros(count, dtype=torch.int64)
    block.place = torch.zeros(0, 5, dtype=torch.int64)  # nobody knows where a stranger's kernels came from


def _words(block: FlimBlock) -> dict[str, Any]:
    config = block.config
    pooled = config.pool != "none"
    return {
        "conv": {
            "kernel_size": [config.kernel_size, config.kernel_size, 0],
            "dilation_rate": [config.dilation, config.dilation, 0],
            "nkernels_per_marker": config.kernels_per_marker,
            "noutput_channels": len(block.weight),
        },
        "relu": True,
        "pooling": {
            "type": _POOLS[config.pool],
            "size": [config.pool_size, config.pool_size, 0] if pooled else [1, 1, 0],
            "stride": config.pool_stride if pooled else 1,
        },
    }
