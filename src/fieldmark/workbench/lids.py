"""Add a LIDS data set: images, the classes that their names number, an answer for each image and class, and splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fieldmark.collection import AddReport, PlannedImage
from fieldmark.labels.answers import write_new_answers
from fieldmark.labels.records import ClassRecord

if TYPE_CHECKING:
    from fieldmark.store.database import Change
    from fieldmark.workbench.bench import Workbench


def add_lids(bench: Workbench, paths: Sequence[Path], *, max_bytes: int | None, group_by: str | None) -> AddReport:
    """Add LIDS folders, or split files of them, all in one transaction.

    Class number n is the n-th class of the project, as in label files; classes that are missing are added, named by
    their number. Each image is answered yes for its class and no for the others up to the highest number that occurs;
    classes behind that stay unknown. What people answered before stays.
    """
    notes: list[str] = []

    def along(change: Change, planned: dict[str, PlannedImage]) -> None:
        here = {image.uri: image.id for image in bench.collection.all(include_excluded=True) if image.uri in planned}
        classes = _classes(bench, max((planned[uri].klass for uri in here), default=0), notes)
        rows = [
            (number, one.id, place == planned[uri].klass)
            for uri, number in here.items()
            for place, one in enumerate(classes, start=1)
        ]
        _note_kept(write_new_answers(change, rows, bench.author), notes)
        splits = {number: planned[uri].split for uri, number in here.items() if planned[uri].split}
        if splits:
            summary = change.summary
            bench.collection.set_splits(splits, author=bench.author)
            change.summary = summary

    report = bench.collection.add_images(
        paths, layout="lids", max_bytes=max_bytes, group_by=group_by, author=bench.author, along=along
    )
    report.notes.extend(notes)
    return report


def _classes(bench: Workbench, count: int, notes: list[str]) -> list[ClassRecord]:
    """The first `count` classes of the project; those that are missing are added."""
    before = len(bench.labels.classes())
    for number in range(before + 1, count + 1):
        bench.labels.add_class(str(number), author=bench.author)
    classes = bench.labels.classes()[:count]
    if classes:
        named = ", ".join(f"{place} is {one.name!r}" for place, one in enumerate(classes, start=1))
        notes.append(f"File names number the classes in the project's order: {named}.")
    return classes


def _note_kept(kept: int, notes: list[str]) -> None:
    if kept:
        notes.append(f"{kept} answers that people had given differ from the file names, and were kept.")
