"""Memory that a loop keeps: counted in pages that the system had to clear, in a process of its own."""

import ctypes
import json
import platform
import subprocess
import sys

import pytest

from fieldmark.core import heap

PROBE = """
import json, resource
import numpy as np
from fieldmark.core.heap import kept_memory

def faults(mib):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(mib * 2**20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20

faults(48)  # what is taken once
found = {"before": faults(48), "at rest": resident()}
with kept_memory(alike=False):
    found["unlike"] = faults(48)
with kept_memory(alike=True):
    with kept_memory(alike=True):
        faults(48)
    found["inside"], found["held"], found["giant"] = faults(48), resident(), faults(200)
found["after"], found["given back"] = faults(48), resident()
print(json.dumps(found))
"""

glibc_alone = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such settings")


@pytest.fixture(scope="module")
def found() -> dict[str, float]:
    return json.loads(subprocess.run([sys.executable, "-c", PROBE], check=True, capture_output=True, text=True).stdout)


@glibc_alone
def test_freed_memory_is_used_again_inside_and_only_there(found):
    assert found["inside"] < found["before"] / 10
    assert min(found["after"], found["unlike"]) > found["before"] / 2


@glibc_alone
def test_it_goes_back_to_the_system_at_the_end(found):
    assert found["held"] > found["at rest"] + 40
    assert found["given back"] < found["at rest"] + 10


@glibc_alone
def test_giants_are_given_back_at_once(found):
    assert found["giant"] > 10 * 200 * 2**20 / 2**21 / 2  # pages, be they as great as 2 MiB


def test_other_c_libraries_are_left_alone(monkeypatch):
    class Windows:
        def __init__(self, name):
            raise TypeError(name)

    heap._glibc.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", Windows)
    try:
        with heap.kept_memory(alike=True):
            pass
    finally:
        heap._glibc.cache_clear()
