"""One at a time: a lock on a file, which the system lets go of when its holder ends, however it ends."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fieldmark.errors import InUse

_STEP_SECONDS = 0.05
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What network folders without locks say: there everybody is let in."""


@contextmanager
def alone(file: Path, busy: str, *, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock of a file inside the block; nobody else does then, in this process or another.

    Args:
        file: Made where it is missing. It stays behind, empty: whoever removed it could let two in.
        busy: What is said where somebody else holds it.
        patience: Seconds to wait for that one to end.

    Raises:
        InUse: Somebody else holds it still.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "ab") as handle:
        until = time.monotonic() + patience
        while not _is_ours(handle):
            if time.monotonic() >= until:
                raise InUse(busy)
            time.sleep(_STEP_SECONDS)
        yield  # closing the file lets go


if sys.platform == "win32":
    import msvcrt

    def _is_ours(file: BinaryIO) -> bool:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _is_ours(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        return True
