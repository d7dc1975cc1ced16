"""The database of a project: one file, durable transactions, and a journal entry for each.

SQLite in write-ahead mode with `synchronous=FULL`: when `Store.transaction` returns, the change is synced to the disk.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import URL, Connection, Table, create_engine, event, select, text
from sqlalchemy.exc import DatabaseError

from fieldmark.core.files import sync_folder
from fieldmark.core.registry import Entry, Registry
from fieldmark.errors import BadFile, BadInput, Conflict, FieldmarkError
from fieldmark.store import journal
from fieldmark.store.journal import JournalEntry, Operation, Reversal
from fieldmark.store.rows import Values, driver, insert_rows, key_of, where
from fieldmark.store.tables import MIGRATIONS, SCHEMA, metadata
from fieldmark.store.tables import journal as journal_table

CHECKS = Registry(
    "integrity check",
    {"labels": Entry("fieldmark.labels.check:problems", "Label tiles, strokes and what they refer to")},
)
"""`problems(connection) -> list[str]` of the rooms above, run by `Store.check`."""

APPLICATION = 0x464D524B  # "FMRK", the mark in the file's header
BUSY_SECONDS = 30
"""How long a write waits for another process's write before it gives up."""

_MAGIC = b"SQLite format 3\0"
_PRAGMAS = (
    f"busy_timeout = {BUSY_SECONDS * 1000}",
    "journal_mode = WAL",
    "synchronous = FULL",
    "fullfsync = ON",  # macOS alone: its fsync does not reach the disk
    "checkpoint_fullfsync = ON",
    "foreign_keys = ON",
    "trusted_schema = OFF",
    "cell_size_check = ON",
)


class Change:
    """A transaction in progress: writes go through it, so that it can be undone.

    `id` is the journal entry that it will have, and the revision of the rows that it writes.
    """

    def __init__(self, connection: Connection, number: int, author: str, verb: str) -> None:
        self.connection = connection
        self.id = number
        self.author = author
        self.verb = verb
        self.time = now()
        self.summary = ""
        """One line for the history; the verb alone where nobody sets it."""
        self.kind = "change"
        self.undoes: int | None = None
        self.operations: list[Operation] = []

    def row(self, table: Table, key: Values) -> Values | None:
        """The row with this primary key as a dict, or None."""
        found = self.connection.execute(select(table).where(where(table, key))).first()
        return None if found is None else dict(found._mapping)

    def insert(self, table: Table, values: Values) -> int:
        """Insert a row and give back its id (0 for a table whose key is not an id)."""
        return self.insert_many(table, [values])[0]

    def insert_many(self, table: Table, rows: Sequence[Values]) -> list[int]:
        """Insert rows and give back their ids, in order."""
        if not rows:
            return []
        if "id" in table.c:
            first = self._next_id(table)
            rows = [{"id": first + offset} | row for offset, row in enumerate(rows)]
        insert_rows(self.connection, table, rows)
        self._record_rows(table, [[key_of(table, row), None, row] for row in rows])
        return [row.get("id", 0) for row in rows]

    def update(self, table: Table, key: Values, values: Values) -> None:
        """Change some columns of one row, which must exist."""
        before = self.row(table, key)
        if before is None:
            raise FieldmarkError(f"There is no row {key} in {table.name} any more; reload and try again.")
        changed = {name: value for name, value in values.items() if before[name] != value}
        if not changed:
            return
        self.connection.execute(table.update().where(where(table, key)).values(changed))
        self._record_rows(table, [[key, {name: before[name] for name in changed}, changed]])

    def delete(self, table: Table, key: Values) -> None:
        """Delete one row, which must exist."""
        before = self.row(table, key)
        if before is None:
            raise FieldmarkError(f"There is no row {key} in {table.name} any more; reload and try again.")
        self.connection.execute(table.delete().where(where(table, key)))
        self._record_rows(table, [[key, before, None]])

    def record(self, operation: str, **data: Any) -> None:
        """Note an operation of a kind that another room knows how to reverse. JSON values only."""
        self.operations.append({"op": operation, **data})

    def _record_rows(self, table: Table, rows: list[list[Any]]) -> None:
        last = self.operations[-1] if self.operations else {}
        if last.get("op") == "rows" and last["table"] == table.name:
            last["rows"].extend(rows)
        else:
            self.record("rows", table=table.name, rows=rows)

    def _next_id(self, table: Table) -> int:
        used = self.connection.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
        return int(used or 0) + 1


