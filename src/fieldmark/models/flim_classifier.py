"""The classifier of a FLIM architecture: torch's modules, sized for the maps that they get."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from fieldmark.errors import BadInput
from fieldmark.recipes.flim_arch import LinearParams, Module, Operation

MODULES: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "dropout": nn.Dropout,
    "adap_avg_pool2d": nn.AdaptiveAvgPool2d,
    "adap_avg_pool3d": nn.AdaptiveAvgPool3d,
    "max_pool2d": nn.MaxPool2d,
    "max_pool3d": nn.MaxPool3d,
    "avg_pool2d": nn.AvgPool2d,
    "avg_pool3d": nn.AvgPool3d,
    "unfold": nn.Unfold,
    "fold": nn.Fold,
}


class Parallel(nn.ModuleDict):
    """Branches whose vectors or maps are joined along the channels."""

    def __init__(self, branches: dict[str, nn.Module], aggregate: str) -> None:
        super().__init__(branches)
        self.aggregate = aggregate

    def forward(self, x: Tensor) -> Tensor:
        ends = [branch(x) for branch in self.values()]
        if self.aggregate == "concat":
            return torch.cat(ends, dim=1)
        stacked = torch.stack(ends)
        if self.aggregate == "prod":
            return stacked.prod(dim=0)
        return stacked.sum(dim=0) if self.aggregate == "sum" else stacked.mean(dim=0)


def build_classifier(spec: Module, shape: tuple[int, ...]) -> nn.Module:
    """From maps (B, *shape) to scores (B, K); weights are drawn from torch's generator as FLIM does.

    Raises BadInput, which names the layer, where one does not fit what it gets.
    """
    module, _ = _block(spec, tuple(shape), "classifier")
    return module


def _block(spec: Module, shape: tuple[int, ...], path: str) -> tuple[nn.Module, tuple[int, ...]]:
    parts: dict[str, nn.Module] = {}
    begin = shape
    for name, node in spec.layers.items():
        where = f"{path}.layers.{name}"
        seen = begin if spec.type == "parallel" else shape
        parts[name], shape = _op(node, seen, where) if isinstance(node, Operation) else _block(node, seen, where)
    module: nn.Module
    if spec.type == "parallel":
        module = Parallel(parts, spec.params.aggregate)
    else:
        module = nn.Sequential()
        for name, part in parts.items():
            module.add_module(name, part)
    return module, _shape_after(module, begin, path)


def _op(spec: Operation, shape: tuple[int, ...], path: str) -> tuple[nn.Module, tuple[int, ...]]:
    if isinstance(spec.params, LinearParams):
        module: nn.Module = _linear(spec.params, shape, path)
    elif spec.operation.startswith("batch_norm"):
        module = _batch_norm(spec, shape, path)
    else:
        module = MODULES[spec.operation](**_torch_params(spec))
    return module, _shape_after(module, shape, path)


def _torch_params(spec: Operation) -> dict[str, Any]:
    return {name: value for name, value in spec.params.model_dump().items() if value is not None}


def _linear(params: LinearParams, shape: tuple[int, ...], path: str) -> nn.Module:
    found = prod(shape)
    if params.in_features not in (-1, found):
        raise BadInput(
            f"{path}.params.in_features: {params.in_features}, but {found} numbers come in {list(shape)}. "
            "Write -1 to have it found."
        )
    layer = nn.Linear(found, params.out_features, params.bias)
    if layer.weight.device.type != "meta":
        nn.init.xavier_normal_(layer.weight, nn.init.calculate_gain("relu"))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.Flatten(), layer) if len(shape) > 1 else layer


def _batch_norm(spec: Operation, shape: tuple[int, ...], path: str) -> nn.Module:
    params = _torch_params(spec)
    wanted = params.pop("num_features", None)
    if wanted not in (None, -1, shape[0]):
        raise BadInput(f"{path}.params.num_features: {wanted}, but {shape[0]} channels come. Leave it out.")
    kind = nn.BatchNorm3d if spec.operation.endswith("3d") else nn.BatchNorm2d
    return kind(shape[0], **params)


def _shape_after(module: nn.Module, shape: tuple[int, ...], path: str) -> tuple[int, ...]:
    """What a module makes of (1, *shape), without its numbers."""
    training = module.training
    try:
        with torch.no_grad():
            made = module.eval().to("meta" if _is_meta(module) else "cpu")(
                torch.zeros(1, *shape, device=_device(module))
            )
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(
            f"{path}: does not fit what it gets, {list(shape)} ({reason}). Correct the architecture."
        ) from error
    module.train(training)
    return tuple(made.shape[1:])


def _device(module: nn.Module) -> str:
    return "meta" if _is_meta(module) else "cpu"


def _is_meta(module: nn.Module) -> bool:
    return any(weight.device.type == "meta" for weight in module.parameters())
