"""Batch norms as parts of the convolutions before them: the same answers in fewer passes over the maps."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_Net = TypeVar("_Net", bound=nn.Module)
_CONVS = (nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


def folded(net: _Net) -> _Net:
    """A copy of a network, for answers alone, in which no batch norm directly follows a convolution of its sequence.

    With the statistics of training a norm is y = a x + b for each map, and a convolution can hold a and b: what it
    answers differs by rounding. A network with nothing to fold is given back as it is.
    """
    if not any(_pairs(module) for module in net.modules()):
        return net
    copy = deepcopy(net).eval()
    for module in copy.modules():
        for place in _pairs(module):
            stack: nn.Sequential = module  # type: ignore[assignment]
            stack[place] = fuse_conv_bn_eval(stack[place], stack[place + 1])  # type: ignore[type-var, arg-type]
            stack[place + 1] = nn.Identity()
    return copy


def _pairs(module: nn.Module) -> list[int]:
    """Places of convolutions in a sequence that a norm with kept statistics follows."""
    if not isinstance(module, nn.Sequential):
        return []
    steps = list(module)
    return [
        place
        for place, (conv, norm) in enumerate(pairwise(steps))
        if isinstance(conv, _CONVS) and isinstance(norm, _NORMS) and norm.running_mean is not None
    ]