class Store:
    """An open project database. Safe to share between threads; other processes may have it open too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = create_engine(URL.create("sqlite", database=str(path)))
        self._writing = threading.Lock()
        self._local = threading.local()
        event.listen(self._engine, "connect", _prepare_connection)
        event.listen(self._engine, "begin", _begin)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. Closing twice is allowed."""
        self._engine.dispose()

    @property
    def revision(self) -> int:
        """Id of the newest journal entry; 0 in a new project."""
        with self.reading() as connection:
            return self._last(connection)

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is inside a transaction of this store."""
        return getattr(self._local, "change", None) is not None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the database throughout, and inside a transaction that transaction's."""
        current = getattr(self._local, "connection", None)
        if current is not None:
            yield current
            return
        with self._plain_words(), self._engine.connect() as connection, self._as_current(connection):
            yield connection

    @contextmanager
    def transaction(self, author: str, verb: str) -> Iterator[Change]:
        """One change: all of it or nothing, synced to the disk when the block ends, and one entry of the journal.

        Inside another transaction of the same thread, the block is a part of that one. A block that writes nothing
        leaves no entry.

        Raises:
            FieldmarkError: The file cannot be written (disk full, read-only, locked by another program); nothing was.
        """
        outer = getattr(self._local, "change", None)
        if outer is not None:
            yield outer
            return
        with self._writing, self._plain_words(), self._engine.connect() as plain:
            connection = plain.execution_options(begin_mode="IMMEDIATE")
            with connection.begin():
                change = Change(connection, self._last(connection) + 1, author, verb)
                with self._as_current(connection, change):
                    yield change
                    _finish(change)

    def undo(self, author: str | None = None) -> JournalEntry:
        """Take back the newest change that stands (of `author`, or of anybody), and give back the undo's entry.

        What another change has touched since stays as it is: the entry's summary counts it.

        Raises:
            BadInput: There is nothing to undo.
            Conflict: All of it was touched since; it stays, and the next undo goes on to the change before.
        """
        return self._turn_back(author, "undo")

    def redo(self, author: str | None = None) -> JournalEntry:
        """Do again what was undone last (by `author`), if they have changed nothing since.

        Raises:
            BadInput: There is nothing to redo.
            Conflict: All of it was touched since; it stays as it is.
        """
        return self._turn_back(author, "redo")

    def history(self, limit: int = 100) -> list[JournalEntry]:
        """The newest entries of the journal, newest first."""
        with self.reading() as connection:
            return journal.entries(connection, limit)

    def check(self) -> list[str]:
        """What is wrong with the file, one sentence each; empty for a sound one. Reads everything."""
        with self.reading() as connection:
            found = [f"SQLite: {row[0]}" for row in connection.execute(text("PRAGMA integrity_check"))]
            found = [line for line in found if line != "SQLite: ok"]
            found += [f"{row[0]} row {row[1]} refers to a missing row of {row[2]}." for row in _dangling(connection)]
            for name, _ in CHECKS:
                found += CHECKS.load(name)(connection)
        return found

    @contextmanager
    def _as_current(self, connection: Connection, change: Change | None = None) -> Iterator[None]:
        """What this thread reads and writes through, until the block ends."""
        before = getattr(self._local, "connection", None)
        self._local.connection, self._local.change = connection, change
        try:
            yield
        finally:
            self._local.connection, self._local.change = before, None

    def _turn_back(self, author: str | None, verb: str) -> JournalEntry:
        if self.in_transaction:
            raise BadInput(f"An {verb} cannot be part of another change; end that one first.")
        pick = journal.last_undoable if verb == "undo" else journal.last_redoable
        with self.transaction(author or "", verb) as change:
            picked = pick(change.connection, author)
            if picked is None:
                raise BadInput(f"There is nothing to {verb}" + (f" for {author!r}." if author else "."))
            target, operations = picked
            change.author = author if author is not None else target.author
            reversal = _reverse(change, operations)
            refused = bool(reversal.kept) and not reversal.restored
            change.kind, change.undoes = ("refused" if refused else verb), target.id
            change.summary = _summary(verb, target, reversal)
        if refused:
            mine, theirs = reversal.kept[0]
            raise Conflict(f"{change.summary} Nothing was changed.", mine=mine, theirs=theirs)
        return self._entry(change.id)

    def _entry(self, number: int) -> JournalEntry:
        with self.reading() as connection:
            return journal.entry(connection, number)

    @staticmethod
    def _last(connection: Connection) -> int:
        newest: int | None = driver(connection).execute("SELECT max(id) FROM journal").fetchone()[0]
        return newest or 0

    @contextmanager
    def _plain_words(self) -> Iterator[None]:
        try:
            yield
        except (DatabaseError, sqlite3.DatabaseError) as error:
            cause = error.orig if isinstance(error, DatabaseError) else error
            if isinstance(cause, sqlite3.OperationalError):
                raise _unwritten(self.path, str(cause)) from error
            if not isinstance(cause, sqlite3.DatabaseError) or isinstance(cause, sqlite3.IntegrityError):
                raise
            raise BadFile(self.path, f"the database is damaged ({cause}). Restore it from a copy.") from error


def open_store(path: Path, *, create: bool = False) -> Store:
    """Open a project's database; with `create`, make it where there is none.

    Raises:
        BadFile: There is no such file, it is no Fieldmark database, or a newer version wrote it.
    """
    path = Path(path)
    if not path.exists() and not create:
        raise BadFile(path, "there is no such project database; make a project with `fieldmark init`.")
    if path.is_dir():
        raise BadFile(path, "this is a folder; a project database is a file.")
    version = _version(path)
    if version == 0 and not create:
        raise BadFile(path, "this is an empty database, not a project; make one with `fieldmark init`.")
    store = Store(path)
    try:
        if version == 0:
            _create_tables(store)
        elif version < SCHEMA:
            _bring_up(store)
    except BaseException:
        store.close()
        raise
    return store


