"""How much memory a process and its children take: proportional set size, sampled (Linux only)."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

PROC = Path("/proc")


def can_measure() -> bool:
    """Whether this system tells the proportional set size."""
    return sys.platform == "linux" and (PROC / "self/smaps_rollup").exists()


def tree_pss(root: int) -> int:
    """Bytes of a process and all that it started: shared pages are counted once, by parts."""
    parents = _parents()
    tree, waiting = set[int](), [root]
    while waiting:
        process = waiting.pop()
        tree.add(process)
        waiting += [child for child, parent in parents.items() if parent == process and child not in tree]
    return sum(_pss(process) for process in tree)


class PeakPss:
    """Samples the memory of a process tree while a `with` block runs; `peak` is in bytes.

    Args:
        root: The process at the top.
        every: Seconds between samples.
    """

    def __init__(self, root: int, *, every: float = 0.05) -> None:
        self.root = root
        self.every = every
        self.peak = 0
        self.samples = 0
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._sampler.join()

    def _sample(self) -> None:
        while not self._ended.wait(self.every):
            self.peak = max(self.peak, tree_pss(self.root))
            self.samples += 1


def _parents() -> dict[int, int]:
    """Process to its parent, for all that can be read."""
    found = {}
    for status in PROC.glob("[0-9]*/stat"):
        try:
            text = status.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # it has ended
        fields = text.rpartition(")")[2].split()  # a name may hold spaces and parentheses
        found[int(status.parent.name)] = int(fields[1])
    return found


def _pss(process: int) -> int:
    try:
        lines = (PROC / str(process) / "smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
