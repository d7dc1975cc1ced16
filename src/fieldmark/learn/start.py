"""Weights of another model, with which a fit begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldmark.checkpoint import load
from fieldmark.core.fingerprint import files_hash
from fieldmark.errors import BadInput
from fieldmark.models.base import Net
from fieldmark.models.tensors import arrays_of, load_arrays


def take_start(net: Net, folder: Path) -> str:
    """Give a network the weights of a model folder, all that fit by name and shape.

    Returns:
        A sentence that says which were not taken, such as those of other classes; empty where all were.

    Raises:
        BadInput: None fits.
    """
    _, given = load(folder)
    own = arrays_of(net)
    taken = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    if not taken or not any(np.ndim(value) > 1 for value in taken.values()):
        raise BadInput(
            f"{folder}: none of its weights fits this network. Begin with a model of the same family and settings."
        )
    load_arrays(net, own | taken)
    left = sorted(own.keys() - taken.keys())
    return f"{', '.join(left[:3])}{', ...' if len(left) > 3 else ''}: not in {folder} as they are here." if left else ""


def start_hash(folder: str | None) -> str:
    """The hash of a model folder's weights; empty for none."""
    return files_hash(Path(folder), "weights-*.safetensors") if folder is not None else ""
