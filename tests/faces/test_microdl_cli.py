"""microDL's files from training to metrics, on drawn frames: `fit --config`, `lr-find --config`, `predict --config`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import gaussian_filter

from fieldmark.checkpoint import header_of
from fieldmark.errors import BadInput
from fieldmark.images import encode_png
from fieldmark.infer import jobs
from fieldmark.workbench.loose.fit import follow_plan, plan_fit
from tests.faces.looking import read, table

POSITIONS, SLICES, SIDES = 8, 3, (40, 48)
TRAINING = """
dataset:
  data_dir: frames
  input_channels: [0]
  target_channels: [1]
  split_by_column: {by}
  split_ratio: {{train: 0.5, val: 0.25, test: 0.25}}
  random_seed: 3
trainer:
  model_dir: model
  batch_size: 4
  max_epochs: {epochs}
  loss: mae_loss
  callbacks: {callbacks}
  optimizer: {{name: adam, lr: 0.01}}
network: {{class: UNet2D, num_filters_per_block: [8, 16], num_input_channels: 1, num_target_channels: 1, height: 32,
  width: 32, residual: true, dropout: 0.0}}
"""
INFERENCE = """
model_dir: model
image_dir: frames
data_split: {split}
save_folder_name: predictions
save_figs: True
dataset: {{input_channels: [0], target_channels: [1]{more}}}
images: {{image_format: zyx, image_ext: {ext}, name_format: sms}}
metrics: {{metrics: [corr, mae], metrics_orientations: [xy, xyz]}}
tile: {{num_overlap: 8, overlap_operation: mean}}
"""


@pytest.fixture(autouse=True)
def _frames(worker_here, own_folder):
    frames = own_folder / "frames"
    frames.mkdir()
    for position in range(POSITIONS):
        rng = np.random.default_rng(position)
        stack = gaussian_filter(rng.normal(0, 1, (SLICES, *SIDES)), (0, 2, 2)) * 300 + 120
        for z, plane in enumerate(stack):
            for channel, pixels in enumerate((plane, 255 - plane)):  # the target is the negative
                name = f"im_c{channel:03}_z{z:03}_t000_p{position:03}.png"
                (frames / name).write_bytes(encode_png(np.clip(pixels, 0, 255).astype(np.uint8)))


def trained(cli, *, epochs: int = 6, by: str = "pos_idx") -> None:
    Path("train.yml").write_text(TRAINING.format(epochs=epochs, callbacks="{}", by=by))
    code, _, err = cli("fit", "--config", "train.yml")
    assert code == 0, err


def inference(split: str = "test", ext: str = ".tif", more: str = "") -> str:
    Path("infer.yml").write_text(INFERENCE.format(split=split, ext=ext, more=more))
    return "infer.yml"


def test_a_column_of_frames_meta_parts_positions(cli):
    """Four donors of two positions each, told by a column of the user's own."""
    assert cli("frames", "frames", "--out", "meta.csv")[0] == 0
    lines = table(Path("meta.csv"))
    with Path("frames/frames_meta.csv").open("w", newline="") as text:
        rows = csv.DictWriter(text, [*lines[0], "donor"])
        rows.writeheader()
        rows.writerows(line | {"donor": f"D{int(line['pos_idx']) % 4}"} for line in lines)
    trained(cli, epochs=1, by="donor")
    parts = header_of(Path("model")).details["split"]
    donors = [{int(name.removeprefix("p")) % 4 for name in parts[key]} for key in ("train", "validation", "test")]
    assert [len(one) for one in donors] == [2, 1, 1]
    assert set.union(*donors) == {0, 1, 2, 3}
    Path("train.yml").write_text(TRAINING.format(epochs=1, callbacks="{}", by="doner"))
    code, _, err = cli("fit", "--config", "train.yml")
    assert code == 1
    assert "split_by_column in a file of microDL) is 'doner'" in err
    assert "Did you mean 'donor'?" in err


def test_a_model_of_other_settings_is_named_before_it_is_replaced(cli):
    trained(cli, epochs=1)
    said = "model holds a model of other settings or images; when this one is learned, it takes its place"
    for epochs in (1, 2):
        Path("train.yml").write_text(TRAINING.format(epochs=epochs, callbacks="{}", by="pos_idx"))
        events = follow_plan(plan_fit(Path("train.yml")))
        assert (said in next(events).message) == (epochs == 2)
        events.close()


