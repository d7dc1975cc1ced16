"""What tests of the command line share: to run a command here, in a folder of its own, and to look at what it left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fieldmark.faces.cli import main
from fieldmark.testing.worker import use_fake_worker

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command: exit status, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(one) for one in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture
def flim(cli: Cli) -> Cli:
    """Run `fieldmark flim`."""
    return lambda *arguments: cli("flim", *arguments)


@pytest.fixture
def worker_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run in the process of the test."""
    use_fake_worker(monkeypatch)


@pytest.fixture
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The test is at work in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
