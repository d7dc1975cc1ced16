"""Folders of frames: their table, and their positions as images of a project."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fieldmark.collection.frames import META, FrameTable, Wanted, frames_in, table_csv, write_listings
from fieldmark.collection.importers import read_text
from fieldmark.core.files import write_atomic
from fieldmark.core.fingerprint import fingerprint
from fieldmark.errors import BadFile, BadInput, NoProject
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
    """Where the table of a folder of frames goes by itself: into the project, beside those of other folders.

    Raises:
        NoProject: There is none.
    """
    try:
        home = open_project(project).folder / FOLDER
    except NoProject as error:
        raise NoProject(project, "Or say where the table goes: --out FOLDER.") from error
    whole = folder.resolve()
    place = home / whole.name
    return place if _is_free(place / META, whole) else home / f"{whole.name}-{fingerprint([str(whole)])[:8]}"


def _is_free(file: Path, folder: Path) -> bool:
    """Whether no table of another folder lies there."""
    try:
        lines = csv.DictReader(read_text(file).splitlines())
        return (next(lines, {}).get("dir_name") or "") == str(folder)
    except (BadFile, csv.Error):
        return not file.exists()


def write_table(
    path: Path, out: Path | None, *, project: Path, names: str = "auto", order: str | None = None
) -> tuple[Path, FrameTable]:
    """Write `frames_meta.csv` of a folder of frames into `out`, a folder or a `.csv` file; by itself into the project.

    Args:
        path: The folder, or its table.
        out: Where to.
        project: Of the user, for where nothing is said.
        names: See `collection.frames.frames_in`.
        order: See there.

    Raises:
        BadInput: `out` lies in the folder of frames, which is only read, or is the table that is read.
        BadFile: There is no such folder, or no frame in it.
        NoProject: There is no project, and no `out`.
    """
    table = frames_in(path, names=names, order=order)
    place = out or table_place(project, table.folder)
    file = place if place.suffix.lower() == ".csv" else place / META
    if file.resolve().is_relative_to(table.folder.resolve()):
        raise BadInput(f"{file} lies in {table.folder}, which is only read. Choose another place with --out.")
    if file.resolve() == path.resolve():
        raise BadInput(f"{file} is the table that is read. Choose another place with --out.")
    write_atomic(file, table_csv(table))
    return file, table
