"""JSON and tensors that change together: the JSON names the tensors' file by their hash.

Models and the resume points of runs are both such bundles.
"""

from __future__ import annotations

import json
import stat
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.core.files import remove_drafts, write_atomic
from fieldmark.errors import BadFile

if TYPE_CHECKING:
    import numpy as np

MAX_JSON_BYTES = 1 << 26
TENSOR_KEYS = ("weights", "weights_sha256")
"""What the JSON says of its tensors: their file and its hash."""


def write_bundle(folder: Path, name: str, values: dict[str, Any], tensors: dict[str, np.ndarray]) -> str:
    """Write `folder/name` (JSON) and the tensors that it names; return the tensors' hash.

    The tensors go in under their hash first; replacing the JSON, which names them, is
    the one step that makes them current. A crash leaves the old bundle or the new one.
    """
    from safetensors.numpy import save

    data = save(dict(sorted(tensors.items())))
    digest = sha256(data).hexdigest()
    stem = _tensor_stem(name)
    file = f"{stem}-{digest[:16]}.safetensors"
    if not (folder / file).exists():
        write_atomic(folder / file, data)
    text = json.dumps({"weights": file, "weights_sha256": digest, **values}, indent=2, allow_nan=False)
    write_atomic(folder / name, text.encode())
    for stale in set(folder.glob(f"{stem}-*.safetensors")) - {folder / file}:
        stale.unlink()
    remove_drafts(folder, stem)
    return digest


def read_bundle(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what `write_bundle` wrote. Raises BadFile for anything else; nothing in it is run."""
    values = read_json(folder / name)
    return values, read_tensors(folder, name, values)


def read_tensors(folder: Path, name: str, values: dict[str, Any]) -> dict[str, np.ndarray]:
    """The tensors that the JSON `folder/name` names; what it says of them is taken out of its values."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    file = _weights_file(folder, name, values.pop(TENSOR_KEYS[0], None))
    digest = values.pop(TENSOR_KEYS[1], None)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadFile(file, f"cannot be read ({error.strerror}). Check its permissions.") from error
    if sha256(data).hexdigest() != digest:
        raise BadFile(file, f"its content does not match the hash in {name}. Copy the folder again.")
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BadFile(file, f"not a safetensors file of plain arrays ({error}). Copy the folder again.") from error


def read_json(path: Path, most: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """A JSON object from a regular file of at most `most` bytes; NaN and infinity are no JSON."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise BadFile(path, "is no regular file. Name a folder that Fieldmark wrote.")
        if facts.st_size > most:
            raise BadFile(path, f"larger than {most} bytes; this is not a file that Fieldmark wrote.")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadFile(path, "there is no such file. Name a folder that Fieldmark wrote.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(path, f"not readable as text ({error}). Copy the folder again.") from error
    return _parsed(path, text)


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        values = json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError) as error:  # also an integer of thousands of digits
        raise BadFile(path, f"not readable as JSON ({error}). Copy the folder again.") from error
    if not isinstance(values, dict):
        raise BadFile(path, f"holds a JSON {type(values).__name__}, not an object. Copy the folder again.")
    return values


def _refused(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def _tensor_stem(name: str) -> str:
    return "weights" if name == "model.json" else Path(name).stem


def _weights_file(folder: Path, name: str, file: object) -> Path:
    if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
        raise BadFile(folder / name, f"names no weights beside it (found {file!r}). Copy the folder again.")
    if not (folder / file).is_file():
        raise BadFile(folder / name, f"its weights {file} are missing. Copy the whole folder again.")
    return folder / file
