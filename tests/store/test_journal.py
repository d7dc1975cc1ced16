"""Undo and redo: by anybody, by one person, over restarts, and never over another person's change."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.errors import BadInput, Conflict, FieldmarkError
from fieldmark.store import Store, journal, open_store
from fieldmark.store.tables import classes


def add(store: Store, name: str, author: str = "ada") -> int:
    with store.transaction(author, "add") as change:
        change.summary = f"add {name}"
        row = {"name": name, "color": "#000000", "position": 1, "deleted": False, "merged_into": None}
        return change.insert(classes, row)


def change_row(store: Store, author: str, class_id: int, **values: object) -> None:
    with store.transaction(author, "change") as change:
        change.summary = f"change {values}"
        change.update(classes, {"id": class_id}, values)


def drop(store: Store, author: str, class_id: int) -> None:
    with store.transaction(author, "drop") as change:
        change.delete(classes, {"id": class_id})


def rows(store: Store) -> dict[int, dict[str, object]]:
    with store.reading() as connection:
        return {row.id: dict(row._mapping) for row in connection.execute(classes.select())}


@pytest.fixture
def store(tmp_path: Path):
    with open_store(tmp_path / "a.db", create=True) as opened:
        yield opened


def test_undo_and_redo_of_each_kind_of_write(store: Store) -> None:
    first = add(store, "a")
    states = [{}, rows(store)]
    change_row(store, "ada", first, name="b", position=7)
    states.append(rows(store))
    drop(store, "ada", first)
    states.append(rows(store))
    for state in states[2::-1]:
        store.undo()
        assert rows(store) == state
    for state in states[1:]:
        store.redo()
        assert rows(store) == state


def test_undo_goes_on_after_a_restart(tmp_path: Path) -> None:
    with open_store(tmp_path / "a.db", create=True) as store:
        add(store, "a")
        add(store, "b")
    for left in (["a"], []):
        with open_store(tmp_path / "a.db") as store:
            store.undo()
            assert [row["name"] for row in rows(store).values()] == left
    with open_store(tmp_path / "a.db") as store:
        assert store.redo().summary == "redo: add a"
        assert [entry.kind for entry in store.history()] == ["redo", "undo", "undo", "change", "change"]


def test_an_entry_says_who_when_what_and_what_became_of_it(store: Store) -> None:
    add(store, "a", "ada")
    store.undo()
    undo, change = store.history()
    assert (change.author, change.verb, change.summary, change.undone_by) == ("ada", "add", "add a", undo.id)
    assert (undo.author, undo.kind, undo.undoes, undo.summary) == ("ada", "undo", change.id, "undo: add a")
    assert change.time.endswith("+00:00")
    assert change.time < undo.time
    assert store.history(1) == [undo]


def test_nothing_to_undo_or_redo(store: Store) -> None:
    with pytest.raises(BadInput, match="nothing to undo"):
        store.undo()
    add(store, "a", "ada")
    with pytest.raises(BadInput, match="nothing to undo for 'bob'"):
        store.undo("bob")
    with pytest.raises(BadInput, match="nothing to redo"):
        store.redo()


def test_a_new_change_ends_the_redo_of_its_author_alone(store: Store) -> None:
    add(store, "a", "ada")
    add(store, "b", "bob")
    store.undo("ada")
    store.undo("bob")
    add(store, "c", "bob")
    with pytest.raises(BadInput, match="nothing to redo for 'bob'"):
        store.redo("bob")
    store.redo("ada")
    assert sorted(row["name"] for row in rows(store).values()) == ["a", "c"]


def test_undo_of_one_author_passes_over_the_others(store: Store) -> None:
    add(store, "a", "ada")
    add(store, "b", "bob")
    assert store.undo("ada").summary == "undo: add a"
    assert [row["name"] for row in rows(store).values()] == ["b"]


def test_undo_never_overwrites_another_persons_change(store: Store) -> None:
    first = add(store, "a", "ada")
    change_row(store, "ada", first, name="ada's")
    change_row(store, "bob", first, name="bob's")
    with pytest.raises(Conflict, match="changed since") as caught:
        store.undo("ada")
    assert caught.value.mine == {"name": "a"}
    assert caught.value.theirs == {"name": "bob's"}
    assert rows(store)[first]["name"] == "bob's"
    assert store.history(1)[0].kind == "refused"


def test_after_a_refusal_undo_goes_on_to_the_change_before(store: Store) -> None:
    other = add(store, "other", "ada")
    first = add(store, "a", "ada")
    change_row(store, "ada", other, name="mine")
    change_row(store, "ada", first, name="ada's")
    change_row(store, "bob", first, name="bob's")
    with pytest.raises(Conflict):
        store.undo("ada")
    store.undo("ada")
    assert rows(store)[other]["name"] == "other"


def test_other_columns_of_the_row_do_not_stand_in_the_way(store: Store) -> None:
    first = add(store, "a", "ada")
    change_row(store, "ada", first, name="ada's")
    change_row(store, "bob", first, position=9)
    store.undo("ada")
    assert rows(store)[first]["name"] == "a"
    assert rows(store)[first]["position"] == 9


def test_of_a_large_change_the_rest_is_undone_and_counted(store: Store) -> None:
    with store.transaction("ada", "add many") as change:
        row = {"color": "#000000", "position": 1, "deleted": False, "merged_into": None}
        ids = change.insert_many(classes, [row | {"name": f"c{number}"} for number in range(5)])
    change_row(store, "bob", ids[3], name="bob's")
    entry = store.undo("ada")
    assert entry.summary == "undo: add many (1 of 5 stay as they are: changed since)."
    assert [row["name"] for row in rows(store).values()] == ["bob's"]


def test_a_row_in_use_is_not_taken_away(store: Store) -> None:
    first, second = add(store, "a", "ada"), add(store, "b", "bob")
    change_row(store, "bob", second, merged_into=first)
    with pytest.raises(Conflict, match="in use by 1 merged classes; undo those first"):
        store.undo("ada")
    assert len(rows(store)) == 2


def test_ids_are_never_used_twice(store: Store) -> None:
    first = add(store, "a")
    store.undo()
    assert add(store, "b") > first


def test_undo_inside_a_change_is_refused(store: Store) -> None:
    add(store, "a")
    with store.transaction("ada", "more"), pytest.raises(BadInput, match="cannot be part of another change"):
        store.undo()


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", journal.encode([])[:-3], journal.encode([{"no": "op"}]), b"x\x9cc\x00"]
)
def test_damaged_operations_are_refused(data: bytes) -> None:
    with pytest.raises(FieldmarkError, match="restore the project"):
        journal.decode(data)


STEPS = st.lists(st.sampled_from(["add", "rename", "undo", "redo"]), max_size=14)


@settings(max_examples=15, deadline=None)
@given(steps=STEPS)
def test_undo_and_redo_behave_as_two_stacks(steps: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("stacks") / "a.db"
    with open_store(path, create=True) as store:
        done: list[dict[int, dict[str, object]]] = [{}]
        undone: list[dict[int, dict[str, object]]] = []
        for number, step in enumerate(steps):
            if step == "undo" and len(done) > 1:
                store.undo()
                undone.append(done.pop())
            elif step == "redo" and undone:
                store.redo()
                done.append(undone.pop())
            elif step in {"undo", "redo"}:
                with pytest.raises(BadInput):
                    getattr(store, step)()
            else:
                here = list(rows(store))
                if step == "rename" and here:
                    change_row(store, "ada", here[0], name=f"n{number}")
                else:
                    add(store, f"c{number}")
                done.append(rows(store))
                undone.clear()
            assert rows(store) == done[-1]
        assert store.check() == []
