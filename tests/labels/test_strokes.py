"""Strokes: who owns a pixel after drawing, erasing, undoing and redoing, alone and by several people."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput, Conflict, NotFound
from fieldmark.labels import LabelPlane, Polyline, Runs
from fieldmark.store import open_store
from fieldmark.store.tables import label_tiles

if TYPE_CHECKING:
    from .conftest import Project


def dab(x: float, y: float, radius: float = 10) -> Polyline:
    return Polyline(np.array([[x, y]]), radius)


def block(y0: int, x0: int, y1: int, x1: int) -> Runs:
    return Runs(np.array([(y, x0, x1) for y in range(y0, y1)]))


def test_a_stroke_gives_its_pixels_its_class(project: Project) -> None:
    image, (cell,) = project.add_image(), project.add_classes("cell")
    stroke = project.labels.draw(image, cell, block(10, 20, 13, 24), "ada")
    wanted = np.zeros((300, 400), dtype=np.int32)
    wanted[10:13, 20:24] = cell
    assert (project.classes_of(image) == wanted).all()
    assert project.classes_of(image).dtype == np.int32
    assert project.owners_of(image).dtype == np.uint32
    assert (stroke.pixels, stroke.box, stroke.author, stroke.class_id) == (12, Box((10, 20), (13, 24)), "ada", cell)
    assert project.labels.strokes(image) == [stroke]


def test_a_stroke_over_several_tiles_and_the_border_is_cut_to_the_image(project: Project) -> None:
    image, (cell,) = project.add_image(height=300, width=400), project.add_classes("cell")
    stroke = project.labels.draw(image, cell, Polyline(np.array([[-30, -30], [420, 320]]), 12), "ada")
    wanted = Polyline(np.array([[-30, -30], [420, 320]]), 12).mask(Box((0, 0), (300, 400)))
    assert ((project.classes_of(image) == cell) == wanted).all()
    assert stroke.pixels == wanted.sum()
    assert stroke.box.start == (0, 0)
    assert sorted(map(tuple, project.labels.stroke_pixels(stroke.id))) == sorted(map(tuple, np.argwhere(wanted)))


def test_a_box_is_read_as_a_part_of_the_whole(project: Project) -> None:
    image, (cell,) = project.add_image(), project.add_classes("cell")
    project.labels.draw(image, cell, dab(256, 256, 40), "ada")
    whole = project.classes_of(image)
    for box in (Box((200, 230), (290, 300)), Box((255, 255), (257, 257)), Box((0, 0), (1, 1))):
        assert (project.labels.class_ids(image, 0, 0, box) == whole[box.slices]).all()
    assert project.labels.class_ids(image, 0, 0, Box((5, 5), (5, 9))).shape == (0, 4)


def test_the_newest_stroke_wins_and_an_eraser_makes_unknown(project: Project) -> None:
    image, (cell, rest) = project.add_image(), project.add_classes("cell", "rest")
    first = project.labels.draw(image, cell, block(0, 0, 10, 10), "ada")
    project.labels.draw(image, rest, block(0, 5, 10, 15), "ada")
    eraser = project.labels.draw(image, None, block(5, 0, 10, 20), "ada")
    found = project.classes_of(image)
    assert (found[:5, :5] == cell).all()
    assert (found[:5, 5:15] == rest).all()
    assert not found[5:10].any()
    assert project.owners_of(image)[7, 3] == eraser.id
    assert [stroke.pixels for stroke in project.labels.strokes(image)] == [25, 50, 100]
    assert len(project.labels.stroke_pixels(first.id)) == 25
    project.store.undo()
    assert (project.classes_of(image)[:10, :5] == cell).all()


def test_all_pixels_of_an_image_are_those_of_its_strokes_one_after_the_other(project: Project) -> None:
    image, (cell, rest) = project.add_image(times=2, depth=3), project.add_classes("cell", "rest")
    other = project.add_image("b.png")
    assert [part.shape for part in project.labels.owned_pixels(image)] == [(0,), (0, 4)]
    path = np.array([[-30.0, -30.0], [420.0, 320.0]])
    planes = {}
    drawn = [
        (1, 2, cell, Polyline(path, 12)),
        (0, 0, rest, dab(256, 256, 40)),
        (1, 2, rest, dab(60, 60, 30)),
        (1, 2, None, block(40, 40, 60, 60)),
        (0, 1, cell, block(299, 399, 300, 400)),
    ]
    for t, z, klass, shape in drawn:
        planes[project.labels.draw(image, klass, shape, "ada", t=t, z=z).id] = (t, z)
    project.labels.draw(other, cell, block(0, 0, 5, 5), "ada")
    owners, places = project.labels.owned_pixels(image)
    assert (owners.dtype, places.dtype) == (np.int64, np.int64)
    wanted = [
        (stroke, *planes[stroke], y, x) for stroke in planes for y, x in project.labels.stroke_pixels(stroke).tolist()
    ]
    assert [(owner, *place) for owner, place in zip(owners.tolist(), places.tolist(), strict=True)] == wanted
    for t, z in {(0, 0), (0, 1), (1, 2)}:
        here = places[(places[:, 0] == t) & (places[:, 1] == z)]
        seen = project.labels.stroke_ids(image, t, z, Box((0, 0), (300, 400)))
        assert sorted(map(tuple, here[:, 2:])) == sorted(map(tuple, np.argwhere(seen)))


def test_planes_are_apart(project: Project) -> None:
    image, (cell,) = project.add_image(times=2, depth=3), project.add_classes("cell")
    project.labels.draw(image, cell, dab(50, 50), "ada", t=1, z=2)
    project.labels.draw(image, cell, dab(50, 50), "ada", t=0, z=1)
    assert project.labels.planes(image) == [(0, 1), (1, 2)]
    assert not project.classes_of(image, 0, 0).any()
    assert project.classes_of(image, 1, 2).any()
    assert [stroke.z for stroke in project.labels.strokes(image, t=1)] == [2]


def test_undo_of_a_stroke_under_another_persons_later_stroke(project: Project) -> None:
    image, (cell, rest) = project.add_image(), project.add_classes("cell", "rest")
    below = project.labels.draw(image, rest, block(0, 0, 10, 10), "bob")
    mine = project.labels.draw(image, cell, block(0, 5, 10, 15), "ada")
    later = project.labels.draw(image, rest, block(0, 12, 10, 20), "bob")
    project.store.undo("ada")
    owners = project.owners_of(image)[:10]
    assert (owners[:, :10] == below.id).all()  # given back to bob's older stroke
    assert not owners[:, 10:12].any()  # nobody was below
    assert (owners[:, 12:20] == later.id).all()  # bob's newer stroke keeps all of its pixels
    assert mine.id not in [stroke.id for stroke in project.labels.strokes()]
    project.store.redo("ada")
    owners = project.owners_of(image)[:10]
    assert (owners[:, :5] == below.id).all()
    assert (owners[:, 5:12] == mine.id).all()
    assert (owners[:, 12:20] == later.id).all()
    assert project.store.check() == []


def test_undo_of_the_one_above_after_the_one_below_was_undone(project: Project) -> None:
    image, (cell, rest) = project.add_image(), project.add_classes("cell", "rest")
    project.labels.draw(image, cell, block(0, 0, 4, 4), "ada")
    project.labels.draw(image, rest, block(0, 0, 4, 4), "bob")
    project.store.undo("ada")
    project.store.undo("bob")
    assert not project.owners_of(image).any()
    project.store.redo("ada")
    assert (project.classes_of(image)[:4, :4] == cell).all()
    assert project.store.check() == []


def test_undo_over_a_restart(project: Project) -> None:
    image, (cell,) = project.add_image(), project.add_classes("cell")
    project.labels.draw(image, cell, dab(50, 50), "ada")
    before = project.classes_of(image)
    project.labels.draw(image, None, dab(55, 50), "ada")
    project.store.close()
    with open_store(project.store.path) as again:
        again.undo("ada")
        assert again.check() == []
    assert (project.classes_of(image) == before).all()


def test_strokes_of_two_people_on_different_pixels_merge(project: Project) -> None:
    image, (cell, rest) = project.add_image(), project.add_classes("cell", "rest")
    seen = project.store.revision
    project.labels.draw(image, cell, block(0, 0, 5, 5), "ada", expect=seen)
    project.labels.draw(image, rest, block(0, 5, 5, 10), "bob", expect=seen)
    assert {stroke.author for stroke in project.labels.strokes()} == {"ada", "bob"}


def test_a_stroke_over_anothers_newer_pixels_is_a_conflict_with_both(project: Project) -> None:
    image, (cell, rest) = project.add_image(), project.add_classes("cell", "rest")
    seen = project.store.revision
    theirs = project.labels.draw(image, cell, block(0, 0, 5, 5), "ada", expect=seen)
    before, revision = project.owners_of(image), project.store.revision
    with pytest.raises(Conflict, match=r"rest.* ada painted after you loaded the page") as caught:
        project.labels.draw(image, rest, block(4, 4, 9, 9), "bob", expect=seen)
    assert caught.value.theirs == [theirs]
    assert caught.value.mine.id == 0
    assert (caught.value.mine.author, caught.value.mine.class_id, caught.value.mine.pixels) == ("bob", rest, 25)
    assert (project.owners_of(image) == before).all()
    entry = project.store.history(1)[0]
    assert (entry.id, entry.kind, entry.author) == (revision + 1, "refused", "bob")
    assert project.labels.strokes() == [theirs]
    assert project.store.check() == []
    with pytest.raises(BadInput, match="nothing to undo for 'bob'"):
        project.store.undo("bob")
    again = project.labels.draw(image, rest, block(4, 4, 9, 9), "bob", expect=project.store.revision)
    assert again.pixels == 25


def test_ones_own_newer_pixels_are_no_conflict(project: Project) -> None:
    image, (cell,) = project.add_image(), project.add_classes("cell")
    seen = project.store.revision
    for _ in range(2):
        project.labels.draw(image, cell, dab(50, 50), "ada", expect=seen)


def test_a_stroke_that_was_redone_counts_as_new(project: Project) -> None:
    image, (cell,) = project.add_image(), project.add_classes("cell")
    project.labels.draw(image, cell, dab(50, 50), "ada")
    project.store.undo("ada")
    seen = project.store.revision
    project.store.redo("ada")
    with pytest.raises(Conflict):
        project.labels.draw(image, None, dab(50, 50), "bob", expect=seen)


def test_a_conflict_inside_a_larger_change_undoes_all_of_it(project: Project) -> None:
    image, (cell,) = project.add_image(), project.add_classes("cell")
    seen = project.store.revision
    project.labels.draw(image, cell, dab(50, 50), "ada")
    before = project.store.revision

    def draw_two() -> None:
        with project.store.transaction("bob", "two strokes"):
            project.labels.draw(image, cell, dab(200, 200), "bob", expect=seen)
            project.labels.draw(image, cell, dab(50, 50), "bob", expect=seen)

    with pytest.raises(Conflict):
        draw_two()
    assert project.store.revision == before
    assert len(project.labels.strokes()) == 1


def test_what_cannot_be_drawn_is_refused_and_leaves_nothing(project: Project) -> None:
    image, (cell, gone) = project.add_image("a.png"), project.add_classes("cell", "gone")
    project.labels.delete(gone)
    before = project.store.revision
    for error, message, arguments, plane in (
        (NotFound, "No image", (99, cell, dab(5, 5)), {}),
        (NotFound, "No class", (image, 99, dab(5, 5)), {}),
        (BadInput, "'gone' was deleted", (image, gone, dab(5, 5)), {}),
        (BadInput, "covers no pixel", (image, cell, dab(-50, 5)), {}),
        (BadInput, r"a\.png has 1 times and 1 slices", (image, cell, dab(5, 5)), {"z": 1}),
        (BadInput, r"a\.png has 1 times and 1 slices", (image, cell, dab(5, 5)), {"t": -1}),
    ):
        with pytest.raises(error, match=message):
            project.labels.draw(*arguments, "ada", **plane)
    with pytest.raises(BadInput), project.store.transaction("ada", "outer"):
        project.labels.draw(image, cell, dab(-50, 5), "ada")
    assert project.store.revision == before
    assert project.store.check() == []


def test_a_write_touches_only_its_tiles(project: Project) -> None:
    """On an image of 4e12 pixels a stroke is drawn, read and undone by its own tiles alone."""
    image, (cell,) = project.add_image(height=2_000_000, width=2_000_000), project.add_classes("cell")
    path = Polyline(np.array([[1_000_000.0, 1_500_000.0], [1_000_300.0, 1_500_200.0]]), 5)
    stroke = project.labels.draw(image, cell, path, "ada")
    with project.store.reading() as connection:
        tiles = {(row.ty, row.tx) for row in connection.execute(select(label_tiles))}
    covered = np.argwhere(path.mask(path.box)) + path.box.start
    assert tiles == {(y // 256, x // 256) for y, x in covered.tolist()}
    assert (project.labels.class_ids(image, 0, 0, path.box) > 0).sum() == stroke.pixels == len(covered)
    project.store.undo()
    with project.store.reading() as connection:
        assert list(connection.execute(select(label_tiles))) == []


def test_what_a_stroke_covered_can_be_had_back(project: Project) -> None:
    image, (cell,) = project.add_image(), project.add_classes("cell")
    path = project.labels.draw(image, cell, Polyline(np.array([[3, 4], [90, 70.25]]), 2.5), "ada")
    filled = project.labels.draw(image, cell, block(250, 250, 260, 262), "ada")
    found = project.labels.geometry(path.id)
    assert isinstance(found, Polyline)
    assert (found.points.tolist(), found.radius) == ([[3, 4], [90, 70.25]], 2.5)
    runs, box = project.labels.geometry(filled.id), Box((0, 0), (300, 400))
    assert (runs.mask(box) == block(250, 250, 260, 262).mask(box)).all()
    with pytest.raises(NotFound):
        project.labels.geometry(99)
    with pytest.raises(NotFound):
        project.labels.stroke_pixels(99)


def test_which_images_and_planes_are_labelled(project: Project) -> None:
    one, two, three = (project.add_image(name) for name in ("1.png", "2.png", "3.png"))
    cell, rest = project.add_classes("cell", "rest")
    project.labels.draw(one, cell, dab(50, 50), "ada")
    project.labels.draw(two, rest, dab(50, 50), "ada")
    project.labels.draw(three, None, dab(50, 50), "ada")
    assert project.labels.labelled_images() == [one, two]
    project.labels.delete(rest)
    assert project.labels.labelled_images() == [one]
    assert project.labels.planes(two) == []
    project.labels.restore(rest)
    project.labels.draw(one, None, dab(50, 50, 30), "ada")  # covers the stroke wholly
    assert project.labels.labelled_images() == [two]
    project.collection.exclude([two], "blurred")
    assert project.labels.labelled_images() == []
    assert project.labels.labelled_images(include_excluded=True) == [two]


def test_pixels_of_each_class_are_counted(project: Project) -> None:
    image, (cell, rest, gone) = project.add_image(), project.add_classes("cell", "rest", "gone")
    project.labels.draw(image, cell, block(0, 0, 10, 10), "ada")
    project.labels.draw(image, rest, block(0, 5, 10, 10), "ada")
    project.labels.draw(image, gone, block(20, 0, 30, 10), "ada")
    project.labels.draw(image, None, block(0, 0, 1, 100), "ada")
    project.labels.delete(gone)
    values, counts = np.unique(project.classes_of(image), return_counts=True)
    wanted = {value: count for value, count in zip(values.tolist(), counts.tolist(), strict=True) if value}
    assert project.labels.count_pixels() == wanted == {cell: 45, rest: 45}


def test_planes_of_labels_are_imported_in_one_change(project: Project) -> None:
    image, (cell, rest) = project.add_image(height=600, width=500), project.add_classes("cell", "rest")
    project.labels.draw(image, cell, block(0, 0, 100, 100), "ada")
    sets = np.random.default_rng(0).integers(0, 4, (600, 500))
    report = project.labels.import_planes([LabelPlane(image, 0, 0, sets, [cell, rest, cell], "import:masks:x")], "bob")
    table = np.array([0, cell, rest, cell])
    wanted = table[sets]
    wanted[:100, :100] = np.where(sets[:100, :100] == 0, cell, wanted[:100, :100])
    assert (project.classes_of(image) == wanted).all()
    assert (report.images, report.strokes, report.covered) == (1, 3, (sets[:100, :100] > 0).sum())
    assert project.store.check() == []
    project.store.undo("bob")
    assert (project.classes_of(image)[:100, :100] == cell).all()
    assert project.labels.count_pixels() == {cell: 10_000}
    project.store.redo("bob")
    assert (project.classes_of(image) == wanted).all()
    assert project.store.check() == []


def test_an_import_that_fails_in_the_middle_leaves_nothing(project: Project) -> None:
    image, (cell,) = project.add_image(), project.add_classes("cell")
    good = LabelPlane(image, 0, 0, np.ones((300, 400), int), [cell], "x")
    before = project.store.revision
    for bad in (
        LabelPlane(image, 0, 0, np.ones((300, 401), int), [cell], "x"),
        LabelPlane(image, 0, 0, np.full((300, 400), 2), [cell], "x"),
        LabelPlane(image, 0, 0, np.ones((300, 400), int), [99], "x"),
        LabelPlane(image, 0, 0, np.ones((300, 400)), [cell], "x"),
        LabelPlane(image, 3, 0, np.ones((300, 400), int), [cell], "x"),
    ):
        with pytest.raises(BadInput):
            project.labels.import_planes([good, bad], "ada")
    assert project.store.revision == before
    assert project.labels.strokes() == []
    assert project.store.check() == []


STEP = st.tuples(
    st.sampled_from(["draw", "draw", "erase", "undo", "redo"]), st.sampled_from("ab"), st.integers(0, 10**6)
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, min_size=4, max_size=16))
def test_a_pixel_belongs_to_the_newest_living_stroke(
    steps: list[tuple[str, str, int]], make_project: Callable[[], Project]
) -> None:
    """Against a list of masks, whatever two people draw, erase, undo and redo."""
    project = make_project()
    image, classes = project.add_image(height=270, width=280), project.add_classes("cell", "rest")
    box = Box((0, 0), (270, 280))
    masks: dict[int, np.ndarray] = {}
    class_of: dict[int, int] = {}
    living: set[int] = set()
    done: dict[str, list[int]] = {"a": [], "b": []}
    undone: dict[str, list[int]] = {"a": [], "b": []}
    for kind, author, seed in steps:
        rng = np.random.default_rng(seed)
        if kind in {"draw", "erase"}:
            path = Polyline(rng.uniform(230, 290, (rng.integers(1, 4), 2)), rng.uniform(1, 30))
            if not path.mask(box).any():
                continue
            class_id = None if kind == "erase" else classes[seed % 2]
            stroke = project.labels.draw(image, class_id, path, author).id
            masks[stroke], class_of[stroke] = path.mask(box), class_id or 0
            living.add(stroke)
            done[author].append(stroke)
            undone[author].clear()
        elif kind == "undo" and done[author]:
            project.store.undo(author)
            undone[author].append(done[author].pop())
            living.remove(undone[author][-1])
        elif kind == "redo" and undone[author]:
            project.store.redo(author)
            done[author].append(undone[author].pop())
            living.add(done[author][-1])
        owners = np.zeros(box.shape, dtype=np.uint32)
        for stroke in sorted(living):
            owners[masks[stroke]] = stroke
        assert (project.owners_of(image) == owners).all()
    table = np.array([class_of.get(stroke, 0) for stroke in range(max(masks, default=0) + 1)])
    assert (project.classes_of(image) == table[owners]).all()
    assert {one.id: one.pixels for one in project.labels.strokes()} == {one: (owners == one).sum() for one in living}
    assert project.store.check() == []


def test_the_check_finds_a_wrong_owner_and_a_wrong_count(project: Project) -> None:
    image, (cell,) = project.add_image(), project.add_classes("cell")
    stroke = project.labels.draw(image, cell, dab(50, 50), "ada")
    with project.store.transaction("ada", "break") as change:
        change.connection.exec_driver_sql("UPDATE strokes SET owned = owned + 1")
        change.connection.exec_driver_sql("DELETE FROM label_tiles")
        change.connection.exec_driver_sql("UPDATE strokes SET class_id = 77")
    found = " ".join(project.store.check())
    assert "pixels with the wrong owner" in found
    assert f"Stroke {stroke.id} is said to own" in found
    assert "class 77; one is missing" in found


def test_a_damaged_tile_is_named(project: Project) -> None:
    image, (cell,) = project.add_image(), project.add_classes("cell")
    project.labels.draw(image, cell, dab(50, 50), "ada")
    with project.store.transaction("ada", "break") as change:
        change.connection.exec_driver_sql("UPDATE label_tiles SET ids = x'5200'")
    assert any("Tile 0, 0 of image 1: " in line for line in project.store.check())


def test_undo_of_adding_images_waits_for_their_labels(project: Project) -> None:
    (cell,) = project.add_classes("cell")
    image = project.add_image("a.png")
    project.labels.draw(image, cell, dab(50, 50), "bob")
    with pytest.raises(Conflict, match="in use by 1 strokes"):
        project.store.undo("ada")
    for _ in range(2):
        project.store.undo("bob") if project.labels.strokes() else project.store.undo("ada")
    assert project.store.check() == []


def test_a_whole_afternoon_is_undone_and_redone(project: Project) -> None:
    (cell,) = project.add_classes("cell")
    image = project.add_image()
    project.labels.set_answer(image, cell, True, "ada")
    project.labels.draw(image, cell, dab(50, 50), "ada")
    project.labels.add_point(image, cell, 0, 0, 5, 5, "ada")
    wanted = project.classes_of(image)
    for _ in range(5):
        project.store.undo()
    assert project.collection.all() == []
    assert project.labels.classes() == []
    assert project.store.check() == []
    for _ in range(5):
        project.store.redo()
    assert (project.classes_of(image) == wanted).all()
    assert [answer.value for answer in project.labels.answers()] == [True]
    assert len(project.labels.points()) == 1
    assert project.store.check() == []