def now() -> str:
    """The time in UTC, in ISO 8601 with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _version(path: Path) -> int:
    """The schema of the file; 0 for one that has no table yet.

    Raises:
        BadFile: It is another program's file, holds code (triggers, views), or is newer.
    """
    if not path.exists() or path.stat().st_size == 0:
        return 0
    with open(path, "rb") as handle:
        if handle.read(len(_MAGIC)) != _MAGIC:
            raise BadFile(path, "this is not a database. Choose a project's fieldmark.db.")
    mark, version, tables, code = _header(path)
    if not tables and not version:
        return 0
    if mark != APPLICATION or code:
        raise BadFile(path, "this is not a Fieldmark database. Choose a project's fieldmark.db.")
    if version > SCHEMA:
        raise BadFile(
            path, f"its schema is version {version}; this Fieldmark reads up to {SCHEMA}. Install a newer Fieldmark."
        )
    return version


def _header(path: Path) -> tuple[int, int, int, int]:
    """The application's mark, the schema's version, and how many tables and how many triggers and views there are."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS)
    try:
        mark = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        kinds = [row[0] for row in connection.execute("SELECT type FROM sqlite_master")]
    except sqlite3.DatabaseError as error:
        raise BadFile(path, f"the database is damaged ({error}). Restore it from a copy.") from error
    finally:
        connection.close()
    return mark, version, kinds.count("table"), kinds.count("trigger") + kinds.count("view")


def _create_tables(store: Store) -> None:
    store.path.parent.mkdir(parents=True, exist_ok=True)
    with store._plain_words(), store._engine.connect() as plain:
        connection = plain.execution_options(begin_mode="IMMEDIATE")
        with connection.begin():
            metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION}")
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA}")
    sync_folder(store.path.parent)


def _bring_up(store: Store) -> None:
    """Give an older file the tables of today, in one transaction; another process may have done it meanwhile."""
    with store._plain_words(), store._engine.connect() as plain:
        connection = plain.execution_options(begin_mode="IMMEDIATE")
        with connection.begin():
            version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            for statement in (line for newer in MIGRATIONS[version - 1 :] for line in newer):
                connection.exec_driver_sql(statement)
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA}")


def _prepare_connection(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    for pragma in _PRAGMAS:
        answer = connection.execute(f"PRAGMA {pragma}").fetchone()
        if pragma.startswith("journal_mode") and answer[0] != "wal":
            raise FieldmarkError(
                f"SQLite cannot keep a write-ahead log here (it offers {answer[0]!r}): the folder is read-only or on a "
                "network. Move the project to a folder on this machine's own disk."
            )


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin_mode', 'DEFERRED')}")


def _finish(change: Change) -> None:
    """Write the journal entry of a change, if there was one."""
    if not change.operations and change.undoes is None:
        return
    table = journal_table
    entry = {
        "id": change.id,
        "time": change.time,
        "author": change.author,
        "verb": change.verb,
        "summary": change.summary or change.verb,
        "kind": change.kind,
        "inverse": journal.encode(change.operations),
        "undoes": change.undoes,
    }
    insert_rows(change.connection, table, [entry])
    if change.undoes is not None:
        change.connection.execute(table.update().where(table.c.id == change.undoes).values(undone_by=change.id))


def _reverse(change: Change, data: bytes) -> Reversal:
    """Run an entry's operations backwards, the last one first."""
    restored = 0
    kept: list[tuple[object, object]] = []
    for operation in reversed(journal.decode(data)):
        outcome: Reversal = journal.OPERATIONS.load(operation["op"])(change, operation)
        restored += outcome.restored
        kept += outcome.kept
    return Reversal(restored, tuple(kept))


def _summary(verb: str, target: JournalEntry, reversal: Reversal) -> str:
    line = f"{verb}: {target.summary.removeprefix('undo: ').removeprefix('redo: ')}"
    if not reversal.kept:
        return line
    total = len(reversal.kept) + reversal.restored
    return f"{line} ({len(reversal.kept)} of {total} stay as they are: {_why(reversal.kept[0][1])})."


def _why(obstacle: object) -> str:
    return obstacle if isinstance(obstacle, str) else "changed since"


def _dangling(connection: Connection) -> list[Sequence[Any]]:
    return list(connection.execute(text("PRAGMA foreign_key_check")))


def _unwritten(path: Path, detail: str) -> FieldmarkError:
    if "locked" in detail or "busy" in detail:
        return FieldmarkError(
            f"{path}: another program has been writing for {BUSY_SECONDS} s. Nothing was saved; close it, or try again."
        )
    return FieldmarkError(f"{path}: cannot be written or read ({detail}). Nothing was saved; free the disk or move it.")
