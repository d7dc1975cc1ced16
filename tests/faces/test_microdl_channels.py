"""Channels by the numbers of their frames: folders that do not begin at 0, and masks as a channel of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from fieldmark.checkpoint import header_of
from fieldmark.images import encode_png
from tests.faces.looking import read, table

POSITIONS = (0, 2, 3, 7)
PREPARING = """
input_dir: {folder}
output_dir: {folder}-out
channel_ids: [{a}, {b}]
flat_field: {{estimate: true, correct: true, flat_field_channels: [{a}], block_size: 8}}
normalize: {{normalize_im: dataset, min_fraction: 0.1, normalize_channels: [true, true]}}
masks: {{channels: [{a}], mask_type: otsu, str_elem_radius: 1}}
"""
TRAINING = """
dataset:
  data_dir: {folder}-out
  input_channels: [{a}]
  target_channels: [{target}]
  mask_channels: [{mask}]
  split_ratio: {{train: 0.5, val: 0.25, test: 0.25}}
  random_seed: 3
trainer: {{model_dir: {folder}-model, batch_size: 4, max_epochs: {epochs}, loss: {loss}, masked_loss: {masked},
  optimizer: {{name: adam, lr: 0.01}}}}
network: {{class: UNet2D, num_filters_per_block: [8, 16], height: 32, width: 32, dropout: 0.0}}
"""
INFERENCE = """
model_dir: {folder}-model
image_dir: {folder}
data_split: test
dataset: {{target_channels: [{b}]}}
images: {{image_ext: .tif}}
metrics: {{metrics: [mae], metrics_orientations: [xy]}}
"""


def draw(folder: str, channels: tuple[int, ...]) -> None:
    """An input, something else and a target, by these numbers."""
    Path(folder).mkdir()
    for p in POSITIONS:
        rng = np.random.default_rng(p)
        plane = np.clip(gaussian_filter(rng.normal(0, 1, (40, 48)), 2) * 300 + 120, 1, 255)
        other = np.clip(rng.normal(60, 20, (40, 48)), 0, 255)
        for channel, pixels in zip(channels, (plane, other, 255 - plane), strict=True):
            name = f"im_c{channel:03}_z000_t000_p{p:03}.png"
            (Path(folder) / name).write_bytes(encode_png(pixels.astype(np.uint8)))


def run(cli, folder: str, channels: tuple[int, ...], **more: object) -> None:
    a, _, b = channels
    words = {"folder": folder, "a": a, "b": b, "target": b, "mask": b + 1, "epochs": 1, "loss": "mae_loss"}
    words |= {"masked": True} | more
    for command, text in (("prepare", PREPARING), ("fit", TRAINING), ("predict", INFERENCE)):
        Path(f"{command}.yml").write_text(text.format(**words))
        code, _, err = cli(command, "--config", f"{command}.yml")
        assert code == 0, err


def test_numbers_of_channels_decide_not_their_places(cli, worker_here, own_folder):
    """The same pixels, with channels counted from 0 and with 1, 4 and 6: the same preparation, answers and metrics."""
    for folder, channels in (("usual", (0, 1, 2)), ("odd", (1, 4, 6))):
        draw(folder, channels)
        run(cli, folder, channels)
    usual, odd = (header_of(Path(f"{folder}-model")) for folder in ("usual", "odd"))
    assert odd.preparation == usual.preparation
    assert {step["step"] for step in odd.preparation} >= {"flat-field", "standardize"}
    (one,), (other,) = (sorted(Path(f"{folder}-model/predictions").glob("*.tif")) for folder in ("usual", "odd"))
    assert one.name == other.name
    assert np.array_equal(tifffile.imread(one), tifffile.imread(other))
    usual_rows, odd_rows = (table(Path(f"{f}-model/predictions/metrics_xy.csv")) for f in ("usual", "odd"))
    assert odd_rows == usual_rows

    Path("predict.yml").write_text(INFERENCE.format(folder="odd", b=6).replace("image_dir: odd", "image_dir: fewer"))
    draw("fewer", (0, 2, 6))
    code, _, err = cli("predict", "--config", "predict.yml", "--out", "elsewhere")
    assert code == 1
    assert "the model sees channels [1] of frames with [1, 4, 6], and these have [0, 2, 6]" in err


@pytest.mark.parametrize("others", [(7,), (2, 3, 8)])
def test_frames_need_the_channels_that_the_model_sees(cli, worker_here, own_folder, others):
    """Without a stain that lay there while it was taught, or with one more: the same answers."""
    draw("usual", (0, 1, 2))
    run(cli, "usual", (0, 1, 2))
    (made,) = Path("usual-model/predictions").glob("*.tif")
    Path("new").mkdir()
    for frame in sorted(Path("usual").glob("im_c000*")):
        for channel in (0, *others):
            shutil.copy(frame, Path("new") / frame.name.replace("c000", f"c{channel:03d}"))
    Path("predict.yml").write_text(INFERENCE.format(folder="usual", b=1).replace("image_dir: usual", "image_dir: new"))
    code, _, err = cli("predict", "--config", "predict.yml", "--out", "answers")
    assert code == 0, err
    assert f"the frames have channels {[0, *others]}, and those that taught had [0, 1, 2]; [0] alone are read" in err
    assert np.array_equal(tifffile.imread(Path("answers") / made.name), tifffile.imread(made))


def test_masks_are_learned_as_the_channel_after_the_last(cli, worker_here, own_folder):
    """As microDL numbers them: three channels, so that channel 3 are the masks that were prepared."""
    draw("frames", (0, 1, 2))
    more = {"target": 3, "loss": "dice_coef_loss", "masked": False, "epochs": 12}
    run(cli, "frames", (0, 1, 2), **more)
    masks = "masks: {mask_dir: frames-out/mask_channels_0, mask_type: target, mask_channel: 3}"
    Path("predict.yml").write_text(INFERENCE.format(folder="frames", b=3).replace("[mae]", "[dice]") + masks)
    code, _, err = cli("predict", "--config", "predict.yml")
    assert code == 0, err
    (made,) = Path("frames-model/predictions").glob("*.tif")
    said = tifffile.imread(made)
    right = read(f"frames-out/mask_channels_0/im_c003_z000_t000_{made.stem}.png").squeeze()
    assert set(np.unique(said)) == set(np.unique(right)) == {0, 255}
    assert (said == right).mean() > 0.93
    found = json.loads(Path("frames-model/predictions/report.json").read_text())["classes"]["class 255"]["dice"]
    assert found == pytest.approx(2 * ((said > 0) & (right > 0)).sum() / ((said > 0).sum() + (right > 0).sum()))


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("2, 1", "[2, 1]; the model answers [1, 2]. Keep that order"),
        ("2", "names 1, and the model answers 2: channels"),
    ],
)
def test_targets_that_are_not_those_of_the_model_are_named(cli, worker_here, own_folder, named, words):
    draw("frames-out", (0, 1, 2))
    text = TRAINING.format(folder="frames", a=0, target="1, 2", mask=1, epochs=1, loss="mae_loss", masked=False)
    Path("fit.yml").write_text(text)
    assert cli("fit", "--config", "fit.yml")[0] == 0
    text = INFERENCE.format(folder="frames", b=named).replace("dir: frames\n", "dir: frames-out\n")
    Path("predict.yml").write_text(text)
    code, _, err = cli("predict", "--config", "predict.yml")
    assert code == 1
    assert f"dataset.target_channels: {words}" in err
    assert not list(Path("frames-model/predictions").glob("*.tif"))


def test_frames_without_their_target_are_predicted_where_nothing_is_measured(cli, worker_here, own_folder):
    """A file names target_channels whatever it asks for; new frames have none."""
    draw("usual", (0, 1, 2))
    run(cli, "usual", (0, 1, 2))
    (made,) = Path("usual-model/predictions").glob("*.tif")
    Path("new").mkdir()
    for frame in sorted(Path("usual").glob("im_c000*")):
        shutil.copy(frame, Path("new") / frame.name)
    text = INFERENCE.format(folder="usual", b=2).replace("image_dir: usual", "image_dir: new")
    Path("predict.yml").write_text(text)
    code, _, err = cli("predict", "--config", "predict.yml", "--out", "answers")
    assert code == 1
    assert "dataset.target_channels: names channel 2, and the frames have 0" in err
    Path("predict.yml").write_text("\n".join(line for line in text.splitlines() if "metrics" not in line))
    code, _, err = cli("predict", "--config", "predict.yml", "--out", "answers")
    assert code == 0, err
    assert "dataset.target_channels: [2] are not all there" in err
    assert np.array_equal(tifffile.imread(Path("answers") / made.name), tifffile.imread(made))


def test_answers_are_called_by_the_numbers_of_their_frames(cli, worker_here, own_folder):
    """The first of two targets was called channel 0, which is what the network sees."""
    draw("frames-out", (0, 1, 2))
    text = TRAINING.format(folder="frames", a=0, target="2, 1", mask=1, epochs=1, loss="mae_loss", masked=False)
    Path("fit.yml").write_text(text)
    assert cli("fit", "--config", "fit.yml")[0] == 0
    text = INFERENCE.format(folder="frames", b="2, 1").replace("dir: frames\n", "dir: frames-out\n")
    Path("predict.yml").write_text(text)
    code, _, err = cli("predict", "--config", "predict.yml")
    assert code == 0, err
    (made,) = Path("frames-model/predictions").glob("*.tif")
    rows = table(Path("frames-model/predictions/metrics_xy.csv"))
    assert {row["pred_name"].split("_")[1] for row in rows} == {"channel 2", "channel 1"}
    for row in rows:
        number, z = int(row["pred_name"].split("_")[1].split()[1]), int(row["pred_name"].rpartition("xy")[2])
        said = tifffile.imread(made).reshape(-1, 2, 40, 48)[z, [2, 1].index(number)].astype(float)
        right = read(f"frames-out/im_c{number:03}_z{z:03}_t000_{made.stem}.png").squeeze()
        assert float(row["mae"]) == pytest.approx(np.abs(said - right).mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("change", "gone", "words"),
    [
        (("input_channels: [0]", "input_channels: [5]"), "", "dataset.input_channels: names channel 5, and the frames"),
        (("x", "x"), "im_c001_z000_t000_p003.png", "position 3 has no frame of channel 1, and others have"),
    ],
)
def test_channels_that_are_not_there_are_named(cli, own_folder, change, gone, words):
    draw("frames-out", (0, 1, 2))
    if gone:
        (Path("frames-out") / gone).unlink()
    text = TRAINING.format(folder="frames", a=0, target=2, mask=1, epochs=1, loss="mae_loss", masked=False)
    Path("fit.yml").write_text(text.replace(*change))
    code, _, err = cli("fit", "--config", "fit.yml")
    assert code == 1
    assert words in err
