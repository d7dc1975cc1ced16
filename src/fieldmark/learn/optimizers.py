"""Optimizers by name, and their memory as named arrays, so that it is saved without pickle."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from fieldmark.recipes import StepsConfig


def make_optimizer(weights: Iterable[torch.Tensor], config: StepsConfig) -> torch.optim.Optimizer:
    """The optimizer that a recipe names; its rate is set before every step."""
    match config.optimizer:
        case "adam":
            return torch.optim.Adam(weights, lr=config.lr, weight_decay=config.weight_decay)
        case "sgd":
            return torch.optim.SGD(weights, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
        case _:
            return torch.optim.AdamW(weights, lr=config.lr, weight_decay=config.weight_decay)


def optimizer_arrays(optimizer: torch.optim.Optimizer) -> dict[str, np.ndarray]:
    """Moments and step counts: `PARAMETER/KEY` to array. Settings are not in it: the recipe has them."""
    arrays: dict[str, np.ndarray] = {}
    for place, memory in optimizer.state_dict()["state"].items():
        for key, value in memory.items():
            tensor = value if isinstance(value, torch.Tensor) else torch.tensor(value)
            arrays[f"{place}/{key}"] = tensor.detach().cpu().contiguous().numpy().copy()
    return arrays


def load_optimizer(optimizer: torch.optim.Optimizer, arrays: dict[str, np.ndarray]) -> None:
    """Give back what `optimizer_arrays` took."""
    memory: dict[int, dict[str, torch.Tensor]] = {}
    for name, array in arrays.items():
        place, _, key = name.partition("/")
        memory.setdefault(int(place), {})[key] = torch.from_numpy(np.array(array))
    optimizer.load_state_dict({"state": memory, "param_groups": optimizer.state_dict()["param_groups"]})
