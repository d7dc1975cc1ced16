"""microDL's files on an OME-Zarr plate: what comes of it is what comes of the same pixels in a folder of frames."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from fieldmark.checkpoint import load
from fieldmark.testing.worker import use_fake_worker
from tests.faces.looking import table

FIELDS = ("A/1/0", "A/1/1", "B/12/0", "B/12/1")
SHAPE = (2, 3, 3, 60, 76)
CONFIG = """
output_dir: {out}
input_dir: {folder}
file_format: {form}
channel_ids: [0, 1]
slice_ids: {slices}
pos_ids: {fields}
time_ids: [0, 1]
flat_field: {{estimate: True, block_size: 8, correct: True, flat_field_channels: [0]}}
normalize: {{normalize_im: volume, normalize_channels: [True, True]}}
masks: {{channels: [1], str_elem_radius: 2, mask_type: otsu, mask_ext: .png}}
weight_map: {{channels: [2]}}
tile: {{tile_size: [32, 40], step_size: [24, 32], depths: [1, 1], image_format: zyx, min_fraction: 0.1}}
"""
TRAINING = """
dataset: {data_dir: of-plate, input_channels: [0], target_channels: [1], split_by_column: row,
  split_ratio: {train: 0.5, val: 0.5, test: 0.0}}
network: {class: UNet2D, num_filters_per_block: [4, 8], dropout: 0.0, final_activation: linear}
trainer: {batch_size: 2, loss: mae_loss, max_epochs: 1, model_dir: models}
"""


def field(number: int) -> np.ndarray:
    """(t, c, z, y, x): gray, bright discs, and their numbers."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[: SHAPE[3], : SHAPE[4]]
    made = np.zeros(SHAPE, np.uint16)
    for t, z in itertools.product(range(SHAPE[0]), range(SHAPE[2])):
        labels = np.zeros(SHAPE[3:], np.uint16)
        for count in range(1, 4):
            cy, cx = rng.integers(10, 50), rng.integers(10, 66)
            labels[np.hypot(y - cy, x - cx) < 8] = count
        light = 1.2 - 0.4 * (y / 60 - 0.4) ** 2
        made[t, 0, z] = light * (300 + 50 * number + 400 * (labels > 0)) + rng.normal(0, 5, SHAPE[3:])
        made[t, 1, z] = light * (200 + 1500 * (labels > 0)) + rng.normal(0, 5, SHAPE[3:])
        made[t, 2, z] = labels
    return made


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    """The same pixels in a plate, with wells in another order than that of names, and in a folder of frames."""
    from ome_zarr.format import FormatV05
    from ome_zarr.writer import write_image, write_plate_metadata, write_well_metadata

    use_fake_worker(monkeypatch)
    monkeypatch.chdir(tmp_path)
    form = FormatV05()
    root = zarr.open_group("plate.zarr", mode="w", zarr_format=form.zarr_format)
    write_plate_metadata(root, ["A", "B"], ["1", "12"], ["A/1", "B/12"], fmt=form)
    Path("frames").mkdir()
    for number, name in enumerate(FIELDS):
        well, _, own = name.rpartition("/")
        group = root.require_group(well)
        write_well_metadata(group, ["0", "1"], fmt=form)
        pixels = field(number)
        write_image(pixels, group.require_group(own), axes="tczyx", scale_factors=(2,), fmt=form)
        for t, c, z in np.ndindex(*SHAPE[:3]):
            tifffile.imwrite(f"frames/im_c{c:03d}_z{z:03d}_t{t:03d}_p{number:03d}.tif", pixels[t, c, z])


def prepared(cli, out: str, folder: str, *, slices: object = -1, fields: object = -1, more: str = "") -> str:
    form = "image" if folder == "frames" else "zarr"
    Path("prep.yml").write_text(CONFIG.format(out=out, folder=folder, form=form, slices=slices, fields=fields) + more)
    status, _, err = cli("prepare", "--config", "prep.yml", "--write-tiles")
    assert status == 0, err
    return err