def test_held_out_positions_are_predicted_drawn_and_measured(cli):
    trained(cli)
    parts = header_of(Path("model")).details["split"]
    assert [len(parts[name]) for name in ("train", "validation", "test")] == [4, 2, 2]
    before = sorted(Path("frames").iterdir())
    code, _, err = cli("predict", "--config", inference())
    assert code == 0, err
    assert sorted(Path("frames").iterdir()) == before

    out = Path("model/predictions")
    assert sorted(path.stem for path in out.glob("*.tif")) == sorted(parts["test"])
    assert sorted(path.stem for path in (out / "figures").glob("*.png")) == sorted(parts["test"])
    for name in parts["test"]:
        number = int(name.removeprefix("p"))
        found = read(out / f"{name}.tif")[0, 0]
        assert found.shape == (SLICES, *SIDES)
        for z in range(SLICES):
            assert np.corrcoef(found[z].ravel(), plane(number, 1, z).ravel())[0, 1] > 0.9
    for orientation, count in (("xy", 2 * SLICES), ("xyz", 2)):
        rows = table(out / f"metrics_{orientation}.csv")
        assert len(rows) == count
        assert {"pred_name", "corr", "mae"} <= set(rows[0])
        assert all(float(row["corr"]) > 0.9 for row in rows)


def plane(number: int, channel: int, z: int) -> np.ndarray:
    return read(f"frames/im_c{channel:03}_z{z:03}_t000_p{number:03}.png")[0, 0, 0]


def test_figures_show_input_target_prediction_and_both_of_each_slice(cli):
    trained(cli, epochs=2)
    assert cli("predict", "--config", inference())[0] == 0
    height, width = SIDES
    for sheet in Path("model/predictions/figures").glob("*.png"):
        drawn = read(sheet)[0, :, 0]
        assert drawn.shape == (3, SLICES * (height + 4) - 4, 4 * (width + 4) - 4)
        said = tifffile.imread(f"model/predictions/{sheet.stem}.tif").reshape(SLICES, height, width)
        for z in range(SLICES):
            row = drawn[:, z * (height + 4) :][:, :height]
            seen, target, answer, both = (row[..., n * (width + 4) :][..., :width].astype(int) for n in range(4))
            for channel, picture in enumerate((seen, target)):
                assert np.array_equal(picture, np.stack([plane(int(sheet.stem[1:]), channel, z)] * 3))
            low, high = np.percentile(said[z], [0.5, 99.5])
            wanted = np.clip((said[z] - low) / (high - low), 0, 1) * 255
            assert np.abs(answer - wanted).max() <= 1
            assert np.array_equal(both[[0, 2]], target[[0, 2]])
            assert np.array_equal(both[1], answer[1])


@pytest.mark.parametrize("ext", [".tif", ".npy"])
def test_images_are_predicted_once_and_measured_as_they_were(cli, monkeypatch, ext):
    trained(cli, epochs=1)
    predicted = []
    real = jobs.predict_values
    monkeypatch.setattr(
        jobs,
        "predict_values",
        lambda *words, image, **more: predicted.append(image) or real(*words, image=image, **more),
    )
    for _ in range(2):  # what is there is not predicted again
        code, _, err = cli("predict", "--config", inference(ext=ext))
        assert code == 0, err
        assert sorted(predicted) == sorted(header_of(Path("model")).details["split"]["test"])
    rows = {row["pred_name"]: row for row in table(Path("model/predictions/metrics_xyz.csv"))}
    for name in predicted:
        said = read(f"model/predictions/{name}{ext}")[0, 0]
        right = np.stack([plane(int(name[1:]), 1, z) for z in range(SLICES)]).astype(float)
        (row,) = (row for key, row in rows.items() if name in key)
        assert float(row["corr"]) == pytest.approx(np.corrcoef(said.ravel(), right.ravel())[0, 1], abs=1e-5)
        assert float(row["mae"]) == pytest.approx(np.abs(said - right).mean(), rel=1e-5)


