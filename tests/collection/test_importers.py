"""Which images a folder, a list or a table names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fieldmark.collection.importers import from_csv, from_folder, from_list, plan
from fieldmark.errors import BadFile, BadInput
from fieldmark.images import encode_png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(["b10.png", "b2.png", "sub/c.png"]):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(np.full((4, 5), number, np.uint8)))
    (tmp_path / "images" / "notes.md").write_text("hello")
    (tmp_path / "images" / "film.mp4").write_bytes(b"1234")
    return tmp_path / "images"


def test_a_folder_names_its_images_in_natural_order(folder: Path) -> None:
    found = from_folder(folder)
    assert [image.name for image in found.images] == ["b2.png", "b10.png", "sub/c.png"]
    assert found.images[0].shown == str(folder / "b2.png")
    assert [Path(name).name for name, _ in found.left_out] == ["film.mp4"]


@pytest.mark.parametrize("mark", [".fieldmark/made/b2.png.json", "fieldmark-labels.json"])
def test_what_was_written_below_is_no_image_of_the_folder(folder: Path, mark: str) -> None:
    for name in ("b2.png", "deep/b10.png"):
        path = folder / "sub" / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(np.full((4, 5), 1, np.uint8)))
    sign = folder / "sub" / "out" / mark
    sign.parent.mkdir(parents=True, exist_ok=True)
    sign.write_text("{}")
    found = from_folder(folder)
    assert [image.name for image in found.images] == ["b2.png", "b10.png", "sub/c.png"]
    (note,) = found.notes
    assert note.startswith(f"{folder / 'sub' / 'out'}: 2 images that Fieldmark has written")
    named = from_folder(folder / "sub" / "out")
    assert [image.name for image in named.images] == ["b2.png", "deep/b10.png"]
    assert not named.notes


def test_a_file_names_itself(folder: Path) -> None:
    (image,) = from_folder(folder / "sub" / "c.png").images
    assert (image.name, image.path) == ("c.png", folder / "sub" / "c.png")


def test_a_list_is_relative_to_itself(folder: Path) -> None:
    listing = folder / "list.txt"
    listing.write_text("\ufeff# mine\n\nsub/c.png\nb2.png\nmissing.png\n", encoding="utf-8")
    found = from_list(listing)
    assert [(image.name, image.path) for image in found.images] == [
        ("sub/c.png", folder / "sub/c.png"),
        ("b2.png", folder / "b2.png"),
    ]
    assert found.left_out == [("missing.png", f"{listing} names it, but there is no such file")]


def test_a_table_gives_groups_and_splits(folder: Path) -> None:
    table = folder / "table.csv"
    table.write_text('path,cell,group,split\nb2.png,1,"smear, one",train\nsub/c.png,0,,test\n,,,\n')
    found = from_csv(table)
    assert [(i.name, i.group, i.split) for i in found.images] == [
        ("b2.png", "smear, one", "train"),
        ("sub/c.png", "", "test"),
    ]


def test_a_table_keeps_its_other_columns(folder: Path) -> None:
    table = folder / "table.csv"
    table.write_text("path, patient ,plate,,group\nb2.png, P 1 ,7,x,g\nsub/c.png,,8,y,,too,many\n")
    assert [dict(image.columns) for image in from_csv(table).images] == [
        {"patient": "P 1", "plate": "7"},
        {"plate": "8"},
    ]
    table.write_text("path,plate,plate\nb2.png,1,2\n")
    with pytest.raises(BadFile, match="2 columns called 'plate'"):
        from_csv(table)


@pytest.mark.parametrize(
    ("layout", "content", "message"),
    [
        ("csv", b"file,group\na.png,b\n", "its columns are file, group; one must be called `path`"),
        ("csv", b"", "its columns are none"),
        ("csv", b"path\n\xff\xfe\n", "not UTF-8 text"),
        ("list", b"\xff\xfe\n", "not UTF-8 text"),
        ("csv", b'path\n"' + b"x" * 200_000 + b'"\n', "not a table"),
    ],
)
def test_lists_that_are_none_are_refused(tmp_path: Path, layout: str, content: bytes, message: str) -> None:
    path = tmp_path / "list"
    path.write_bytes(content)
    with pytest.raises(BadFile, match=message):
        plan(path, layout)


def test_what_is_missing_is_refused(tmp_path: Path) -> None:
    for layout in ("folder", "list", "csv"):
        with pytest.raises(BadFile, match="none"):
            plan(tmp_path / "none", layout)
    with pytest.raises(BadInput, match="use one of folder, list, csv, lids"):
        plan(tmp_path, "zip")


def test_names_that_no_system_has_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("a\0b.png\n" + "x" * 5000 + ".png\n")
    assert len(from_list(tmp_path / "list").left_out) == 2