def tree(folder: str) -> dict[str, object]:
    """What was written, without paths and names of files that differ by where frames lie."""
    made: dict[str, object] = {}
    for path in sorted(Path(folder).rglob("*")):
        if not path.is_file() or ".fieldmark" in path.parts or path.name == "preprocessing_info.json":
            continue
        name = path.relative_to(folder).as_posix()
        if path.suffix != ".csv":
            made[name] = path.read_bytes()
            continue
        own = [
            {key: value for key, value in row.items() if key not in ("", "dir_name", "file_name")}
            for row in table(path)
        ]
        made[name] = sorted(own, key=lambda row: sorted(row.items()))
    return made


@pytest.mark.parametrize("chosen", [{}, {"slices": [0, 2], "fields": [1, 3]}])
def test_a_plate_is_prepared_as_its_frames_are(cli, chosen):
    for more in ("", "resize: {scale_factor: [1, 0.5, 0.5]}\n"):
        for folder in ("frames", "plate.zarr"):
            prepared(cli, f"of-{folder}", folder, more=more, **chosen)
        found, wanted = tree("of-plate.zarr"), tree("of-frames")
        assert found.keys() == wanted.keys()
        assert any(name.startswith("mask_channels_1/im_c003") for name in found)
        assert any(name.startswith("weight_map_channels_2/") for name in found)
        assert found == wanted
        shutil.rmtree("of-frames")
        shutil.rmtree("of-plate.zarr")


def test_files_of_frames_meta_are_fields(cli):
    prepared(cli, "out", "plate.zarr")
    rows = table("out/frames_meta.csv")
    assert [row["file_name"] for row in rows if row["pos_idx"] == "2"] == ["B/12/0"] * 12
    before = tree("out")
    err = prepared(cli, "out", "plate.zarr")
    assert "The same was prepared before" in err
    assert tree("out") == before


def test_a_fit_and_a_prediction_follow(cli):
    prepared(cli, "of-plate", "plate.zarr")
    Path("train.yml").write_text(TRAINING)
    status, out, err = cli("fit", "--config", "train.yml", "--set", "train.crops_per_epoch=4", "--json")
    assert status == 0, err
    parts = load(Path(json.loads(out)["folder"]))[0].details["split"]
    assert sorted([parts["train"], parts["validation"]]) == [["A/1/0", "A/1/1"], ["B/12/0", "B/12/1"]]
    Path("infer.yml").write_text(
        "{model_dir: models, image_dir: plate.zarr, data_split: all, images: {image_ext: .tif},"
        " dataset: {input_channels: [0], target_channels: [1], time_ids: [0, 1], pos_ids: [3]}}"
    )
    status, _, err = cli("predict", "--config", "infer.yml")
    assert status == 0, err
    (file,) = Path("models/predictions").rglob("*.tif")
    assert tifffile.imread(file).size == 2 * 3 * 60 * 76


INFERENCE = """
{{model_dir: models, image_dir: {folder}, data_split: all, save_figs: True, images: {{image_ext: .png}},
  metrics: {{metrics: [corr, mae], metrics_orientations: [xy, xyz]}},
  dataset: {{input_channels: [0], target_channels: [1], time_ids: {times}, pos_ids: [2], slice_ids: {slices}}}}}
"""


def without_field(name: str) -> str:
    return re.sub(r"p002|B/12/0", "FIELD", name)


def answered(cli, folder: str, out: str, times: object, slices: object) -> dict[str, object]:
    """Files by name, tables without the name of the field, of a prediction of the third field."""
    Path("infer.yml").write_text(INFERENCE.format(folder=folder, times=times, slices=slices))
    status, _, err = cli("predict", "--config", "infer.yml", "--out", out)
    assert status == 0, err
    made: dict[str, object] = {}
    for path in sorted(Path(out).rglob("*")):
        if not path.is_file() or ".fieldmark" in path.parts or path.name.startswith("report"):
            continue
        name = without_field(path.relative_to(out).as_posix())
        rows = table(path) if path.suffix == ".csv" else []
        made[name] = [row | {"pred_name": without_field(row["pred_name"])} for row in rows] or path.read_bytes()
    return made


