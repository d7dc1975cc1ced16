"""Files that are whole or absent: written beside, synced, then renamed."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_DRAFT = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)-\d+\.part")
_ABANDONED_SECONDS = 3600.0


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` by `data`; a crash leaves the old file or the new one, never a part.

    What a killed process left beside it is removed by the next write of the same file.
    """
    with atomic_file(path) as out:
        out.write(data)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to be written piece by piece that replaces `path` when the block ends, and only if it ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)
    try:
        with open(draft, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)
    remove_drafts(path.parent, path.name)


def draft_of(path: Path) -> Path:
    """Where this thread writes a file before it takes its name; `remove_drafts` knows those of killed processes."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")


def remove_drafts(folder: Path, prefix: str) -> None:
    """Remove drafts of files whose names begin with `prefix` that a process left when it was killed."""
    for draft in folder.glob(".*.part"):
        found = _DRAFT.fullmatch(draft.name)
        if found and found["name"].startswith(prefix) and _is_abandoned(draft, int(found["process"])):
            draft.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable, where the system can (Windows has no such call)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_abandoned(draft: Path, process: int) -> bool:
    """Whether the process that wrote a draft is gone; where that cannot be asked, whether it is an hour old."""
    if os.name == "posix" and process != os.getpid():
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            pass
    try:
        return time.time() - draft.stat().st_mtime > _ABANDONED_SECONDS
    except FileNotFoundError:
        return False
