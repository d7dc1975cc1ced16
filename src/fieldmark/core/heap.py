"""Freed memory that stays with the process while a loop asks for the same sizes again and again."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's `mallopt`."""
ALL = -1
MIB = 2**20
GREATEST = 128 * MIB
"""Larger pieces always go back at once."""
USUAL_MMAP, USUAL_TRIM = 32 * MIB, 64 * MIB
"""To which glibc's own thresholds have grown once a program has freed large pieces."""

_lock = threading.Lock()
_loops: list[None] = []
"""One for each loop that is inside now."""


@contextmanager
def kept_memory(alike: bool) -> Iterator[None]:
    """Keep what is freed inside for what is asked for next; all of it goes back to the system at the end.

    glibc gives pieces of more than 32 MiB back at once, and the system must clear every page of them again for the next
    step: a fifth of the time of a prediction in float32 on one core. Under other C libraries this does nothing. May
    be entered several times, also in several threads: the last to leave gives the memory back.

    Args:
        alike: Whether the loop asks for the same sizes at each step; else nothing is kept. The maps of a network over
            volumes are of many sizes, up to hundreds of MiB: they left holes that doubled the memory of the process.
    """
    if alike:
        _enter()
    try:
        yield
    finally:
        if alike:
            _leave()


def _enter() -> None:
    with _lock:
        _loops.append(None)
        if len(_loops) == 1 and (libc := _glibc()) is not None:
            libc.mallopt(MMAP_THRESHOLD, GREATEST)
            libc.mallopt(TRIM_THRESHOLD, ALL)


def _leave() -> None:
    with _lock:
        _loops.pop()
        if not _loops and (libc := _glibc()) is not None:
            libc.mallopt(MMAP_THRESHOLD, USUAL_MMAP)
            libc.mallopt(TRIM_THRESHOLD, USUAL_TRIM)
            libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    """The C library of this process, where it is one with these settings."""
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
