"""Answers: yes, no or unknown for each image and class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import ColumnElement, Row, select

from fieldmark.errors import Conflict
from fieldmark.labels.classes import Classes, write_answer
from fieldmark.labels.lookup import require_image
from fieldmark.labels.records import AnswerRecord
from fieldmark.store.rows import insert_rows, key_of
from fieldmark.store.tables import answers as table
from fieldmark.store.tables import classes

if TYPE_CHECKING:
    from fieldmark.store.database import Change

_WORDS = {True: "yes", False: "no", None: "unknown"}


class Answers(Classes):
    """The part of `Labels` that knows the answers."""

    def set_answer(
        self, image_id: int, class_id: int, value: bool | None, author: str, expect: int | None = None
    ) -> AnswerRecord:
        """Say that an image has a class (True), lacks it (False), or take the answer back (None: unknown).

        Args:
            image_id: Of the image.
            class_id: Of the class.
            value: The answer.
            author: Who says so.
            expect: The revision that the author was looking at; None to write in any case.

        Raises:
            NotFound: There is no such image or class.
            BadInput: The class was deleted.
            Conflict: Another value was written after `expect`; `mine` and `theirs` are the two answers.
        """
        with self.store.transaction(author, "answer") as change:
            name, _ = require_image(change.connection, image_id)
            label = self.live_class(class_id).name
            row = change.row(table, {"image_id": image_id, "class_id": class_id})
            if row is None or row["value"] is not value:
                if row is not None and expect is not None and row["revision"] > expect:
                    mine = AnswerRecord(image_id, class_id, value, author, change.time, change.id)
                    raise _stale(mine, AnswerRecord(**row), name, label, expect)
                change.summary = f"{name}: {label} {_WORDS[value]}"
                if row is not None or value is not None:
                    write_answer(change, image_id, class_id, value, author, change.time)
            found = change.row(table, {"image_id": image_id, "class_id": class_id})
        return AnswerRecord(**found) if found else AnswerRecord(image_id, class_id, None, "", "", 0)

    def answers(self, image_id: int | None = None, class_id: int | None = None) -> list[AnswerRecord]:
        """The answers that stand, of classes in use, by image, then class. Unknown is absent."""
        conditions: list[ColumnElement[bool]] = [
            table.c.value.is_not(None),
            classes.c.deleted.is_(False),
            classes.c.merged_into.is_(None),
        ]
        if image_id is not None:
            conditions.append(table.c.image_id == image_id)
        if class_id is not None:
            conditions.append(table.c.class_id == class_id)
        query = select(table).join(classes, classes.c.id == table.c.class_id).where(*conditions)
        with self.store.reading() as connection:
            rows = connection.execute(query.order_by(table.c.image_id, table.c.class_id))
            return [_record(row) for row in rows]

    def answer_matrix(self, image_ids: Sequence[int], class_ids: Sequence[int]) -> np.ndarray:
        """Answers as (N, K) float32: 1 yes, 0 no, NaN unknown; row and column in the order of the ids."""
        matrix = np.full((len(image_ids), len(class_ids)), np.nan, dtype=np.float32)
        rows = {image_id: number for number, image_id in enumerate(image_ids)}
        columns = {class_id: number for number, class_id in enumerate(class_ids)}
        for answer in self.answers():
            if answer.image_id in rows and answer.class_id in columns:
                matrix[rows[answer.image_id], columns[answer.class_id]] = answer.value
        return matrix


def _record(row: Row[Any]) -> AnswerRecord:
    return AnswerRecord(**row._mapping)


def _stale(mine: AnswerRecord, theirs: AnswerRecord, image: str, label: str, expect: int) -> Conflict:
    return Conflict(
        f"{image}, {label}: your answer is {_WORDS[mine.value]}, but {theirs.author or 'somebody'} answered "
        f"{_WORDS[theirs.value]} after you loaded the page (revision {theirs.revision}, yours is {expect}). "
        "Nothing was changed: look at the new answer, then answer again.",
        mine=mine,
        theirs=theirs,
    )


def write_new_answers(change: Change, rows: Sequence[tuple[int, int, bool]], author: str) -> int:
    """Write many answers at once where nobody has answered; how many existing answers differ and were kept.

    Args:
        change: The transaction.
        rows: Image id, class id and answer.
        author: Who says so.
    """
    found = change.connection.execute(select(table.c.image_id, table.c.class_id, table.c.value))
    known = {(image_id, class_id): value for image_id, class_id, value in found}
    fresh = [row for row in rows if row[:2] not in known]
    for image_id, class_id, value in (row for row in rows if known.get(row[:2], True) is None):
        write_answer(change, image_id, class_id, value, author, change.time)
    if fresh:
        said = {"author": author, "time": change.time, "revision": change.id}
        written = [{"image_id": i, "class_id": k, "value": value} | said for i, k, value in fresh]
        insert_rows(change.connection, table, written)
        empty = {"value": None, "author": "", "time": "", "revision": 0}
        change.record(
            "rows",
            table=table.name,
            rows=[[key_of(table, row), empty, {name: row[name] for name in empty}] for row in written],
        )
    return sum(known.get(row[:2]) not in {None, row[2]} for row in rows)
