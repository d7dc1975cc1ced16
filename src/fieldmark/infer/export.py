"""Models as files that other programs read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.errors import BadInput
from fieldmark.models.build import load_net
from fieldmark.models.libift import write_layers
from fieldmark.models.libift_nets import stacks_of, told_by

if TYPE_CHECKING:
    from fieldmark.models.base import Net

UNREFINED = (
    "The graph gives what the head says; the walks that move borders onto those of the image are not part of it. "
    "Fit with head.refine=none for a model that answers as its graph does."
)
TOLD = "The folder has no place for colors and for what pixels are divided by. Whoever reads it must know: {}"


def export_from_job(job: dict[str, Any]) -> Iterator[Event]:
    """Write a model in the format that the job names (see `fieldmark.workbench.exporting`); an event a file."""
    header, net = load_net(Path(job["model"]))
    out = Path(job["out"])
    match job["format"]:
        case "onnx":
            from fieldmark.models.onnx import to_onnx

            own = "image" if header.outputs[:1] == ("image",) else "classes" if header.classes else "features"
            output = job["output"] or own
            write_atomic(out, to_onnx(net, header, output))
            if net.refiner is not None and output == "classes":
                yield Event("note", 0, 0, message=UNREFINED)
            written = [out]
        case "libift":
            written = _write_libift(net, header.preparation, out)
            yield Event("note", 0, 0, message=TOLD.format(told_by(header.preparation)))
        case other:
            raise BadInput(f"No export format is called {other!r}. Choose onnx or libift.")
    for number, path in enumerate(written, start=1):
        yield Event("export", number, len(written), message=str(path))


def _write_libift(net: Net, preparation: Sequence[dict[str, Any]], out: Path) -> list[Path]:
    """A folder with the kernels of each layer and `arch.json`; a folder for each branch where there are several."""
    stacks = stacks_of(net, preparation)
    written = []
    for name, (layers, architecture) in stacks.items():
        folder = out / name if len(stacks) > 1 else out
        written += write_layers(folder, layers)
        write_atomic(folder / "arch.json", json.dumps(architecture, indent=4).encode())
        written.append(folder / "arch.json")
    return written
