"""Answers: yes, no or unknown, and never one person's over another's unseen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fieldmark.errors import BadInput, Conflict, NotFound

if TYPE_CHECKING:
    from .conftest import Project


def test_unknown_is_absent_and_not_no(project: Project) -> None:
    one, two = project.add_image("1.png"), project.add_image("2.png")
    cell, rest, last = project.add_classes("cell", "rest", "last")
    project.labels.set_answer(one, cell, True, "ada")
    project.labels.set_answer(one, rest, False, "ada")
    project.labels.set_answer(two, rest, True, "ada")
    project.labels.set_answer(two, rest, None, "ada")
    assert [(one.image_id, one.class_id, one.value) for one in project.labels.answers()] == [
        (one, cell, True),
        (one, rest, False),
    ]
    found = project.labels.answer_matrix([two, one], [rest, cell, last])
    assert found.dtype == np.float32
    assert np.array_equal(found, [[np.nan, np.nan, np.nan], [0, 1, np.nan]], equal_nan=True)
    assert [one.value for one in project.labels.answers(class_id=rest)] == [False]
    assert project.labels.answers(image_id=two) == []


def test_an_answer_says_who_and_when(project: Project) -> None:
    image, (cell,) = project.add_image(), project.add_classes("cell")
    first = project.labels.set_answer(image, cell, True, "ada")
    assert (first.author, first.revision) == ("ada", project.store.revision)
    same = project.labels.set_answer(image, cell, True, "bob")
    assert same == first
    assert project.store.revision == first.revision
    second = project.labels.set_answer(image, cell, False, "bob")
    assert (second.author, second.value) == ("bob", False)
    assert first.time < second.time
    assert project.store.history(1)[0].summary == "a.png: cell no"


@pytest.mark.parametrize("author", ["ada", "bob"])
def test_a_stale_answer_is_refused_with_both_values(project: Project, author: str) -> None:
    image, (cell,) = project.add_image(), project.add_classes("cell")
    seen = project.store.revision
    theirs = project.labels.set_answer(image, cell, True, "ada", expect=seen)
    with pytest.raises(Conflict, match=r"a\.png, cell: your answer is no, but ada answered yes") as caught:
        project.labels.set_answer(image, cell, False, author, expect=seen)
    assert (caught.value.mine.value, caught.value.theirs) == (False, theirs)
    assert project.labels.answers() == [theirs]
    assert project.labels.set_answer(image, cell, True, author, expect=seen) == theirs  # of one mind
    project.labels.set_answer(image, cell, False, author, expect=project.store.revision)


def test_an_answer_taken_back_or_undone_makes_older_pages_stale(project: Project) -> None:
    image, (cell,) = project.add_image(), project.add_classes("cell")
    project.labels.set_answer(image, cell, True, "ada")
    seen = project.store.revision
    project.labels.set_answer(image, cell, None, "ada")
    with pytest.raises(Conflict, match="ada answered unknown"):
        project.labels.set_answer(image, cell, False, "bob", expect=seen)
    project.store.undo("ada")
    seen = project.store.revision
    project.store.undo("ada")
    with pytest.raises(Conflict):
        project.labels.set_answer(image, cell, False, "bob", expect=seen)


def test_undo_gives_back_the_answer_before_with_its_author(project: Project) -> None:
    image, (cell,) = project.add_image(), project.add_classes("cell")
    project.labels.set_answer(image, cell, True, "ada")
    project.labels.set_answer(image, cell, False, "bob")
    project.store.undo("bob")
    (found,) = project.labels.answers()
    assert (found.value, found.author) == (True, "ada")
    project.labels.set_answer(image, cell, False, "bob")
    with pytest.raises(Conflict, match="changed since"):
        project.store.undo("ada")
    assert project.labels.answers()[0].value is False


def test_an_answer_needs_an_image_and_a_class(project: Project) -> None:
    image, (cell,) = project.add_image(), project.add_classes("cell")
    with pytest.raises(NotFound, match="No image"):
        project.labels.set_answer(99, cell, True, "ada")
    with pytest.raises(NotFound, match="No class"):
        project.labels.set_answer(image, 99, True, "ada")
    assert project.labels.set_answer(image, cell, None, "ada").value is None
    assert project.store.revision == 2


def test_points_are_marked_listed_and_taken_away(project: Project) -> None:
    image, (cell, rest) = project.add_image(times=2, depth=3), project.add_classes("cell", "rest")
    first = project.labels.add_point(image, cell, 1, 2.5, 10.25, 20.5, "ada")
    second = project.labels.add_point(image, rest, 0, 0, 300, 400, "bob")
    assert (first.t, first.z, first.y, first.x, first.author) == (1, 2.5, 10.25, 20.5, "ada")
    assert project.labels.points() == [first, second]
    assert project.labels.points(class_id=rest) == [second]
    assert project.labels.points(image_id=image + 1) == []
    project.labels.delete_point(first.id, "bob")
    assert project.labels.points() == [second]
    with pytest.raises(NotFound):
        project.labels.delete_point(first.id, "bob")
    project.store.undo("bob")
    assert [(one.id, one.y, one.author) for one in project.labels.points()] == [(1, 10.25, "ada"), (2, 300, "bob")]
    assert project.store.check() == []


@pytest.mark.parametrize(
    "place", [(2, 0, 0, 0), (0, 4, 0, 0), (0, 0, -0.1, 0), (0, 0, 0, 400.1), (0, 0, float("nan"), 0)]
)
def test_a_point_outside_the_image_is_refused(project: Project, place: tuple[int, float, float, float]) -> None:
    image, (cell,) = project.add_image(times=2, depth=3), project.add_classes("cell")
    with pytest.raises(BadInput, match="is not inside"):
        project.labels.add_point(image, cell, *place, "ada")
