"""LIDS data sets: names, split files, stratified splits."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.collection.importers import plan
from fieldmark.collection.lids import (
    LidsImage,
    class_of,
    read_dataset,
    read_split,
    split_files,
    stratified,
    write_splits,
)
from fieldmark.errors import BadFile, BadInput
from fieldmark.images import encode_png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    for name in ("1_1.png", "1_2.png", "2_1.png", "000003_000012.png"):
        (tmp_path / "set" / name).write_bytes(encode_png(np.zeros((4, 5), np.uint8)))
    return tmp_path / "set"


@pytest.mark.parametrize(
    ("name", "klass"),
    [
        ("1_1.png", 1),
        ("000012_000001.png", 12),
        ("10_a_b.nii.gz", 10),
        ("0_1.png", 0),
        ("cell_1.png", 0),
        ("12.png", 0),
        ("_1.png", 0),
        ("-1_1.png", 0),
    ],
)
def test_the_class_stands_in_front_of_the_first_underscore(name: str, klass: int) -> None:
    assert class_of(name) == klass


def test_a_folder_is_a_data_set(folder: Path) -> None:
    (folder / "odd.png").write_bytes(b"")
    (folder / "deep").mkdir()
    (folder / "deep" / "1_9.png").write_bytes(b"")
    found = [(one.name, one.klass) for one in read_dataset(folder)]
    assert found == [("1_1.png", 1), ("1_2.png", 1), ("2_1.png", 2), ("000003_000012.png", 3), ("odd.png", 0)]
    planned = plan(folder, "lids")
    assert [(one.name, one.klass, one.split) for one in planned.images] == [(name, k, "") for name, k in found[:4]]
    assert sorted(Path(name).name for name, _ in planned.left_out) == ["1_9.png", "odd.png"]


def test_split_files_are_found_and_taken(folder: Path) -> None:
    (folder / "a-train.txt").write_text("\ufeff1_1.png\r\n\n2_1.png\n", encoding="utf-8")
    (folder / "a-test.txt").write_text("1_2.png\n")
    (folder / "2_1.txt").write_text("0 5 4\n")
    planned = plan(folder, "lids")
    assert {one.name: one.split for one in planned.images} == {
        "1_1.png": "train",
        "2_1.png": "train",
        "1_2.png": "test",
        "000003_000012.png": "",
    }
    assert [one.name for one in plan(folder / "a-train.txt", "lids").images] == ["1_1.png", "2_1.png"]


@pytest.mark.parametrize("name", ["train.txt", "train_split.txt", "x_train.txt", "x-y-train.txt", "TRAIN.TXT"])
def test_split_files_are_told_by_their_part(folder: Path, name: str) -> None:
    (folder / name).write_text("1_1.png\n")
    assert split_files(folder, read_dataset(folder)) == {"train": folder / name}


def test_markers_of_an_image_are_no_split(folder: Path) -> None:
    (folder / "1_test.png").write_bytes((folder / "1_1.png").read_bytes())
    (folder / "1_test.txt").write_text("0 5 4\n")
    assert split_files(folder, read_dataset(folder)) == {}


BAD = {
    "missing names": ({"a-train.txt": "1_1.png\n9_9.png\n8_8.png\n"}, "names 2 images that .* 9_9.png, 8_8.png"),
    "two parts": ({"a-train.txt": "1_1.png\n", "a-val.txt": "1_1.png\n"}, "1_1.png, which is in the part"),
    "two splits": ({"a-train.txt": "1_1.png\n", "b-train.txt": "1_1.png\n"}, "several splits: a, b"),
    "nothing": ({"a-train.txt": "\n"}, "names no image"),
    "no text": ({"a-train.txt": b"\xff\xfe"}, "not UTF-8"),
    "no class": ({"a-train.txt": "odd.png\n", "odd.png": b"x"}, "begin with no class from 1 to 4096: odd.png"),
    "a date": ({"20261123_1.png": b"x"}, "begin with no class from 1 to 4096: 20261123_1.png"),
}


@pytest.mark.parametrize("name", BAD)
def test_splits_that_do_not_fit_are_refused(folder: Path, name: str) -> None:
    files, message = BAD[name]
    for file, content in files.items():
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadFile, match=message):
        plan(folder, "lids")


def test_accents_are_the_same_however_they_are_written(tmp_path: Path) -> None:
    """Some disks take letters with accents apart; the editor that wrote the split did not."""
    names = [f"{klass}_zélle.png" for klass in (1, 2)]
    for name in names:
        (tmp_path / unicodedata.normalize("NFD", name)).write_bytes(b"")
    (tmp_path / "split.txt").write_text(unicodedata.normalize("NFC", "\n".join([*names, names[0]])), encoding="utf-8")
    found = read_split(tmp_path / "split.txt", read_dataset(tmp_path), tmp_path)
    assert [(one.klass, one.path.is_file()) for one in found] == [(1, True), (2, True)]


def test_what_is_no_data_set_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "empty", "no image"),
        (folder / "1_1.png", "neither"),
        (tmp_path / "x", "neither"),
    ):
        with pytest.raises(BadFile, match=message):
            plan(path, "lids")


def made(*counts: int) -> list[LidsImage]:
    return [LidsImage(Path(f"{k}_{n}"), f"{k}_{n}", k) for k, many in enumerate(counts, 1) for n in range(many)]


def test_parts_are_written_and_read_again(tmp_path: Path, folder: Path) -> None:
    images = read_dataset(folder)
    files = write_splits(tmp_path / "out" / "a", stratified(images, 2, None, None, seed=42))
    assert [file.name for file in files.values()] == ["a-train.txt", "a-test.txt"]
    names = [one.name for file in files.values() for one in read_split(file, images, folder)]
    assert sorted(names) == sorted(one.name for one in images)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(0, 60), st.integers(0, 60), st.integers(0, 9))
def test_each_class_gets_its_share_but_for_one_image(counts: list[int], train: int, val: int, seed: int) -> None:
    images = made(*counts)
    train, val = train % (len(images) + 1), val % (len(images) + 1)
    if train + val > len(images):
        return
    parts = stratified(images, train, val, None, seed=seed)
    assert [len(parts[part]) for part in ("train", "val", "test")] == [train, val, len(images) - train - val]
    assert sorted(one.name for part in parts.values() for one in part) == sorted(one.name for one in images)
    have = Counter(one.klass for one in parts["train"])
    for klass, many in enumerate(counts, start=1):
        assert abs(have[klass] - train * many / len(images)) < 1 + 1e-9
    assert parts == stratified(images, train, val, None, seed=seed)


@pytest.mark.parametrize("shares", [(0.5, 0.25, 0.25), (0.7, 0.2, 0.1), (0.6, 0.2, 0.2), (0.35, 0.35, 0.3)])
def test_shares_of_the_whole_are_the_whole(shares: tuple[float, float, float]) -> None:
    for total in range(3, 60):
        sizes = [len(part) for part in stratified(made(total // 3, total - total // 3), *shares, seed=1).values()]
        assert sum(sizes) == total, (total, sizes)
        assert all(abs(size - share * total) <= 1 for size, share in zip(sizes, shares, strict=True))


def test_shares_and_numbers() -> None:
    parts = stratified(made(10, 30), 0.5, 0.25, 4, seed=1)
    assert [len(part) for part in parts.values()] == [20, 10, 4]
    with pytest.raises(BadInput, match="more than the data set's 40"):
        stratified(made(10, 30), 30, 20, None, seed=1)
    with pytest.raises(BadInput, match="a share below 1"):
        stratified(made(10), 2.5, None, None, seed=1)
