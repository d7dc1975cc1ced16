"""What we wrote, as it was: so that what a person changed since is never replaced."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from fieldmark.core.files import write_atomic
from fieldmark.core.fingerprint import file_hash, fingerprint
from fieldmark.errors import BadInput

Trace = list[str]
"""How a file or folder looks in its folder (sizes and times), and the hash of what it holds."""


def trace_of(path: Path) -> Trace:
    """The trace of a file or folder as it is now."""
    return [_look(path), file_hash(path)]


def is_as_written(path: Path, trace: Trace) -> bool:
    """Whether a file or folder still holds what it held; read only where its sizes or times are others."""
    look, content = trace
    return _look(path) == look or file_hash(path) == content


def _look(path: Path) -> str:
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    stats = [(one.relative_to(path).as_posix(), one.stat()) for one in files]
    return fingerprint([[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats])


def require_ours(path: Path, stamp: Path) -> None:
    """Raise BadInput where a file is there that `write_ours` did not write, or that was changed since."""
    if path.exists() and (not path.is_file() or file_hash(path) not in _hashes(stamp)):
        raise BadInput(
            f"{path} is there already, and is not as Fieldmark wrote it. Move it away, or choose another place."
        )


def write_ours(path: Path, data: bytes, stamp: Path) -> None:
    """Replace a file of ours, whole. Raises BadInput where what is there is not ours, or was changed.

    The stamp first names the new content beside the old: whenever this is stopped, what is there is known as ours.
    """
    require_ours(path, stamp)
    before = [file_hash(path)] if path.exists() else []
    write_atomic(stamp, "\n".join([*before, sha256(data).hexdigest()]).encode())
    write_atomic(path, data)


def _hashes(stamp: Path) -> list[str]:
    return stamp.read_text(encoding="utf-8").split() if stamp.is_file() else []
