"""Which file belongs to which image: stems, folders, endings, accents; what is ambiguous is refused."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.collection.naming import pair_files, pair_folder
from fieldmark.errors import BadInput
from fieldmark.images import encode_png


def pairs(images, files):
    found = pair_files(images, {name: Path("maps", name) for name in files})
    return {image: path.relative_to("maps").as_posix() for image, path in found.files.items()}, found.unused


def test_names_pair_without_their_suffix():
    assert pairs(["b.tif", "a.ome.tif", "c.png"], ["a.png", "b.png", "d.png"]) == (
        {"b.tif": "b.png", "a.ome.tif": "a.png"},
        ("d.png",),
    )
    assert list(pairs(["b.tif", "a.tif"], ["a.png", "b.png"])[0]) == ["b.tif", "a.tif"]


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["a/one.png", "b/one.png"], {"a/one.tif": "a/one.png", "b/one.tif": "b/one.png"}),
        (["two.ome.tif"], {"c/two.png": "two.ome.tif"}),
        (["deep/two_seg.png"], {"c/two.png": "deep/two_seg.png"}),
        (["two.png_mask.tif"], {"c/two.png": "two.png_mask.tif"}),
        (["three.png"], {}),
        (["b/two.png"], {}),  # of an image of b that there is not; c/two.png is another
        (["a/two_mask.png", "deep/two.png"], {"c/two.png": "deep/two.png"}),
        (["two_edges.png"], {}),
        (["twotwo.png"], {}),
    ],
)
def test_whole_names_count_before_their_last_part(files, found):
    assert pairs(["a/one.tif", "b/one.tif", "c/two.png"], files)[0] == found


@pytest.mark.parametrize(
    ("image", "file", "paired"),
    [
        ("images/a.tif", "labels/a.tif", True),
        ("a.tif", "x/y/z/a.png", True),
        ("x/y/z/a.tif", "a.png", True),
        ("images/day1/a.tif", "labels/day1/a.tif", True),
        ("data/images/day1/a.tif", "labels/day1/a_mask.tif", True),
        ("day1/images/a.tif", "day1/labels/a.tif", True),
        ("day1/images/a.tif", "day2/labels/a.tif", False),
        ("day1/one/a.tif", "day2/two/a.tif", False),
        ("B/1/0", "0.png", True),
        ("B/1/0", "masks/0.png", True),
        ("B/1/0", "A/1/0", False),
        ("B/1/0", "B/2/0", False),
        ("2/1/0", "1/1/0", False),  # rows may have numbers
        ("plate.zarr/B/1/0", "B/1/0", True),
        ("plate.zarr/B/1/0", "A/1/0", False),
        ("B/1/0", "masks/B/1/0.tif", True),
        ("B/1/0", "masks/A/1/0.tif", False),
        ("B/1/0.tif", "A/1/0.tif", False),
        ("images/B01/s1.tif", "labels/B1/s1.tif", True),
        ("B01/s1.tif", "A01/s1.tif", False),
    ],
)
def test_the_last_part_counts_where_folders_may_mean_the_same(image, file, paired):
    assert pairs([image], [file]) == (({image: file}, ()) if paired else ({}, (file,)))


def test_a_well_says_which_of_several_images_is_meant():
    images = [f"{well}/{field}" for well in ("A/1", "B/1", "B/2") for field in (0, 1)]
    files = [f"masks/{image}.tif" for image in images]
    assert pairs(images, files)[0] == dict(zip(images, files, strict=True))


def test_an_image_outside_of_folders_is_meant_by_its_whole_name():
    assert pairs(["one.png", "sub/one.png"], ["one.tif", "sub/one.tif"])[0] == {
        "one.png": "one.tif",
        "sub/one.png": "sub/one.tif",
    }


def test_names_are_the_same_however_their_accents_are_written():
    short, long = (unicodedata.normalize(form, "zélle é/zélle.png") for form in ("NFC", "NFD"))
    assert short != long
    for image, file in ((short, long), (long, short)):
        assert pairs([image], [file])[0] == {image: file}


def test_what_is_ambiguous_is_refused():
    with pytest.raises(BadInput, match=r"one\.png could belong to a/one\.tif and b/one\.tif"):
        pairs(["a/one.tif", "b/one.tif"], ["one.png"])
    with pytest.raises(BadInput, match=r"one\.png and .*one_mask\.png are both of one\.tif"):
        pairs(["one.tif"], ["one.png", "one_mask.png"])
    assert pairs(["a/one.tif", "b/one.tif"], ["two.png"]) == ({}, ("two.png",))


def test_images_in_the_folder_are_not_their_own_files(tmp_path):
    for name in ("one.png", "one_mask.png", "two.png"):
        (tmp_path / name).write_bytes(encode_png(np.zeros((2, 2), np.uint8)))
    images = {name: tmp_path / name for name in ("one.png", "two.png")}
    found = pair_folder(images, tmp_path, "masks")
    assert found.files == {"one.png": (tmp_path / "one_mask.png").resolve()}
    (tmp_path / "one_mask.png").unlink()
    with pytest.raises(BadInput, match=r"Images: one\.png, two\.png; masks: none"):
        pair_folder(images, tmp_path, "masks")
    with pytest.raises(BadInput, match="nowhere is no folder"):
        pair_folder(images, tmp_path / "nowhere", "masks")


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_every_file_is_listed_once(images, files):
    found, unused = pairs([f"{i}.png" for i in images], [f"{i}.tif" for i in files])
    assert {int(image[:-4]) for image in found} == images & files
    assert all(image[:-4] == file[:-4] for image, file in found.items())
    assert {int(name[:-4]) for name in unused} == files - images


def test_planes_of_one_image_have_files_of_their_own_where_that_is_asked_for():
    names = ["s_t0_z1.png", "s_mask_t1_z0.png", "s_t0_z2_mask.png", "u_t0_z0.png", "v.png"]
    files = {name: Path("maps", name) for name in names}
    assert pair_files(["s.tif"], files).files == {}
    found = pair_files(["s.tif", "u_t0_z0.tif", "v.tif"], files, by_plane=True)
    planes = {(0, 1): "s_t0_z1.png", (0, 2): "s_t0_z2_mask.png", (1, 0): "s_mask_t1_z0.png"}
    assert found.planes == {"s.tif": {plane: Path("maps", name) for plane, name in planes.items()}}
    assert {image: path.name for image, path in found.files.items()} == {
        "s.tif": "s_t0_z1.png",
        "u_t0_z0.tif": "u_t0_z0.png",  # the whole name of an image
        "v.tif": "v.png",
    }
    for both in (["s.png", "s_t0_z1.png"], ["s_t0_z1.png", "s_t0_z1_mask.png"], ["s.png", "s_t0_z0.png"]):
        with pytest.raises(BadInput, match=r"both of s\.tif"):
            pair_files(["s.tif"], {name: Path(name) for name in both}, by_plane=True)


def linked(folder: Path, links: dict[str, str]) -> Path:
    """A folder of pictures that are links, by name and where they lead."""
    folder.mkdir()
    for name, target in links.items():
        (folder / name).symlink_to(target)
    return folder


def test_links_are_named_by_where_they_stand(tmp_path):
    images = {f"{name}.png": tmp_path / "images" / f"{name}.png" for name in "ab"}
    truth = linked(tmp_path / "truth", {"a.png": "pool/b.png", "b_mask.png": "pool/x.png"})
    (truth / "pool").mkdir()
    for name in ("b", "x"):
        (truth / "pool" / f"{name}.png").write_bytes(encode_png(np.zeros((2, 2), np.uint8)))
    with pytest.raises(BadInput, match=r"b_mask\.png and .*pool/b\.png are both of b\.png"):
        pair_folder(images, truth, "masks")
    (truth / "b_mask.png").unlink()
    assert pair_folder(images, truth, "masks").files == {"a.png": truth / "a.png", "b.png": truth / "pool/b.png"}


@pytest.mark.parametrize(("name", "stem"), [("a_mask.png", "a.png"), ("b.frames", "b.png"), ("b_t0_z1.png", "b.png")])
def test_a_file_that_is_a_link_out_of_its_folder_is_refused_and_never_passed_over(tmp_path, name, stem):
    images = {f"{name}.png": tmp_path / "images" / f"{name}.png" for name in "abc"}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"x{Path(name).suffix}").write_bytes(encode_png(np.zeros((2, 2), np.uint8)))
    truth = linked(tmp_path / "truth", {name: f"../out/x{Path(name).suffix}", "other.png": "nowhere.png"})
    (truth / "folder.txt").write_text("frames\n")
    (truth / "c.png").write_bytes(encode_png(np.zeros((2, 2), np.uint8)))
    said = (
        rf"truth/{name}, which is named as {stem}, is a link that leads out of the folder\. Put the file itself there"
    )
    with pytest.raises(BadInput, match=said):
        pair_folder(images, truth, "masks", by_plane=True)
    (truth / name).unlink()
    assert pair_folder(images, truth, "masks").files == {"c.png": truth / "c.png"}
