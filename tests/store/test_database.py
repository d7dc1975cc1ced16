"""One file, whole transactions, and what is refused."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from fieldmark.collection import Collection
from fieldmark.errors import BadFile, FieldmarkError
from fieldmark.store import Store, open_store
from fieldmark.store.tables import SCHEMA, classes


def add_class(store: Store, name: str, author: str = "ada") -> int:
    with store.transaction(author, "add class") as change:
        change.summary = f"add {name}"
        row = {"name": name, "color": "#000000", "position": 1, "deleted": False, "merged_into": None}
        return change.insert(classes, row)


def names(store: Store) -> list[str]:
    with store.reading() as connection:
        return list(connection.scalars(text("SELECT name FROM classes ORDER BY id")))


@pytest.fixture
def store(tmp_path: Path):
    with open_store(tmp_path / "fieldmark.db", create=True) as opened:
        yield opened


def test_a_new_project_is_empty_and_sound(store: Store) -> None:
    assert store.revision == 0
    assert store.history() == []
    assert store.check() == []


def test_what_is_written_is_there_after_reopening(tmp_path: Path) -> None:
    with open_store(tmp_path / "a.db", create=True) as store:
        add_class(store, "cell")
    with open_store(tmp_path / "a.db") as store:
        assert names(store) == ["cell"]
        assert store.revision == 1


def test_opening_for_creation_keeps_what_is_there(tmp_path: Path) -> None:
    for _ in range(2):
        with open_store(tmp_path / "sub" / "a.db", create=True) as store:
            add_class(store, "cell")
    with open_store(tmp_path / "sub" / "a.db") as store:
        assert names(store) == ["cell", "cell"]


def test_an_error_inside_a_transaction_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.transaction("ada", "add class"):
            add_class(store, "cell")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert names(store) == []
    assert store.revision == 0


def test_a_transaction_that_writes_nothing_leaves_no_entry(store: Store) -> None:
    with store.transaction("ada", "nothing"):
        pass
    assert store.revision == 0


def test_an_inner_transaction_is_part_of_the_outer_one(store: Store) -> None:
    with store.transaction("ada", "two classes") as change:
        add_class(store, "a")
        assert names(store) == ["a"]
        add_class(store, "b")
        assert store.in_transaction
        change.summary = "two classes"
    assert [entry.summary for entry in store.history()] == ["two classes"]
    store.undo()
    assert names(store) == []


def test_readers_do_not_see_an_unfinished_write(store: Store) -> None:
    seen: list[list[str]] = []
    with store.transaction("ada", "add class"):
        add_class(store, "cell")
        reader = threading.Thread(target=lambda: seen.append(names(store)))
        reader.start()
        reader.join()
    assert seen == [[]]
    assert names(store) == ["cell"]


def test_a_reader_sees_one_state_throughout(store: Store) -> None:
    with store.reading() as connection:
        before = connection.scalar(text("SELECT count(*) FROM classes"))
        writer = threading.Thread(target=add_class, args=(store, "cell"))
        writer.start()
        writer.join()
        assert connection.scalar(text("SELECT count(*) FROM classes")) == before
    assert names(store) == ["cell"]


def test_threads_and_a_second_opening_lose_no_write(tmp_path: Path) -> None:
    with open_store(tmp_path / "a.db", create=True) as one, open_store(tmp_path / "a.db") as other:

        def write(store: Store, letter: str) -> None:
            for number in range(10):
                add_class(store, f"{letter}{number}", letter)

        threads = [
            threading.Thread(target=write, args=(store, letter))
            for store, letter in zip([one, one, other, other], "abcd", strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(names(one)) == sorted(f"{letter}{number}" for letter in "abcd" for number in range(10))
        assert [entry.id for entry in one.history()] == list(range(40, 0, -1))
        assert one.check() == []


def test_every_connection_syncs_each_commit(store: Store) -> None:
    found = []

    def look() -> None:
        with store.reading() as connection:
            found.append(
                [
                    connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                    for name in ("synchronous", "journal_mode", "foreign_keys", "trusted_schema")
                ]
            )

    look()
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    with store.transaction("ada", "look"):
        look()
    assert found == [[2, "wal", 1, 0]] * 3


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"nothing\.db: there is no such project database; make a project"):
        open_store(tmp_path / "nothing.db")
    assert not (tmp_path / "nothing.db").exists()


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="this is a folder"):
        open_store(tmp_path, create=True)


@pytest.mark.parametrize("content", [b"hello, I am a text" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_another_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(content)
    with pytest.raises(BadFile, match=r"a\.db: "):
        open_store(path, create=True)
    assert path.read_bytes() == content


@pytest.mark.parametrize("statement", ["CREATE TABLE strangers (a)", "CREATE TABLE x (a); CREATE VIEW v AS SELECT 1"])
def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path)
    connection.executescript(statement)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(BadFile, match="not a Fieldmark database"):
        open_store(path, create=True)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    open_store(path, create=True).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    connection.close()
    with pytest.raises(BadFile, match=f"version {SCHEMA + 1}; this Fieldmark reads up to {SCHEMA}"):
        open_store(path)


def test_a_project_of_the_first_schema_is_brought_up(tmp_path: Path) -> None:
    """A file as the first schema made it opens, is of today's version, and takes what today's tables take."""
    path = tmp_path / "a.db"
    open_store(path, create=True).close()
    connection = sqlite3.connect(path)
    connection.executescript("ALTER TABLE images DROP COLUMN columns; PRAGMA user_version = 1")
    row = (1, "/x/a.png", "a.png", "h", "1,1,1,6,6", "uint8", "yx", None, None, None, "g", "", "")
    connection.execute(f"INSERT INTO images VALUES ({','.join('?' * len(row))})", row)
    connection.commit()
    connection.close()
    for _ in range(2):  # the second time there is nothing to do
        with open_store(path) as store:
            (image,) = Collection(store).all()
            assert (image.group, image.columns) == ("g", {})
            Collection(store).set_group([1], "g")
    with open_store(path) as store:
        record = replace(image, id=0, name="b.png", columns={"plate": "7", "focus": None})
        Collection(store).add([record])
        assert Collection(store).find("b.png").columns == {"plate": "7", "focus": None}
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (SCHEMA,)


def test_a_project_with_a_trigger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    open_store(path, create=True).close()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TRIGGER t AFTER INSERT ON classes BEGIN DELETE FROM journal; END")
    connection.commit()
    connection.close()
    with pytest.raises(BadFile, match="not a Fieldmark database"):
        open_store(path)


def test_an_empty_file_is_a_new_project_only_if_asked(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    with pytest.raises(BadFile, match="empty database"):
        open_store(tmp_path / "a.db")
    with open_store(tmp_path / "a.db", create=True) as store:
        assert store.check() == []


def test_a_file_that_cannot_be_written_says_so(store: Store) -> None:
    with store.reading() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # this connection's: a disk that is full
    with pytest.raises(FieldmarkError, match=r"full.* Nothing was saved"):
        add_class(store, "x" * 100_000)
    assert names(store) == []


def test_the_check_finds_a_dangling_reference(tmp_path: Path) -> None:
    with open_store(tmp_path / "a.db", create=True) as store:
        add_class(store, "cell")
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("UPDATE classes SET merged_into = 99")
    connection.commit()
    connection.close()
    with open_store(tmp_path / "a.db") as store:
        assert any("classes row 1 refers to a missing row" in line for line in store.check())


def test_the_check_finds_a_damaged_journal_entry(tmp_path: Path) -> None:
    with open_store(tmp_path / "a.db", create=True) as store:
        add_class(store, "cell")
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("UPDATE journal SET inverse = x'0011'")
    connection.commit()
    connection.close()
    with open_store(tmp_path / "a.db") as store:
        assert any("Journal entry 1" in line for line in store.check())
        with pytest.raises(FieldmarkError, match="damaged"):
            store.undo()
