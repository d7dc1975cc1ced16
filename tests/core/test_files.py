from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fieldmark.core import files
from fieldmark.core.files import remove_drafts, write_atomic

KILLED_BEFORE_RENAME = """
import os, sys
from pathlib import Path
from fieldmark.core import files
os.replace = lambda *_: os.kill(os.getpid(), 9)
files.write_atomic(Path(sys.argv[1]), b"new" * 1000)
"""


def parts(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.part")]


def test_it_writes_and_replaces(tmp_path):
    target = tmp_path / "a" / "b.txt"
    write_atomic(target, b"one")
    write_atomic(target, b"two")
    assert target.read_bytes() == b"two"
    assert parts(tmp_path) == []


def test_a_failure_keeps_the_old_file_and_leaves_no_part(tmp_path, monkeypatch):
    target = tmp_path / "b.txt"
    write_atomic(target, b"old")

    def refuse(*_):
        raise OSError("no space left on device")

    for name in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(files.os, name, refuse)
            with pytest.raises(OSError, match="no space"):
                write_atomic(target, b"new")
        assert target.read_bytes() == b"old"
        assert parts(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a POSIX signal")
def test_a_killed_write_keeps_the_old_file_and_the_next_one_cleans_up(tmp_path):
    target = tmp_path / "b.txt"
    write_atomic(target, b"old")
    ended = subprocess.run([sys.executable, "-c", KILLED_BEFORE_RENAME, str(target)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    assert len(parts(tmp_path)) == 1
    write_atomic(target, b"newer")
    assert target.read_bytes() == b"newer"
    assert parts(tmp_path) == []


def test_drafts_of_the_living_and_files_of_strangers_stay(tmp_path):
    living = tmp_path / f".b.txt.{os.getppid()}-1.part"
    strangers = [tmp_path / ".b.txt.part", tmp_path / "b.txt.1-1.part", tmp_path / ".other.txt.999999999-1.part"]
    for path in (living, *strangers):
        path.write_bytes(b"")
    write_atomic(tmp_path / "b.txt", b"x")
    assert all(path.exists() for path in (living, *strangers))


def test_a_draft_of_a_number_that_is_in_use_again_goes_after_an_hour(tmp_path):
    draft = tmp_path / f".b.txt.{os.getpid()}-1.part"
    draft.write_bytes(b"")
    remove_drafts(tmp_path, "b.txt")
    assert draft.exists()
    old = time.time() - 4000
    os.utime(draft, (old, old))
    remove_drafts(tmp_path, "b.")
    assert not draft.exists()


def test_threads_that_write_one_file_leave_one_of_the_values(tmp_path):
    target = tmp_path / "b.bin"
    values = [bytes([n]) * 200_000 for n in range(6)]
    failures: list[BaseException] = []

    def write(value: bytes) -> None:
        try:
            for _ in range(5):
                write_atomic(target, value)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(value,)) for value in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert target.read_bytes() in values
    assert parts(tmp_path) == []
