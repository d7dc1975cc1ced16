"""The code of a user's own network: whether it is what was fitted, and where it fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING

import torch

from fieldmark.errors import BadInput, FieldmarkError

if TYPE_CHECKING:
    from fieldmark.models.base import Net


def own_code(net: Net) -> str:
    """The hash of a user's network as code: of the files of its package that it and its parts are written in.

    Empty for networks of ours, and for classes that come from no file. What a module takes from other packages is not
    looked at.
    """
    package = type(net).__module__.partition(".")[0]
    if package == "fieldmark":
        return ""
    names = {kind.__module__ for part in net.modules() for kind in type(part).__mro__}
    digest = sha256()
    files = [_file_of(name) for name in sorted(names) if name.partition(".")[0] == package]
    for file in (file for file in files if file is not None):
        digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest() if any(files) else ""


@contextmanager
def blamed(kind: Callable[..., object], what: str) -> Iterator[None]:
    """Raise BadInput with file and line for what a user's network raises inside; all else goes through as it is.

    Args:
        kind: The network's class.
        what: Is done, such as `forward of a.tif`.
    """
    try:
        yield
    except (FieldmarkError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        files = _own_files(kind)
        lines = [frame for frame in extract_tb(error.__traceback__) if frame.filename in files] if files else []
        if not lines:
            raise
        raise BadInput(
            f"{kind.__name__}: {what} raises {type(error).__name__}: {error} in {lines[-1].filename}, line "
            f"{lines[-1].lineno}. Correct it."
        ) from error


def _own_files(kind: Callable[..., object]) -> set[str]:
    """The files of the package that a user's class is written in; none for classes of ours."""
    package = kind.__module__.partition(".")[0]
    if package == "fieldmark":
        return set()
    names = [name for name in sys.modules if name.partition(".")[0] == package]
    return {str(file) for name in names if (file := _file_of(name)) is not None}


def _file_of(module: str) -> Path | None:
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file) if file and Path(file).is_file() else None
