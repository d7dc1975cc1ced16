"""Masks in folders of frames, as microDL names them, from its own files: what a loss, and what numbers, look at."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import yaml
from scipy.ndimage import gaussian_filter

from fieldmark.checkpoint import load
from fieldmark.images import encode_png
from fieldmark.recipes.dialects.keys import ForeignPrepare
from tests.faces.looking import read, table

PLACES = [(p, z) for p in (0, 2, 3, 7) for z in range(3)]
PREPARING = """
input_dir: frames
output_dir: prepared
channel_ids: [0, 1]
normalize: {normalize_im: dataset}
masks: {mask_dir: masks, mask_channel: 5}
"""
TRAINING = """
dataset:
  data_dir: prepared
  input_channels: [0]
  target_channels: [1]
  mask_channels: [5]
  split_ratio: {train: 0.5, val: 0.25, test: 0.25}
  random_seed: 3
trainer: {model_dir: model, batch_size: 4, max_epochs: 12, loss: mae_loss, masked_loss: true,
  optimizer: {name: adam, lr: 0.01}}
network: {class: UNet2D, num_filters_per_block: [8, 16], height: 32, width: 32, dropout: 0.0}
"""
INFERENCE = """
model_dir: model
image_dir: frames
data_split: test
dataset: {input_channels: [0], target_channels: [1]}
images: {image_ext: .tif}
metrics: {metrics: [mae, corr], metrics_orientations: [xy, xyz]}
masks: {mask_dir: masks, mask_type: metrics, mask_channel: 5}
"""


def save(folder: str, channel: int, place: tuple[int, int], pixels: np.ndarray) -> None:
    Path(folder).mkdir(exist_ok=True)
    p, z = place
    (Path(folder) / f"im_c{channel:03}_z{z:03}_t000_p{p:03}.png").write_bytes(encode_png(pixels.astype(np.uint8)))


def pixels(file: str) -> np.ndarray:
    return read(file).squeeze().astype(float)


def inside(place: tuple[int, int]) -> np.ndarray:
    """A mask that is another one in each plane."""
    drawn = np.zeros((40, 48), bool)
    drawn[3 * place[1] :, 5 * place[0] // 2 : 5 * place[0] // 2 + 24] = True
    return drawn


@pytest.fixture(autouse=True)
def _frames(worker_here, own_folder):
    """Within masks the target is the negative of the input, outside it is black."""
    for number, place in enumerate(PLACES):
        rng = np.random.default_rng(number)
        plane = np.clip(gaussian_filter(rng.normal(0, 1, (40, 48)), 2) * 300 + 120, 0, 255)
        save("frames", 0, place, plane)
        save("frames", 1, place, np.where(inside(place), 255 - plane, 0))
        save("masks", 4, place, np.full((40, 48), 255))  # of another channel
        save("masks", 5, place, inside(place) * 255)


def ready(cli) -> None:
    for name, text in (("prepare.yml", PREPARING), ("train.yml", TRAINING), ("infer.yml", INFERENCE)):
        Path(name).write_text(text)
    assert cli("prepare", "--config", "prepare.yml")[0] == 0


def fitted(cli) -> str:
    code, _, err = cli("fit", "--config", "train.yml")
    assert code == 0, err
    return str(err)


def test_own_masks_say_what_teaches_and_what_is_measured(cli):
    ready(cli)
    fitted(cli)
    code, _, err = cli("predict", "--config", "infer.yml")
    assert code == 0, err
    (made,) = Path("model/predictions").glob("p*.tif")
    position, said = int(made.stem[1:]), tifffile.imread(made).astype(float)
    places = [(position, z) for z in range(3)]
    right = np.stack([pixels(f"frames/im_c001_z{z:03}_t000_p{p:03}.png") for p, z in places])
    negative = 255 - np.stack([pixels(f"frames/im_c000_z{z:03}_t000_p{p:03}.png") for p, z in places])
    masks = np.stack([inside(place) for place in places])

    outside = np.abs(said - negative)[~masks].mean()
    assert outside < 0.3 * np.abs(said - right)[~masks].mean()  # nothing outside of its masks has taught it

    rows = table(Path("model/predictions/metrics_xy.csv"))
    assert [float(row["vol_frac"]) for row in rows] == pytest.approx([mask.mean() for mask in masks])
    errors = [np.abs(said - right)[z][masks[z]].mean() for z in range(3)]
    assert [float(row["mae_masked"]) for row in rows] == pytest.approx(errors, rel=1e-4)
    (whole,) = table(Path("model/predictions/metrics_xyz.csv"))
    assert float(whole["corr_masked"]) == pytest.approx(np.corrcoef(said[masks], right[masks])[0, 1], abs=1e-5)


def test_own_masks_that_nothing_asks_for_change_nothing(cli):
    """Neither the loss nor a fraction: a fit was refused for them."""
    ready(cli)
    found = []
    for preparing in (PREPARING, PREPARING.partition("masks:")[0]):
        Path("prepare.yml").write_text(preparing)
        assert cli("prepare", "--config", "prepare.yml")[0] == 0
        training = TRAINING.replace("masked_loss: true", "masked_loss: false").replace(
            "max_epochs: 12", "max_epochs: 1"
        )
        Path("train.yml").write_text(training)
        fitted(cli)
        found.append(load(Path("model"))[1])
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[1])


def test_a_mask_that_was_corrected_is_learned_from_anew(cli):
    ready(cli)
    Path("train.yml").write_text(TRAINING.replace("max_epochs: 12", "max_epochs: 1"))
    fitted(cli)
    assert "The same was learned before" in fitted(cli)
    save("masks", 5, (0, 0), ~inside((0, 0)) * 255)
    assert "The same was learned before" not in fitted(cli)


@pytest.mark.parametrize(
    ("number", "kind", "ending"), [(2, "mask_channels_0-1", "png"), (3, "weight_map_channels_0-1", "npy")]
)
def test_a_loss_looks_at_the_files_that_were_prepared(cli, number, kind, ending):
    """Masks of two channels, of which the loss made its own of the first; weights between what is no label map."""
    computed = "masks: {channels: [0, 1], mask_type: otsu, str_elem_radius: 1}\nmake_weight_map: true\n"
    Path("prepare.yml").write_text(PREPARING.partition("masks:")[0] + computed)
    assert cli("prepare", "--config", "prepare.yml")[0] == 0
    text = TRAINING.replace("max_epochs: 12", "max_epochs: 1").replace("[5]", f"[{number}]")
    Path("train.yml").write_text(text)
    assert f"dataset.mask_channels: {number} are the files in" in fitted(cli)
    mask = yaml.safe_load(Path("model/recipe.yaml").read_text())["data"]["mask"]
    assert mask["method"] == "none"
    for p in (0, 2, 3, 7):
        looked = read(next(Path(mask["folder"]).glob(f"p{p:03}*"))).squeeze()
        files = [read(f"prepared/{kind}/im_c00{number}_z{z:03}_t000_p{p:03}.{ending}").squeeze() for z in range(3)]
        assert np.array_equal(looked, np.stack(files))
        assert len(np.unique(looked)) > 1


def test_a_number_of_neither_masks_nor_weight_maps_is_refused(cli):
    computed = "masks: {channels: [0, 1], mask_type: otsu, str_elem_radius: 1}\nmake_weight_map: true\n"
    Path("prepare.yml").write_text(PREPARING.partition("masks:")[0] + computed)
    assert cli("prepare", "--config", "prepare.yml")[0] == 0
    Path("train.yml").write_text(TRAINING.replace("[5]", "[9]"))
    status, _, err = cli("fit", "--config", "train.yml")
    assert status == 1
    assert "9 is no channel of the frames, and neither 2, the prepared masks, nor 3, the weight maps" in err


@pytest.mark.parametrize(("own", "number", "weights"), [(5, 5, False), (5, 2, True), (2, 2, False), (2, 3, True)])
def test_weight_maps_stand_behind_the_masks_of_a_person(own, number, weights):
    from fieldmark.recipes.dialects.microdl_masks import _is_of_weights

    folders = {"images": Path("frames"), "out": Path("prepared")}
    prepared = ForeignPrepare(recipe={}, **folders, mask={"folder": "own"}, mask_channel=own)
    assert _is_of_weights(prepared, number, SimpleNamespace(numbers=(0, 1))) is weights


def test_weights_of_the_values_of_a_computed_mask(cli):
    """Files of masks hold 0 and 255, which are no places in a table of weights: the loss computes the mask."""
    Path("prepare.yml").write_text(PREPARING.partition("masks:")[0] + "masks: {channels: [1], mask_type: otsu}\n")
    assert cli("prepare", "--config", "prepare.yml")[0] == 0
    text = TRAINING.replace("max_epochs: 12", "max_epochs: 1").replace("[5]", "[2]\n  label_weights: [0.5, 1]")
    Path("train.yml").write_text(text)
    fitted(cli)
    mask = yaml.safe_load(Path("model/recipe.yaml").read_text())["data"]["mask"]
    assert (mask["method"], mask["channel"], mask["label_weights"]) == ("otsu", 1, [0.5, 1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("mask_channel: 5", "mask_channel: null"), "holds masks of channels [4, 5]. Name one of them: masks.mask_"),
        (("data_split: test", "data_split: all"), "holds no mask of position 2, time 0, slice 1 (1 of 6 are missing)"),
    ],
)
def test_masks_that_are_not_clear_are_named(cli, change, words):
    """With two positions that taught nothing, and a plane of one of them without its mask."""
    ready(cli)
    Path("train.yml").write_text(TRAINING.replace("max_epochs: 12", "max_epochs: 1"))
    fitted(cli)
    Path("masks/im_c005_z001_t000_p002.png").unlink()
    for z in range(3):
        save("frames", 0, (2, z), np.full((40, 48), 7))  # no position that has taught, any more
    Path("infer.yml").write_text(INFERENCE.replace(*change))
    code, _, err = cli("predict", "--config", "infer.yml")
    assert code == 1
    assert words in err
