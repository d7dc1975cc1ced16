"""A project of our own below the outputs, with images that lie anywhere: what works there works as everywhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fieldmark.collection import AddReport
from fieldmark.core.files import write_atomic
from fieldmark.errors import BadInput
from fieldmark.workbench.bench import Workbench

HIDDEN = ".fieldmark"
_READY = "assembled"
_MOST_NAMED = 5


def assemble(folder: Path, fill: Callable[[Workbench], None], *, again: bool = False) -> Workbench:
    """The project in `folder`, filled; made anew unless it was finished before, or where `again` is asked for."""
    if (folder / _READY).is_file() and not again:
        return Workbench.open(folder)
    shutil.rmtree(folder, ignore_errors=True)
    bench = Workbench.init(folder, name="loose")
    try:
        fill(bench)
    except BaseException:
        bench.close()
        raise
    write_atomic(folder / _READY, b"")
    return bench


def add_whole(bench: Workbench, paths: Sequence[Path], *, layout: str = "folder") -> AddReport:
    """Add images. Raises BadInput where one of them cannot be read: nothing is done with less than was named."""
    return require_whole(bench.add(paths, layout=layout))


def require_whole(report: AddReport) -> AddReport:
    """The report of images that were added. Raises BadInput where one of them was left out."""
    if report.left_out:
        lines = "; ".join(f"{name}: {why}" for name, why in report.left_out[:_MOST_NAMED])
        more = f"; and {len(report.left_out) - _MOST_NAMED} more" if len(report.left_out) > _MOST_NAMED else ""
        raise BadInput(f"{len(report.left_out)} images cannot be read, so nothing was done: {lines}{more}")
    return report


def refuse_inside(out: Path, originals: Iterable[Path]) -> None:
    """Law 4: nothing is written into a folder that holds what is only read."""
    for folder in originals:
        if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            raise BadInput(f"{out} lies in {folder}, which is only read. Choose another folder.")
