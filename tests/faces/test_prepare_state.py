"""Whose an output folder of `prepare --config` is: what is whole, what was stopped, what is read from it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fieldmark.workbench.loose.prepare import follow_prepare, plan_prepare
from tests.faces.looking import tree
from tests.faces.test_prepare_cli import CONFIG, SIDES, TRAINING, draw, write

pytestmark = pytest.mark.usefixtures("worker_here", "own_folder")


def test_what_is_read_is_never_replaced(cli):
    """Masks of an earlier preparation, corrected by hand, are a person's work."""
    draw(Path("in"), positions=2, slices=1)
    assert cli("prepare", "--config", write())[0] == 0
    before = tree("out")
    own = CONFIG.replace("masks: {channels: [1],", "masks: {mask_dir: out/mask_channels_1,")
    status, _, err = cli("prepare", "--config", write(own))
    assert status == 1
    assert "masks.mask_dir is" in err
    assert "Move it to another place" in err
    assert tree("out") == before
    Path("out/mask_channels_1").rename("corrected")
    assert cli("prepare", "--config", write(own.replace("out/mask_channels_1", "corrected")))[0] == 0
    assert tree("corrected") == {
        name.removeprefix("mask_channels_1/"): data for name, data in before.items() if name.startswith("mask_")
    }


def test_flat_fields_of_an_earlier_preparation_are_read_and_stay(cli):
    draw(Path("in"), positions=2, slices=1)
    assert cli("prepare", "--config", write())[0] == 0
    fields = tree("out/flat_field_images")
    text = CONFIG.replace("estimate: True, block_size: 8, correct: True", "method: from_file")
    status, _, err = cli("prepare", "--config", write(text))
    assert status == 0, err
    assert tree("out/flat_field_images") == fields
    assert len(json.loads(Path("out/preprocessing_info.json").read_text())) == 2


def test_what_went_missing_is_made_again(cli):
    draw(Path("in"), positions=2, slices=1)
    config = write()
    assert cli("prepare", "--config", config)[0] == 0
    whole = tree("out", without=("preprocessing_info.json",))
    for lost in (
        "mask_channels_1/im_c003_z000_t000_p001.png",
        "tiles.csv",
        "flat_field_images/flat-field_channel-1.npy",
    ):
        (Path("out") / lost).unlink()
        status, _, err = cli("prepare", "--config", config)
        assert status == 0
        assert "taken as it is" not in err
        assert tree("out", without=("preprocessing_info.json",)) == whole


def test_stopped_while_another_preparation_goes_neither_is_taken_as_done(cli, monkeypatch):
    draw(Path("in"), positions=2, slices=1)
    config = write()
    assert cli("prepare", "--config", config)[0] == 0
    whole = tree("out", without=("preprocessing_info.json",))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rmdir", killed)  # the first folder is empty, and nothing else has gone
        with pytest.raises(KeyboardInterrupt):
            list(follow_prepare(plan_prepare(config, overrides=("tile.min_fraction=0.5",))))
    assert not list(Path("out/flat_field_images").iterdir())
    Path("train.yml").write_text(TRAINING)
    status, _, err = cli("fit", "--config", "train.yml")
    assert status == 1
    assert "a preparation into it has not come to its end" in err
    status, _, err = cli("prepare", "--config", config)
    assert status == 0
    assert "taken as it is" not in err
    assert tree("out", without=("preprocessing_info.json",)) == whole


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("depths: [1, 1]", "depths: [5, 1]"), "stacks of 5 slices, and {folder}: p000 has 3"),
        (("depths: [1, 1]", "depths: [1, 1, 3]"), "tile.depths has 3 numbers, for 2 channels"),
        (("channels: [1], str", "channels: [7], str"), "foreground.channels names channel 7"),
        (("slice_ids: -1", "slice_ids: [0, 9]"), "slice_ids names 9, and {folder} has 0, 1, 2."),
        (("block_size: 8", "block_size: 64"), "too few blocks"),
    ],
)
def test_nothing_is_left_of_what_did_not_begin(cli, change, words):
    draw(Path("in"), positions=1)
    assert change[0] in CONFIG
    status, _, err = cli("prepare", "--config", write(CONFIG.replace(*change)))
    assert status == 1
    assert words.format(folder=Path("in").resolve()) in err
    assert not Path("out").exists()


def test_frames_are_named_by_their_folder_in_errors(cli):
    draw(Path("in"), positions=2, slices=1)
    place = Path("in/im_c001_z000_t000_p001.tif")
    spoiled = tifffile.imread(place).astype(np.float32)
    spoiled[3, 5] = np.nan
    for p in range(2):
        tifffile.imwrite(f"in/im_c001_z000_t000_p{p:03d}.tif", spoiled if p else np.ones(SIDES, np.float32))
    status, _, err = cli("prepare", "--config", write())
    assert status == 1
    assert f"{Path('in').resolve()}: p001, time 0, slice 0: holds pixels that are NaN" in err


def test_no_fit_learns_from_a_preparation_that_has_not_ended(cli):
    draw(Path("in"), positions=4, slices=1)
    assert cli("prepare", "--config", write())[0] == 0
    Path("train.yml").write_text(TRAINING)
    events = follow_prepare(plan_prepare(write(CONFIG.replace("min_fraction: 0.2", "min_fraction: 0.3"))))
    list(itertools.islice(events, 8))
    events.close()
    status, _, err = cli("fit", "--config", "train.yml")
    assert status == 1
    assert "has not come to its end. Run it again: fieldmark prepare --config" in err
    assert cli("prepare", "--config", "prep.yml")[0] == 0
    assert cli("fit", "--config", "train.yml", "--set", "train.crops_per_epoch=4")[0] == 0


def test_a_folder_of_somebody_is_left_as_it_was(cli):
    draw(Path("in"), positions=1, slices=1)
    Path("out").mkdir()
    Image.fromarray(np.zeros(SIDES, np.uint8)).save("out/mine.png")
    before = tree("out")
    assert cli("prepare", "--config", write(CONFIG.replace("pos_ids: -1", "pos_ids: [77]")))[0] == 1
    assert tree("out") == before


@pytest.mark.parametrize("more", [(), ("--set", "normalize.normalize_im=slice")], ids=["the same", "another"])
def test_two_never_prepare_into_one_folder(cli, more):
    draw(Path("in"), positions=2, slices=1)
    config = write()
    first = follow_prepare(plan_prepare(config))
    while next(first).phase != "planes":
        pass
    status, _, err = cli("prepare", "--config", config, *more)
    assert status == 1
    assert "another preparation is at work there. Wait until it has ended" in err
    assert len(list(first)) > 0
    made = tree("out", without=("preprocessing_info.json",))
    status, _, err = cli("prepare", "--config", config)
    assert status == 0
    assert "taken as it is" in err
    assert tree("out", without=("preprocessing_info.json",)) == made
