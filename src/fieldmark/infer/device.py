"""Where networks compute: on the processor, or on a GPU that answers as exactly."""

from __future__ import annotations

import torch
from torch import nn

from fieldmark.errors import BadInput


def device_for(accelerator: str) -> torch.device:
    """The device that a recipe's `accelerator` means, set to answer as the processor does. Raises as `kind_for`."""
    kind = kind_for(accelerator)
    if kind == "cuda":  # convolutions of three digits would not be fp32, nor the same each time
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
        torch.set_float32_matmul_precision("highest")
    return torch.device(kind)


def kind_for(accelerator: str) -> str:
    """The kind of device that `accelerator` means on this machine: `cpu`, `cuda` or `mps`.

    `auto` takes a CUDA GPU where there is one, and the processor elsewhere: Metal (`mps`) knows no float64, which some
    heads need, so it wants to be named. `gpu` is whichever there is.

    Raises:
        BadInput: A GPU is wanted, and this machine has none of that kind.
    """
    there = gpus()
    if accelerator in ("auto", "cpu"):
        return "cuda" if accelerator == "auto" and "cuda" in there else "cpu"
    fitting = [kind for kind in there if accelerator in ("gpu", kind)]
    if not fitting:
        found = f"only {', '.join(there)}" if there else "no GPU"
        raise BadInput(
            f"accelerator: {accelerator} was asked for, and torch finds {found} on this machine. Install the build of "
            "torch for it, or leave accelerator at auto: it takes a GPU where there is one, else the processor."
        )
    return fitting[0]


def gpus() -> list[str]:
    """The kinds of GPUs that torch finds here, the preferred one first."""
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [kind for kind, is_there in found.items() if is_there]


def device_of(net: nn.Module) -> torch.device:
    """Where a network computes: its weights are all in one place."""
    for weight in (*net.parameters(), *net.buffers()):
        return weight.device
    return torch.device("cpu")
