"""How weights and images lie in memory: convolutions are fastest with the channels of a pixel together."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""By the number of axes of a batch or of a kernel."""


def channels_last(tensor: Tensor) -> Tensor:
    """The same numbers, (B, C, y, x) or (B, C, z, y, x), with the channels of a pixel together; others as they are."""
    return tensor.contiguous(memory_format=_LAST[tensor.ndim]) if tensor.ndim in _LAST else tensor


def lay_channels_last(net: nn.Module) -> None:
    """Lay weights as images are laid, those over planes and those over volumes: a network may hold both."""
    for weight in chain(net.parameters(), net.buffers()):
        weight.data = channels_last(weight.data)
