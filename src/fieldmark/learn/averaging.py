"""The running mean of a network's weights, and the best weights so far, as named arrays."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from torch import Tensor, nn

Weights = dict[str, "Tensor"]


def copied(net: nn.Module) -> Weights:
    """A copy of every weight and statistic."""
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def put(net: nn.Module, weights: Weights) -> None:
    """Give a network weights that `copied` took; its tensors stay the same objects."""
    with torch.no_grad():
        for name, value in net.state_dict().items():
            value.copy_(weights[name])


def average(mean: Weights, net: nn.Module, decay: float, steps: int) -> None:
    """Move a running mean towards a network's weights; counters are taken as they are.

    Args:
        mean: Of the weights so far; changed.
        net: What joins.
        decay: The share that stays. In the first steps less of it does, (1 + n) / (10 + n) after n of them: the first
            weights, which are nearly those drawn by chance, would weigh on short fits to their end.
        steps: Finished before this one.
    """
    decay = min(decay, (1 + steps) / (10 + steps))
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                mean[name].mul_(decay).add_(value.detach(), alpha=1 - decay)
            else:
                mean[name].copy_(value)


@contextmanager
def lent(net: nn.Module, weights: Weights | None) -> Iterator[None]:
    """Other weights inside; the network's own again afterwards."""
    if weights is None:
        yield
        return
    own = copied(net)
    put(net, weights)
    try:
        yield
    finally:
        put(net, own)


def as_arrays(weights: Weights | None, prefix: str) -> dict[str, np.ndarray]:
    """Named by `prefix` and their place in the network; nothing for None."""
    return {f"{prefix}{name}": value.cpu().contiguous().numpy() for name, value in (weights or {}).items()}


def from_arrays(arrays: dict[str, np.ndarray], net: nn.Module) -> Weights | None:
    """What `as_arrays` gave, without its prefix, on the network's device; None for nothing."""
    own = net.state_dict()
    return {name: torch.from_numpy(value.copy()).to(own[name].device) for name, value in arrays.items()} or None