def test_tables_of_an_earlier_report_go_with_it(cli):
    """Of an orientation that is not asked for now; what the report did not name is somebody's own."""
    trained(cli, epochs=1)
    assert cli("predict", "--config", inference())[0] == 0
    out = Path("model/predictions")
    (out / "metrics_xz.csv").write_text("mine")
    Path("infer.yml").write_text(Path("infer.yml").read_text().replace("[xy, xyz]", "[xy]"))
    assert cli("predict", "--config", "infer.yml")[0] == 0
    assert sorted(path.name for path in out.glob("metrics_*")) == ["metrics_xy.csv", "metrics_xz.csv"]
    assert (out / "metrics_xz.csv").read_text() == "mine"
    assert len(table(out / "metrics_xy.csv")) == 2 * SLICES


def test_what_taught_is_predicted_and_never_scored(cli):
    trained(cli, epochs=1)
    code, _, err = cli("predict", "--config", inference("train"), "--out", "elsewhere", "--format", "npy")
    assert code == 0, err
    assert len(list(Path("elsewhere").glob("*.npy"))) == 4
    assert not list(Path("elsewhere").glob("metrics_*.csv"))
    assert "what taught it never scores it" in err
    code, _, err = cli("predict", "--config", inference("all", more=", slice_ids: [1]"), "--out", "some")
    assert code == 0, err
    rows = table(Path("some/metrics_xy.csv"))
    assert len(rows) == 2  # a slice each of the two that were held out, though their files are others now


def test_a_gpu_may_be_named_beside_the_file(cli, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    trained(cli, epochs=1)
    asked = []
    monkeypatch.setattr("fieldmark.infer.predict.device_for", lambda name: asked.append(name) or torch.device("cpu"))
    for words in (["--gpu", "0"], ["--gpu", "-1"], ["--accelerator", "cuda"]):
        code, _, err = cli("predict", "--config", inference(), *words, "--out", f"out{words[1]}")
        assert code == 0, err
        assert ("GPU 0: this machine has no such GPU" in err) == (words == ["--gpu", "0"])
    assert asked == ["auto", "cpu", "cuda"]  # once a run: what is measured is what was predicted


def test_slices_that_were_chosen_keep_their_numbers(cli):
    trained(cli, epochs=1)
    for more, out in (("", "whole"), (", slice_ids: [1, 2]", "part")):
        code, _, err = cli("predict", "--config", inference(ext=".png", more=more), "--out", out)
        assert code == 0, err
    names = header_of(Path("model")).details["split"]["test"]
    assert sorted(path.stem for path in Path("part").glob("*.png")) == sorted(
        f"{n}_z00{z}" for n in names for z in (1, 2)
    )
    for path in Path("part").glob("*.png"):
        assert np.array_equal(read(path), read(Path("whole") / path.name))
    whole, part = ({row["pred_name"]: row for row in table(Path(out, "metrics_xy.csv"))} for out in ("whole", "part"))
    assert sorted(part) == sorted(f"{name}_xy{z}" for name in names for z in (1, 2))
    assert part == {name: whole[name] for name in part}
    code, _, err = cli("predict", "--config", inference(ext=".png", more=", slice_ids: [1, 2]"), "--out", "part")
    assert all(f"{name}: already there" in err for name in names), err


def test_stacks_are_written_as_a_png_for_each_slice(cli):
    trained(cli, epochs=1)
    for ext, out in ((".png", "model/predictions"), (".npy", "whole")):
        code, _, err = cli("predict", "--config", inference(ext=ext), "--out", out)
        assert code == 0, err
    names = header_of(Path("model")).details["split"]["test"]
    found = sorted(path.name for path in Path("model/predictions").glob("*.png"))
    assert found == sorted(f"{name}_z{z:03}.png" for name in names for z in range(SLICES))
    for name in names:
        whole = np.load(f"whole/{name}.npy", allow_pickle=False).reshape(SLICES, *SIDES)
        for z in range(SLICES):
            one = read(f"model/predictions/{name}_z{z:03}.png")[0, 0, 0]
            assert one.dtype == np.uint16
            assert np.array_equal(one, np.rint(whole[z].clip(0, 65535)).astype(np.uint16))
    told = [table(Path(out, "metrics_xy.csv")) for out in ("model/predictions", "whole")]
    assert told[0] == told[1]  # measured before anything was rounded for a file
    code, _, err = cli("predict", "--config", inference(ext=".png", more=", slice_ids: [0]"), "--out", "flat")
    assert code == 0, err
    assert sorted(path.stem for path in Path("flat").glob("*.png")) == sorted(names)
    code, out, err = cli("frames", "model/predictions", "--out", "meta.csv", "--json")
    assert code == 0, err
    assert json.loads(out)["slices"] == SLICES
    assert json.loads(out)["positions"] == len(names)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["predict", "--config", "train.yml"], "no inference file of microDL"),
        (["predict", "model", "--config", "infer.yml"], "Leave MODEL, IMAGES and --truth out"),
        (["predict", "model"], "MODEL --out FOLDER, or --config FILE"),
        (["predict", "--config", "infer.yml", "--out", "frames/said"], "only read"),
        (["predict", "--config", "infer.yml", "--out", "infer.yml"], "infer.yml is a file. Choose a folder"),
    ],
)
def test_what_cannot_be_predicted_is_said(cli, words, wanted):
    trained(cli, epochs=1)
    inference()
    code, _, err = cli(*words)
    assert code in (1, 2)
    assert wanted in err


