"""What a worker's process is given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fieldmark.workbench.jobs import worker_environment

HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
HELD = """
import torch
kept = torch.ones(64 * 2**18)
print(sum(int(line.split()[1]) for line in open("/proc/self/smaps") if line.startswith("AnonHugePages")) // 1024)
"""
"""Prints how many MiB lie on huge pages, with a tensor of 64 MiB."""


def test_what_the_user_set_stands(monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = worker_environment(0)
    assert (found["GOMP_SPINCOUNT"], found["THP_MEM_ALLOC_ENABLE"], found["OMP_NUM_THREADS"]) == ("7", "0", "3")
    assert worker_environment(2)["OMP_NUM_THREADS"] == "2"


@pytest.mark.skipif(not HUGE.exists() or "[madvise]" not in HUGE.read_text(), reason="the system gives none on request")
def test_large_tensors_of_a_worker_lie_on_huge_pages(monkeypatch):
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    found = subprocess.run([sys.executable, "-c", HELD], env=worker_environment(1), capture_output=True, check=True)
    assert int(found.stdout) >= 60
