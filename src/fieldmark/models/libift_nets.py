"""Our networks as libIFT's layers, and as the architecture that stands beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.errors import BadInput
from fieldmark.models.flim import FlimBlock, FlimNet
from fieldmark.models.flim_graph import Block, FlimGraphNet
from fieldmark.models.flim_ops import Conv, MarkerNorm
from fieldmark.models.libift import LibiftLayer
from fieldmark.recipes.dialects.flim_arch import arch_values

if TYPE_CHECKING:
    from torch import Tensor

    from fieldmark.models.base import Net

Stack = tuple[list[LibiftLayer], dict[str, Any]]
"""Layers, and the architecture (FLIM's own dialect) that has them."""
Norm = tuple[np.ndarray, np.ndarray]
"""(C,) float32 mean and spread."""


def stacks_of(net: Net, preparation: Sequence[dict[str, Any]] = ()) -> dict[str, Stack]:
    """The layers of each branch by its name; one stack for a network of an architecture.

    Args:
        net: The network.
        preparation: The model's steps. Means and spreads of the data set go into the first layers; what pixels are
            divided by and their colors are for the reader to say.

    Raises:
        BadInput: A network that is not made of such layers, or that has not learned; steps that no layer can take.
    """
    given = _standardized(preparation)
    match net:
        case FlimNet():
            branches = enumerate(net.config.branches)
            stacks = {
                f"branch{branch + 1}": [net.block(branch, index) for index in range(len(own.layers))]
                for branch, own in branches
            }
            epsilon = net.config.epsilon
            return {name: (_of_blocks(own, given), _architecture(own, epsilon)) for name, own in stacks.items()}
        case FlimGraphNet():
            return {"graph": _with_norm(net, given)}
    raise BadInput(
        f"{type(net).__name__} is no stack of FLIM layers. libIFT folders hold those of the families flim and "
        "flim-net; export this model with --format onnx."
    )


def _standardized(preparation: Sequence[dict[str, Any]]) -> Norm | None:
    """Mean and spread that the channels of an image are standardized by; None where they are not."""
    found = None
    for step in preparation:
        match step:
            case {"step": "scale" | "scale-per-image" | "replicate" | "color-table" | "lab"} if found is None:
                continue
            case {"step": "standardize", "mean": mean, "std": std} if found is None:
                found = np.array(mean, np.float32), np.array(std, np.float32)
            case _:
                raise BadInput(
                    f"libIFT folders have no place for the preparation {step.get('step')!r}. Fit with "
                    "prepare.normalize.scheme=dataset or none and net.color=lab or raw, or export with --format onnx."
                )
    return found


def told_by(preparation: Sequence[dict[str, Any]]) -> str:
    """What a reader of the folder must be told, which has no place in it: the flags of `models import`."""
    steps = {str(step.get("step")): step for step in preparation}
    color = "raw"
    if "lab" in steps:
        color = "lab-color-table" if "color-table" in steps else "lab"
        color = "lab-per-image" if "scale-per-image" in steps else color
    by = float(steps.get("scale", {"by": 1.0})["by"])
    return f"--color {color} --scale {by:.9g}"


def _of_blocks(blocks: list[FlimBlock], given: Norm | None) -> list[LibiftLayer]:
    first, *others = [_of_block(block) for block in blocks]
    return [first if given is None else _after(first, given), *others]


def _after(layer: LibiftLayer, given: Norm) -> LibiftLayer:
    """The layer for channels that were not yet standardized."""
    mean, std = given
    return replace(layer, mean=mean + std * layer.mean, std=std * layer.std)


def _with_norm(net: FlimGraphNet, given: Norm | None) -> Stack:
    """The layers of an architecture; what the data set is standardized by is its first normalization."""
    if any(isinstance(part, Block) and part.spec.type == "parallel" for part in net.graph.modules()):
        raise BadInput(
            "libIFT folders hold one layer after the other, and this architecture has parallel ones. Export this model "
            "with --format onnx."
        )
    layers, arch = _of_graph(net), arch_values(net.config.arch)
    if given is None:
        return layers, arch
    words = f"m_norm{net.spatial}d"
    opened: dict[str, Any] = next(iter(arch["features"]["layers"].values()), {})
    if opened.get("operation") not in (words, "marker_based_norm"):
        _require_no_other_norm(net)
        norm = {"operation": words, "params": {"epsilon": 0}}
        arch["features"] = {"type": "sequential", "layers": {"standardized": norm, "learned": arch["features"]}}
    return [_after(layers[0], given), *layers[1:]], arch


def _require_no_other_norm(net: FlimGraphNet) -> None:
    """Raise BadInput where the first convolution has a normalization that does not open the network."""
    first = net.learnable()[0]
    if isinstance(net.op(first), MarkerNorm):
        raise BadInput(
            f"{first} normalizes what is not the image, and the image is standardized before: libIFT folders have one "
            "place for both. Fit with net.standardize=false, or export this model with --format onnx."
        )


def _of_block(block: FlimBlock) -> LibiftLayer:
    weight, bias, mean, std = (_array(part) for part in (block.weight, block.bias, block.mean, block.std))
    return LibiftLayer(weight, bias, mean, std)


def _of_graph(net: FlimGraphNet) -> list[LibiftLayer]:
    """Convolutions in their order, each with the normalization in front of it."""
    names = net.learnable()
    if others := [name for name in names if not isinstance(net.op(name), Conv | MarkerNorm)]:
        raise BadInput(f"libIFT folders have no place for {', '.join(others)}. Export this model with --format onnx.")
    layers = []
    for before, name in zip(["", *names], names, strict=False):
        op, norm = net.op(name), net.op(before) if before else None
        if isinstance(op, Conv):
            weight, bias = _array(op.weight), _array(op.bias)
            mean, std = _norm(norm) if isinstance(norm, MarkerNorm) else _plain(weight.shape[1] * op.params.groups)
            layers.append(LibiftLayer(weight, bias, mean, std))
        elif names.index(name) + 1 == len(names) or not isinstance(net.op(names[names.index(name) + 1]), Conv):
            raise BadInput(f"{name} normalizes for no convolution, which libIFT folders have no place for.")
    return layers


def _norm(norm: MarkerNorm) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread that do the same as a normalization with a scale and a shift."""
    mean, std, weight, bias = (_array(part) for part in (norm.mean, norm.std, norm.weight, norm.bias))
    if not (weight > 0).all():
        raise BadInput("A normalization scales by a number that is not above zero; libIFT folders have none such.")
    return mean - bias * std / weight, std / weight


def _plain(channels: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(channels, np.float32), np.ones(channels, np.float32)


def _array(part: Tensor) -> np.ndarray:
    if part.numel() == 0:
        raise BadInput("This model has layers without weights: its fit was not finished. Resume it first.")
    array: np.ndarray = part.detach().cpu().numpy().copy()
    return array


def _architecture(blocks: list[FlimBlock], epsilon: float) -> dict[str, Any]:
    layers: dict[str, Any] = {}
    for number, block in enumerate(blocks, start=1):
        layers |= _words(block, number, epsilon)
    return {"features": {"type": "sequential", "layers": layers}}


def _words(block: FlimBlock, number: int, epsilon: float) -> dict[str, Any]:
    """A block in FLIM's words, exact at the borders too."""
    config = block.config
    conv = {
        "kernel_size": config.kernel_size,
        "dilation": config.dilation,
        "padding": config.kernel_size // 2 * config.dilation,
        "padding_mode": "replicate",
        "out_channels": len(block.weight),
        "number_of_kernels_per_marker": config.kernels_per_marker,
    }
    words = {
        f"norm{number}": {"operation": "m_norm2d", "params": {"epsilon": epsilon}},
        f"conv{number}": {"operation": "conv2d", "params": conv},
        f"activation{number}": {"operation": "relu", "params": {}},
    }
    size, stride = config.pool_size, config.pool_stride
    if config.pool != "none":
        pool: dict[str, Any] = {
            "kernel_size": size,
            "stride": stride,
            "padding": 0 if size == stride else size // 2,
        }
        if config.pool == "avg":
            pool["count_include_pad"] = False
        words[f"pool{number}"] = {"operation": f"{config.pool}_pool2d", "params": pool}
    return words