@pytest.mark.parametrize(
    ("change", "words", "wanted"),
    [
        (("image_dir: frames", "image_dir: nowhere"), [], "nowhere: there is no such folder"),
        (("image_dir: frames", "image_dir: empty"), [], "empty: holds no frame"),
        (("data_split: test", "data_split: val"), ["--accelerator", "gpu"], "accelerator: gpu was asked for"),
    ],
)
def test_what_fails_before_anything_is_predicted_leaves_no_folder(cli, monkeypatch, change, words, wanted):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    trained(cli, epochs=1)
    Path("empty").mkdir()
    Path("infer.yml").write_text(Path(inference()).read_text().replace(*change))
    for out, gone in (([], "model/predictions"), (["--out", "new/deep"], "new")):
        before = sorted(Path().rglob("*"))
        code, _, err = cli("predict", "--config", "infer.yml", *words, *out)
        assert code == 1
        assert wanted in err
        assert not Path(gone).exists()
        assert sorted(Path().rglob("*")) == before


def test_what_was_predicted_before_an_error_stays(cli, monkeypatch):
    trained(cli, epochs=1)
    real = jobs.predict_values

    def second_fails(*words, image, **more):
        yield from real(*words, image=image, **more)
        if image == sorted(header_of(Path("model")).details["split"]["test"])[-1]:
            raise BadInput("the second one is bad")

    monkeypatch.setattr(jobs, "predict_values", second_fails)
    code, _, err = cli("predict", "--config", inference())
    assert code == 1
    assert "the second one is bad" in err
    assert len(list(Path("model/predictions").glob("*.tif"))) == 1
    assert Path("model/predictions/.fieldmark/work").is_dir()


def test_times_that_are_too_few_to_be_parted_are_named(cli):
    Path("train.yml").write_text(TRAINING.format(epochs=1, callbacks="{}", by="time_idx"))
    code, _, err = cli("fit", "--config", "train.yml")
    assert code == 0, err
    assert "Too few times to hold any out" in err
    code, _, err = cli("predict", "--config", inference())
    assert code == 1
    assert "parted along time, and that part is empty. Set data_split: all" in err


def test_planes_that_were_held_out_are_named(cli):
    trained(cli, epochs=1, by="slice_idx")
    code, _, err = cli("predict", "--config", inference())
    assert code == 1
    assert "parted along slice" in err
    (test,) = header_of(Path("model")).details["split"]["planes"]["test"]
    assert f"dataset.slice_ids: [{test}]" in err


def test_planes_that_were_held_out_are_named_by_their_frames_numbers(cli):
    """Where the frames' slices do not begin at 0, a plane's place would name another one, which may have taught."""
    for file in sorted(Path("frames").glob("*.png"), reverse=True):
        head, tail = file.name.split("_z")
        file.rename(file.with_name(f"{head}_z{int(tail[:3]) + 5:03}{tail[3:]}"))
    trained(cli, epochs=1, by="slice_idx")
    (test,) = header_of(Path("model")).details["split"]["planes"]["test"]
    _, _, err = cli("predict", "--config", inference())
    assert f"dataset.slice_ids: [{test + 5}]" in err


