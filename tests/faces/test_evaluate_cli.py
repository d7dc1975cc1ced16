"""`fieldmark evaluate` for objects and for images, as typed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from skimage.measure import label

from fieldmark.core.files import write_atomic
from fieldmark.images import encode_png
from fieldmark.testing.drawn import draw_discs
from fieldmark.testing.projects import drawn_project
from fieldmark.testing.worker import use_fake_worker
from fieldmark.workbench import Workbench

pytestmark = pytest.mark.usefixtures("worker_here")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A project of drawn images with the model `tiny`, and the discs of each image numbered in `numbered`."""
    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        use_fake_worker(patch)
        with Workbench.open(drawn_project(folder, images=2, taught=1)) as bench:
            list(bench.fit("flim", name="tiny", overrides=("head.kind=logistic",))[1])
    for seed in range(2):
        objects = label(draw_discs(61, 75, seed=seed).mask).astype(np.uint16)
        write_atomic(folder / "numbered" / f"drawn{seed}.png", encode_png(objects))
    return folder


def test_objects_as_json_and_as_a_table(cli, fitted):
    command = ("-C", fitted / "project", "evaluate", "tiny", "--truth", fitted / "numbered", "--instances")
    status, out, err = cli(*command, "--split", "watershed", "--split_distance", 6, "--class", "disc", "--json")
    assert status == 0, err
    values = json.loads(out)
    assert set(values["classes"]["disc"]) >= {"ap50", "ap", "pq", "vi_split", "vi_merge", "pq_interval"}
    assert "Scoring objects of 1 images" in err
    status, out, _ = cli(*command)
    assert status == 0
    assert "ap50" in out


def test_nothing_is_left_to_score(cli, fitted, tmp_path):
    """The one image with truth taught the model: no empty table that looks like an answer, and no success."""
    mask = (draw_discs(61, 75, seed=0).mask > 0).astype(np.uint8) + 1
    write_atomic(tmp_path / "truth" / "drawn0.png", encode_png(mask))
    command = ("-C", fitted / "project", "evaluate", "tiny", "--truth", tmp_path / "truth")
    status, out, err = cli(*command)
    assert status == 1
    assert "Nothing was scored: all images that have truth (1) taught 'tiny'" in err
    assert "dice" not in out
    status, out, _ = cli(*command, "--json")
    assert status == 1
    assert json.loads(out)["images"] == 0
    assert json.loads(out)["taught"] == ["drawn0.png"]


def test_what_cannot_be_asked(cli, fitted):
    command = ("-C", fitted / "project", "evaluate", "tiny")
    assert "Name a folder with --truth" in cli(*command)[2]
    for maps in (fitted / "numbered", fitted / "numbered" / "drawn0.png"):  # of another program
        said = cli("-C", fitted / "project", "evaluate", maps, "--truth", fitted / "numbered")[2]
        assert f"{maps}: is no model folder (no model.json), and no model of the project has that name" in said
        assert "Known: tiny." in said
    status, out, _ = cli(*command, "--truth", fitted / "numbered", "--split", "watershed", "--json")
    assert status == 1
    assert "ask for instances" in json.loads(out)["error"]["message"]
    status, _, err = cli(*command, "--truth", fitted / "numbered", "--orientations", "xy,zz")
    assert status == 1
    assert "orientations" in err
