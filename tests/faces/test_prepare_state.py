"""Whose an output folder of `prepare --config` is: what is whole, what was stopped, what is read from it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.workbench.loose.prepare import follow_prepare, plan_prepare
from tests.faces.looking import tree
from tests.faces.test_prepare_cli import CONFIG, SIDES, TRAINING, array, draw, write

pytestmark = pytest.mark.usefixtures("worker_here", "own_folder")
MASKS = "masks: {channels: [1], str_elem_radius: 2, mask_type: 'otsu', mask_ext: '.png'}"
FLAT = "flat_field: {estimate: True, block_size: 8, correct: True, flat_field_channels: [0, 1]}"


@pytest.mark.parametrize("lost", ["tiles.csv", "preparation.json", "mask_channels_1/im_c003_z000_t000_p000.png"])
def test_what_was_lost_is_prepared_again(cli, lost):
    draw(Path("in"), positions=1, slices=1)
    assert cli("prepare", "--config", write())[0] == 0
    whole = tree("out", without=("preprocessing_info.json",))
    (found,) = Path("out").glob(lost.replace("c003", "*"))
    found.unlink()
    status, _, err = cli("prepare", "--config", write())
    assert (status, "taken as it is" in err) == (0, False)
    assert tree("out", without=("preprocessing_info.json",)) == whole


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


def test_masks_that_a_preparation_would_replace_are_not_read(cli):
    draw(Path("in"), positions=1, slices=1)
    assert cli("prepare", "--config", write())[0] == 0
    before = tree("out")
    status, _, err = cli("prepare", "--config", write(CONFIG.replace(MASKS, "masks: {mask_dir: out/mask_channels_1}")))
    assert status == 1
    assert "masks.mask_dir is " in err
    assert "replaces. Move it to another place" in err
    assert tree("out") == before


def test_flat_fields_that_are_read_stay_where_they_are(cli):
    draw(Path("in"), positions=1, slices=1)
    assert cli("prepare", "--config", write())[0] == 0
    fields = {c: array(f"out/flat_field_images/flat-field_channel-{c}.npy") for c in (0, 1)}
    read = "flat_field: {method: from_file, flat_field_dir: out/flat_field_images, correct: True}"
    status, _, err = cli("prepare", "--config", write(CONFIG.replace(FLAT, read)))
    assert status == 0, err
    for c, field in fields.items():
        assert np.array_equal(array(f"out/flat_field_images/flat-field_channel-{c}.npy"), field)


def test_a_folder_of_somebody_is_left_as_it_was(cli):
    draw(Path("in"), positions=1, slices=1)
    Path("out").mkdir()
    Image.fromarray(np.zeros(SIDES, np.uint8)).save("out/mine.png")
    before = tree("out")
    assert cli("prepare", "--config", write(CONFIG.replace("pos_ids: -1", "pos_ids: [77]")))[0] == 1
    assert tree("out") == before
