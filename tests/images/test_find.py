"""Which images a path names; links; order; what is left out and why."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import zarr

from fieldmark.errors import BadFile
from fieldmark.images import find_images, is_image_name, open_image
from fieldmark.images.find import natural_key


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names(found) -> list[str]:
    return [shown for _, shown in found.images]


def image_folder(path: Path, version: int = 3) -> None:
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    group.create_array("0", shape=(4, 4), dtype="u1")
    image = [{"axes": [{"name": "y"}, {"name": "x"}], "datasets": [{"path": "0"}]}]
    group.update_attributes({"ome": {"multiscales": image}} if version == 3 else {"multiscales": image})


def test_a_file_is_itself_whatever_its_name(tmp_path):
    touch(tmp_path, "notes.txt")
    found = find_images(tmp_path / "notes.txt", shown="notes.txt")
    assert found.images == [(tmp_path / "notes.txt", "notes.txt")]


def test_folders_are_searched_in_natural_order(tmp_path):
    touch(tmp_path, "b10.png", "b2.png", "A1.TIF", "sub/c.jpg", "sub/deeper/d.npy")
    found = find_images(tmp_path, shown="pics")
    assert names(found) == ["pics/A1.TIF", "pics/b2.png", "pics/b10.png", "pics/sub/c.jpg", "pics/sub/deeper/d.npy"]
    assert found.left_out == []
    assert [path.relative_to(tmp_path).as_posix() for path, _ in found.images] == [n[5:] for n in names(found)]


def test_several_paths_keep_their_order(tmp_path):
    touch(tmp_path, "b/1.png", "a/2.png", "3.png")
    found = find_images([tmp_path / "b", tmp_path / "a", tmp_path / "3.png"])
    assert names(found) == [str(tmp_path / name) for name in ("b/1.png", "a/2.png", "3.png")]


def test_hidden_files_and_companions_are_passed_over_and_strangers_named(tmp_path):
    touch(tmp_path, ".hidden.png", ".git/x.png", "table.csv", "README.md", "meta.json", "movie.mp4", "noext", "a.png")
    found = find_images(tmp_path, shown="p")
    assert names(found) == ["p/a.png"]
    assert found.left_out == [
        ("p/movie.mp4", "not an image format that Fieldmark reads"),
        ("p/noext", "not an image format that Fieldmark reads"),
    ]


def test_zarr_folders_are_one_image_and_plates_are_many(tmp_path):
    image_folder(tmp_path / "a.ome.zarr")
    image_folder(tmp_path / "old.zarr", 2)
    image_folder(tmp_path / "plate.zarr/A/1/0")
    zarr.open_group(str(tmp_path / "plate.zarr"), mode="a").attrs["ome"] = {"plate": {}}
    zarr.save_array(str(tmp_path / "bare.zarr"), np.zeros((4, 4)))
    touch(tmp_path, "broken.zarr/0/0/0")
    found = find_images(tmp_path, shown="p")
    assert names(found) == ["p/a.ome.zarr", "p/old.zarr", "p/plate.zarr/A/1/0"]
    assert found.left_out == [
        ("p/bare.zarr", "a zarr array without OME-Zarr metadata"),
        ("p/broken.zarr", "named as OME-Zarr, but without zarr metadata"),
    ]
    assert names(find_images(tmp_path / "a.ome.zarr", shown="a")) == ["a"]


def test_a_zarr_image_with_broken_metadata_is_found_so_that_opening_it_says_what_is_wrong(tmp_path):
    image_folder(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/zarr.json").write_text("{")
    ((path, shown),) = find_images(tmp_path, shown="p").images
    with pytest.raises(BadFile, match=r"p/a\.zarr: its zarr\.json cannot be read"):
        open_image(path, shown=shown)


def test_links_lead_only_to_files_inside(tmp_path):
    touch(tmp_path, "in/a.png", "out/b.png", "in/sub/c.png")
    links = {
        "inside.png": "a.png",
        "up.png": "../out/b.png",
        "absolute.png": str(tmp_path / "out/b.png"),
        "gone.png": "nothing.png",
        "folder": "../out",
        "inner": "sub",
        "circle.png": "circle.png",
        "twice.png": "up.png",
    }
    for name, target in links.items():
        (tmp_path / "in" / name).symlink_to(target)
    found = find_images(tmp_path / "in", shown="in")
    assert names(found) == ["in/a.png", "in/inside.png", "in/sub/c.png"]
    assert dict(found.left_out) == {
        "in/absolute.png": "a link that leads out of the folder",
        "in/circle.png": "a link that leads nowhere",
        "in/folder": "a link that leads out of the folder",
        "in/gone.png": "a link that leads nowhere",
        "in/inner": "a link to something that is not a file",
        "in/twice.png": "a link that leads out of the folder",
        "in/up.png": "a link that leads out of the folder",
    }


def test_the_named_folder_may_itself_be_a_link(tmp_path):
    touch(tmp_path, "real/a.png")
    (tmp_path / "real/b.png").symlink_to("a.png")
    (tmp_path / "way").symlink_to("real")
    assert names(find_images(tmp_path / "way", shown="way")) == ["way/a.png", "way/b.png"]


def test_pipes_are_left_out(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    found = find_images(tmp_path, shown="p")
    assert found.left_out == [("p/pipe.png", "a device, pipe or socket, not a file")]


@pytest.mark.parametrize("name", ["gone", "a\0b", "x" * 5000])
def test_a_path_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(BadFile, match=r"^what I typed: "):
        find_images(tmp_path / name, shown="what I typed")


def test_an_empty_folder_has_no_images(tmp_path):
    assert find_images(tmp_path).images == []


def test_numbers_sort_as_numbers():
    given = ["x10y2", "x2", "X1", "x10y10", "x", "2", "10", "x02"]
    assert sorted(given, key=natural_key) == ["2", "10", "x", "X1", "x2", "x02", "x10y2", "x10y10"]


@pytest.mark.parametrize(("name", "known"), [("a.PNG", True), ("a.ome.tif", True), ("a.csv", False), ("png", False)])
def test_names_that_promise_an_image(name, known):
    assert is_image_name(name) is known
