"""The worker process: the only door between the workbench and torch.

`python -m fieldmark.workbench.worker JOB.json` does one job and writes JSON lines:
`{"event": ...}` for progress, `{"done": true}` at the end, `{"error": {"code", "message"}}`
where it fails. It stops at the next event when its standard input is closed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fieldmark.core.events import Event
from fieldmark.errors import Cancelled, FieldmarkError, of_system
from fieldmark.recipes.registry import FAMILIES
from fieldmark.workbench.locks import alone

PATIENCE_SECONDS = 60.0
"""How long a worker waits for one before it."""
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
"""Where launchers write the number of a process among those that fit together, or of its machine."""
GPU_IS_FULL = (
    "The GPU has no memory left for this. Take smaller pieces (predict: --tile; fit: train.crop, train.batch_size), "
    "free the GPU of other work, or compute on the processor: --accelerator cpu (fit: --set accelerator=cpu)."
)


def main(file: Path) -> int:
    """Do the job in a file; the exit status is 0 or 1."""
    job = json.loads(file.read_text(encoding="utf-8"))
    say = _own_output()
    stop = _stop_signal()
    try:
        for event in start(job):
            say({"event": asdict(event)})
            if stop.is_set():
                raise Cancelled("Stopped. What was finished is kept.")
        say({"done": True})
    except FieldmarkError as error:
        say({"error": {"code": error.code, "message": str(error)}})
        return 1
    except BrokenPipeError:  # nobody listens any more: the parent is gone
        return 1
    except OSError as error:
        say({"error": {"code": FieldmarkError.code, "message": of_system(error)}})
        raise  # where it happened goes into the log, where that can be written
    except _gpu_is_full():
        say({"error": {"code": FieldmarkError.code, "message": GPU_IS_FULL}})
        return 1
    return 0


def start(job: dict[str, Any]) -> Iterator[Event]:
    """The events of a job. Classes of users are imported where `allow` names them, which says what was just typed."""
    gpus = job.get("gpus", [])
    if gpus:  # read when torch first looks at the GPUs
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpus[0])
    _bound_threads()
    yield from _about_gpus(gpus)
    with _alone_at(job.get("lock")), FAMILIES.lending(job.get("allow", [])):
        yield from _events(job)


def _alone_at(lock: str | None) -> AbstractContextManager[None]:
    """Where no other worker writes: a command that was killed leaves its worker behind until its next event.

    Of processes that fit together, the first holds the lock for all.
    """
    if lock is None or any(os.environ.get(name, "0") != "0" for name in RANKS):
        return nullcontext()
    busy = f"{lock}: another worker is still writing there. Wait until it has ended, then run the command again."
    return alone(Path(lock), busy, patience=PATIENCE_SECONDS)


def _about_gpus(gpus: list[int]) -> Iterator[Event]:
    """What is done with the GPUs that were asked for, where it is not what was asked."""
    import torch

    asked = " ".join(map(str, gpus))
    if gpus and not torch.cuda.is_available():
        yield Event("note", 0, 0, message=f"GPU {asked}: this machine has no such GPU; running on the CPU.")
    elif len(gpus) > 1:
        yield Event("note", 0, 0, message=f"GPU {asked}: one GPU is used, {gpus[0]}.")


def _events(job: dict[str, Any]) -> Iterator[Event]:
    """The events of a job, by its kind."""
    match job["kind"]:
        case "fit":
            from fieldmark.learn.jobs import fit_from_job

            return fit_from_job(job)
        case "lr-find":
            from fieldmark.learn.lr_find import find_from_job

            return find_from_job(job)
        case "predict":
            from fieldmark.infer.jobs import predict_from_job

            return predict_from_job(job)
        case "answer" | "vectors" as kind:
            from fieldmark.infer.answers import answers_from_job
            from fieldmark.infer.vectors import vectors_from_job

            return answers_from_job(job) if kind == "answer" else vectors_from_job(job)
        case "inspect":
            from fieldmark.learn.inspect import inspect_from_job

            return inspect_from_job(job)
        case "import":
            from fieldmark.infer.importing import import_from_job

            return import_from_job(job)
        case "convert":
            from fieldmark.models.old import convert_from_job

            return convert_from_job(job)
        case "export":
            from fieldmark.infer.export import export_from_job

            return export_from_job(job)
        case "layers" | "explain" as kind:
            from fieldmark.infer.layers import explain_from_job, layers_from_job

            return layers_from_job(job) if kind == "layers" else explain_from_job(job)
        case other:
            raise FieldmarkError(f"Unknown job {other!r}.")


def _gpu_is_full() -> type[Exception]:
    """What torch raises then; asked for only when something was raised."""
    import torch

    return torch.OutOfMemoryError


def _bound_threads() -> None:
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))


def _stop_signal() -> threading.Event:
    """Set when the parent closes our standard input, or is gone."""
    stop = threading.Event()

    def wait() -> None:
        while os.read(0, 4096):  # not sys.stdin: its lock, held at exit, would abort the interpreter
            pass
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    return stop


def _own_output() -> Callable[[dict[str, Any]], None]:
    """A voice on standard output that is ours alone: what libraries print goes to standard error."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        lines.write(json.dumps(message) + "\n")
        lines.flush()

    return say


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
