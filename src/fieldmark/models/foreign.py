"""Weights that other programs trained: the one place where such files are read.

LIDS state dicts (`.pt`) hold tensors by name, such as `feature_extractor.conv1.weight`,
`feature_extractor.norm1.mean_by_channel` or `classifier.linear1.bias`. They are taken by the
layers' names and by their shapes; what cannot be placed is refused by its name.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._weights_only_unpickler import UnpicklingError  # type: ignore[attr-defined]

from fieldmark.errors import BadFile, some
from fieldmark.models.flim_graph import FlimGraphNet
from fieldmark.models.flim_ops import BatchNorm, Conv, Decoder, MarkerNorm, Op
from fieldmark.models.libift import LibiftLayer, require_layers

State = dict[str, np.ndarray]

MAX_BYTES = 1 << 32
WRAPPERS = frozenset({"module", "model", "feature_extractor", "features", "_conv", "conv_layer"})
"""Parts of names that say where a layer is kept, and not which it is."""
IGNORED = frozenset({"num_batches_tracked", "activation", "pool"})
LEAVES: dict[type[Op], dict[str, str]] = {
    Conv: {"weight": "weight", "bias": "bias"},
    MarkerNorm: {"mean_by_channel": "mean", "std_by_channel": "std", "weight": "weight", "bias": "bias"},
    BatchNorm: {"running_mean": "mean", "running_var": "variance", "weight": "weight", "bias": "bias"},
}
"""What a tensor is called there and here."""
OPTIONAL = {"bias", "weight"}
"""Where they are missing in a norm, it scales by 1 and shifts by 0; a convolution has no bias."""


def read_state(path: Path) -> State:
    """The tensors of a state dict by name; nothing in the file is run.

    Raises BadFile for anything else than plain tensors by name.
    """
    return read_checkpoint(path)[0]


def read_checkpoint(path: Path) -> tuple[State, dict[str, Any]]:
    """The tensors of a state dict by name, and the words and numbers beside it; nothing in the file is run.

    Raises BadFile for anything else than plain tensors by name.
    """
    _require_archive(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, TypeError, AttributeError, OSError) as error:
        raise BadFile(
            path,
            f"holds more than weights, or is damaged ({_why(error)}); nothing of it was run. Save its state_dict() "
            "alone.",
        ) from error
    facts: dict[str, Any] = {}
    for wrapper in ("state_dict", "checkpoint"):
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            facts = {str(name): value for name, value in found.items() if isinstance(value, str | int | float)}
            found = found[wrapper]
    if not isinstance(found, Mapping) or not found or not all(_is_weight(*item) for item in found.items()):
        raise BadFile(path, "is no state dict: wanted plain tensors by name. Save the model's state_dict() alone.")
    return {str(name): np.asarray(value.detach().to(torch.float32)) for name, value in found.items()}, facts


def read_packaged(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file that an installed package ships, in torch's old format too; nothing in it is run."""
    found = torch.load(path, map_location="cpu", weights_only=True)
    return {str(name): value.detach().clone() for name, value in found.items()}


def _require_archive(path: Path) -> None:
    try:
        size = path.stat().st_size
        archive = path.is_file() and zipfile.is_zipfile(path)
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror}). Check the name.") from error
    if not archive or size > MAX_BYTES:
        raise BadFile(path, "is no archive of weights as torch has written it since version 1.6. Save it again there.")


def _why(error: Exception) -> str:
    """What a file holds beside weights, or torch's first line.

    An unpickler's own first line is not shown: it tells how to run the file after all.
    """
    lines = str(error).splitlines()
    if not isinstance(error, UnpicklingError):
        return lines[0][:120] if lines else type(error).__name__
    named = re.search(r"GLOBAL:? ([\w.]+)", str(error))
    return f"it names {named[1]}" if named else "its list of weights cannot be read"


def _is_weight(name: Any, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, torch.Tensor) and not value.is_sparse and value.ndim <= 5


def channels_of(state: State, source: object) -> int:
    """Channels of the image: those of the first layer. The order of a state dict is that of the layers."""
    for name, value in state.items():
        if name.endswith("mean_by_channel"):
            return int(value.size)
        if value.ndim >= 4:
            return int(value.shape[1])
    raise BadFile(source, "holds no convolution. Name the weights of a whole network.")


