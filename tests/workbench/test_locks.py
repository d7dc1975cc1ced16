from __future__ import annotations

import errno
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fieldmark.errors import InUse
from fieldmark.workbench.locks import alone

HOLD = "import sys\nfrom pathlib import Path\nfrom fieldmark.workbench.locks import alone\n" + (
    "with alone(Path(sys.argv[1]), 'busy'):\n    print('held', flush=True)\n    sys.stdin.read()\n"
)


def test_a_second_one_is_told_and_gets_it_afterwards(tmp_path):
    file = tmp_path / "deep" / "one.lock"
    with alone(file, "somebody is there"):
        with pytest.raises(InUse, match="somebody is there"), alone(file, "somebody is there"):
            raise AssertionError("two were let in")
        with alone(tmp_path / "another.lock", "nobody"):
            pass
    with alone(file, "somebody is there"):
        assert [path.name for path in file.parent.iterdir()] == ["one.lock"]


def test_an_error_inside_lets_go(tmp_path):
    with pytest.raises(KeyError), alone(tmp_path / "lock", "busy"):
        raise KeyError
    with alone(tmp_path / "lock", "busy"):
        pass


def test_another_process_holds_it_until_it_is_killed(tmp_path):
    file = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(InUse), alone(file, "busy", patience=0.1):
            pass
        process.kill()
        process.wait()
        with alone(file, "busy"):
            pass


def test_who_is_patient_gets_it_when_the_other_ends(tmp_path):
    file = tmp_path / "lock"
    held, go_on, order = threading.Event(), threading.Event(), []

    def hold() -> None:
        with alone(file, "busy"):
            held.set()
            go_on.wait(30)
            order.append("first")

    first = threading.Thread(target=hold)
    first.start()
    assert held.wait(30)
    go_on.set()
    with alone(file, "busy", patience=30):
        order.append("second")
    first.join()
    assert order == ["first", "second"]


@pytest.mark.skipif(sys.platform == "win32", reason="flock is of POSIX")
def test_folders_without_locks_let_everybody_in_and_other_errors_are_not_hidden(tmp_path, monkeypatch):
    def failing(number: int) -> None:
        def flock(file: object, kind: int) -> None:
            raise OSError(number, "no")

        monkeypatch.setattr("fcntl.flock", flock)

    failing(errno.ENOLCK)
    with alone(tmp_path / "lock", "busy"), alone(tmp_path / "lock", "busy"):
        pass
    failing(errno.EIO)
    with pytest.raises(OSError, match="no"), alone(tmp_path / "lock", "busy"):
        pass


def test_a_lock_keeps_what_is_in_its_file(tmp_path: Path):
    (tmp_path / "lock").write_text("mine")
    with alone(tmp_path / "lock", "busy"):
        pass
    assert (tmp_path / "lock").read_text() == "mine"
