"""Law 4: nothing is written into a folder of images, or below it, but by a project or a user who stands there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from fieldmark.errors import BadInput
from fieldmark.images import encode_png
from fieldmark.recipes import PredictRecipe
from fieldmark.workbench import Workbench
from fieldmark.workbench.evaluating import Asked, evaluate
from fieldmark.workbench.originals import refuse_originals
from tests.workbench.test_predicting import hashes, predict


def image_in(folder: Path, name: str = "one.png", value: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(encode_png(np.full((8, 9, 3), value, np.uint8)))
    return folder / name


@pytest.mark.parametrize("place", ["pred", "a/b/c", ".hidden", "../images/pred", "link/pred"])
def test_nothing_is_written_below_a_folder_of_images(bench, tmp_path, place):
    images = tmp_path / "copy" / "images"
    before = hashes(images)
    if place.startswith("link"):
        (tmp_path / "link").symlink_to(images, target_is_directory=True)
        images = tmp_path
    with pytest.raises(BadInput, match=r"lies in a folder of images: \S+images holds images of the project \(drawn0"):
        predict(bench, images / place)
    assert hashes(tmp_path / "copy" / "images") == before
    assert not (tmp_path / "copy" / "images" / "pred").exists()


def test_beside_the_images_is_where_predictions_go(bench, tmp_path):
    """`images` and `out` in one folder, `images/../out`, and a folder that begins as `images` does."""
    for number, out in enumerate(("out", "images/../other", "images-pred")):
        predict(bench, tmp_path / "copy" / out, images=["drawn2.png"])
        assert len(list((tmp_path / "copy").glob("*/drawn2.png"))) == 2 + number


def test_a_project_among_its_images_has_folders_of_its_own(bench, tmp_path):
    """One that stands in the folder of images, and one below it; but not in images below the project."""
    for place in (tmp_path / "photos", tmp_path / "shots" / "cells"):
        image_in(tmp_path / place.relative_to(tmp_path).parts[0])
        image_in(place / "raw", "two.png", 1)
        with Workbench.init(place, name="own") as own:
            own.add([image_in(tmp_path / place.relative_to(tmp_path).parts[0]), place / "raw"])
            refuse_originals(own, [place / "masks", place / "predictions" / "first"])
            with pytest.raises(BadInput, match=r"raw holds images of the project \(two\.png\)"):
                refuse_originals(own, [place / "raw" / "masks"])
    with pytest.raises(BadInput, match="shots holds images"), Workbench.open(tmp_path / "shots" / "cells") as own:
        refuse_originals(own, [tmp_path / "shots" / "masks"])
    with pytest.raises(BadInput, match=r"^\S+photos holds images"), Workbench.open(tmp_path / "photos") as own:
        refuse_originals(own, [tmp_path / "photos"])


def test_who_works_among_images_may_name_a_folder_there(bench, tmp_path, monkeypatch):
    """Images in the current folder or above it, outputs below it; not in itself, nor in another folder of images."""
    here = tmp_path / "here"
    bench.add([image_in(here), image_in(here / "raw", "two.png", 1)])
    (here / "work").mkdir()
    for place in (here, here / "work"):
        monkeypatch.chdir(place)
        before = hashes(here / "raw")
        predict(bench, Path("masks"), images=["one.png"])
        assert [path.name for path in (place / "masks").glob("*.png")] == ["one.png"]
        for out in (here, here / "raw", here / "raw" / "masks", tmp_path / "copy" / "images" / "masks"):
            with pytest.raises(BadInput, match="holds images of the project"):
                refuse_originals(bench, [out])
        assert hashes(here / "raw") == before
    with pytest.raises(BadInput, match=r"here holds images of the project \(one\.png\)"):
        refuse_originals(bench, [here / "masks"])  # beside the folder where the user works


def test_nothing_is_written_into_an_image_that_is_a_folder(bench, tmp_path, monkeypatch):
    here = tmp_path / "here"
    predict(bench, here, form="ome-zarr", images=["drawn2.png"])
    bench.add([here / "drawn2.ome.zarr"])
    monkeypatch.chdir(here)
    refuse_originals(bench, [here / "out"])
    with pytest.raises(BadInput, match=r"drawn2\.ome\.zarr holds images of the project"):
        refuse_originals(bench, [here / "drawn2.ome.zarr" / "out"])


def test_plates_and_frames_are_originals_too(bench, tmp_path):
    from ome_zarr.format import FormatV05
    from ome_zarr.writer import write_image, write_plate_metadata, write_well_metadata

    form = FormatV05()
    root = zarr.open_group(tmp_path / "data" / "plate.zarr", mode="w", zarr_format=form.zarr_format)
    write_plate_metadata(root, ["A"], ["1"], ["A/1"], fmt=form)
    write_well_metadata(root.require_group("A/1"), ["0"], fmt=form)
    write_image(np.zeros((8, 9), np.uint8), root.require_group("A/1/0"), axes="yx", scale_factors=(), fmt=form)
    bench.add([tmp_path / "data" / "plate.zarr"])
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "im_c000_z000_t000_p000.png").write_bytes(encode_png(np.zeros((8, 9), np.uint8)))
    assert len(bench.add([tmp_path / "frames"], layout="frames").added) == 1
    for place, named in (
        ("data/plate.zarr/out", r"plate\.zarr"),
        ("data/plate.zarr/A", r"plate\.zarr"),
        ("frames/out", "frames"),
    ):
        with pytest.raises(BadInput, match=rf"{named} holds images of the project"):
            predict(bench, tmp_path / place)
    predict(bench, tmp_path / "data" / "out", images=["drawn2.png"])
    shutil.rmtree(tmp_path / "frames")
    predict(bench, tmp_path / "out", images=["drawn2.png"])


def test_labels_go_beside_images_not_below_them(bench, tmp_path):
    """By the same rule: a table of answers beside the folder `images`, none in it; masks neither in it nor below it."""
    assert bench.export_labels(tmp_path / "copy" / "answers.csv", "answers")[0].is_file()
    before = hashes(tmp_path / "copy" / "images")
    for kind, place in (("answers", "a.csv"), ("answers", "sub/a.csv"), ("masks", ""), ("masks", "sub")):
        with pytest.raises(BadInput, match=r"images holds images of the project \(drawn0\.png\).* another folder\.$"):
            bench.export_labels(tmp_path / "copy" / "images" / place, kind)
    assert hashes(tmp_path / "copy" / "images") == before


def test_what_is_right_is_only_read(bench, tmp_path):
    truth = tmp_path / "truth"
    image_in(truth, "drawn2.png", 1)
    for out in (truth, truth / "sub"):
        with pytest.raises(BadInput, match=r"truth, which is only read"):
            list(bench.predict("tiny", out=out, form="png", recipe=PredictRecipe(), truth=truth))
        with pytest.raises(BadInput, match=r"truth, which is only read"):
            evaluate(bench, "tiny", Asked(truth=truth, report=out / "report.html"))
    with pytest.raises(BadInput, match="Choose another folder with --report"):
        evaluate(bench, "tiny", Asked(truth=truth, report=tmp_path / "copy" / "images" / "sub" / "report.html"))
    assert [path.name for path in truth.iterdir()] == ["drawn2.png"]