def take_state(net: FlimGraphNet, state: State, source: object) -> list[str]:
    """Put a state dict into a network, layer by layer.

    Returns:
        Names of the classifier's entries, which are not taken: a head is learned here.

    Raises:
        BadFile: Entries are missing, unknown or of another shape; each kind is named.
    """
    own = {name: value for name, value in state.items() if _layer(name)[1] not in IGNORED}
    classifier = [name for name in own if name.split(".")[0] == "classifier"]
    given = {_layer(name): name for name in own if name not in classifier}
    wanted = {name: net.op(name) for name in net.learnable()}
    known = {(name, leaf) for name, op in wanted.items() for leaf in LEAVES.get(type(op), {})}
    missing = [f"{name}.{leaf}" for name, leaf in sorted(known - set(given)) if leaf not in _optional(wanted[name])]
    missing += [name for name, op in wanted.items() if isinstance(op, Decoder)]
    unknown = [given[key] for key in given if key not in known]
    if missing or unknown:
        raise BadFile(
            source, f"does not fit the architecture: missing {some(missing, 5)}; unknown {some(unknown, 5)}. Check -ad."
        )
    for name, op in wanted.items():
        _fill(op, {LEAVES[type(op)][leaf]: state[given[name, leaf]] for at, leaf in given if at == name}, name, source)
    _require_run(net, source)
    return classifier


def take_layers(net: FlimGraphNet, layers: list[LibiftLayer], source: Path) -> None:
    """Put the layers of a libIFT folder into a network's convolutions, in their order.

    A normalization goes into the `m_norm` in front of a convolution; without one it is folded into the kernels.
    """
    names = net.learnable()
    convs = [name for name in names if isinstance(net.op(name), Conv)]
    if others := [name for name in names if not isinstance(net.op(name), Conv | MarkerNorm)]:
        raise BadFile(source, f"has no weights for {some(others, 5)}: such folders hold convolutions. Take them out.")
    require_layers(layers, len(convs), source)
    for name, layer in zip(convs, layers, strict=True):
        before = names[names.index(name) - 1] if names.index(name) else ""
        norm = net.op(before) if before else None
        if isinstance(norm, MarkerNorm):
            _set(norm, {"mean": layer.mean, "std": layer.std}, len(layer.mean))
        else:
            layer = layer.folded()
        _fill(net.op(name), {"weight": layer.weight, "bias": layer.bias}, name, source)
    _require_run(net, source)


def _layer(name: str) -> tuple[str, str]:
    """The layer's name here, and the last word."""
    *parts, leaf = name.split(".")
    return "/".join(part for part in parts if part not in WRAPPERS), leaf


def _optional(op: Op) -> set[str]:
    return {"bias"} if isinstance(op, Conv) else OPTIONAL


def _fill(op: Op, values: State, name: str, source: object) -> None:
    if isinstance(op, Conv):
        weight, wanted = values["weight"], (op.params.out_channels, *op.size)
        found = (len(weight) if wanted[0] is not None else None, *weight.shape[2:])
        if weight.ndim != op.axes + 2 or found != wanted:
            size = " x ".join(map(str, op.size))
            count = "kernels" if wanted[0] is None else f"{wanted[0]} kernels"
            raise BadFile(source, f"{name}.weight is {weight.shape}; the architecture wants {count} of {size}.")
        _set(op, values, len(weight))
        op.stroke = op.klass = torch.empty(0, dtype=torch.int64)  # nobody knows where a stranger's kernels came from
        op.place = torch.empty(0, 5, dtype=torch.int64)
        return
    if isinstance(op, MarkerNorm):
        values = values | {"std": values["std"] + np.float32(op.params.epsilon)}
    _set(op, values, next(iter(values.values())).size)


def _set(op: Op, values: State, count: int) -> None:
    """Tensors of an operation, each of its own; a missing scale is 1, a missing shift 0."""
    defaults = {"weight": np.ones(count, np.float32), "bias": np.zeros(count, np.float32)}
    for leaf, value in (defaults | values).items():
        shaped = value if isinstance(op, Conv) and leaf == "weight" else value.reshape(-1)
        setattr(op, leaf, torch.from_numpy(np.array(shaped, np.float32)))


def _require_run(net: FlimGraphNet, source: object) -> None:
    """One smallest image through the features: layers that do not fit each other are found here."""
    try:
        with torch.inference_mode():
            finite = bool(net.eval().features(torch.zeros(1, net.channels, *net.least)).isfinite().all())
    except (RuntimeError, ValueError, IndexError) as error:
        raise BadFile(source, f"its layers do not fit each other ({str(error).splitlines()[0]}). Check -ad.") from error
    if not finite:
        raise BadFile(source, "its weights give values that are NaN or infinite. Train them again.")
