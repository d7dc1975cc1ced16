"""Optimizers by name, and their memory as named arrays, so that it is saved without pickle."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from fieldmark.recipes import StepsConfig


def make_optimizer(weights: Iterable[torch.Tensor], config: StepsConfig) -> torch.optim.Optimizer:
    """The optimizer that a recipe names; its rate is set before every step.

    Each is the fused one: all of an update in one pass over the weights, several times as fast on a processor.
    """
    shared: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay, "fused": True}
    match config.optimizer:
        case "adam":
            return torch.optim.Adam(weights, **shared)
        case "sgd":
            return torch.optim.SGD(weights, momentum=config.momentum, **shared)
        case _:
            return torch.optim.AdamW(weights, **shared)


def optimizer_arrays(optimizer: torch.optim.Optimizer) -> dict[str, np.ndarray]:
    """Moments and step counts: `PARAMETER/KEY` to array. Settings are not in it: the recipe has them."""
    arrays: dict[str, np.ndarray] = {}
    for place, memory in optimizer.state_dict()["state"].items():
        for key, value in memory.items():
            tensor = value if isinstance(value, torch.Tensor) else torch.tensor(value)
            arrays[f"{place}/{key}"] = tensor.detach().cpu().contiguous().numpy().copy()
    return arrays


def load_optimizer(optimizer: torch.optim.Optimizer, arrays: dict[str, np.ndarray]) -> None:
    """Give back what `optimizer_arrays` took, each moment in the order in memory of its weight.

    A fused update walks weights, gradients and moments in one go through memory: with channels last in one of them and
    first in another, it would pair the wrong numbers.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    memory: dict[int, dict[str, torch.Tensor]] = {}
    for name, array in arrays.items():
        place, _, key = name.partition("/")
        value, weight = torch.from_numpy(np.array(array)), weights[int(place)]
        if value.shape == weight.shape:
            value = torch.empty_like(weight, dtype=value.dtype, device="cpu").copy_(value)
        memory.setdefault(int(place), {})[key] = value
    optimizer.load_state_dict({"state": memory, "param_groups": optimizer.state_dict()["param_groups"]})


def descend(engine: Fabric, module: Any, stepper: Any, loss: torch.Tensor, clip_norm: float | None) -> None:
    """One step down a loss: gradients, clipped where a norm is given, and the update.

    Args:
        engine: Whose `setup` made `module` and `stepper` of a network and its optimizer.
        module: The network.
        stepper: The optimizer.
        loss: A scalar.
        clip_norm: The greatest norm of all gradients together; None for any.
    """
    stepper.zero_grad(set_to_none=True)
    engine.backward(loss)
    if clip_norm is not None:
        # what is no number any more is for the caller to say: it knows the step and the rate
        engine.clip_gradients(module, stepper, max_norm=clip_norm, error_if_nonfinite=False)
    stepper.step()
