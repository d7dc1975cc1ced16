"""The record of each fit: recipe, history, events, status."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.checkpoint.bundle import read_json
from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.errors import BadFile, BadInput, NotFound
from fieldmark.workbench.project import Project

if TYPE_CHECKING:
    from fieldmark.checkpoint import Header

RECORD = "run.json"
JOB = "job.json"


@dataclass(frozen=True, slots=True)
class Run:
    """One fit on disk. Status: `running`, `stopped`, `failed` or `done`; all but the last can be resumed."""

    id: str
    folder: Path
    family: str
    model: str
    status: str
    began: str
    process: str = ""
    """Who is at work on it, so that a run whose process was killed is not called running."""


def new_run(project: Project, family: str, model: str) -> Run:
    """A folder for a fit that begins now."""
    now = datetime.now(UTC)
    stem = f"{now:%Y%m%d-%H%M%S}-{family.rpartition(':')[2]}"
    project.runs.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        folder = project.runs / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        run = Run(folder.name, folder, family, model, "running", now.isoformat(timespec="seconds"), this_process())
        write_run(run)
        return run
    raise BadInput(f"{project.runs} holds 1000 runs of this second. Wait a second.")


def write_run(run: Run) -> None:
    """Put a run's record on disk."""
    values = {key: value for key, value in asdict(run).items() if key not in ("id", "folder")}
    write_atomic(run.folder / RECORD, json.dumps(values, indent=2).encode())


def list_runs(project: Project) -> list[Run]:
    """All runs, oldest first."""
    if not project.runs.is_dir():
        return []
    return [read_run(folder) for folder in sorted(project.runs.iterdir()) if (folder / RECORD).is_file()]


def read_run(folder: Path) -> Run:
    """The run in a folder. Raises BadFile where its record is damaged."""
    values = read_json(folder / RECORD)
    wanted = ("family", "model", "status", "began", "process")
    if missing := [key for key in wanted if not isinstance(values.get(key), str)]:
        raise BadFile(folder / RECORD, f"says no {missing[0]}. Remove the folder, or copy it again.")
    run = Run(folder.name, folder, **{key: values[key] for key in wanted})
    return replace(run, status="stopped") if run.status == "running" and not _is_alive(run.process) else run


def is_fit(run: Run) -> bool:
    """Whether a run fits a model: a sweep of rates has none, nor what was killed before it was written down."""
    return (run.folder / JOB).is_file() and read_json(run.folder / JOB).get("kind") == "fit"


def this_process() -> str:
    """The process that asks, told apart from a later one of the same number."""
    import psutil

    own = psutil.Process()
    return f"{own.pid} {own.create_time():.2f}"


def _is_alive(process: str) -> bool:
    import psutil

    number = process.partition(" ")[0]
    try:
        other = psutil.Process(int(number))
        return f"{other.pid} {other.create_time():.2f}" == process and other.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError, OverflowError):
        return False


def find_run(project: Project, name: str) -> Run:
    """The run of that id. Raises NotFound with the near miss."""
    known = {run.id: run for run in list_runs(project)}
    if name not in known:
        raise NotFound("run", name, known)
    return known[name]


def run_of(project: Project, header: Header) -> Path | None:
    """The folder of the run that made a model; None where the project has no such run, or has it no more."""
    return {run.id: run.folder for run in list_runs(project)}.get(str(header.details.get("run", "")))


def job_of(project: Project, header: Header) -> dict[str, Any]:
    """What the run that made a model was given; empty where it is gone."""
    folder = run_of(project, header)
    return read_json(folder / JOB) if folder is not None and (folder / JOB).is_file() else {}


def prune_runs(project: Project, *, keep: int) -> list[str]:
    """Delete all but the newest `keep` finished or failed runs; runs that can be resumed stay."""
    ended = [run for run in list_runs(project) if run.status in ("done", "failed")]
    doomed = ended[: max(0, len(ended) - keep)]
    for run in doomed:
        shutil.rmtree(run.folder)
    return [run.id for run in doomed]


def recorded(events: Iterator[Event], folder: Path) -> Iterator[Event]:
    """The same events, each also a line of `events.jsonl`, and of `history.csv` where it has numbers.

    A fit that goes on tells its last numbers again; they are passed on where nobody heard them before.
    """
    heard = {(row["phase"], row["step"]) for row in read_history(folder)}
    with (
        open(folder / "events.jsonl", "a", encoding="utf-8") as lines,
        open(folder / "history.csv", "a", encoding="utf-8", newline="") as history,
    ):
        table = csv.writer(history)
        if history.tell() == 0:
            table.writerow(["phase", "step", "total", "metric", "value"])
        for event in events:
            if event.metrics and (event.phase, str(event.step)) in heard:
                continue
            lines.write(json.dumps(asdict(event)) + "\n")
            lines.flush()
            table.writerows([event.phase, event.step, event.total, k, v] for k, v in event.metrics.items())
            history.flush()
            yield event


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The rows of `history.csv`."""
    path = folder / "history.csv"
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as history:
        return list(csv.DictReader(history))
