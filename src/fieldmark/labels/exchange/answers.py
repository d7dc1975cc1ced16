"""Answers as a table: image, class, value (yes, no, unknown), who, when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.errors import BadInput, NotFound
from fieldmark.labels.classes import write_answer
from fieldmark.labels.exchange.tables import checked_time, read_rows, write_rows
from fieldmark.labels.records import AnswerRecord, ImportReport
from fieldmark.store.database import now

if TYPE_CHECKING:
    from fieldmark.collection import Collection
    from fieldmark.labels.book import Labels

COLUMNS = ("image", "class", "value", "who", "when")
_VALUES = {"yes": True, "no": False, "unknown": None, "1": True, "0": False, "": None}
_WORDS = {True: "yes", False: "no"}


def import_answers(labels: Labels, path: Path, author: str, collection: Collection) -> ImportReport:
    """Read a table of answers into the project, all of it or nothing. Who and when are kept where the table says."""
    file = path / "answers.csv" if path.is_dir() else path
    lookup = Lookup(labels, collection)
    time = now()

    def make(row: dict[str, str]) -> AnswerRecord:
        when = checked_time(row.get("when", ""), time)
        image_id, class_id = lookup.image(row["image"]), lookup.class_(row["class"])
        return AnswerRecord(image_id, class_id, _value(row["value"]), row.get("who") or author, when, 0)

    rows = read_rows(file, COLUMNS[:3], make)
    before = {(one.image_id, one.class_id): one.value for one in labels.answers()}
    replaced = [one for one in rows if before.get((one.image_id, one.class_id), one.value) is not one.value]
    with labels.store.transaction(author, "import answers") as change:
        change.summary = f"import {len(rows)} answers"
        for one in rows:
            write_answer(change, one.image_id, one.class_id, one.value, one.author, one.time)
    notes = [f"{len(replaced)} answers differ from those that were there, and replaced them."] if replaced else []
    twice = len(rows) - len({(one.image_id, one.class_id) for one in rows})
    if twice:
        notes.append(f"{twice} answers are given twice in {file}; the last one was taken.")
    return ImportReport(len({one.image_id for one in rows}), len(rows), notes)


def export_answers(labels: Labels, collection: Collection) -> bytes:
    """All answers that stand, as a table."""
    images = {image.id: image.name for image in collection.all(include_excluded=True)}
    classes = {one.id: one.name for one in labels.classes()}
    rows = [
        (images[one.image_id], classes[one.class_id], _WORDS[bool(one.value)], one.author, one.time)
        for one in labels.answers()
    ]
    return write_rows(COLUMNS, rows)


class Lookup:
    """Ids of images and classes by the names in a table."""

    def __init__(self, labels: Labels, collection: Collection) -> None:
        self._images = {image.name: image.id for image in collection.all(include_excluded=True)}
        self._classes = {one.name: one.id for one in labels.classes()}
        self._find: Callable[[str], Any] = collection.find

    def image(self, name: str) -> int:
        """The image of this name or path.

        Raises:
            NotFound: There is none.
        """
        return self._images[name] if name in self._images else int(self._find(name).id)

    def class_(self, name: str) -> int:
        """The class of this name.

        Raises:
            NotFound: There is none.
        """
        if name not in self._classes:
            raise NotFound("class", name, self._classes)
        return self._classes[name]


def _value(text: str) -> bool | None:
    if text.lower() not in _VALUES:
        raise BadInput(f"the value is {text!r}; write yes, no or unknown.")
    return _VALUES[text.lower()]
