"""A fit that two processes share through Lightning Fabric, as a person starts it: real processes. POSIX only."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from fieldmark.checkpoint import load
from fieldmark.testing.projects import drawn_masks, drawn_project

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are a POSIX thing")

FIT = ["fit", "unet", "--set", "accelerator=cpu", "--set", "threads=1", "--set", "net={filters: [4, 8], norm: layer}"]
FIT += ["--set", "train={epochs: 3, batch_size: 4, crop: [32, 32], crops_per_epoch: 8, lr: 0.01, save_every_steps: 1}"]
TWO = ["--set", "devices=2", "--set", "strategy=ddp"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    drawn_masks(folder / "masks", images=4)
    return drawn_project(folder, images=4, taught=0)


@pytest.fixture
def project(drawn: Path, tmp_path: Path) -> Path:
    shutil.copytree(drawn, tmp_path / "project")
    return tmp_path / "project"


def words(project: Path, drawn: Path, *more: str) -> list[str]:
    target = ["--set", "data.target.kind=labels", "--set", f"data.target.folder={drawn.parent / 'masks'}"]
    return [sys.executable, "-m", "fieldmark.faces.cli", "-C", str(project), *FIT, *target, *more]


def fitted(project: Path, drawn: Path, name: str, *more: str) -> dict[str, np.ndarray]:
    command = words(project, drawn, "--name", name, *more)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    return load(project / "models" / name)[1]


def newest(project: Path) -> Path:
    return max((project / "runs").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)


def history(run: Path) -> list[dict[str, str]]:
    with open(run / "history.csv", newline="") as table:
        return list(csv.DictReader(table))


def files(run: Path) -> list[str]:
    """What lies in a run's folder, without the hashes in the names."""
    return sorted(re.sub("-[0-9a-f]{16}", "", p.relative_to(run).as_posix()) for p in run.rglob("*") if p.is_file())


def looking(command: list[str]) -> list[str]:
    """The command for the rate of the fit that another begins."""
    return [{"fit": "lr-find"}.get(word, word) for word in command]


def stopped(command: list[str], line: str, how: signal.Signals) -> None:
    """Begin a fit, and stop its worker when it has said a line."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for said in process.stderr:
        if said.startswith(line):
            break
    else:
        raise AssertionError("it ended before it was stopped")
    parent = psutil.Process(process.pid)
    every = parent.children(recursive=True)
    assert len(every) >= 2  # the worker, and the process that it started
    (parent.children()[0] if how == signal.SIGKILL else parent).send_signal(how)
    process.communicate(timeout=90)
    assert process.returncode != 0
    end = time.monotonic() + 30
    while any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in every) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [one for one in every if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_two_processes_learn_what_one_learns_and_the_first_writes(project, drawn):
    one = fitted(project, drawn, "one")
    lonely = newest(project)
    two = fitted(project, drawn, "two", *TWO)
    assert newest(project) != lonely
    for name, array in one.items():
        assert np.abs(array - two[name]).max() <= 1e-5 * max(1.0, np.abs(array).max()), name
    assert any(np.abs(array).max() > 1e-3 for array in one.values())

    rows = [history(run) for run in (lonely, newest(project))]
    assert [(row["step"], row["metric"]) for row in rows[0]] == [(row["step"], row["metric"]) for row in rows[1]]
    values = np.array([[float(row["value"]) for row in part] for part in rows])
    assert np.allclose(values[0], values[1], rtol=1e-4, atol=1e-6)
    assert files(lonely) == files(newest(project))
    events = [json.loads(line) for line in (newest(project) / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["phase"] == "targets"] == [1, 2, 3, 4, 5, 6]


@pytest.fixture(scope="module")
def unbroken(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """What two processes learn that nobody stops."""
    project = tmp_path_factory.mktemp("unbroken") / "project"
    shutil.copytree(drawn, project)
    return fitted(project, drawn, "unbroken", *TWO)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle_both_end_and_go_on_to_the_same_bits(project, drawn, unbroken, how):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        stopped(words(project, drawn, "--name", "broken", *TWO), "targets 3/", how)
    finally:
        signal.signal(signal.SIGINT, before)
    command = [sys.executable, "-m", "fieldmark.faces.cli", "-C", str(project), "fit", "--resume", newest(project).name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    broken = load(project / "models" / "broken")[1]
    assert all(np.array_equal(unbroken[name], broken[name]) for name in unbroken)


def test_two_processes_look_for_a_rate_as_one_does_and_the_first_writes(project, drawn):
    curves = []
    for more in ([], TWO):
        command = looking(words(project, drawn, "--steps", "12", *more))
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == 0, done.stderr
        curves.append(np.loadtxt(newest(project) / "lr_find.csv", delimiter=",", skiprows=1))
        assert re.findall(r"^lr-find (\d+)/12", done.stderr, re.MULTILINE) == [str(n) for n in range(1, 13)]
    assert curves[0].shape == (12, 3)
    assert np.allclose(curves[0], curves[1], rtol=1e-4)


@pytest.mark.parametrize("asked", [list, looking])
def test_batches_that_cannot_be_shared_are_refused(project, drawn, asked):
    command = words(project, drawn, "--set", "train.batch_size=3", *TWO)
    done = subprocess.run(asked(command), capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 1
    assert "cannot be shared by 2 processes" in done.stderr
