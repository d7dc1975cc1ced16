"""Labels to files and back: the same pixels, and nothing of the user's is touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldmark.errors import BadFile, BadInput
from fieldmark.labels import Polyline

if TYPE_CHECKING:
    from .conftest import Project

SHAPES = {"a.png": {}, "sub/b.tif": {}, "deep.tif": {"depth": 3}, "film.tif": {"times": 2, "depth": 2}}


def filled(project: Project, classes: int = 3) -> Project:
    for name, shape in SHAPES.items():
        project.add_image(name, width=50, height=40, **shape)
    project.add_classes(*(f"class {number}" for number in range(classes)))
    return project


def scribble(project: Project, seed: int, strokes: int = 12) -> None:
    rng = np.random.default_rng(seed)
    ids = [one.id for one in project.labels.classes()]
    for _ in range(strokes):
        image = project.collection.get(int(rng.integers(1, 5)))
        path = Polyline(rng.uniform(0, 40, (2, 2)), float(rng.uniform(1, 8)))
        plane = {"t": int(rng.integers(image.shape[0])), "z": int(rng.integers(image.shape[2]))}
        project.labels.draw(image.id, [None, *ids][rng.integers(len(ids) + 1)], path, "ada", **plane)


def names_of(project: Project) -> dict[tuple[int, int, int], np.ndarray]:
    """The class name of each pixel of each plane."""
    names = np.array(
        ["", *(one.name for one in sorted(project.labels.classes(include_deleted=True), key=lambda one: one.id))]
    )
    planes = [
        (image.id, t, z)
        for image in project.collection.all()
        for t in range(image.shape[0])
        for z in range(image.shape[2])
    ]
    return {plane: names[project.classes_of(*plane)] for plane in planes}


def export(project: Project, kind: str, folder: str = "out", **options: bool) -> list[Path]:
    return project.labels.export_folder(project.folder / folder, kind, project.collection, **options)


def bring(project: Project, kind: str, path: Path) -> None:
    project.labels.import_folder(path, kind, author="bob", collection=project.collection)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["markers", "masks", "scribbles"]), classes=st.integers(1, 4))
def test_what_is_exported_comes_back(seed: int, kind: str, classes: int, make_project: Callable[[], Project]) -> None:
    one, other = filled(make_project(), classes), filled(make_project(), classes)
    scribble(one, seed)
    export(one, kind)
    other.labels.reorder([entry.id for entry in other.labels.classes()][::-1])  # names count, not places
    if one.labels.labelled_images():
        bring(other, kind, one.folder / "out")
    wanted, found = names_of(one), names_of(other)
    for plane, names in wanted.items():
        assert (found[plane] == names).all(), plane
    assert other.store.check() == []


@pytest.mark.parametrize("kind", ["markers", "masks", "scribbles"])
def test_sparse_labels_of_one_class_do_not_become_a_background(kind: str, make_project: Callable[[], Project]) -> None:
    """A map of 0 and 1 would be read as two classes, were it not for the legend."""
    one, other = filled(make_project(), 2), filled(make_project(), 2)
    one.labels.draw(1, 1, Polyline(np.array([[20.0, 20.0]]), 5), "ada")
    export(one, kind)
    bring(other, kind, one.folder / "out")
    assert (other.classes_of(1) == one.classes_of(1)).all()


def test_the_files_are_named_like_their_images(project: Project) -> None:
    for image in filled(project).collection.all():
        for t, z in np.ndindex(image.shape[0], image.shape[2]):
            project.labels.draw(image.id, 1, Polyline(np.array([[20.0, 20.0]]), 5), "ada", t=t, z=z)
    root = project.folder / "out"
    assert sorted(path.relative_to(root).as_posix() for path in export(project, "masks")) == [
        "a.png",
        "deep_t0_z0.png",
        "deep_t0_z1.png",
        "deep_t0_z2.png",
        "fieldmark-labels.json",
        *(f"film_t{t}_z{z}.png" for t in range(2) for z in range(2)),
        "sub/b.png",
    ]
    root = project.folder / "seeds"
    assert sorted(path.relative_to(root).as_posix() for path in export(project, "markers", "seeds")) == [
        "a-seeds.txt",
        "deep-seeds.txt",
        "fieldmark-labels.json",
        *(f"film_t{t}_z{z}-seeds.txt" for t in range(2) for z in range(2)),
        "sub/b-seeds.txt",
    ]
    assert (root / "deep-seeds.txt").read_text().split()[1:4] == ["50", "40", "3"]


def test_images_that_differ_by_suffix_alone_keep_theirs(make_project: Callable[[], Project]) -> None:
    projects = [make_project(), make_project()]
    for project in projects:
        for name in ("x.png", "x.tif"):
            project.add_image(name, width=50, height=40)
        project.add_classes("a", "b")
    for image in (1, 2):
        projects[0].labels.draw(image, image, Polyline(np.array([[10.0 * image, 9.0]]), 4), "ada")
    assert {path.name for path in export(projects[0], "masks")} == {"x.png.png", "x.tif.png", "fieldmark-labels.json"}
    bring(projects[1], "masks", projects[0].folder / "out")
    for image in (1, 2):
        assert (projects[1].classes_of(image) == projects[0].classes_of(image)).all()


def test_files_are_not_overwritten_unasked(project: Project) -> None:
    scribble(filled(project), 3)
    files = export(project, "markers")
    files[0].write_text("mine")
    with pytest.raises(BadInput, match="this file is there already"):
        export(project, "markers")
    assert files[0].read_text() == "mine"
    export(project, "markers", overwrite=True)
    assert files[0].read_text() != "mine"


@pytest.mark.parametrize("kind", ["markers", "masks", "answers"])
@pytest.mark.parametrize("folder", ["images", "images/sub"])
def test_a_folder_of_images_is_never_written_into(project: Project, kind: str, folder: str) -> None:
    scribble(filled(project), 3)
    with pytest.raises(BadInput, match="image folders are never written into"):
        export(project, kind, folder)
    assert not (project.folder / "images").exists()


@pytest.mark.parametrize("kind", ["masks", "answers", "points"])
def test_beside_a_folder_of_images_is_no_folder_of_images(project: Project, kind: str) -> None:
    scribble(filled(project), 3)
    assert all(path.is_file() for path in export(project, kind, "."))
    assert not (project.folder / "images").exists()


def test_no_mask_lies_in_a_folder_of_images_by_its_images_name(project: Project) -> None:
    """Beside `images`, the mask of an image called `images/a.png` would take the place of the image itself."""
    project.add_image("a.png", width=50, height=40)
    other = project.add_image("images/a.png", width=50, height=40)
    (cell,) = project.add_classes("a")
    project.labels.draw(other, cell, Polyline(np.array([[9.0, 9.0]]), 4), "ada")
    with pytest.raises(BadInput, match=r"images: this folder holds the image a\.png"):
        export(project, "masks", ".", overwrite=True)


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "a/../../../evil.png"])
def test_a_hostile_image_name_leads_nowhere(project: Project, name: str) -> None:
    """A project from a stranger may name its images as it likes; exports stay in their folder."""
    project.add_image(name, width=50, height=40)
    (cell,) = project.add_classes("a")
    project.labels.draw(1, cell, Polyline(np.array([[9.0, 9.0]]), 4), "ada")
    with pytest.raises(BadInput, match="would be outside"):
        export(project, "masks", "far/out")
    assert not list(project.folder.rglob("evil*"))
    assert not Path("/evil.png").exists()


def test_answers_and_points_come_back_with_who_and_when(make_project: Callable[[], Project]) -> None:
    one, other = filled(make_project()), filled(make_project())
    one.labels.set_answer(1, 1, True, "ada")
    one.labels.set_answer(2, 3, False, "bob, the second")
    one.labels.add_point(4, 2, 1, 0.5, 10.125, 20.0625, 'cleo "c"')
    export(one, "answers")
    (file,) = one.labels.export_folder(one.folder / "out" / "p.csv", "points", one.collection)
    assert file == one.folder / "out" / "p.csv"
    bring(other, "answers", one.folder / "out")
    bring(other, "points", file)
    for project in (one, other):
        found = [(a.image_id, a.class_id, a.value, a.author) for a in project.labels.answers()]
        assert found == [(1, 1, True, "ada"), (2, 3, False, "bob, the second")]
        assert [(p.t, p.z, p.y, p.x, p.author) for p in project.labels.points()] == [
            (1, 0.5, 10.125, 20.0625, 'cleo "c"')
        ]
    assert [a.time for a in one.labels.answers()] == [a.time for a in other.labels.answers()]


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        "{}",
        '{"format": 1, "kind": "masks", "values": {"x": "a"}}',
        '{"format": 9, "kind": "masks", "values": {}}',
        '{"format": 1, "kind": "masks", "values": {"99999999": "class 1"}}',
    ],
)
def test_a_damaged_legend_is_refused(project: Project, text: str) -> None:
    scribble(filled(project), 3)
    export(project, "masks")
    (project.folder / "out" / "fieldmark-labels.json").write_text(text)
    with pytest.raises(BadFile, match=r"fieldmark-labels\.json"):
        bring(project, "masks", project.folder / "out")


def test_a_legend_with_a_strange_class_is_refused(project: Project) -> None:
    scribble(filled(project), 3)
    export(project, "masks")
    legend = project.folder / "out" / "fieldmark-labels.json"
    content = json.loads(legend.read_text())
    content["values"]["1"] = "clas 0"
    legend.write_text(json.dumps(content))
    with pytest.raises(BadFile, match=r"No class is called 'clas 0'\. Did you mean 'class 0'"):
        bring(project, "masks", project.folder / "out")
