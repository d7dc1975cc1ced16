"""Whether a network of the user's own is still the code that was fitted."""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

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


def _file_of(module: str) -> Path | None:
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file) if file and Path(file).is_file() else None
