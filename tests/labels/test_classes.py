"""Classes are named, ordered, deleted softly and never renumbered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import select

from fieldmark.errors import BadInput, NotFound
from fieldmark.labels import Polyline
from fieldmark.labels.classes import PALETTE
from fieldmark.store.tables import label_tiles

if TYPE_CHECKING:
    from .conftest import Project


def dab(x: float, y: float) -> Polyline:
    return Polyline(np.array([[x, y]]), 10)


def tiles(project: Project) -> list[tuple[object, ...]]:
    with project.store.reading() as connection:
        return [tuple(row) for row in connection.execute(select(label_tiles))]


def names(project: Project) -> list[str]:
    return [one.name for one in project.labels.classes()]


def test_ids_begin_at_one_and_positions_follow_the_order(project: Project) -> None:
    assert project.add_classes("a", "b", "c") == [1, 2, 3]
    assert [(one.name, one.position) for one in project.labels.classes()] == [("a", 1), ("b", 2), ("c", 3)]
    assert [(one.id, one.position) for one in project.labels.reorder([3, 1, 2])] == [(3, 1), (1, 2), (2, 3)]
    project.store.undo()
    assert names(project) == ["a", "b", "c"]


def test_each_class_gets_a_color_of_its_own(project: Project) -> None:
    project.add_classes(*"abcdef")
    assert [one.color for one in project.labels.classes()] == list(PALETTE[:6])
    assert project.labels.add_class("g", "#ABCDEF").color == "#abcdef"
    assert project.labels.recolor(1, "#000001").color == "#000001"
    for wrong in ("red", "#12345", "#1234567", "javascript:0"):
        with pytest.raises(BadInput, match="is no color"):
            project.labels.add_class("h", wrong)


@pytest.mark.parametrize("name", ["", "   ", "a\nb", "a\0"])
def test_names_that_are_none_are_refused(project: Project, name: str) -> None:
    with pytest.raises(BadInput, match="printable"):
        project.labels.add_class(name)


def test_a_name_is_given_once(project: Project) -> None:
    first, _ = project.add_classes("cell", "rest")
    with pytest.raises(BadInput, match="'cell' already"):
        project.labels.add_class(" cell ")
    with pytest.raises(BadInput, match="'rest' already"):
        project.labels.rename(first, "rest")
    assert project.labels.rename(first, "cell").name == "cell"
    assert project.labels.rename(first, "Zelle ").name == "Zelle"


def test_classes_are_found_by_name_with_a_hint(project: Project) -> None:
    project.add_classes("nucleus", "background")
    assert project.labels.find_class("nucleus").id == 1
    with pytest.raises(NotFound, match="Did you mean 'nucleus'"):
        project.labels.find_class("nucleos")


def test_a_deleted_class_counts_as_unknown_and_comes_back(project: Project) -> None:
    image, (cell, rest) = project.add_image(), project.add_classes("cell", "rest")
    project.labels.draw(image, cell, dab(50, 50), "ada")
    project.labels.draw(image, rest, dab(200, 200), "ada")
    project.labels.set_answer(image, cell, True, "ada")
    project.labels.add_point(image, cell, 0, 0, 5, 5, "ada")
    before, stored = project.classes_of(image), tiles(project)
    project.labels.delete(cell)
    assert set(np.unique(project.classes_of(image)).tolist()) == {0, rest}
    assert project.labels.answers() == []
    assert project.labels.points() == []
    assert [stroke.class_id for stroke in project.labels.strokes()] == [None, rest]
    assert [(one.id, one.position) for one in project.labels.classes()] == [(rest, 1)]
    assert [one.id for one in project.labels.classes(include_deleted=True)] == [rest, cell]
    with pytest.raises(BadInput, match="'cell' was deleted"):
        project.labels.set_answer(image, cell, False, "ada")
    assert project.labels.add_class("cell").id == 3  # the name is free, the id is not
    with pytest.raises(BadInput, match="Another class is called 'cell'"):
        project.labels.restore(cell)
    project.store.undo()
    project.labels.restore(cell)
    assert (project.classes_of(image) == before).all()
    assert len(project.labels.answers()) == len(project.labels.points()) == 1
    assert tiles(project) == stored


def test_merging_rewrites_no_tile(project: Project) -> None:
    image, (one, two, three) = project.add_image(), project.add_classes("one", "two", "three")
    project.labels.draw(image, one, dab(50, 50), "ada")
    project.labels.draw(image, two, dab(60, 50), "ada")
    project.labels.draw(image, three, dab(200, 200), "ada")
    before, stored = project.classes_of(image), tiles(project)
    project.labels.merge(one, two, author="ada")
    assert (project.classes_of(image) == np.where(before == one, two, before)).all()
    project.labels.merge(two, three, author="ada")
    assert (project.classes_of(image) == np.where(before > 0, three, 0)).all()
    assert [stroke.class_id for stroke in project.labels.strokes()] == [three] * 3
    assert len(project.labels.strokes(class_id=three)) == 3
    assert names(project) == ["three"]
    assert tiles(project) == stored
    with pytest.raises(BadInput, match="'one' was merged into another"):
        project.labels.draw(image, one, dab(5, 5), "ada")
    with pytest.raises(BadInput, match="into itself"):
        project.labels.merge(three, three)
    project.store.undo()
    project.store.undo()
    assert (project.classes_of(image) == before).all()
    assert project.store.check() == []


def test_merged_answers_keep_yes_and_never_turn_unknown_into_no(project: Project) -> None:
    cat, animal = project.add_classes("cat", "animal")
    wanted = {}
    for first in (True, False, None):
        for second in (True, False, None):
            image = project.add_image(f"{first}-{second}.png")
            project.labels.set_answer(image, cat, first, "ada")
            project.labels.set_answer(image, animal, second, "bob")
            both = [first, second]
            wanted[image] = True if True in both else (False if both == [False, False] else None)
    summary = project.labels.merge(cat, animal)
    assert "2 answers yes came along, 1 answers no became unknown" in summary
    found = {one.image_id: one.value for one in project.labels.answers(class_id=animal)}
    assert found == {image: value for image, value in wanted.items() if value is not None}
    project.store.undo()
    assert len(project.labels.answers()) == 12


def test_points_go_with_a_merge(project: Project) -> None:
    image, (one, two) = project.add_image(), project.add_classes("one", "two")
    project.labels.add_point(image, one, 0, 0, 5, 5, "ada")
    project.labels.merge(one, two)
    assert [point.class_id for point in project.labels.points()] == [two]
    project.store.undo()
    assert [point.class_id for point in project.labels.points()] == [one]


def test_an_order_that_leaves_a_class_out_is_refused(project: Project) -> None:
    project.add_classes("a", "b")
    for order in ([1], [1, 1], [1, 2, 3]):
        with pytest.raises(BadInput, match="must name each"):
            project.labels.reorder(order)
    with pytest.raises(NotFound):
        project.labels.rename(9, "x")
