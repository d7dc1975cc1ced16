"""microDL's files that choose planes of an OME-Zarr plate: what comes of it is what comes of them as frames."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import zarr

from fieldmark.checkpoint import load
from fieldmark.images import encode_png
from tests.faces.looking import read, table

FIELDS = ("A/1/0", "A/2/0", "B/1/0", "B/2/0")
SHAPE = (3, 2, 4, 48, 56)
PREPARING = """
output_dir: of-{folder}
input_dir: {folder}
channel_ids: [0, 1]
slice_ids: [1, 3]
time_ids: [0, 2]
pos_ids: [0, 1, 3]
normalize: {{normalize_im: dataset, min_fraction: {fraction}}}
{masks}
"""
TRAINING = """
dataset: {{data_dir: {data}, input_channels: [0], target_channels: [{target}], {more}
  split_ratio: {{train: 0.34, val: 0.33, test: 0.33}}, random_seed: 5}}
trainer: {{model_dir: model-{data}, batch_size: 2, max_epochs: 2, loss: {loss}, masked_loss: {masked}}}
network: {{class: {net}, num_filters_per_block: [4, 8], height: 32, width: 32, dropout: 0.0, final_activation: {last}}}
"""
INFERENCE = """
{{model_dir: {model}, image_dir: {folder}, data_split: all, save_figs: True, images: {{image_ext: .png}},
  metrics: {{metrics: [corr, mae], metrics_orientations: [xy, xyz]}}, {masks}
  dataset: {{input_channels: [0], target_channels: [1], {chosen}}}}}
"""

OWN_MASKS = "masks: {mask_dir: masks, mask_channel: 5}"


def pixels_of(number: int) -> np.ndarray:
    """(t, c, z, y, x): noise, and its negative; no plane is another's."""
    rng = np.random.default_rng(number)
    made = np.repeat(rng.integers(0, 200, (*SHAPE[:3], 12, 14)), 4, -1).repeat(4, -2).astype(np.uint8)
    made[:, 1] = 220 - made[:, 0]
    return made


@pytest.fixture(autouse=True)
def _here(worker_here, own_folder):
    """The same pixels in a plate and in a folder of frames."""
    from ome_zarr.format import FormatV05
    from ome_zarr.writer import write_image, write_plate_metadata, write_well_metadata

    form = FormatV05()
    root = zarr.open_group("plate.zarr", mode="w", zarr_format=form.zarr_format)
    write_plate_metadata(root, ["A", "B"], ["1", "2"], [name[:3] for name in FIELDS], fmt=form)
    Path("frames").mkdir()
    for number, name in enumerate(FIELDS):
        group = root.require_group(name[:3])
        write_well_metadata(group, ["0"], fmt=form)
        pixels = pixels_of(number)
        write_image(pixels, group.require_group("0"), axes="tczyx", scale_factors=(2,), fmt=form)
        for t, c, z in np.ndindex(*SHAPE[:3]):
            file = Path(f"frames/im_c{c:03d}_z{z:03d}_t{t:03d}_p{number:03d}.png")
            file.write_bytes(encode_png(pixels[t, c, z]))


def draw_masks(places: Sequence[tuple[int, int, int]]) -> None:
    """A mask that is another one in each plane, by position, time and slice; and one of another channel."""
    Path("masks").mkdir()
    for p, t, z in places:
        mask = np.zeros(SHAPE[3:], np.uint8)
        mask[4 * z :, 6 * p + 3 * t : 6 * p + 3 * t + 30] = 255
        for channel, drawn in ((5, mask), (4, mask * 0 + 255)):
            Path(f"masks/im_c{channel:03d}_z{z:03d}_t{t:03d}_p{p:03d}.png").write_bytes(encode_png(drawn))


def fitted(cli, folder: str, *, masks: str = "", fraction: float = 0, **settings: str) -> Path:
    """The model of the frames that a preparation has chosen."""
    Path("prepare.yml").write_text(PREPARING.format(folder=folder, masks=masks, fraction=fraction))
    status, _, err = cli("prepare", "--config", "prepare.yml")
    assert status == 0, err
    wanted = {
        "more": "",
        "masked": "false",
        "net": "UNet2D",
        "loss": "mae_loss",
        "target": "1",
        "last": "linear",
    } | settings
    Path("train.yml").write_text(TRAINING.format(data=f"of-{folder}", **wanted))
    status, out, err = cli("fit", "--config", "train.yml", "--set", "train.crops_per_epoch=6", "--json")
    assert status == 0, err
    return Path(json.loads(out)["folder"])


