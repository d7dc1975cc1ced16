"""How weights and images lie in memory: convolutions are fastest with the channels of a pixel together."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""By the number of axes of a batch or of a kernel."""


def channels_last(batch: Tensor) -> Tensor:
    """The same batch, (B, C, y, x) or (B, C, z, y, x), with the channels of a pixel together."""
    return batch.contiguous(memory_format=_LAST[batch.ndim])


def lay_channels_last(net: nn.Module) -> None:
    """Lay weights as images are laid, those over planes and those over volumes: a network may hold both."""
    for weight in chain(net.parameters(), net.buffers()):
        if weight.ndim in _LAST:  # kernels of one pixel too, or over one channel: how their maps lie follows them
            weight.data = weight.data.to(memory_format=_LAST[weight.ndim])
