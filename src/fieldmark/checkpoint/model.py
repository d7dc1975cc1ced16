"""Save and load a model folder: `model.json` and the weights that it names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.checkpoint.bundle import TENSOR_KEYS, read_json, read_tensors, write_bundle
from fieldmark.checkpoint.header import FORMAT, Header
from fieldmark.errors import BadFile

if TYPE_CHECKING:
    import numpy as np

NAME = "model.json"
MAX_BYTES = 1 << 24
"""Of `model.json`: a hundred thousand images that taught it fit in."""


def save(folder: Path, header: Header, weights: dict[str, np.ndarray]) -> None:
    """Write a model folder; a crash leaves the old model or the new one."""
    write_bundle(folder, NAME, header.to_json(), weights)


def load(folder: Path) -> tuple[Header, dict[str, np.ndarray]]:
    """Read a model folder, refusing a newer format and damaged files.

    A model from a stranger is read, never run: no pickle, no imports.
    """
    values = _values(folder)
    header = _header(folder, values)  # a newer format is refused by its number, whatever else it changed
    return header, read_tensors(folder, NAME, values)


def header_of(folder: Path) -> Header:
    """The header alone, without reading the weights."""
    return _header(folder, _values(folder))


def _values(folder: Path) -> dict[str, Any]:
    if not folder.exists():
        raise BadFile(folder, "there is no such folder. Name a model folder that Fieldmark wrote.")
    if not (folder / NAME).exists():
        raise BadFile(folder, f"has no {NAME}. Name a model folder that Fieldmark wrote.")
    return read_json(folder / NAME, MAX_BYTES)


def _header(folder: Path, values: dict[str, Any]) -> Header:
    if values.get("format") != FORMAT:
        raise BadFile(
            folder / NAME,
            f"is model format {str(values.get('format'))[:40]}; this version reads format {FORMAT}. "
            "Upgrade Fieldmark, or fit the model again.",
        )
    try:
        return Header.from_json({name: value for name, value in values.items() if name not in TENSOR_KEYS})
    except (TypeError, ValueError) as error:
        raise BadFile(folder / NAME, f"is no model header ({error}). Copy the folder again.") from error
