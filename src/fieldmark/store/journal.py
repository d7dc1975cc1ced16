"""The journal: every change as data, so that it can be taken back, also after a restart.

An entry holds the operations of its change as JSON. Undo and redo run an entry's operations backwards and write an
entry of their own: undoing a redo is taking back the redo's entry, and so on. An operation's kind names the
function that reverses it; the rooms above register theirs here as a string.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, func, select, true

from fieldmark.core.registry import Entry, Registry
from fieldmark.errors import FieldmarkError
from fieldmark.store.tables import journal

OPERATIONS = Registry(
    "journal operation",
    {
        "refused": Entry("fieldmark.store.rows:reverse_nothing", "A write that was refused; kept, and without effect"),
        "rows": Entry("fieldmark.store.rows:reverse_rows", "Rows inserted, changed or deleted"),
        "strokes": Entry("fieldmark.labels.tiles:reverse_strokes", "Strokes drawn, or taken away by an undo"),
    },
)
"""`reverse(change, data) -> Reversal` for each kind of operation."""

_MOST_BYTES = 1 << 30

Operation = dict[str, Any]
"""`{"op": kind, ...}`: JSON values only."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One line of the project's history."""

    id: int
    time: str
    author: str
    verb: str
    summary: str
    kind: str
    """`change`, `undo`, `redo` or `refused`."""
    undoes: int | None
    """The entry that this undo, redo or refusal is about."""
    undone_by: int | None
    """The entry that took this one back."""


@dataclass(frozen=True, slots=True)
class Reversal:
    """What came of running one operation backwards.

    Args:
        restored: Rows or strokes that were put back.
        kept: (what would have been put back, what stands there now) for those that another change has since touched.
    """

    restored: int
    kept: tuple[tuple[object, object], ...] = ()


def encode(operations: list[Operation]) -> bytes:
    """Operations as compressed JSON."""
    return zlib.compress(json.dumps(operations, separators=(",", ":")).encode(), 1)


def decode(data: bytes) -> list[Operation]:
    """Operations from compressed JSON.

    Raises:
        FieldmarkError: The entry is damaged, or absurdly large.
    """
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, _MOST_BYTES)
        operations = json.loads(text) if unpacker.eof else None
    except (zlib.error, ValueError) as error:
        raise FieldmarkError(f"A journal entry is damaged ({error}); restore the project from a copy.") from error
    if not isinstance(operations, list) or not all(isinstance(one, dict) and "op" in one for one in operations):
        raise FieldmarkError("A journal entry holds no list of operations; restore the project from a copy.")
    return operations


def last_undoable(connection: Connection, author: str | None) -> tuple[JournalEntry, bytes] | None:
    """The newest change or redo (of `author`) that stands, with its operations."""
    wanted = and_(journal.c.kind.in_(("change", "redo")), journal.c.undone_by.is_(None), _by(author))
    return _newest(connection, wanted)


def last_redoable(connection: Connection, author: str | None) -> tuple[JournalEntry, bytes] | None:
    """The newest undo (of `author`) that stands and that no change of theirs has followed."""
    change = connection.scalar(select(func.max(journal.c.id)).where(journal.c.kind == "change", _by(author))) or 0
    wanted = and_(journal.c.kind == "undo", journal.c.undone_by.is_(None), journal.c.id > change, _by(author))
    return _newest(connection, wanted)


def entries(connection: Connection, limit: int) -> list[JournalEntry]:
    """The newest entries, newest first."""
    rows = connection.execute(select(journal).order_by(journal.c.id.desc()).limit(limit))
    return [_entry(row) for row in rows]


def _by(author: str | None) -> Any:
    return true() if author is None else journal.c.author == author


def _newest(connection: Connection, wanted: Any) -> tuple[JournalEntry, bytes] | None:
    row = connection.execute(select(journal).where(wanted).order_by(journal.c.id.desc()).limit(1)).first()
    return None if row is None else (_entry(row), row.inverse)


def _entry(row: Row[Any]) -> JournalEntry:
    return JournalEntry(row.id, row.time, row.author, row.verb, row.summary, row.kind, row.undoes, row.undone_by)


def entry(connection: Connection, number: int) -> JournalEntry:
    """The entry with this id, which must exist."""
    return _entry(connection.execute(select(journal).where(journal.c.id == number)).one())
