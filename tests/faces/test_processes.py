"""The command line as a person meets it: real processes, signals, kills. POSIX only."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fieldmark.checkpoint import load
from fieldmark.testing.projects import drawn_project

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are a POSIX thing")

FIELDMARK = [sys.executable, "-m", "fieldmark.faces.cli"]
SLOW = ["fit", "autoencoder", "--name", "slow"]
SLOW += ["--set", "net={width: 4, latent: 4}", "--set", "descend.crop=32", "--set", "descend.batch-size=2"]
SLOW += ["--set", "descend.crops-per-epoch=8", "--set", "descend.epochs=40", "--set", "descend.save_every_steps=1"]
SLOW += ["--set", "threads=1", "--set", "head.kind=logistic", "--set", "head.refine=none"]  # any tile will do


@pytest.fixture(scope="module", autouse=True)
def heard() -> Iterator[None]:
    """Shells start what runs in the background deaf to SIGINT, and children inherit it: not these."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_project(tmp_path_factory.mktemp("drawn"), images=2, taught=1)


@pytest.fixture
def project(drawn: Path, tmp_path: Path) -> Path:
    """A copy; its images stay where they are."""
    shutil.copytree(drawn, tmp_path / "project")
    return tmp_path / "project"


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*FIELDMARK, "-C", str(project), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def begun(project: Path, *arguments: str, until: str) -> subprocess.Popen[str]:
    """A command that has said a line that begins with `until`."""
    command = [*FIELDMARK, "-C", str(project), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(until):
            return process
    raise AssertionError("the command ended before it was stopped")


def only_run(project: Path) -> dict:
    (found,) = json.loads(run(project, "runs", "list", "--json").stdout)["runs"]
    return found


def worker_of(parent: int) -> int:
    """The process that was started by another."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            return int(path.parent.name)
    raise AssertionError("there is no worker")


def gone(process: int, seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


def same_weights(first: Path, second: Path) -> bool:
    one, two = load(first)[1], load(second)[1]
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def unbroken(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of the slow fit that nobody stopped."""
    project = tmp_path_factory.mktemp("unbroken") / "project"
    shutil.copytree(drawn, project)
    done = run(project, *SLOW)
    assert done.returncode == 0, done.stderr
    return project / "models" / "slow"


def test_an_interrupted_fit_stops_and_resumes_to_the_same_weights(project, unbroken):
    process = begun(project, *SLOW, until="reconstruct 5/")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("Stopped.")
    stopped = only_run(project)
    assert stopped["status"] == "stopped"
    assert not (project / "models" / "slow").exists()

    done = run(project, "fit", "--resume", stopped["id"], "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "slow"
    assert "goes on after" in done.stderr
    assert same_weights(project / "models" / "slow", unbroken)
    assert only_run(project)["status"] == "done"

    again = run(project, "fit", "--resume", stopped["id"])
    assert again.returncode == 1
    assert "is done" in again.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_worker_is_one_line_and_its_run_resumes(project, unbroken):
    process = begun(project, *SLOW, until="reconstruct 3/")
    os.kill(worker_of(process.pid), signal.SIGKILL)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    last = errors.splitlines()[-1]
    assert last.startswith("Error: The worker ended (killed by signal 9) without an answer")
    assert "Traceback" not in errors
    stopped = only_run(project)
    assert stopped["status"] == "stopped"
    assert run(project, "fit", "--resume", stopped["id"]).returncode == 0
    assert same_weights(project / "models" / "slow", unbroken)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_when_the_parent_is_killed_the_worker_ends_by_itself(project):
    process = begun(project, *SLOW, until="reconstruct 1/")
    worker = worker_of(process.pid)
    at_work = only_run(project)
    assert at_work["status"] == "running"
    refused = run(project, "fit", "--resume", at_work["id"])
    assert refused.returncode == 1
    assert f"is at work in process {process.pid}" in refused.stderr
    process.kill()
    process.communicate()
    assert gone(worker)
    assert only_run(project)["status"] == "stopped"


UNET = ["fit", "unet", "--name", "slow", "--set", "threads=1"]
UNET += ["--set", "train={epochs: 1, batch_size: 2, crop: [32, 32], depth: 2, crops_per_epoch: 4}", "--set"]


@pytest.mark.parametrize(
    ("fit", "slices", "side"),
    [
        ([*SLOW, "--set", "descend.epochs=1"], 1, 500),
        ([*UNET, "net={filters: [4, 8], dims: '2.5', depth: 3}"], 4, 400),
        ([*UNET, "net={filters: [4, 8], dims: '3'}"], 4, 400),
        ([*UNET, "net={filters: [4, 8], dims: '3', norm: instance}"], 4, 500),
    ],
    ids=["autoencoder", "2.5-D", "3-D", "3-D blended"],
)
def test_a_killed_prediction_goes_on_to_the_same_pixels(project, tmp_path, fit, slices, side):
    assert run(project, *fit).returncode == 0
    pixels = np.random.default_rng(0).integers(0, 255, (1, 3, slices, side, side)).astype(np.uint8)
    (tmp_path / "more").mkdir()
    np.save(tmp_path / "more" / "large.npy", pixels)
    assert run(project, "add", str(tmp_path / "more" / "large.npy")).returncode == 0
    order = ["predict", "slow", "large.npy", "--tile", "64", "--probabilities", "--out"]
    assert run(project, *order, str(tmp_path / "whole")).returncode == 0

    command = [*FIELDMARK, "-C", str(project), *order, str(tmp_path / "killed")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = tmp_path / "killed" / ".fieldmark" / "work" / "large.ome.zarr" / "done.log"
    end = time.monotonic() + 60
    while not (log.is_file() and log.read_bytes().count(b"\n") > 2) and time.monotonic() < end:
        time.sleep(0.01)
    worker = worker_of(process.pid)
    os.kill(worker, signal.SIGKILL)
    process.kill()
    process.wait()
    assert log.read_bytes().count(b"\n") >= 3  # it was in the middle
    assert run(project, *order, str(tmp_path / "killed")).returncode == 0
    for name in ("large.ome.zarr", "large-probabilities.ome.zarr"):
        files = [
            path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole" / name).rglob("*") if path.is_file()
        ]
        assert files
        for file in files:
            assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert not log.parent.exists()


def test_a_pipe_that_is_closed_early_is_no_traceback(project):
    command = f"{sys.executable} -m fieldmark.faces.cli -C {project} status | true"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in ended.stderr
    assert "Exception" not in ended.stderr
