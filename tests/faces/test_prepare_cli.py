"""`prepare --config` on microDL's preprocessing YAML, and `prepare --preview`, outside of any project and in one."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fieldmark.checkpoint import load
from fieldmark.prepare.masks import otsu_mask
from fieldmark.recipes import load_recipe
from fieldmark.workbench.loose.prepare import follow_prepare, plan_prepare
from tests.faces.looking import table, tree

pytestmark = pytest.mark.usefixtures("worker_here", "own_folder")

SIDES = (96, 120)
CONFIG = """
output_dir: 'out'
input_dir: 'in'
channel_ids: [0, 1]
slice_ids: -1
pos_ids: -1
time_ids: [0]
num_workers: 4
flat_field: {estimate: True, block_size: 8, correct: True, flat_field_channels: [0, 1]}
normalize: {normalize_im: 'dataset', normalize_channels: [True, True]}
masks: {channels: [1], str_elem_radius: 2, mask_type: 'otsu', mask_ext: '.png'}
tile: {tile_size: [32, 40], step_size: [24, 32], depths: [1, 1], image_format: 'zyx', min_fraction: 0.2}
"""


def light() -> np.ndarray:
    y, x = np.mgrid[: SIDES[0], : SIDES[1]]
    return 1.2 - 0.5 * (y / SIDES[0] - 0.4) ** 2 - 0.4 * (x / SIDES[1] - 0.6) ** 2


def draw(folder: Path, *, positions: int = 4, slices: int = 3) -> None:
    """Discs that shrink away from the middle slice, in uneven light; channel 2 numbers them."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    y, x = np.mgrid[: SIDES[0], : SIDES[1]]
    for p in range(positions):
        discs = [(*(rng.integers(12, n - 12) for n in SIDES), rng.integers(7, 11)) for _ in range(4)]
        for z in range(slices):
            labels = np.zeros(SIDES, np.uint16)
            for number, (cy, cx, radius) in enumerate(discs, start=1):
                labels[np.hypot(y - cy, x - cx) < radius - 2 * abs(z - slices // 2)] = number
            for c, (ground, high) in enumerate([(300, 500), (200, 1500)]):
                pixels = light() * (ground + high * (labels > 0)) + rng.normal(0, 8, SIDES)
                tifffile.imwrite(folder / f"im_c{c:03d}_z{z:03d}_t000_p{p:03d}.tif", pixels.round().astype(np.uint16))
            tifffile.imwrite(folder / f"im_c002_z{z:03d}_t000_p{p:03d}.tif", labels)


def raw(c: int, z: int, p: int, folder: str = "in") -> np.ndarray:
    return tifffile.imread(Path(folder) / f"im_c{c:03d}_z{z:03d}_t000_p{p:03d}.tif").astype(np.float64)


def write(text: str = CONFIG) -> Path:
    Path("prep.yml").write_text(text)
    return Path("prep.yml")


def array(path: str | Path) -> np.ndarray:
    return np.load(path, allow_pickle=False)


def flat(c: int) -> np.ndarray:
    return array(f"out/flat_field_images/flat-field_channel-{c}.npy")


def test_what_is_written_is_what_the_frames_say(cli):
    draw(Path("in"))
    originals = tree("in")
    status, out, err = cli("prepare", "--config", write())
    assert status == 0, err
    assert "out" in out
    assert "num_workers" in err
    assert tree("in") == originals
    assert not list(Path("out").glob("tiles_*"))
    for c in (0, 1):
        mean = np.mean([raw(c, z, p) for z in range(3) for p in range(4)], axis=0)
        assert flat(c).shape == SIDES
        assert flat(c).mean() == pytest.approx(1, abs=1e-5)
        assert np.corrcoef(flat(c).ravel(), mean.ravel())[0, 1] > 0.3
    # statistics of all corrected pixels, computed at once
    measured = {int(row["channel_idx"]): row for row in table("out/statistics.csv")}
    for c in (0, 1):
        corrected = np.stack([raw(c, z, p) / flat(c) for z in range(3) for p in range(4)])
        assert float(measured[c]["zscore_median"]) == pytest.approx(np.median(corrected), rel=1e-5)
        spread = np.subtract(*np.percentile(corrected, [75, 25]))
        assert float(measured[c]["zscore_iqr"]) == pytest.approx(spread, rel=1e-4)
    frames = table("out/frames_meta.csv")
    assert len(frames) == 2 * 3 * 4
    for row in frames:
        z, p = int(row["slice_idx"]), int(row["pos_idx"])
        mask = otsu_mask((raw(1, z, p) / flat(1)).astype(np.float32), radius=2)
        written = np.asarray(Image.open(f"out/mask_channels_1/im_c003_z{z:03d}_t000_p{p:03d}.png"))
        assert np.array_equal(written == 255, mask)
        assert float(row["fg_frac"]) == pytest.approx(mask.mean(), rel=1e-6)
        assert (row["file_name"], row["dir_name"]) == (
            f"im_c{int(row['channel_idx']):03d}_z{z:03d}_t000_p{p:03d}.tif",
            str(Path("in").resolve()),
        )


def mask_of(z: int, p: int) -> np.ndarray:
    return np.asarray(Image.open(f"out/mask_channels_1/im_c003_z{z:03d}_t000_p{p:03d}.png")) > 0


def corners(size: int, side: int, step: int) -> list[int]:
    found = [n for n in range(0, size, step) if n + side <= size]
    return found if found[-1] + side == size else [*found, size - side]


def test_chosen_tiles_are_those_that_show_enough_and_copies_hold_prepared_pixels(cli):
    draw(Path("in"))
    assert cli("prepare", "--config", write(), "--write-tiles")[0] == 0
    wanted = {
        (p, z, y, x)
        for p in range(4)
        for z in range(3)
        for y in corners(SIDES[0], 32, 24)
        for x in corners(SIDES[1], 40, 32)
        if mask_of(z, p)[y : y + 32, x : x + 40].mean() >= 0.2
    }
    names = ("pos_idx", "slice_idx", "row_start", "col_start")
    assert {tuple(int(row[name]) for name in names) for row in table("out/tiles.csv")} == wanted
    assert 4 < len(wanted) < 4 * 3 * 16
    folder = Path("out/tiles_32-40_step_24-32")
    listed = table(str(folder / "frames_meta.csv"))
    assert len(listed) == 2 * len(wanted)
    assert {row["file_name"] for row in listed} == {path.name for path in folder.glob("*.npy")}
    measured = {int(row["channel_idx"]): row for row in table("out/statistics.csv")}
    for row in listed[:: max(1, len(listed) // 9)]:
        c, z, p, y, x = (int(row[n]) for n in ("channel_idx", "slice_idx", "pos_idx", "row_start", "col_start"))
        assert row["file_name"] == f"im_c{c:03d}_z{z:03d}_t000_p{p:03d}_r{y}-{y + 32}_c{x}-{x + 40}_sl0-1.npy"
        tile = array(folder / row["file_name"])
        assert (tile.shape, tile.dtype) == ((1, 32, 40), np.float32)
        whole = raw(c, z, p) / flat(c)
        truth = (whole - float(measured[c]["zscore_median"])) / float(measured[c]["zscore_iqr"])
        assert np.allclose(tile[0], truth[y : y + 32, x : x + 40], atol=1e-3)


def test_stacks_and_volumes(cli):
    draw(Path("in"), positions=2, slices=5)
    stacks = CONFIG.replace("depths: [1, 1]", "depths: [3, 1], mask_depth: 3, save_tiled_masks: as_channel")
    assert cli("prepare", "--config", write(stacks), "--write-tiles", "--set", "tile.image_format=xyz")[0] == 0
    listed = table("out/tiles.csv")
    assert {int(row["slice_idx"]) for row in listed} == {1, 2, 3}, "a stack of three has a slice before and after"
    one = listed[0]
    z, p, y, x = (int(one[n]) for n in ("slice_idx", "pos_idx", "row_start", "col_start"))
    share = np.mean([mask_of(z + d, p)[y : y + 32, x : x + 40].mean() for d in (-1, 0, 1)])
    assert float(one["fg_frac"]) == pytest.approx(share, rel=1e-6)
    folder, place = Path("out/tiles_32-40_step_24-32"), f"z{z:03d}_t000_p{p:03d}_r{y}-{y + 32}_c{x}-{x + 40}"
    assert array(folder / f"im_c000_{place}_sl0-3.npy").shape == (32, 40, 3)
    assert array(folder / f"im_c001_{place}_sl0-1.npy").shape == (32, 40, 1)
    masks = array(folder / f"im_c003_{place}_sl0-3.npy")
    assert np.array_equal(masks[..., 2], mask_of(z + 1, p)[y : y + 32, x : x + 40])
    solid = CONFIG.replace("[32, 40]", "[32, 40, 2]").replace("[24, 32]", "[24, 32, 2]")
    assert cli("prepare", "--config", write(solid), "--write-tiles")[0] == 0
    assert not folder.exists(), "copies of another preparation are gone"
    listed = table("out/tiles_32-40-2_step_24-32-2/frames_meta.csv")
    assert {int(row["slice_start"]) for row in listed} <= {0, 2, 3}
    row = listed[0]
    assert row["file_name"].endswith(f"_sl{row['slice_start']}-{int(row['slice_start']) + 2}.npy")
    assert array(Path("out/tiles_32-40-2_step_24-32-2") / row["file_name"]).shape == (2, 32, 40)


@pytest.mark.parametrize("scheme", ["slice", "volume", "stack"])
def test_statistics_of_each_plane_or_volume(cli, scheme):
    draw(Path("in"), positions=2)
    assert cli("prepare", "--config", write(), "--set", f"normalize.normalize_im={scheme}")[0] == 0
    names = ("mean", "std") if scheme == "stack" else ("zscore_median", "zscore_iqr")
    for row in table("out/statistics.csv"):
        c, z, p = (int(row[name]) for name in ("channel_idx", "slice_idx", "pos_idx"))
        own = np.stack([raw(c, each, p) / flat(c) for each in (range(3) if scheme == "volume" else [z])])
        truth = (
            (own.mean(), own.std())
            if scheme == "stack"
            else (np.median(own), np.subtract(*np.percentile(own, [75, 25])))
        )
        assert [float(row[name]) for name in names] == pytest.approx(truth, rel=1e-4)
    meta = {row["file_name"]: row for row in table("out/frames_meta.csv")}
    last = table("out/statistics.csv")[-1]
    name = f"im_c{int(last['channel_idx']):03d}_z{int(last['slice_idx']):03d}_t000_p{int(last['pos_idx']):03d}.tif"
    assert [meta[name][n] for n in names] == [last[n] for n in names]


def test_weight_maps_of_label_maps_and_of_masks(cli):
    draw(Path("in"), positions=1, slices=1)
    labels = raw(2, 0, 0)
    text = CONFIG + "weight_map: {channels: [2]}\n"
    assert cli("prepare", "--config", write(text))[0] == 0
    found = array("out/weight_map_channels_2/im_c004_z000_t000_p000.npy")
    spots = {number: np.argwhere(labels == number) for number in np.unique(labels[labels > 0])}
    for y, x in itertools.product(range(0, SIDES[0], 17), range(0, SIDES[1], 13)):
        near = sorted(np.hypot(*(own - (y, x)).T).min() for own in spots.values())
        truth = 1.0 if labels[y, x] else 1 + 10 * np.exp(-((near[0] + near[1]) ** 2) / 50)
        assert found[y, x] == pytest.approx(truth, abs=1e-5)
    assert cli("prepare", "--config", write(CONFIG + "make_weight_map: True\n"))[0] == 0
    assert not Path("out/weight_map_channels_2").exists()
    found = array("out/weight_map_channels_1/im_c004_z000_t000_p000.npy")
    assert (found[mask_of(0, 0)] == 1).all()


def test_own_masks_decide_and_are_never_copied(cli):
    draw(Path("in"), positions=2, slices=1)
    Path("masks").mkdir()
    for p in range(2):
        mask = np.zeros(SIDES, np.uint8)
        mask[40:80, 60 * p : 60 * p + 50] = 255
        Image.fromarray(mask).save(f"masks/im_c007_z000_t000_p{p:03d}.png")
    text = CONFIG.replace(
        "masks: {channels: [1], str_elem_radius: 2, mask_type: 'otsu', mask_ext: '.png'}", "masks: {mask_dir: masks}"
    )
    assert cli("prepare", "--config", write(text.replace("'dataset',", "'dataset', min_fraction: 0.9,")))[0] == 0
    assert not list(Path("out").glob("mask*"))
    boxes = {(int(row["pos_idx"]), int(row["row_start"]), int(row["col_start"])) for row in table("out/tiles.csv")}
    assert (0, 48, 0) in boxes
    assert (1, 48, 0) not in boxes
    Image.fromarray(np.full(SIDES, 255, np.uint8)).save("masks/im_c007_z000_t000_p001.png")
    status, _, err = cli("prepare", "--config", write(text.replace("'dataset',", "'dataset', min_fraction: 0.9,")))
    assert status == 0
    assert "taken as it is" not in err
    assert (1, 48, 0) in {
        (int(row["pos_idx"]), int(row["row_start"]), int(row["col_start"])) for row in table("out/tiles.csv")
    }
    Path("masks/im_c007_z000_t000_p001.png").unlink()
    status, _, err = cli("prepare", "--config", write(text), "--set", "tile.min_fraction=0.3")
    assert status == 1
    assert "no mask of position 1, time 0, slice 0" in err


@pytest.mark.parametrize(("own", "value", "which"), [(False, 300, "No"), (True, 0, "No"), (True, 255, "Every")])
def test_masks_that_tell_nothing_apart_are_named_once(cli, own, value, which):
    draw(Path("in"), slices=2)
    masks = "masks: {channels: [1], str_elem_radius: 2, mask_type: 'otsu', mask_ext: '.png'}"
    text = CONFIG.replace("estimate: True, block_size: 8, correct: True", "estimate: False, correct: False")
    if own:
        (Path("masks")).mkdir()
        for p, z in itertools.product(range(4), range(2)):
            alike = p in (1, 3) or (p, z) == (0, 1)
            mask = np.full(SIDES, value) if alike else raw(2, z, p) > 0
            Image.fromarray(mask.astype(np.uint8)).save(f"masks/im_c007_z{z:03d}_t000_p{p:03d}.png")
        text = text.replace(masks, "masks: {mask_dir: masks}")
    else:
        for p, z in [(1, 0), (1, 1), (3, 0), (3, 1), (0, 1)]:
            tifffile.imwrite(f"in/im_c001_z{z:03d}_t000_p{p:03d}.tif", np.full(SIDES, value, np.uint16))
    status, _, err = cli("prepare", "--config", write(text))
    assert status == 0, err
    said = f"masks: {which} pixel is foreground in 2 of 4 positions (p001, p003)."
    assert err.count(said) == 1
    assert err.count("pixel is foreground") == 1
    assert ("masks.mask_dir" in err) == own


def test_stopped_anywhere_it_ends_the_same(cli, tmp_path):
    draw(Path("in"), positions=2, slices=2)
    config = write(CONFIG + "make_weight_map: True\n")
    assert cli("prepare", "--config", config, "--write-tiles")[0] == 0
    whole = tree("out", without=("preprocessing_info.json",))
    status, _, err = cli("prepare", "--config", config, "--write-tiles")
    assert status == 0
    assert "taken as it is" in err
    assert len(json.loads(Path("out/preprocessing_info.json").read_text())) == 1
    Path("out").rename("first")
    steps = len(list(follow_prepare(plan_prepare(config, copies=True))))
    assert tree("out", without=("preprocessing_info.json",)) == whole
    for stop in (0, 2, steps // 2, steps - 2):
        Path("out").rename(f"other-{stop}")
        events = follow_prepare(plan_prepare(config, copies=True))
        list(itertools.islice(events, stop))
        events.close()
        assert not Path("out/preprocessing_info.json").exists()
        assert cli("prepare", "--config", config, "--write-tiles")[0] == 0
        assert tree("out", without=("preprocessing_info.json",)) == whole


TRAINING = """
dataset: {data_dir: 'out', input_channels: [0], target_channels: [1], split_ratio: {train: 0.75, val: 0.25, test: 0.0}}
network: {class: UNet2D, num_filters_per_block: [4, 8], dropout: 0.0, final_activation: linear}
trainer: {batch_size: 2, loss: mae_loss, max_epochs: 1, model_dir: models}
"""


def test_a_fit_finds_what_was_prepared(cli):
    draw(Path("in"))
    assert cli("prepare", "--config", write())[0] == 0
    Path("train.yml").write_text(TRAINING)
    status, out, err = cli("fit", "--config", "train.yml", "--set", "train.crops_per_epoch=4", "--json")
    assert status == 0, err
    header = load(Path(json.loads(out)["folder"]))[0]
    assert [step["step"] for step in header.preparation] == ["channels", "flat-field", "standardize"]
    (mine,) = header.preparation[1]["surfaces"]
    (theirs, _) = json.loads(Path("out/preparation.json").read_text())["steps"][0]["surfaces"]
    assert np.allclose(mine["coefficients"], theirs["coefficients"], atol=1e-4)
    recipe = load_recipe(Path(json.loads(out)["folder"]) / "recipe.yaml")
    assert (recipe["train"]["crop"], recipe["train"]["min_fraction"]) == ([32, 40], 0.2)
    Path("out").rename("moved")
    status, _, err = cli("fit", "--config", "train.yml", "--set", "dataset.data_dir=moved", "--name", "again")
    assert status == 1
    for path in Path("moved/flat_field_images").iterdir():
        path.unlink()
    Path("moved/flat_field_images").rmdir()
    Path("train.yml").write_text(TRAINING.replace("'out'", "moved"))
    status, _, err = cli("fit", "--config", "train.yml")
    assert status == 1
    assert "they are gone. Prepare the data again" in err


def test_another_size_goes_from_the_preparation_to_the_prediction(cli):
    draw(Path("in"))
    text = CONFIG.replace("[32, 40]", "[16, 20]").replace("[24, 32]", "[12, 16]")
    assert cli("prepare", "--config", write(text + "resize: {scale_factor: 0.5}\n"))[0] == 0
    assert flat(0).shape == SIDES, "a flat field is that of the frames"
    small = (SIDES[0] // 2, SIDES[1] // 2)
    assert mask_of(0, 0).shape == small
    assert {(int(row["row_stop"]) <= small[0], int(row["col_stop"]) <= small[1]) for row in table("out/tiles.csv")} == {
        (True, True)
    }
    steps = json.loads(Path("out/preparation.json").read_text())["steps"]
    assert steps[0] == {"step": "resize", "by": 0.5}
    Path("train.yml").write_text(TRAINING)
    status, _, err = cli("fit", "--config", "train.yml", "--set", "train.crops_per_epoch=4")
    assert status == 0, err
    assert load(Path("models"))[0].preparation[0] == steps[0]
    Path("new").mkdir()
    tifffile.imwrite("new/a.tif", raw(0, 1, 0).astype(np.uint16))
    status, _, err = cli("predict", "models", "new", "--out", "predicted", "--format", "tiff")
    assert status == 0, err
    assert tifffile.imread("predicted/a.tif").shape[-2:] == SIDES


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("masks:", "mask:"), ["prep.yml", "mask: unknown key", "'masks'"]),
        (("str_elem_radius", "str_elem_radus"), ["masks.str_elem_radus", "'str_elem_radius'"]),
        (("'out'", "'in/out'"), ["only read"]),
        (("'in'", "'nowhere'"), ["nowhere", "no such folder"]),
        (("'in'", "'others'"), ["others: holds no frame. ", "cells.tif: its name does not say", "--order.\n"]),
        (("channel_ids: [0, 1]", "channel_ids: [0, 9]"), ["channel_ids names 9"]),
        (("channels: [1], str", "channels: [8], str"), ["foreground.channels", "channel 8", "0, 1"]),
        (("pos_ids: -1", "pos_ids: [77]"), ["pos_ids names 77", "has 0"]),
        (("depths: [1, 1]", "depths: [5, 1]"), ["tile.depths", "stacks of 5 slices", "has 3"]),
        (("depths: [1, 1]", "depths: [2, 1]"), ["tile.depths", "no middle one"]),
        (("mask_ext: '.png'", "mask_ext: '.jpg'"), ["masks.mask_ext", ".jpg"]),
        (("step_size: [24, 32]", "step_size: [24, 32, 1]"), ["tile.step_size", "different axes"]),
        (("block_size: 8", "block_size: 64"), ["too few blocks"]),
        (("'dataset',", "'dataset', hist_clip_limits: [99, 1],"), ["clip", "lower one first"]),
        (("[True, True]", "[True]"), ["normalize.normalize_channels", "says yes or no 1 times, for 2 channels"]),
        (("output_dir: 'out'", "output_dir: ''"), ["output_dir"]),
    ],
)
def test_what_cannot_be_prepared_is_said(cli, change, words):
    draw(Path("in"), positions=1)
    Path("others").mkdir()
    tifffile.imwrite("others/cells.tif", np.zeros(SIDES, np.uint16))
    assert change[0] in CONFIG
    status, _, err = cli("prepare", "--config", write(CONFIG.replace(*change)))
    assert status == 1
    assert all(word in err for word in words), err
    assert not Path("out").exists()


def test_set_changes_keys_of_the_file(cli):
    draw(Path("in"), positions=1)
    status, _, err = cli("prepare", "--config", write(CONFIG), "--set", "train.epochs=3")
    assert status == 1
    assert "--set: train: unknown key" in err
    assert "--set takes the file's own keys" in err
    status, _, err = cli("prepare", "--config", write(CONFIG.replace("masks:", "mask:")), "--set", "tile.depths=[1, 1]")
    assert status == 1
    assert "prep.yml: mask: unknown key" in err
    assert "--set" not in err


def test_frames_that_are_gone_are_said_to_be_those_of_a_preparation(cli):
    draw(Path("in"), positions=1)
    assert cli("prepare", "--config", write(CONFIG))[0] == 0
    Path("in").rename("elsewhere")
    Path("train.yml").write_text("dataset: {data_dir: out, input_channels: [0], target_channels: [1]}\ntrainer: {}\n")
    status, _, err = cli("fit", "--config", "train.yml")
    assert status == 1
    assert "preprocessing_info.json: says that input_dir is" in err
    assert str(Path("in").resolve()) in err


def test_what_others_wrote_is_never_replaced_and_other_files_are_sent_on(cli):
    draw(Path("in"), positions=1, slices=1)
    Path("out").mkdir()
    Path("out/frames_meta.csv").write_text("mine")
    status, _, err = cli("prepare", "--config", write())
    assert status == 1
    assert "frames_meta.csv, which Fieldmark has not written" in err
    assert Path("out/frames_meta.csv").read_text() == "mine"
    Path("train.yml").write_text(TRAINING)
    status, _, err = cli("prepare", "--config", "train.yml")
    assert status == 1
    assert "fieldmark fit --config train.yml" in err
    assert cli("prepare")[0] == 2
    Path("in/im_c001_z000_t000_p000.tif").unlink()
    status, _, err = cli("prepare", "--config", write(CONFIG.replace("'out'", "'other'")))
    assert status == 1


def test_the_preview_draws_every_step_and_writes_nothing_else(cli):
    draw(Path("in"), positions=2)
    text = CONFIG + "make_weight_map: True\n"
    status, out, err = cli("prepare", "--config", write(text), "--preview", "--json")
    assert status == 0, err
    page = Path(json.loads(out)["page"])
    assert sorted(path.name for path in Path("out").iterdir()) == ["preview.html"]
    html = page.read_text()
    for words in (
        "raw, ",
        "illumination, ",
        "corrected, ",
        "normalized, ",
        "foreground, ",
        "weights, ",
        "tiles of 32 x 40 are chosen",
    ):
        assert words in html
    assert "http" not in html.replace("http-equiv", "")
    assert html.count("<img") == 2 * (2 * 4 + 3)


def test_a_recipe_is_previewed_on_the_images_of_a_project(cli):
    draw(Path("in"), positions=2, slices=1)
    assert cli("init", "cells", "--classes", "a,b")[0] == 0
    assert cli("-C", "cells", "add", "in")[0] == 0
    Path("recipe.yaml").write_text(
        "family: unet\nprepare: {flat_field: {block: 8}, foreground: {}, normalize: {min_fraction: 0.2}}\n"
    )
    status, _, err = cli("-C", "cells", "prepare", "--preview", "--config", "recipe.yaml")
    assert status == 0, err
    html = Path("cells/preview.html").read_text()
    assert all(words in html for words in ("raw, ", "corrected, ", "normalized, ", "foreground, "))
    assert "Not shown" not in html
    folder = "prepare.foreground={method: folder}"
    assert cli("-C", "cells", "prepare", "--preview", "--set", folder, "--out", "cells/other.html")[0] == 0
    assert "Not shown" in Path("cells/other.html").read_text()
    status, _, err = cli("-C", "cells", "prepare", "--preview", "--out", "in/page.html")
    assert status == 1
    assert "originals are only read" in err
    assert cli("-C", "cells", "prepare", "--config", "recipe.yaml")[0] == 2


def test_volumes_are_resized_along_z_and_cut_into_sub_volumes(cli):
    """Seven slices become fourteen; sub-volumes of four of the seven share one; answers have the frames' slices."""
    draw(Path("in"), positions=2, slices=7)
    text = CONFIG.replace("[32, 40]", "[32, 40, 8]").replace("[24, 32]", "[24, 32, 4]").replace("'dataset'", "'volume'")
    text = text.replace("min_fraction: 0.2", "min_fraction: 0.02")
    resize = "resize: {scale_factor: [2.0, 1.0, 1.0], num_slices_subvolume: 4, resize_3d: True}\n"
    status, _, err = cli("prepare", "--config", write(text + resize), "--write-tiles")
    assert status == 0, err
    assert "num_slices_subvolume: tiles are listed within sub-volumes" in err
    steps = json.loads(Path("out/preparation.json").read_text())["steps"]
    assert steps[0] == {"step": "resize", "by": [2.0, 1.0, 1.0]}
    tiles = table("out/tiles.csv")
    assert {(row["slice_idx"], row["slices"]) for row in tiles} == {("0", "8"), ("6", "8")}
    assert sorted({name.name[8:12] for name in Path("out/mask_channels_1").glob("*.png")}) == [
        f"z{z:03d}" for z in range(14)
    ]
    # masks are of volumes: one threshold, opened by a ball
    source = np.stack([raw(1, z, 0) for z in range(7)])
    known = np.clip(np.array([(z // 2, z // 2 + (1 if z % 2 else -1)) for z in range(14)]), 0, 6)
    seen = np.rint(0.75 * source[known[:, 0]] + 0.25 * source[known[:, 1]]) / flat(1)
    found = np.stack([mask_of(z, 0) for z in range(14)])
    truth = otsu_mask(seen.astype(np.float32), radius=2)
    assert (found != truth).mean() < 1e-4
    assert (found != np.stack([otsu_mask(plane.astype(np.float32), radius=2) for plane in seen])).mean() > 0.01
    told = {(row["pos_idx"], row["channel_idx"]): row["zscore_median"] for row in table("out/statistics.csv")}
    frames = table("out/frames_meta.csv")
    assert len(frames) == 2 * 7 * 2
    assert all(row["zscore_median"] == told[row["pos_idx"], row["channel_idx"]] for row in frames)
    assert "fg_frac" not in frames[0]
    # the second resized slice lies three quarters of the way to the first frame
    copies = Path("out/tiles_32-40-8_step_24-32-4")
    first = next(row for row in table(copies / "frames_meta.csv") if row["channel_idx"] == "0")
    y, x, p = (int(first[name]) for name in ("row_start", "col_start", "pos_idx"))
    found = array(copies / first["file_name"])
    center, spread = (float(frames[0][name]) for name in ("zscore_median", "zscore_iqr"))
    near, far = (raw(0, z, p)[y : y + 32, x : x + 40] / flat(0)[y : y + 32, x : x + 40] for z in (0, 1))
    assert found.shape == (8, 32, 40)
    assert np.abs(found[1] - ((0.75 * near + 0.25 * far) - center) / spread).max() < 0.1

    Path("train.yml").write_text(TRAINING.replace("UNet2D", "UNet3D").replace("0.75, val: 0.25", "0.5, val: 0.5"))
    status, _, err = cli("fit", "--config", "train.yml", "--set", "train.crops_per_epoch=4")
    assert status == 0, err
    assert load_recipe(Path("models/recipe.yaml"))["train"]["depth"] == 8
    Path("new").mkdir()
    volume = np.stack([raw(0, z, 1) for z in range(7)]).astype(np.uint16)
    tifffile.imwrite("new/a.tif", volume, metadata={"axes": "ZYX"})
    status, _, err = cli("predict", "models", "new", "--out", "predicted", "--format", "tiff")
    assert status == 0, err
    (file,) = Path("predicted").glob("*.tif")
    assert tifffile.imread(file).shape == (7, *SIDES)
