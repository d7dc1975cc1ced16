"""Weights that other programs trained, as a model of the project."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fieldmark.core.events import Event
from fieldmark.errors import BadInput
from fieldmark.recipes.dialects.flim_arch import arch_values, load_arch
from fieldmark.workbench.jobs import run_job
from fieldmark.workbench.project import checked_name

if TYPE_CHECKING:
    from fieldmark.workbench.bench import Workbench

ORDERS = ("center-first", "rows")


def import_weights(
    bench: Workbench,
    source: Path,
    name: str,
    *,
    arch: Path | None = None,
    color: str = "auto",
    scale: float = 255.0,
    order: str = "center-first",
) -> Iterator[Event]:
    """Make a model of the project from a libIFT kernel folder or a LIDS state dict (.pt). Nothing in them is run.

    Args:
        bench: The project.
        source: The folder or the file.
        name: Of the model; one that exists is never replaced.
        arch: Architecture in either dialect; `arch.json` in the folder where none is given.
        color: What the weights were trained on, one of `net.color`; `auto` is L*a*b* for three channels.
        scale: What pixels are divided by first: 255 for 8-bit images.
        order: Of the weights in a kernel folder: `center-first`, or `rows`.
    """
    target = bench.project.models / checked_name("model", name)
    if target.exists():
        raise BadInput(f"Model {name!r} exists already. Choose another --name.")
    if order not in ORDERS:
        raise BadInput(f"--order {order!r}: wanted {' or '.join(ORDERS)}.")
    if not scale > 0:
        raise BadInput(f"--scale {scale}: wanted a number above zero, 255 for 8-bit images.")
    if not source.exists():
        raise BadInput(f"{source}: there is no such file or folder. Check the name.")
    job = {
        "kind": "import",
        "source": str(source.resolve()),
        "arch": arch_values(load_arch(_arch(source, arch))),
        "out": str(target),
        "color": color,
        "scale": scale,
        "order": order,
    }
    with tempfile.TemporaryDirectory(prefix="fieldmark-") as work:
        yield from run_job(job, Path(work) / "job.json")


def _arch(source: Path, arch: Path | None) -> Path:
    beside = source / "arch.json"
    if arch is None and not beside.is_file():
        raise BadInput(f"{source} does not say its architecture. Say where it is: --arch ARCH.json.")
    return arch or beside
