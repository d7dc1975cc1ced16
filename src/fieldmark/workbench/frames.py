"""Folders of frames: their table, and their positions as images of a project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fieldmark.collection.frames import META, FrameTable, Wanted, frames_in, table_csv, write_listings
from fieldmark.core.files import write_atomic
from fieldmark.errors import BadInput, NoProject
from fieldmark.workbench.project import open_project

if TYPE_CHECKING:
    from fieldmark.collection import AddReport
    from fieldmark.collection.importers import Plan
    from fieldmark.workbench.bench import Workbench

FOLDER = "frames"
"""Below the project: tables and listings."""


def add_frames(
    bench: Workbench, paths: Sequence[Path], *, max_bytes: int | None = None, wanted: Wanted | None = None
) -> AddReport:
    """Add each position of folders of frames (or of a `frames_meta.csv`) as one image with all its axes."""
    tables: list[FrameTable] = []

    def listed(path: Path) -> Plan:
        tables.append(frames_in(path))
        return write_listings(tables[-1], bench.project.folder / FOLDER, wanted)

    report = bench.collection.add_images(
        paths, layout="frames", plan_of=listed, max_bytes=max_bytes, author=bench.author
    )
    return replace(report, notes=[*report.notes, *(note for table in tables for note in table.notes)])


def table_place(project: Path, folder: Path) -> Path:
    """Where the table of a folder of frames goes by itself: into the project. Raises NoProject where there is none."""
    try:
        return open_project(project).folder / FOLDER / folder.resolve().name
    except NoProject as error:
        raise NoProject(project, "Or say where the table goes: --out FOLDER.") from error


def write_table(path: Path, out: Path, *, names: str = "auto", order: str | None = None) -> tuple[Path, FrameTable]:
    """Write `frames_meta.csv` of a folder of frames into `out`, a folder or a `.csv` file.

    Raises:
        BadInput: `out` lies in the folder of frames, which is only read.
        BadFile: There is no such folder, or no frame in it.
    """
    file = out if out.suffix.lower() == ".csv" else out / META
    if path.is_dir() and file.resolve().is_relative_to(path.resolve()):
        raise BadInput(f"{file} lies in {path}, which is only read. Choose another place with --out.")
    table = frames_in(path, names=names, order=order)
    write_atomic(file, table_csv(table))
    return file, table