def named(text: str) -> str:
    """With positions for fields."""
    for number, name in enumerate(FIELDS):
        text = text.replace(name, f"p{number:03d}")
    return text


def require_same(found: Path, wanted: Path) -> None:
    """The same weights bit for bit, the same statistics, the same parts."""
    (header, weights), (other, others) = load(found), load(wanted)
    assert header.preparation == other.preparation
    assert named(json.dumps(header.details["split"])) == json.dumps(other.details["split"])
    assert weights.keys() == others.keys()
    assert all(np.array_equal(weights[name], others[name]) for name in weights)


def answered(cli, folder: str, model: Path, chosen: str, masks: str = "") -> dict[str, object]:
    """Files by name, rows of tables, of a prediction; by positions."""
    Path("infer.yml").write_text(INFERENCE.format(folder=folder, model=model, chosen=chosen, masks=masks))
    out = Path(f"by-{folder}")
    status, _, err = cli("predict", "--config", "infer.yml", "--out", out)
    assert status == 0, err
    made: dict[str, object] = {}
    for path in sorted(out.rglob("*")):
        if path.is_file() and ".fieldmark" not in path.parts and not path.name.startswith("report"):
            rows = json.loads(named(json.dumps(table(path)))) if path.suffix == ".csv" else None
            made[named(path.relative_to(out).as_posix())] = rows or path.read_bytes()
    return made


@pytest.mark.parametrize("net", ["UNet2D", "UNetStackTo2D, depth: 3", "UNet3D, depth: 2"])
def test_chosen_planes_of_a_plate_teach_as_their_frames_do(cli, net):
    plate, frames = (fitted(cli, folder, net=net) for folder in ("plate.zarr", "frames"))
    require_same(plate, frames)


@pytest.mark.parametrize("column", ["slice_idx", "time_idx"])
def test_planes_are_parted_as_those_of_frames_are(cli, column):
    plate, frames = (fitted(cli, folder, more=f"split_by_column: {column},") for folder in ("plate.zarr", "frames"))
    require_same(plate, frames)


def test_chosen_planes_of_a_plate_are_predicted_and_measured_as_their_frames_are(cli):
    """Planes, figures and rows of tables, by the numbers that they have in the whole field."""
    model = fitted(cli, "frames")
    chosen = "slice_ids: [0, 2, 3], time_ids: [1, 2], pos_ids: [1, 2]"
    plate, frames = (answered(cli, folder, model, chosen) for folder in ("plate.zarr", "frames"))
    assert plate == frames
    assert [name for name in plate if "_t001_z003" in name]
    assert {row["pred_name"] for row in plate["metrics_xy.csv"]} >= {"p002_t1_xy2", "p002_t2_xy3"}


def test_fields_without_the_chosen_planes_are_as_frames_are(cli):
    """One field has fewer slices than the others."""
    from ome_zarr.format import FormatV05
    from ome_zarr.writer import write_image

    shutil.rmtree("plate.zarr/A/2/0")
    group = zarr.open_group("plate.zarr/A/2").require_group("0")
    write_image(pixels_of(1)[:, :, :3], group, axes="tczyx", scale_factors=(2,), fmt=FormatV05())
    for path in Path("frames").glob("*_z003_*_p001.png"):
        path.unlink()
    model = fitted(cli, "frames")
    chosen = "slice_ids: [3, 2], pos_ids: [1, 2]"
    plate, frames = (answered(cli, folder, model, chosen) for folder in ("plate.zarr", "frames"))
    assert plate == frames
    assert {"p001_t000.png", "p002_t000_z002.png"} <= plate.keys()
    chosen = "slice_ids: [3], pos_ids: [1, 2]"
    plate, frames = (answered(cli, folder, model, chosen) for folder in ("plate.zarr", "frames"))
    assert plate == frames


