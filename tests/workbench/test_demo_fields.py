"""The demo's images, strokes and masks: whole, in place, and honest about what is known."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest

from fieldmark.errors import BadFile, NotFound
from fieldmark.evaluate.baselines import forest
from fieldmark.evaluate.counts import count_pixels
from fieldmark.evaluate.ratios import dice
from fieldmark.workbench.demo_fields import demo_names, demo_project, demo_projects, read_runs


@pytest.fixture(scope="module")
def projects():
    return {project.name: project for project in demo_projects()}


def strokes(field) -> np.ndarray:
    """A field's markers as a label map, read without the package's own reader."""
    labels = np.zeros(field.mask.shape, int)
    for line in (field.markers_text or "").splitlines()[1:]:
        x, y, _, label = map(int, line.split())
        labels[y, x] = label
    return labels


def test_the_fields_put_together_are_the_picture(projects):
    from skimage import data

    for name, picture, rows in (("coins", data.coins(), 2), ("gland", data.immunohistochemistry(), 4)):
        images = [field.image for field in projects[name].fields]
        per_row = len(images) // rows
        whole = [np.concatenate(images[i : i + per_row], axis=1) for i in range(0, len(images), per_row)]
        assert (np.concatenate(whole) == picture).all()


def test_the_retina_is_the_mean_of_squares(projects):
    from skimage import data

    first = projects["retina"].fields[0].image
    picture = data.retina()
    for y, x in ((0, 0), (5, 77), (127, 111)):
        square = picture[2 * (110 + y) : 2 * (110 + y) + 2, 2 * (160 + x) : 2 * (160 + x) + 2].astype(float)
        assert np.abs(first[y, x] - square.mean(axis=(0, 1))).max() <= 0.5


def test_every_project_has_what_the_main_job_needs(projects):
    assert tuple(projects) == demo_names()
    for project in projects.values():
        marked = [field for field in project.fields if field.markers_text]
        assert len(project.fields) == 8
        assert len(marked) == 2
        for field in project.fields:
            assert field.image.dtype == field.mask.dtype == np.uint8
            assert field.image.shape[:2] == field.mask.shape
            assert set(np.unique(field.mask)) <= set(range(len(project.classes) + 1))
            assert {1, 2} <= set(np.unique(field.mask))
            assert (field.mask == 0).mean() < 0.05


def test_marker_files_count_and_stay_inside(projects):
    for project in projects.values():
        for field in project.fields:
            if field.markers_text is None:
                continue
            head, *lines = field.markers_text.splitlines()
            rows = np.array([line.split() for line in lines], int)
            assert head == f"{len(lines)} {field.mask.shape[1]} {field.mask.shape[0]}"
            assert len({(x, y) for x, y, _, _ in rows.tolist()}) == len(lines)
            assert (rows[:, :2].min(axis=0) >= 0).all()
            assert (rows[:, :2].max(axis=0) < field.mask.shape[::-1]).all()
            assert set(rows[:, 3]) == {1, 2}
            assert all(len(set(rows[rows[:, 2] == stroke, 3])) == 1 for stroke in set(rows[:, 2]))


def test_strokes_are_few_and_agree_with_the_masks(projects):
    for project in projects.values():
        for field in project.fields:
            labels = strokes(field)
            drawn = (labels > 0) & (field.mask > 0)
            assert (labels > 0).mean() < 0.1
            if drawn.any():
                assert (labels == field.mask)[drawn].mean() > 0.98


@pytest.mark.parametrize(("name", "least"), [("coins", 0.8), ("gland", 0.95), ("retina", 0.7)])
def test_the_strokes_teach_a_forest(projects, name, least):
    fields = projects[name].fields
    images = [field.image.reshape(*field.mask.shape, -1) for field in fields]
    labels = [strokes(field) for field in fields]
    method = forest(images, labels)
    scores = [
        dice(count_pixels(method.predict(image, field.name).labels, field.mask, (1, 2), field.mask == 0))[1]
        for field, image, drawn in zip(fields, images, labels, strict=True)
        if not drawn.any()
    ]
    assert len(scores) == 6
    assert np.mean(scores) > least


def test_runs():
    text = "# a remark\n4 3\n1:4\n=\n0:1 2:3\n"
    assert read_runs(text, "a").tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [0, 2, 2, 2]]
    for damaged in ("4 3\n1:4\n=\n", "4 1\n1:3\n"):
        with pytest.raises(BadFile, match="a-mask"):
            read_runs(damaged, "a-mask.txt")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(NotFound, match="'coins'"):
        demo_project("coin")


def test_the_data_stays_small():
    folder = files("fieldmark.workbench").joinpath("demo_data")
    assert sum(len(entry.read_bytes()) for entry in folder.iterdir()) < 150_000


def test_importing_it_imports_no_array_library():
    code = "import sys, fieldmark.workbench.demo_fields; print({'numpy', 'skimage'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
