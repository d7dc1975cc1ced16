"""A network's weights as named arrays, both ways."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from fieldmark.errors import BadInput, some


def arrays_of(net: nn.Module) -> dict[str, np.ndarray]:
    """Every parameter and buffer by name, as arrays of their own."""
    return {name: value.detach().cpu().contiguous().numpy().copy() for name, value in net.state_dict().items()}


def load_arrays(net: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Put named arrays into a network.

    Buffers that were learned in closed form take the array's shape (an unfitted one is
    empty); parameters must have it already. Raises BadInput for names that do not match.
    """
    wanted = set(net.state_dict())
    if wanted != set(arrays):
        raise BadInput(
            f"The weights do not fit the network: missing {some(sorted(wanted - set(arrays)), 3)}; "
            f"unknown {some(sorted(set(arrays) - wanted), 3)}. Copy the model folder again."
        )
    parameters = dict(net.named_parameters(remove_duplicate=False))  # weights that parts share have several names
    for name, array in arrays.items():
        value = torch.from_numpy(np.array(array))
        if name in parameters:
            _fill(name, parameters[name], value)
        else:
            owner, _, leaf = name.rpartition(".")
            setattr(net.get_submodule(owner), leaf, value)


def _fill(name: str, parameter: nn.Parameter, value: torch.Tensor) -> None:
    if parameter.shape != value.shape or parameter.dtype != value.dtype:
        raise BadInput(
            f"Weight {name} is {tuple(value.shape)} {value.dtype}, wanted {tuple(parameter.shape)} {parameter.dtype}. "
            "Copy the model folder again."
        )
    with torch.no_grad():
        parameter.copy_(value)