def test_a_field_that_is_missing_is_not_missed_where_others_are_chosen(cli):
    model = fitted(cli, "frames")
    shutil.rmtree("plate.zarr/A/1/0")
    assert answered(cli, "plate.zarr", model, "pos_ids: [2]") == answered(cli, "frames", model, "pos_ids: [2]")
    Path("infer.yml").write_text(INFERENCE.format(folder="plate.zarr", model=model, chosen="pos_ids: -1", masks=""))
    status, _, err = cli("predict", "--config", "infer.yml", "--out", "all")
    assert status == 1
    assert "A/1/0: the plate's metadata names it, but there is no such field" in err


@pytest.mark.parametrize("folder", ["frames", "plate.zarr"])
@pytest.mark.parametrize("chosen", ["pos_ids: [0, 1, 3]", "pos_ids: [0, 1, 3], slice_ids: [0], time_ids: [1]"])
def test_what_taught_by_some_planes_scores_by_none(cli, folder, chosen):
    """Predicted whole, and by planes that have not taught."""
    model = fitted(cli, folder)
    rows = answered(cli, folder, model, chosen)["metrics_xyz.csv"]
    taught = {named(item.image) for item in load(model)[0].taught}
    assert len(taught) == 2
    assert {row["pred_name"][:4] for row in rows} == {"p000", "p001", "p003"} - taught


CHOSEN_PLANES = [(p, t, z) for p in (0, 1, 3) for t in (0, 2) for z in (1, 3)]


def test_masks_by_frame_teach_as_those_of_frames_do(cli):
    """What a loss looks at, and of which normalization asks for a fraction."""
    draw_masks(CHOSEN_PLANES)
    asked = {"masks": OWN_MASKS, "fraction": 0.2, "masked": "true", "more": "mask_channels: [5],"}
    plate, frames = (fitted(cli, folder, **asked) for folder in ("plate.zarr", "frames"))
    require_same(plate, frames)
    kept = shutil.copytree(plate, Path("kept"))
    for file in Path("masks").glob("im_c005_*.png"):
        file.write_bytes(encode_png(255 - read(file)[0, 0, 0]))
    (_, weights), (_, others) = load(kept), load(fitted(cli, "plate.zarr", **asked))
    assert not all(np.array_equal(weights[name], others[name]) for name in weights)  # they are looked at


@pytest.mark.parametrize("masks", [OWN_MASKS, "masks: {channels: [0], str_elem_radius: 1, mask_type: otsu}"])
def test_masks_by_frame_are_learned_as_those_of_frames_are(cli, masks):
    """A person's own, and those that were computed; their number is one that no channel has."""
    draw_masks(CHOSEN_PLANES)
    plate, frames = (
        fitted(cli, folder, masks=masks, target="5", loss="dice_coef_loss", last="sigmoid")
        for folder in ("plate.zarr", "frames")
    )
    require_same(plate, frames)


def test_masks_by_frame_say_where_a_plate_is_measured(cli):
    model = fitted(cli, "frames")
    draw_masks([(2, t, z) for t in range(3) for z in (0, 2, 3)])
    masks = "masks: {mask_dir: masks, mask_type: metrics, mask_channel: 5},"
    for times, count in (("[1, 2]", 6), ("[0]", 3)):
        chosen = f"slice_ids: [0, 2, 3], time_ids: {times}, pos_ids: [2]"
        plate, frames = (answered(cli, folder, model, chosen, masks) for folder in ("plate.zarr", "frames"))
        assert plate == frames
        rows = plate["metrics_xy.csv"]
        assert len({row["vol_frac"] for row in rows}) > 1
        assert len(rows) == count
        assert all(row["mae_masked"] != row["mae"] for row in rows)
        shutil.rmtree("by-frames"), shutil.rmtree("by-plate.zarr")


def test_a_mask_that_a_field_lacks_is_named(cli):
    draw_masks(CHOSEN_PLANES)
    Path("masks/im_c005_z003_t002_p003.png").unlink()
    with pytest.raises(AssertionError, match=r"position 3, time 2, slice 3"):
        fitted(cli, "plate.zarr", masks=OWN_MASKS, masked="true", more="mask_channels: [5],")
