"""One at a time: a lock on a file, which the system lets go of when its holder ends, however it ends."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fieldmark.errors import InUse

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)
"""What network folders without locks say: there everybody is let in."""


@contextmanager
def alone(file: Path, busy: str, *, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock of a file inside the block; nobody else does then, in this process or another.

    Args:
        file: Made where it is missing. It stays behind: whoever removed it could let two in.
        busy: What is said where somebody else holds it.
        patience: Seconds to wait for that one to end.

    Raises:
        InUse: Somebody else holds it still.
    """
    import filelock

    file.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(file, timeout=patience, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise InUse(busy) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        lock.release()