def test_a_plate_is_predicted_and_measured_as_its_frames_are(cli):
    """Planes, figures and rows with the same numbers."""
    prepared(cli, "of-plate", "plate.zarr", fields=[0, 1, 3])
    Path("train.yml").write_text(TRAINING.replace("row", "pos_idx"))
    status, _, err = cli("fit", "--config", "train.yml", "--set", "train.crops_per_epoch=4")
    assert status == 0, err
    frames = answered(cli, "frames", "by-frames", -1, -1)
    plate = answered(cli, "plate.zarr", "by-plate", -1, -1)
    assert [name for name in plate if name.endswith("_t001_z002.png")]
    assert [name for name in plate if name.startswith("figures/")]
    numbers = [f"FIELD_t{t}_xy{z}" for t in range(2) for z in range(3)]
    assert [row["pred_name"] for row in plate["metrics_xy.csv"]] == numbers
    assert plate == frames


def test_slices_of_a_plate_that_are_not_there_are_named_for_networks_of_stacks_too(cli):
    Path("train.yml").write_text(
        TRAINING.replace("of-plate", "plate.zarr")
        .replace("UNet2D", "UNetStackTo2D, depth: 3")
        .replace("row", "pos_idx")
    )
    status, _, err = cli("fit", "--config", "train.yml", "--set", "train.crops_per_epoch=4")
    assert status == 0, err
    for slices, status, words in (
        ([1], 0, "the network sees each slice with its neighbors"),
        ([1, 9], 1, "slice_ids names 9"),
    ):
        Path("infer.yml").write_text(
            "{model_dir: models, image_dir: plate.zarr, data_split: all,"
            f" dataset: {{input_channels: [0], target_channels: [1], pos_ids: [3], slice_ids: {slices}}}}}"
        )
        found, _, err = cli("predict", "--config", "infer.yml")
        assert found == status, err
        assert words in err


def test_one_image_and_a_folder_of_images_are_positions(cli):
    """Without a plate around them; numbered by their names."""
    Path("loose").mkdir()
    for number, name in enumerate(("b.zarr", "a.zarr")):
        shutil.copytree(f"plate.zarr/{FIELDS[number]}", f"loose/{name}")
    prepared(cli, "folder", "loose")
    prepared(cli, "one", "loose/a.zarr")
    assert {row["file_name"] for row in table("one/frames_meta.csv")} == {"a.zarr"}
    mask = "mask_channels_1/im_c003_z001_t000_p000.png"
    assert Path("one", mask).is_file()
    found = {(row["pos_idx"], row["file_name"]) for row in table("folder/frames_meta.csv")}
    assert found == {("0", "a.zarr"), ("1", "b.zarr")}


def test_what_is_missing_is_said(cli):
    shutil.rmtree("plate.zarr/A/1/1")
    err = prepared(cli, "out", "plate.zarr")
    assert "position 1: the plate's metadata names it, but there is no such field" in err
    assert {row["pos_idx"] for row in table("out/frames_meta.csv")} == {"0", "2", "3"}
    for change, told in (
        ("pos_ids: [1]", "pos_ids names 1"),
        ("slice_ids: [3]", "slice_ids names 3"),
        ("channel_ids: [0, 4]", "channel_ids names 4"),
        ("input_dir: nowhere", "there is no such folder"),
    ):
        key = change.partition(":")[0]
        text = CONFIG.format(out="other", folder="plate.zarr", form="zarr", slices=-1, fields=-1)
        lines = [change if line.startswith(f"{key}:") else line for line in text.splitlines()]
        Path("prep.yml").write_text("\n".join(lines))
        status, _, err = cli("prepare", "--config", "prep.yml")
        assert status == 1
        assert told in err, change
