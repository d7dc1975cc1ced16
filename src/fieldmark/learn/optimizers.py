"""The memory of an optimizer as named arrays, so that it is saved without pickle."""

from __future__ import annotations

import numpy as np
import torch


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
