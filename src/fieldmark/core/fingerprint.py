"""Names made of content: the same bytes have the same name everywhere."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

from fieldmark.errors import BadFile

_CHUNK = 1 << 20


def fingerprint(value: object) -> str:
    """The hash of a JSON value, whatever the order of its keys. 64 hexadecimal digits."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """The hash of a file's bytes, read in pieces; of a folder, of its files' names and bytes in order."""
    digest = sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
    for file in files:
        if file != path:
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with open(file, "rb") as handle:
            while chunk := handle.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def files_hash(folder: Path, pattern: str) -> str:
    """The hash of the files right in a folder whose names match: of their names and bytes, in order."""
    return fingerprint([[path.name, file_hash(path)] for path in sorted(folder.glob(pattern)) if path.is_file()])


GONE = "is not there any more. Put it back, add the folder where it is now, or leave it out: fieldmark exclude IMAGE."
"""What is said of a file that an image was added from."""


def require_content(path: Path, digest: str, shown: str) -> None:
    """Raise BadFile where a file or folder is not there, or holds other bytes than those of `digest`."""
    if not path.exists():
        raise BadFile(shown, f"{path} {GONE}")
    if file_hash(path) != digest:
        raise BadFile(
            shown,
            "its content has changed since it was added, and its labels belong to the old content. "
            "Put the old file back, or add the new one under another name.",
        )
