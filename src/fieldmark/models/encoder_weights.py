"""Weights of a published encoder from a local file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fieldmark.core.fingerprint import file_hash
from fieldmark.errors import BadFile, BadRecipe, some
from fieldmark.models.encoders import adapted

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from torch import Tensor, nn

    from fieldmark.models.base import Net

SHIPPED = "imagenet"
"""Weights that come with the encoder, rather than a file."""
_WRAPPERS = frozenset({"module", "model", "encoder", "backbone", "body", "features_only"})
"""Parts at the beginning of names that say where an encoder is kept."""
_COUNTERS = "num_batches_tracked"


def weights_file(weights: str | None) -> Path | None:
    """The file that `net.weights` names; None for none, and for weights that are shipped."""
    return None if weights in (None, SHIPPED) else Path(str(weights))


def weights_hash(weights: str | None) -> str:
    """The hash of that file; empty for none. Raises BadFile where it is missing."""
    file = weights_file(weights)
    if file is None:
        return ""
    if not file.is_file():
        raise BadFile(file, "there is no such file. Correct net.weights.")
    return file_hash(file)


def encoder_of(net: Net) -> nn.Module:
    """The published encoder of a network. Raises BadRecipe where it has none, and so no place for weights."""
    encoder: nn.Module | None = getattr(net, "encoder", None)
    if encoder is None:
        raise BadRecipe(
            "net.weights: is for published encoders, and net.encoder is 'unet'. Leave it out, or name an encoder: "
            "--set net.encoder=efficientnet-lite0."
        )
    return encoder


def take_encoder(net: Net, file: Path) -> None:
    """Give the published encoder of a network the weights of a file: safetensors, or a state dict (`.pt`, `.pth`).

    Names are those of torchvision for ResNets, else the encoder's package's; first kernels are adapted to the channels
    of the images. Whatever else the file holds, such as a classifier, is passed over, but nothing of a block.

    Raises:
        BadRecipe: The network has no published encoder.
        BadFile: It is no such file, lacks one of the encoder's weights, or has more in one of the encoder's blocks.
    """
    encoder = encoder_of(net)
    given = {_bare(name): torch.from_numpy(array) for name, array in _read(file).items()}
    own = {name: value for name, value in encoder.state_dict().items() if not name.endswith(_COUNTERS)}
    found = {name: _fitted(given.get(_bare(name)), value) for name, value in own.items()}
    if missing := [name for name, value in found.items() if value is None]:
        raise BadFile(
            file,
            f"{len(own) - len(missing)} of the encoder's {len(own)} weights are in it; it lacks "
            f"{some(missing, 3)}. Name weights of this encoder.",
        )
    if strange := _strange(given, own):
        raise BadFile(
            file,
            f"is of another network: this encoder has no place for {some(strange, 3)}. (The shortcuts of resnet18 and "
            "resnet34 have no weights, as in MONAI. For torchvision's files take resnet50, or timm:resnet18 and "
            "timm:resnet34.)",
        )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(found[name])


def _strange(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Weights of a file within blocks that the encoder has too, and that it has not: without them it is another one."""
    known = {_bare(name) for name in own}
    blocks = {tuple(name.split(".")[:2]) for name in known if name.count(".") > 1}
    return [
        name
        for name in given
        if name not in known and not name.endswith(_COUNTERS) and tuple(name.split(".")[:2]) in blocks
    ]


def _read(file: Path) -> dict[str, np.ndarray]:
    if file.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return dict(load_file(file))
        except (SafetensorError, OSError) as error:
            raise BadFile(file, f"cannot be read as safetensors ({error}). Copy it again.") from error
    from fieldmark.models.foreign import read_state

    return read_state(file)


def _bare(name: str) -> str:
    """The name of a weight without the parts that say where its encoder is kept."""
    parts = name.split(".")
    while len(parts) > 1 and parts[0] in _WRAPPERS:
        parts = parts[1:]
    return ".".join(parts)


def _fitted(given: Tensor | None, own: Tensor) -> Tensor | None:
    """A weight of the file in the wanted shape; kernels for other channels are adapted. None where it cannot fit."""
    if given is None or given.shape == own.shape:
        return given
    if given.ndim == own.ndim == 4 and given.shape[0] == own.shape[0] and given.shape[2:] == own.shape[2:]:
        return adapted(given, own.shape[1])
    return None
