"""A fake worker: jobs run in the process of the test, by way of the same JSON."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.workbench.worker import start

if TYPE_CHECKING:
    import pytest


def run_here(job: dict[str, Any], file: Path, *, threads: int = 0) -> Generator[Event, None, None]:
    """`fieldmark.workbench.jobs.run_job` without a process."""
    write_atomic(file, json.dumps(job).encode())
    yield from start(json.loads(file.read_text(encoding="utf-8")))


def use_fake_worker(patch: pytest.MonkeyPatch) -> None:
    """Let the workbench run its jobs here."""
    for room in (
        "fitting",
        "predicting",
        "flim.choose",
        "answering",
        "flim.validate",
        "flim.explain",
        "flim.layers",
        "flim.inspect",
        "exporting",
        "importing",
        "loose.old",
    ):
        patch.setattr(f"fieldmark.workbench.{room}.run_job", run_here)
