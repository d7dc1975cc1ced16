"""Jobs in a process of their own: events come back as JSON lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.errors import BadInput, Cancelled, FieldmarkError, WorkerFailed

GRACE_SECONDS = 60.0
"""How long the event under way may take after a stop was asked for; what it had not saved is lost then."""
WORKER = [sys.executable, "-m", "fieldmark.workbench.worker"]
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""Whether PyTorch asks Linux for them; read before its first large tensor."""
SPINS = "GOMP_SPINCOUNT"
"""How often a thread of GNU's OpenMP looks for work before it sleeps: about 10 microseconds' worth."""


def run_job(job: dict[str, Any], file: Path, *, threads: int = 0) -> Generator[Event, None, None]:
    """Run a job in a worker process and yield its events.

    Closing the generator, or an interrupt, asks the worker to stop at its next event.

    Args:
        job: What the worker is to do; written to `file`.
        file: Where the job is kept.
        threads: Threads of the worker, 0 for all cores.

    Raises:
        FieldmarkError: What the worker raised, with the same code and message.
        WorkerFailed: The process ended without an answer.
    """
    write_atomic(file, json.dumps(job, indent=2).encode())
    log = file.with_suffix(".log")
    with open(log, "wb") as errors:
        process = subprocess.Popen(
            [*WORKER, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=worker_environment(threads),
            start_new_session=os.name == "posix",
            text=True,
            encoding="utf-8",
        )
    try:
        yield from _events(process, log)
    finally:
        _stop(process)


def worker_environment(threads: int) -> dict[str, str]:
    """The environment of a worker: bounded threads that wait without burning a core.

    Threads that sleep at once are woken for each step of a loop: a fit of small images took a third longer. And large
    tensors lie on huge pages: clearing those of 4 KiB was a third of a volume's prediction. For these two, and for the
    threads where `threads` is 0, what the user set stands.
    """
    count = str(threads or _cores())
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    bounded = {name: os.environ.get(name, count) if not threads else count for name in names}
    own = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    return {HUGE_PAGES: "1", SPINS: "1000", **os.environ, **bounded, **own}


def _cores() -> int:
    """The cores that this process may use: in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _events(process: subprocess.Popen[str], log: Path) -> Iterator[Event]:
    if process.stdout is None:
        raise WorkerFailed("The worker has no output.")
    for line in process.stdout:
        message = _message(line)
        if "error" in message:
            raise _error(message["error"])
        if "event" in message:
            yield Event(**message["event"])
        if message.get("done"):
            return
    code = process.wait()
    raise WorkerFailed(
        f"The worker ended ({_fate(code)}) without an answer: {_last_words(log).rstrip('.')}. "
        f"The whole of it is in {log}. Run the command again; a fit goes on with --resume."
    )


def _message(line: str) -> dict[str, Any]:
    """One line of the worker; one that was cut short when it was killed says nothing."""
    try:
        return dict(json.loads(line))
    except (json.JSONDecodeError, TypeError, ValueError):
        return {}


def _fate(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"code {code}"


def _error(error: dict[str, str]) -> FieldmarkError:
    """The worker's error as one of ours, with its code."""
    kinds: dict[str, type[FieldmarkError]] = {"cancelled": Cancelled, "error": FieldmarkError}
    kind = kinds.get(error["code"])
    if kind is not None:
        return kind(error["message"])
    raised = BadInput(error["message"])
    raised.code = error["code"]
    return raised


def _last_words(log: Path) -> str:
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - 10_000))
        lines = file.read().decode("utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing; it may have run out of memory."


def _stop(process: subprocess.Popen[str]) -> None:
    """Ask for a stop by closing its input; wait for the event under way; then insist."""
    if process.stdin is not None:
        process.stdin.close()
    # its last lines must be read, or it would wait for room in the pipe
    reader = threading.Thread(target=_drain, args=(process,), daemon=True)
    reader.start()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join(1.0)
    if process.stdout is not None and not reader.is_alive():
        process.stdout.close()


def _drain(process: subprocess.Popen[str]) -> None:
    if process.stdout is not None:
        for _ in process.stdout:
            pass
