"""A GPU for machines that have none: tensors that were moved there, and may not meet those that were not.

They are computed on the processor, so answers are the same to the bit; what a real GPU would refuse is refused:
an operation on tensors of two devices, and reading one as an array before it was brought back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
"""The device that such tensors say they are on: the one device beside the processor that every torch knows."""
_AUTOCAST = torch.autocast
_COPY = torch.ops.aten.copy_.default
_MOVES = (torch.ops.aten._to_copy.default, _COPY)


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """While the block runs, networks and tensors can be moved to the device that it gives."""

    def autocast(kind: str, **options: Any) -> torch.autocast:
        return _AUTOCAST("cpu" if kind == DEVICE.type else kind, **options)

    def inference_mode(mode: bool = True) -> Any:
        return torch.no_grad() if mode else torch.enable_grad()

    mode: Any = _Mode
    # wrapped tensors have no views in inference mode
    with mode(), patch("torch.inference_mode", inference_mode), patch("torch.autocast", autocast):
        yield DEVICE


class Away(Tensor):
    """A tensor that is there."""

    own: Tensor

    @staticmethod
    def __new__(cls: type[Away], own: Tensor) -> Away:
        made: Away = Tensor._make_wrapper_subclass(
            cls,
            own.size(),
            strides=own.stride(),
            storage_offset=own.storage_offset(),
            dtype=own.dtype,
            device=DEVICE,
        )
        made.own = own
        return made

    def tolist(self) -> Any:
        return self.own.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _computed(func, args, dict(kwargs or {}))


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, dict(kwargs or {}))


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operation gives, where its tensors are or where it is to be made."""
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
    away = [one for one in tensors if isinstance(one, Away)]
    strangers = [one for one in tensors if not isinstance(one, Away) and one.ndim]  # numbers may come from anywhere
    if away and strangers and func not in _MOVES:
        raise RuntimeError(f"{func}: a tensor of the processor {tuple(strangers[0].shape)} meets those of a GPU")
    asked = kwargs.get("device")
    if asked is not None:
        kwargs["device"] = torch.device("cpu")
    found = func(*tree_map(_own, args), **tree_map(_own, kwargs))
    if func is _COPY:
        return args[0]
    if asked.type == "cpu" if asked is not None else not away:
        return found
    before = {id(one.own): one for one in away}  # what was changed in place stays the same tensor
    return tree_map(lambda one: before[id(one)] if id(one) in before else _away(one), found)


def _own(value: Any) -> Any:
    return value.own if isinstance(value, Away) else value


def _away(value: Any) -> Any:
    return Away(value) if isinstance(value, Tensor) else value
