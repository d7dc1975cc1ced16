"""A write is on the disk before it is acknowledged: seen in the system calls of a process that labels."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

WRITER = """
import os, sys
from pathlib import Path
import numpy as np
from fieldmark.collection import Collection, ImageRecord
from fieldmark.labels import Labels, Polyline
from fieldmark.store import database, open_store

folder, careless = Path(sys.argv[1]), sys.argv[2] == "careless"
if careless:
    database._PRAGMAS = tuple(one.replace("synchronous = FULL", "synchronous = OFF") for one in database._PRAGMAS)
store = open_store(folder / "a.db", create=True)
labels = Labels(store)
ack = os.open(folder / "ack", os.O_WRONLY | os.O_CREAT)
image = ImageRecord("/x/a.png", "a.png", "h", (1, 1, 1, 600, 600), "uint8", "yx")
def answer(): labels.set_answer(1, 1, True, "ada")
def draw(): labels.draw(1, 1, Polyline(np.array([[9.0, 9.0], [500.0, 400.0]]), 7), "ada")
def undo(): store.undo()
for write in (lambda: Collection(store).add([image]), lambda: labels.add_class("cell"), draw, answer, undo, store.redo):
    write()
    os.write(ack, b"saved")
"""

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/types.h>
#include <fcntl.h>
static void note(const char *call, int fd) {
    static int log = -1;
    char link[64], path[4096], line[4300];
    ssize_t (*out)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    if (log < 0) log = open(getenv("SYNC_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return;
    path[n] = 0;
    out(log, line, snprintf(line, sizeof line, "%s %s\n", call, path));
}
#define WRITE(name, args, pass) ssize_t name args { \
    ssize_t (*next) args = dlsym(RTLD_NEXT, #name); note("write", fd); return next pass; }
#define SYNC(name) int name(int fd) { \
    int (*next)(int) = dlsym(RTLD_NEXT, #name); int r = next(fd); note("sync", fd); return r; }
WRITE(write, (int fd, const void *b, size_t n), (fd, b, n))
WRITE(pwrite, (int fd, const void *b, size_t n, off_t o), (fd, b, n, o))
WRITE(pwrite64, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o))
SYNC(fsync)
SYNC(fdatasync)
"""

Event = tuple[str, str]
"""`write` or `sync`, and the name of the file."""


def run(command: list[str], folder: Path, mode: str, env: dict[str, str] | None = None) -> None:
    import os

    (folder / "writer.py").write_text(WRITER)
    done = subprocess.run(
        [*command, sys.executable, str(folder / "writer.py"), str(folder), mode],
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def by_strace(folder: Path, mode: str) -> list[Event]:
    """What the kernel was asked, in order."""
    strace = shutil.which("strace")
    if (
        strace is None
        or subprocess.run([strace, "-e", "trace=none", "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("strace is missing or may not trace here")
    log = folder / "trace"
    calls = "trace=write,pwrite64,writev,pwritev,fsync,fdatasync,sync_file_range"
    run([strace, "-f", "-y", "-qq", "-e", calls, "-o", str(log)], folder, mode)
    found = re.findall(
        r"(write|pwrite64|writev|pwritev|fsync|fdatasync)\(\d+<([^>]*)>", log.read_text(errors="replace")
    )
    return [("sync" if "sync" in call else "write", Path(path).name) for call, path in found]


def by_shim(folder: Path, mode: str) -> list[Event]:
    """What the C library was asked, in order: for machines that do not let processes be traced."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("there is no C compiler for the shim")
    (folder / "shim.c").write_text(SHIM)
    made = [compiler, "-shared", "-fPIC", "-o", str(folder / "shim.so"), str(folder / "shim.c"), "-ldl"]
    subprocess.run(made, check=True, capture_output=True)
    run([], folder, mode, {"LD_PRELOAD": str(folder / "shim.so"), "SYNC_LOG": str(folder / "log")})
    pairs = (line.split(" ", 1) for line in (folder / "log").read_text(errors="replace").splitlines())
    return [(call, Path(path).name) for call, path in pairs]


def unsynced(events: list[Event]) -> list[bool]:
    """For each acknowledgement: whether the log or the file was written after its last sync, or never synced."""
    dirty, found = {"a.db": False, "a.db-wal": True}, []
    for call, name in events:
        if call == "write" and name == "ack":
            found.append(any(dirty.values()))
            dirty["a.db-wal"] = True  # the next write must be synced anew
        elif name in dirty:
            dirty[name] = call == "write"
    return found


@pytest.mark.parametrize("watch", [by_strace, by_shim])
def test_each_write_is_synced_before_it_is_acknowledged(
    watch: Callable[[Path, str], list[Event]], tmp_path: Path
) -> None:
    assert unsynced(watch(tmp_path, "careful")) == [False] * 6


@pytest.mark.parametrize("watch", [by_strace, by_shim])
def test_a_store_that_does_not_sync_is_caught(watch: Callable[[Path, str], list[Event]], tmp_path: Path) -> None:
    assert unsynced(watch(tmp_path, "careless")) == [True] * 6
