"""A LIDS data set in a project: classes, answers and splits in one change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fieldmark.errors import BadFile
from fieldmark.images import encode_png
from fieldmark.workbench import Workbench


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    for number, name in enumerate(("1_1.png", "1_2.png", "3_1.png")):
        (tmp_path / "set" / name).write_bytes(encode_png(np.full((4, 5), number, np.uint8)))
    (tmp_path / "set" / "a-train.txt").write_text("1_1.png\n3_1.png\n")
    (tmp_path / "set" / "a-test.txt").write_text("1_2.png\n")
    return tmp_path / "set"


@pytest.fixture
def bench(tmp_path: Path):
    with Workbench.init(tmp_path / "project", ["round"]) as bench:
        yield bench


def matrix(bench: Workbench) -> list[list[float]]:
    classes = [one.id for one in bench.labels.classes()]
    return bench.labels.answer_matrix([one.id for one in bench.collection.all()], classes).tolist()


def test_classes_answers_and_splits(bench: Workbench, folder: Path) -> None:
    before = len(bench.store.history())
    report = bench.add([folder], layout="lids")
    assert len(report.added) == 3
    assert [one.name for one in bench.labels.classes()] == ["round", "2", "3"]
    assert matrix(bench) == [[1, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert [one.split for one in bench.collection.all()] == ["train", "test", "train"]
    assert report.notes == ["File names number the classes in the project's order: 1 is 'round', 2 is '2', 3 is '3'."]
    assert len(bench.store.history()) == before + 1


def test_one_undo_takes_all_of_it_back(bench: Workbench, folder: Path) -> None:
    bench.add([folder], layout="lids")
    bench.store.undo()
    assert (bench.collection.all(), [one.name for one in bench.labels.classes()]) == ([], ["round"])
    assert bench.labels.answers() == []
    bench.store.redo()
    assert matrix(bench) == [[1, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert bench.store.check() == []


def test_classes_behind_those_of_the_data_set_stay_unknown(bench: Workbench, folder: Path) -> None:
    for name in ("b", "c", "d"):
        bench.labels.add_class(name)
    bench.add([folder], layout="lids")
    assert np.isnan(np.array(matrix(bench))[:, 3]).all()


def test_images_that_are_there_get_answers_and_people_keep_theirs(bench: Workbench, folder: Path) -> None:
    bench.add([folder])
    first = bench.collection.find("1_1.png").id
    bench.labels.set_answer(first, bench.labels.classes()[0].id, value=False, author="ada")
    second = bench.collection.find("1_2.png").id
    bench.labels.set_answer(second, bench.labels.classes()[0].id, value=True, author="ada")
    bench.labels.set_answer(second, bench.labels.classes()[0].id, value=None, author="ada")
    report = bench.add([folder], layout="lids")
    assert len(report.known) == 3
    assert matrix(bench) == [[0, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert report.notes[-1] == "1 answers that people had given differ from the file names, and were kept."
    assert bench.collection.find("1_2.png").split == "test"


def test_a_bad_split_adds_nothing(bench: Workbench, folder: Path) -> None:
    (folder / "a-test.txt").write_text("1_2.png\n7_7.png\n")
    with pytest.raises(BadFile, match=r"7_7\.png"):
        bench.add([folder], layout="lids")
    assert bench.collection.all() == []
