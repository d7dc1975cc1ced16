"""Models as files that other programs read: ONNX graphs and libIFT's kernel folders."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fieldmark.core.events import Event
from fieldmark.errors import BadInput, NotFound
from fieldmark.workbench.jobs import run_job
from fieldmark.workbench.models import export_model
from fieldmark.workbench.originals import refuse_originals
from fieldmark.workbench.predicting import model_folder

if TYPE_CHECKING:
    from fieldmark.workbench.bench import Workbench

FORMATS = {
    "fieldmark": "the model folder, checked",
    "onnx": "one graph from raw pixels to classes, features or an image, for images of any size",
    "libift": "kernels, means, spreads and biases of each layer, with arch.json",
}


def export(
    bench: Workbench | None, name: str, form: str, out: Path, output: str = "", *, allow: Sequence[str] = ()
) -> Iterator[Event]:
    """Write a model in a format; one event a file. An existing path is never overwritten.

    Args:
        bench: The project; None for a model folder that belongs to none.
        name: A model of the project, or a model folder.
        form: One of `FORMATS`.
        out: A file for `onnx`, a folder for the others.
        output: `classes`, `features` or `image` for `onnx`; if empty, what the model predicts.
        allow: Classes of the user's own that may be imported.
    """
    if form not in FORMATS:
        raise NotFound("export format", form, FORMATS)
    if output and form != "onnx":
        raise BadInput(f"--output chooses what an ONNX graph gives; format {form} has no such choice.")
    if out.exists():
        raise BadInput(f"{out} exists already. Choose a path that does not.")
    if bench is not None:
        refuse_originals(bench, [out.resolve().parent])
    folder = Path(name) if bench is None else model_folder(bench, name)
    if form == "fieldmark":
        export_model(folder, out)
        yield Event("export", 1, 1, message=str(out))
        return
    job = {
        "kind": "export",
        "model": str(folder),
        "format": form,
        "out": str(out.resolve()),
        "output": output,
        "allow": list(allow),
    }
    with tempfile.TemporaryDirectory(prefix="fieldmark-") as work:
        yield from run_job(job, Path(work) / "job.json")
