"""The catalog: add, look up, group, split, exclude, find again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from fieldmark.collection import Collection, ImageRecord
from fieldmark.core.axes import PixelSize
from fieldmark.errors import BadInput, FieldmarkError, NotFound
from fieldmark.images import encode_png
from fieldmark.store import open_store


@pytest.fixture
def collection(tmp_path: Path):
    with open_store(tmp_path / "fieldmark.db", create=True) as store:
        yield Collection(store)


def picture(path: Path, seed: int, shape: tuple[int, ...] = (6, 9)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)))
    return path


def record(name: str, **values: object) -> ImageRecord:
    return ImageRecord(
        **{
            "uri": f"/x/{name}",
            "name": name,
            "content_hash": name,
            "shape": (1, 3, 1, 6, 9),
            "dtype": "uint8",
            "axes": "cyx",
        }
        | values
    )


def test_a_table_that_is_added_again_brings_its_new_columns(collection: Collection, images: Path) -> None:
    table = images / "table.csv"
    table.write_text("path,plate,patient\nim9.png,1,a\nim10.png,1,\n")
    assert not collection.add_images(table, layout="csv").described
    table.write_text("path,plate,stain\nim9.png,1,H\nim10.png,2,E\nim11.png,2,E\n")
    report = collection.add_images(table, layout="csv")
    assert [image.name for image in report.described] == ["im9.png", "im10.png"]
    told = {image.name: image.columns for image in collection.all()}
    assert told == {
        "im9.png": {"plate": "1", "patient": "a", "stain": "H"},
        "im10.png": {"plate": "2", "stain": "E"},
        "im11.png": {"plate": "2", "stain": "E"},
    }
    collection.store.undo()
    assert {image.name: image.columns for image in collection.all()} == {
        "im9.png": {"plate": "1", "patient": "a"},
        "im10.png": {"plate": "1"},
    }
    assert not collection.store.check()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(3):
        picture(tmp_path / "images" / f"im{number + 9}.png", number)
    picture(tmp_path / "images" / "sub" / "color.png", 3, (6, 9, 3))
    return tmp_path / "images"


def test_a_record_comes_back_as_it_was(collection: Collection) -> None:
    given = record(
        "a.png",
        pixel_size=PixelSize(0.5, 0.1, None),
        group="g",
        split="test",
        excluded="blurred",
        columns={"Rötung": '3,5 "hell"', "focus": None},
    )
    (number,) = collection.add([given], author="ada")
    found = collection.get(number)
    assert found.columns == given.columns
    assert (found.id, found.shape, found.pixel_size) == (number, (1, 3, 1, 6, 9), PixelSize(0.5, 0.1, None))
    assert (found.group, found.split, found.excluded, found.path) == ("g", "test", "blurred", Path("/x/a.png"))


def test_images_are_listed_in_natural_order(collection: Collection) -> None:
    collection.add([record("b10.png"), record("b9.png"), record("A1.png"), record("b8.png", excluded="dirty")])
    assert [image.name for image in collection.all()] == ["A1.png", "b9.png", "b10.png"]
    assert [image.name for image in collection.all(include_excluded=True)] == ["A1.png", "b8.png", "b9.png", "b10.png"]


def test_many_images_are_one_change(collection: Collection) -> None:
    assert collection.add([record(f"{n}.png") for n in range(50)], author="ada") == list(range(1, 51))
    assert [entry.summary for entry in collection.store.history()] == ["add 50 images"]
    collection.store.undo("ada")
    assert collection.all() == []
    collection.store.redo("ada")
    assert len(collection.all()) == 50


def test_a_name_is_given_once(collection: Collection) -> None:
    collection.add([record("a.png")])
    for records in ([record("a.png")], [record("b.png"), record("b.png")]):
        with pytest.raises(BadInput, match="given twice"):
            collection.add(records)
    assert len(collection.all()) == 1


def test_images_are_found_by_name_and_path_with_a_hint(collection: Collection, images: Path) -> None:
    collection.add_images(images)
    assert collection.find("sub/color.png").shape == (1, 3, 1, 6, 9)
    assert collection.find(str(images / "im9.png")).name == "im9.png"
    assert collection.find(os.path.relpath(images / "im9.png")).name == "im9.png"
    with pytest.raises(NotFound, match=r"Did you mean 'sub/color\.png'"):
        collection.find("sub/colour.png")
    with pytest.raises(NotFound):
        collection.get(99)


def test_groups_splits_and_exclusions_are_changes(collection: Collection) -> None:
    one, two = collection.add([record("a.png"), record("b.png")])
    collection.set_group([one, two], "smear 7", author="ada")
    collection.set_split([one], "train")
    collection.set_splits({two: "test"})
    collection.exclude([two], "blurred")
    assert [(i.group, i.split, i.excluded) for i in collection.all(include_excluded=True)] == [
        ("smear 7", "train", ""),
        ("smear 7", "test", "blurred"),
    ]
    assert collection.store.history(1)[0].summary == "exclude 1 image: blurred"
    collection.exclude([two], "")
    assert len(collection.all()) == 2
    with pytest.raises(NotFound):
        collection.set_split([one, 99], "val")
    assert collection.get(one).split == "train"


def test_a_folder_is_added_with_what_its_files_say(collection: Collection, images: Path) -> None:
    report = collection.add_images(images, author="ada")
    assert [image.name for image in report.added] == ["im9.png", "im10.png", "im11.png", "sub/color.png"]
    assert [image.id for image in report.added] == [1, 2, 3, 4]
    found = collection.find("sub/color.png")
    assert (found.shape, found.dtype, found.axes) == ((1, 3, 1, 6, 9), "uint8", "cyx")
    assert found.uri == (images / "sub" / "color.png").as_posix()
    assert report.known == report.left_out == report.moved == report.duplicates == []


def test_adding_again_adds_what_is_new(collection: Collection, images: Path) -> None:
    collection.add_images(images)
    revision = collection.store.revision
    report = collection.add_images([images, images / "im9.png"])
    assert (len(report.known), report.added) == (5, [])
    assert collection.store.revision == revision
    picture(images / "new.png", 77)
    assert [image.name for image in collection.add_images(images).added] == ["new.png"]


def test_a_bad_file_is_left_out_and_the_rest_goes_on(collection: Collection, images: Path) -> None:
    (images / "im10.png").write_bytes((images / "im10.png").read_bytes()[:60])
    (images / "empty.png").touch()
    (images / "text.png").write_text("hello")
    report = collection.add_images(images)
    assert [image.name for image in report.added] == ["im9.png", "im11.png", "sub/color.png"]
    assert sorted(Path(shown).name for shown, _ in report.left_out) == ["empty.png", "im10.png", "text.png"]
    assert all(reason for _, reason in report.left_out)


def test_an_image_too_large_is_left_out(collection: Collection, images: Path) -> None:
    report = collection.add_images(images, max_bytes=220)
    assert [image.name for image in report.added] == ["im9.png", "im10.png", "im11.png"]
    assert "--max-bytes" in report.left_out[0][1]


def test_the_same_content_twice_is_told(collection: Collection, images: Path) -> None:
    shutil.copy(images / "im9.png", images / "zz.png")
    report = collection.add_images(images)
    assert report.duplicates == [("zz.png", "im9.png")]
    assert len(report.added) == 5


def test_content_at_a_new_place_whose_old_place_is_gone_has_moved(collection: Collection, images: Path) -> None:
    collection.add_images(images)
    before = collection.find("im9.png")
    (images / "im9.png").rename(images / "renamed.png")
    report = collection.add_images(images)
    assert [(moved.image.name, moved.uri) for moved in report.moved] == [
        ("im9.png", (images / "renamed.png").as_posix())
    ]
    assert report.added == []
    assert collection.get(before.id).uri.endswith("/renamed.png")
    assert collection.get(before.id).name == "im9.png"
    collection.store.undo()
    assert collection.get(before.id).uri == before.uri


def test_a_file_whose_content_changed_is_left_out(collection: Collection, images: Path) -> None:
    collection.add_images(images)
    picture(images / "im9.png", 1234)
    report = collection.add_images(images)
    assert [Path(shown).name for shown, _ in report.left_out] == ["im9.png"]
    assert "content has changed" in report.left_out[0][1]


def test_equal_names_are_told_apart_by_their_folders(collection: Collection, tmp_path: Path) -> None:
    for number, place in enumerate(["x/a/1.png", "y/a/1.png", "z/a/1.png"]):
        picture(tmp_path / place, number)
    report = collection.add_images([tmp_path / "x/a", tmp_path / "y/a", tmp_path / "z/a"])
    assert [image.name for image in report.added] == ["1.png", "a/1.png", "z/a/1.png"]


@pytest.mark.parametrize(
    ("group_by", "groups"),
    [(None, ["", "", ""]), ("folder", ["s1", "s2", ""]), (r"^s(\d)", ["1", "2", ""]), (r"_(\w+)\.", ["x", "y", ""])],
)
def test_groups_come_from_names(
    collection: Collection, tmp_path: Path, group_by: str | None, groups: list[str]
) -> None:
    for number, place in enumerate(["s1/a_x.png", "s2/b_y.png", "c.png"]):
        picture(tmp_path / "in" / place, number)
    collection.add_images(tmp_path / "in", group_by=group_by)
    assert [collection.find(name).group for name in ("s1/a_x.png", "s2/b_y.png", "c.png")] == groups


@pytest.mark.parametrize("group_by", ["(", "no group", "(a)(b)"])
def test_a_pattern_that_gives_no_group_is_refused(collection: Collection, images: Path, group_by: str) -> None:
    with pytest.raises(BadInput, match="group_by"):
        collection.add_images(images, group_by=group_by)


def test_a_table_brings_groups_and_splits(collection: Collection, images: Path) -> None:
    (images / "t.csv").write_text("path,group,split,cell\nim9.png,g1,train,1\nsub/color.png,,test,0\n")
    collection.add_images(images / "t.csv", layout="csv", group_by="folder")
    assert [(i.name, i.group, i.split) for i in collection.all()] == [
        ("im9.png", "g1", "train"),
        ("sub/color.png", "sub", "test"),
    ]


def test_each_file_is_reported_while_it_works(collection: Collection, images: Path) -> None:
    events = []
    collection.add_images(images, watch=events.append)
    assert [(event.step, event.total) for event in events] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_moved_images_are_found_by_content(collection: Collection, images: Path, tmp_path: Path) -> None:
    collection.add_images(images)
    assert collection.find_moved(images) == []
    images.rename(tmp_path / "elsewhere")
    found = collection.find_moved(tmp_path / "elsewhere")
    assert sorted((moved.image.name, Path(moved.uri).name) for moved in found) == [
        ("im10.png", "im10.png"),
        ("im11.png", "im11.png"),
        ("im9.png", "im9.png"),
        ("sub/color.png", "color.png"),
    ]
    revision = collection.store.revision
    for moved in found:
        collection.relocate(moved.image.id, moved.uri)
    assert collection.store.revision == revision + 4
    assert all(image.path.exists() for image in collection.all())


def test_an_image_is_not_moved_to_other_content(collection: Collection, images: Path) -> None:
    collection.add_images(images)
    image = collection.find("im9.png")
    with pytest.raises(BadInput, match=r"content is not that of 'im9\.png'"):
        collection.relocate(image.id, images / "im10.png")
    with pytest.raises(BadInput, match="no such file"):
        collection.relocate(image.id, images / "none.png")
    shutil.copy(images / "im9.png", images / "copy.png")
    collection.relocate(image.id, images / "copy.png")
    assert collection.get(image.id).uri.endswith("copy.png")


def test_real_sixteen_bit_color_is_added(collection: Collection, data_dir: Path) -> None:
    report = collection.add_images(data_dir / "eggs" / "orig")
    assert [(image.dtype, image.shape) for image in report.added] == [("uint16", (1, 3, 1, 400, 400))] * 7


def test_adding_writes_nothing_into_the_image_folder(collection: Collection, images: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in images.rglob("*")}
    collection.add_images(images)
    assert {path: path.stat().st_mtime_ns for path in images.rglob("*")} == before


def test_a_damaged_row_is_told_in_words(collection: Collection) -> None:
    collection.add([record("a.png")])
    with collection.store.transaction("ada", "break") as change:
        change.connection.exec_driver_sql("UPDATE images SET shape = '1,2'")
    with pytest.raises(FieldmarkError, match="shape is '1,2': the project is damaged"):
        collection.all()
