"""Run a Python module in a process of its own and watch the memory of its process tree."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
EVERY_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a process said on its last line, as JSON, and the most memory its tree held."""

    answer: dict[str, Any]
    peak_mib: float
    """Peak of the summed proportional set sizes (shared pages counted once), in MiB; RSS where PSS is not known."""


def run_module(module: str, *arguments: str) -> Outcome:
    """Run `python -m module ARGUMENTS`, whose last line of output is a JSON object.

    Raises RuntimeError, with what it wrote, where the process fails.
    """
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        peak = _watch(process)
        output = process.stdout.read() if process.stdout else ""
        errors.seek(0)
        if process.returncode:
            raise RuntimeError(f"{module} {' '.join(arguments)} failed: {errors.read()[-2000:]}")
    return Outcome(json.loads(output.strip().splitlines()[-1]), peak / 2**20)


def _watch(process: subprocess.Popen[str]) -> int:
    """Wait for the end of a process; the peak of its tree's memory in bytes."""
    peak = 0
    while process.poll() is None:
        peak = max(peak, tree_bytes(process.pid))
        time.sleep(EVERY_SECONDS)
    return peak


def tree_bytes(pid: int) -> int:
    """Memory of a process and its descendants in bytes; processes that are gone count nothing."""
    try:
        root = psutil.Process(pid)
        return sum(_bytes(process) for process in (root, *root.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0


def _bytes(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return 0
    return int(getattr(full, "pss", full.rss))
