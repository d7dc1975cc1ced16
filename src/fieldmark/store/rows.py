"""Rows run backwards: each is put back only where it still is as the change left it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Table, and_, func, insert, select
from sqlalchemy.dialects import sqlite

from fieldmark.errors import FieldmarkError
from fieldmark.store.journal import Reversal
from fieldmark.store.tables import LIVE_USES, metadata

if TYPE_CHECKING:
    from fieldmark.store.database import Change

Values = dict[str, Any]


def where(table: Table, key: Values) -> ColumnElement[bool]:
    """The condition that picks the row with this primary key."""
    return and_(*(table.c[name] == value for name, value in key.items()))


def key_of(table: Table, values: Values) -> Values:
    """The primary key among a row's values."""
    return {column.name: values[column.name] for column in table.primary_key}


def driver(connection: Connection) -> sqlite3.Connection:
    """What runs plain SQL at its own speed, for the few statements that every stroke needs."""
    raw = connection.connection.driver_connection
    if not isinstance(raw, sqlite3.Connection):
        raise FieldmarkError(f"The database is {connection.dialect.name}; this needs SQLite.")
    return raw


def insert_rows(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Insert rows, at least one; columns that a row does not name are null."""
    statement, names = _insertion(table)
    driver(connection).executemany(statement, [tuple(row.get(name) for name in names) for row in rows])


@cache
def _insertion(table: Table) -> tuple[str, tuple[str, ...]]:
    """The statement that inserts a row, and its columns: putting it together costs more than running it."""
    statement = str(insert(table).compile(dialect=sqlite.dialect()))
    return statement, tuple(column.name for column in table.columns)


def reverse_rows(change: Change, data: Values) -> Reversal:
    """Put back rows: `{"table": name, "rows": [[key, before or null, after or null], ...]}`.

    A change of some columns holds those alone; an insertion has no `before`, a deletion no `after`.
    """
    table = metadata.tables[data["table"]]
    kept: list[tuple[object, object]] = []
    for key, before, after in reversed(data["rows"]):
        obstacle = _obstacle(change, table, key, before, after)
        if obstacle is None:
            _put_back(change, table, key, before, after)
        else:
            kept.append((before, obstacle))
    return Reversal(len(data["rows"]) - len(kept), tuple(kept))


def reverse_nothing(_change: Change, _data: Values) -> Reversal:
    """A refused write changed nothing."""
    return Reversal(0)


def _obstacle(change: Change, table: Table, key: Values, before: Values | None, after: Values | None) -> object:
    """What stands in the way of putting a row back; None for nothing."""
    found = change.row(table, key)
    if found is None:
        return None if after is None else "deleted since"
    if after is None:
        return found
    # A revision moves on with each undo; what a person wrote is told apart by its author and time.
    if any(found[name] != value for name, value in after.items() if name != "revision"):
        return {name: found[name] for name in after}
    return _used(change, table, key) if before is None else None


def _used(change: Change, table: Table, key: Values) -> str | None:
    for what, column, counts in LIVE_USES.get(table.name, ()):
        number = change.connection.scalar(select(func.count()).where(column == key["id"], counts))
        if number:
            return f"in use by {number} {what}; undo those first"
    return None


def _put_back(change: Change, table: Table, key: Values, before: Values | None, after: Values | None) -> None:
    if before is None:
        change.delete(table, key)
        return
    values = before | ({"revision": change.id} if "revision" in table.c else {})
    if after is None:
        change.insert(table, key | values)
    else:
        change.update(table, key, values)