def test_the_finder_sweeps_the_epochs_of_its_file_and_draws_where_it_says(cli):
    finder = "{LearningRateScheduler: {lr_find: true, base_lr: 0.0001, max_lr: 0.5, max_epochs: 2, fig_fname: lr.png}}"
    Path("find.yml").write_text(TRAINING.format(epochs=1, callbacks=finder, by="pos_idx"))
    code, out, err = cli("lr-find", "--config", "find.yml")
    assert code == 0, err
    assert Path("lr.png").read_bytes().startswith(b"\x89PNG")
    steps = next(line for line in reversed(err.splitlines()) if line.startswith("lr-find ")).split()[1]
    crops = 4 * SLICES * (40 * 48) / (32 * 32)
    assert int(steps.partition("/")[2]) == 2 * -(-round(crops) // 4)
    assert "lr.png" in out


def test_cycles_that_begin_above_their_end_are_swept_and_not_fitted(cli):
    cycles = "{LearningRateScheduler: {base_lr: 0.02}}"
    Path("cycles.yml").write_text(TRAINING.format(epochs=1, callbacks=cycles, by="pos_idx"))
    code, _, err = cli("fit", "--config", "cycles.yml")
    assert code == 1
    assert "must be more than lr 0.02" in err
    code, out, err = cli("lr-find", "--config", "cycles.yml", "--steps", "12", "--max-lr", "0.5")
    assert code == 0, err
    assert "Rates between" in out


def test_frames_that_were_prepared_are_predicted_from_where_they_lie(cli):
    Path("prep.yml").write_text(
        "{output_dir: out, input_dir: frames, channel_ids: [0, 1], normalize: {normalize_im: dataset, "
        "normalize_channels: [true, true]}, tile: {tile_size: [32, 32], step_size: [32, 32], depths: [1, 1]}}"
    )
    assert cli("prepare", "--config", "prep.yml")[0] == 0
    Path("train.yml").write_text(TRAINING.format(epochs=1, callbacks="{}", by="pos_idx").replace(": frames", ": out"))
    assert cli("fit", "--config", "train.yml")[0] == 0
    before = sorted(Path("out").iterdir())
    found = {}
    for folder in ("frames", "out"):
        Path("infer.yml").write_text(
            INFERENCE.format(split="test", ext=".tif", more="").replace(": frames", f": {folder}")
        )
        code, _, err = cli("predict", "--config", "infer.yml", "--out", f"from-{folder}")
        assert code == 0, err
        assert ("image_dir" in err) == (folder == "out")
        found[folder] = {path.name: tifffile.imread(path) for path in Path(f"from-{folder}").glob("*.tif")}
    assert len(found["out"]) == 2
    for name, pixels in found["frames"].items():
        assert np.array_equal(found["out"][name], pixels)
    assert sorted(Path("out").iterdir()) == before


def test_a_slice_that_was_asked_for_is_predicted_with_its_neighbors(cli):
    """Of a network that sees stacks: a chosen slice by itself would stand for its neighbors too."""
    text = TRAINING.replace("UNet2D,", "UNetStackTo2D, depth: 3,").format(epochs=1, callbacks="{}", by="pos_idx")
    Path("train.yml").write_text(text)
    assert cli("fit", "--config", "train.yml")[0] == 0
    assert cli("predict", "--config", inference("all"), "--out", "all")[0] == 0
    code, _, err = cli("predict", "--config", inference("all", more=", slice_ids: [1]"), "--out", "one")
    assert code == 0, err
    assert "slice_ids: the network sees each slice with its neighbors" in err
    for name in ("p000.tif", "p007.tif"):
        np.testing.assert_array_equal(tifffile.imread(f"one/{name}"), tifffile.imread(f"all/{name}"))
    assert len(tifffile.imread("one/p000.tif")) == SLICES
    code, _, err = cli("predict", "--config", inference("all", more=", slice_ids: [1, 9]"), "--out", "none")
    assert code == 1
    assert "slice_ids names 9, and" in err
    assert "has 0, 1, 2" in err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ", slice_ids: '0-2'",
            "dataset.slice_ids: no number; name each by itself: [0, 1, 2], or -1 for all (found '0-2')",
        ),
        (", slice_ids: [1, 9]", "slice_ids names 9, and"),
        (", pos_ids: 12", "pos_ids names 12, and"),
        (", time_ids: [3]", "time_ids names 3, and"),
    ],
)
def test_numbers_that_no_frame_has_are_named(cli, more, words):
    trained(cli, epochs=1)
    code, _, err = cli("predict", "--config", inference("all", more=more))
    assert code == 1
    assert words in err
    assert not Path("model/predictions").exists()
