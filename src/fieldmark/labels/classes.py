"""The classes of a project: named, colored, ordered; deleted softly and never renumbered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from fieldmark.errors import BadInput, NotFound
from fieldmark.labels.lookup import require_class
from fieldmark.labels.records import ClassRecord
from fieldmark.store import Change, Store
from fieldmark.store.tables import answers
from fieldmark.store.tables import classes as table

PALETTE = (
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#f0e442",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
    "#8c564b",
    "#7f7f7f",
    "#17becf",
    "#bcbd22",
    "#9467bd",
)
"""Colors that people with any color vision can tell apart (Okabe and Ito's, then others)."""


class Classes:
    """The part of `Labels` that knows the classes."""

    store: Store

    def add_class(self, name: str, color: str | None = None, *, author: str = "") -> ClassRecord:
        """Add a class behind the others.

        Raises:
            BadInput: An empty name, one that is taken, or a color that is not `#rrggbb`.
        """
        with self.store.transaction(author, "add class") as change:
            name = self._free_name(change.connection, name)
            position = (change.connection.scalar(select(func.max(table.c.position))) or 0) + 1
            count = change.connection.scalar(select(func.count()).select_from(table)) or 0
            color = _checked_color(color or PALETTE[count % len(PALETTE)])
            row = {"name": name, "color": color, "position": position, "deleted": False, "merged_into": None}
            change.summary = f"add class {name!r}"
            return self.get_class(change.insert(table, row))

    def classes(self, include_deleted: bool = False) -> list[ClassRecord]:
        """The classes in the user's order; with `include_deleted`, those deleted or merged behind them."""
        with self.store.reading() as connection:
            found = _records(connection)
        return [one for one in found if include_deleted or not one.deleted]

    def get_class(self, class_id: int) -> ClassRecord:
        """The class with this id, also a deleted one.

        Raises:
            NotFound: No class has it.
        """
        found = self.classes(include_deleted=True)
        try:
            return next(one for one in found if one.id == class_id)
        except StopIteration:
            raise NotFound("class", str(class_id), [str(one.id) for one in found]) from None

    def find_class(self, name: str) -> ClassRecord:
        """The class with this name.

        Raises:
            NotFound: No class has it; the message offers the nearest.
        """
        found = {one.name: one for one in self.classes()}
        if name not in found:
            raise NotFound("class", name, found)
        return found[name]

    def rename(self, class_id: int, name: str, *, author: str = "") -> ClassRecord:
        """Give a class another name; nothing else changes.

        Raises:
            NotFound: No class has this id.
            BadInput: An empty name, or one that is taken.
        """
        old = self.live_class(class_id)
        with self.store.transaction(author, "rename class") as change:
            name = old.name if name.strip() == old.name else self._free_name(change.connection, name)
            change.summary = f"rename class {old.name!r} to {name!r}"
            change.update(table, {"id": class_id}, {"name": name})
        return self.get_class(class_id)

    def recolor(self, class_id: int, color: str, *, author: str = "") -> ClassRecord:
        """Give a class another color, `#rrggbb`."""
        old = self.live_class(class_id)
        with self.store.transaction(author, "recolor class") as change:
            change.summary = f"recolor class {old.name!r}"
            change.update(table, {"id": class_id}, {"color": _checked_color(color)})
        return self.get_class(class_id)

    def reorder(self, class_ids: Sequence[int], *, author: str = "") -> list[ClassRecord]:
        """Put the classes into this order; their ids stay.

        Raises:
            BadInput: Not each class exactly once.
        """
        wanted, known = list(class_ids), [one.id for one in self.classes()]
        if sorted(wanted) != sorted(known):
            raise BadInput(f"The order names classes {wanted}; it must name each of {known} once.")
        with self.store.transaction(author, "reorder classes") as change:
            change.summary = "reorder classes"
            for position, class_id in enumerate(wanted, start=1):
                change.update(table, {"id": class_id}, {"position": position})
        return self.classes()

    def delete(self, class_id: int, *, author: str = "") -> None:
        """Delete a class softly: its strokes and answers stay, and count as unknown until it is restored."""
        old = self.live_class(class_id)
        with self.store.transaction(author, "delete class") as change:
            change.summary = f"delete class {old.name!r}"
            change.update(table, {"id": class_id}, {"deleted": True})

    def restore(self, class_id: int, *, author: str = "") -> ClassRecord:
        """Bring back a deleted or merged class, with its own strokes and answers.

        Raises:
            BadInput: Another class has its name now.
        """
        old = self.get_class(class_id)
        with self.store.transaction(author, "restore class") as change:
            if any(one.name == old.name and one.id != class_id for one in self.classes()):
                raise BadInput(f"Another class is called {old.name!r} now; rename that one first.")
            change.summary = f"restore class {old.name!r}"
            change.update(table, {"id": class_id}, {"deleted": False, "merged_into": None})
        return self.get_class(class_id)

    def merge(self, from_id: int, into_id: int, *, author: str = "") -> str:
        """Let one class become part of another: its strokes count as the other's. Rewrites no stroke or tile.

        Answers: an image has the merged class if it has either, and lacks it only if somebody said no to both. A no to
        one alone says nothing of the other, so it becomes unknown.

        Returns:
            What happened, in one sentence.

        Raises:
            BadInput: A class cannot be merged into itself.
            NotFound: One of them is no class.
        """
        if from_id == into_id:
            raise BadInput(f"Class {self.live_class(from_id).name!r} cannot be merged into itself; name another one.")
        one, other = self.live_class(from_id), self.live_class(into_id)
        with self.store.transaction(author, "merge classes") as change:
            change.update(table, {"id": from_id}, {"merged_into": into_id})
            points = _move_points(change, from_id, into_id)
            gained, unknown = _merge_answers(change, from_id, into_id)
            change.summary = (
                f"merge class {one.name!r} into {other.name!r} "
                f"({gained} answers yes came along, {unknown} answers no became unknown, {points} points moved)"
            )
        return change.summary

    def live_class(self, class_id: int) -> ClassRecord:
        """The class with this id, if it is neither deleted nor merged.

        Raises:
            NotFound: No class has this id.
            BadInput: It was deleted or merged.
        """
        with self.store.reading() as connection:
            require_class(connection, class_id)
            return self.get_class(class_id)

    def _free_name(self, connection: Connection, name: str) -> str:
        name = name.strip()
        if not name or not name.isprintable():
            raise BadInput(f"A class needs a name of printable characters; {name!r} is none.")
        for one in _records(connection):
            if one.name == name and not one.deleted:
                raise BadInput(f"A class is called {name!r} already; use that one, or another name.")
        return name


def class_map(connection: Connection) -> dict[int, int]:
    """What each class counts as: itself, the class that it was merged into, or 0 (unknown) if that one was deleted."""
    rows = {row.id: row for row in connection.execute(select(table.c.id, table.c.deleted, table.c.merged_into))}
    return {class_id: _end(rows, class_id) for class_id in rows}


def _end(rows: dict[int, Any], class_id: int) -> int:
    seen: set[int] = set()
    while class_id in rows and class_id not in seen:
        seen.add(class_id)
        row = rows[class_id]
        if row.deleted:
            return 0
        if row.merged_into is None:
            return class_id
        class_id = row.merged_into
    return 0


def _records(connection: Connection) -> list[ClassRecord]:
    rows = list(connection.execute(select(table).order_by(table.c.position, table.c.id)))
    live = [row for row in rows if not row.deleted and row.merged_into is None]
    gone = [row for row in rows if row.deleted or row.merged_into is not None]
    return [
        *(ClassRecord(row.id, row.name, row.color, number) for number, row in enumerate(live, start=1)),
        *(ClassRecord(row.id, row.name, row.color, 0, True, row.merged_into) for row in gone),
    ]


def _move_points(change: Change, from_id: int, into_id: int) -> int:
    from fieldmark.store.tables import points

    ids = list(change.connection.scalars(select(points.c.id).where(points.c.class_id == from_id)))
    for point in ids:
        change.update(points, {"id": point}, {"class_id": into_id, "revision": change.id})
    return len(ids)


def _merge_answers(change: Change, from_id: int, into_id: int) -> tuple[int, int]:
    """Write the answers of the merged class; how many yes came along, and how many no became unknown."""
    found = {
        class_id: {row.image_id: row for row in change.connection.execute(select(answers).where(at))}
        for class_id in (from_id, into_id)
        for at in [answers.c.class_id == class_id]
    }
    gained = unknown = 0
    for image_id in sorted(set(found[from_id]) | set(found[into_id])):
        mine, theirs = found[from_id].get(image_id), found[into_id].get(image_id)
        said = mine.value if mine else None
        had = theirs.value if theirs else None
        if mine and said and not had:
            write_answer(change, image_id, into_id, True, mine.author, mine.time)
            gained += 1
        elif theirs and had is False and said is None:
            write_answer(change, image_id, into_id, None, theirs.author, theirs.time)
            unknown += 1
    return gained, unknown


def write_answer(change: Change, image_id: int, class_id: int, value: bool | None, author: str, time: str) -> None:
    """Write one answer; the row of an image that was never asked about is made first, empty and without a record."""
    key = {"image_id": image_id, "class_id": class_id}
    if change.row(answers, key) is None:
        change.connection.execute(answers.insert().values(**key, value=None, author="", time="", revision=0))
    change.update(answers, key, {"value": value, "author": author, "time": time, "revision": change.id})


def _checked_color(color: str) -> str:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", color):
        raise BadInput(f"{color!r} is no color; give six hexadecimal digits, such as '#e69f00'.")
    return color.lower()
