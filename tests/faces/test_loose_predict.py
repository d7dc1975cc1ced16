"""`predict MODEL_FOLDER IMAGES`, outside of any project."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from fieldmark.core.files import write_atomic
from fieldmark.images import encode_png
from fieldmark.infer import jobs
from fieldmark.infer.forward import NetForward
from fieldmark.testing.elsewhere import DEVICE, elsewhere
from fieldmark.testing.projects import drawn_images, drawn_project
from fieldmark.testing.worker import use_fake_worker
from fieldmark.workbench import Workbench
from fieldmark.workbench.loose.predict import loose_bench
from tests.faces.looking import read

pytestmark = pytest.mark.usefixtures("worker_here", "own_folder")


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A folder with the project that taught `model`."""
    folder = tmp_path_factory.mktemp("taught")
    with pytest.MonkeyPatch.context() as patch:
        use_fake_worker(patch)
        with Workbench.open(drawn_project(folder, images=3, taught=2)) as bench:
            list(bench.fit("flim", name="tiny")[1])
            list(bench.predict("tiny", ["drawn2.png"], out=folder / "wanted", form="npy", recipe=_recipe()))
    shutil.copytree(folder / "project/models/tiny", folder / "model")
    return folder


def _recipe():
    from fieldmark.recipes import PredictRecipe

    return PredictRecipe()


def test_a_file_is_predicted_as_in_the_project(cli, taught, tmp_path):
    drawn_images(tmp_path / "images", images=3)
    status, out, err = cli("predict", taught / "model", "images/drawn2.png", "--out", "out", "--format", "npy")
    assert (status, "1 images" in out) == (0, True), err
    assert np.array_equal(read(tmp_path / "out/drawn2.npy"), read(taught / "wanted/drawn2.npy"))


@pytest.mark.parametrize("name", ["no-such-model", "images"])
def test_a_model_that_is_none_is_named(cli, tmp_path, name):
    drawn_images(tmp_path / "images", images=1)
    status, _, err = cli("predict", name, "images", "--out", "out")
    assert status == 1
    assert f"{name}: is no model folder (no model.json)" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("form", "suffix"), [("png", ".png"), ("tiff", ".tif"), ("ome-zarr", ".ome.zarr")])
def test_a_folder_is_predicted_in_every_format(cli, taught, tmp_path, form, suffix):
    drawn_images(tmp_path / "images/deep", images=2)
    status, out, err = cli("predict", taught / "model", "images", "--out", "out", "--format", form, "--json")
    assert status == 0, err
    assert json.loads(out) == {"images": 2, "out": "out"}
    made = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob(f"*{suffix}"))
    wanted = [f"deep/drawn{index}{suffix}" for index in range(2)]
    assert [name for name in made if not name.startswith(".")] == wanted
    values = read(tmp_path / "out" / wanted[0])
    assert set(np.unique(values)) == {1, 2}


def test_what_is_there_is_not_computed_again(cli, taught, tmp_path):
    drawn_images(tmp_path / "images", images=1)
    command = ["predict", taught / "model", "images", "--out", "out", "--format", "png"]
    assert cli(*command)[0] == 0
    made = (tmp_path / "out/drawn0.png").stat().st_mtime_ns
    status, _, err = cli(*command)
    assert (status, (tmp_path / "out/drawn0.png").stat().st_mtime_ns) == (0, made)
    assert "already there" in err


def test_two_runs_never_work_in_one_folder(cli, taught, tmp_path):
    drawn_images(tmp_path / "images", images=1)
    command = ["predict", taught / "model", "images", "--out", "out", "--format", "png"]
    with loose_bench([tmp_path / "images"], tmp_path / "out"):
        status, _, err = cli(*command)
        assert status == 1
        assert "out: another run is at work there" in err
        assert (tmp_path / "out/.fieldmark/project/fieldmark.toml").is_file()  # it is not taken from under its feet
    assert cli(*command)[0] == 0


def test_a_project_in_this_folder_does_not_stand_in_the_way(cli, taught, tmp_path):
    drawn_project(tmp_path, images=1, taught=0)
    drawn_images(tmp_path / "others", images=2)
    status, out, err = cli("-C", "project", "predict", taught / "model", "others", "--out", "out", "--format", "png")
    assert (status, "2 images" in out) == (0, True), err
    status, out, err = cli(
        "-C", "project", "predict", taught / "model", "drawn0.png", "--out", "own", "--format", "png"
    )
    assert (status, "1 images" in out) == (0, True), err
    assert (tmp_path / "own/drawn0.png").is_file()


def test_what_fails_leaves_no_folder_and_a_folder_of_somebody_stays(cli, taught, tmp_path):
    (tmp_path / "gray").mkdir()
    write_atomic(tmp_path / "gray/one.png", encode_png(np.zeros((20, 20), np.uint8)))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/note.txt").write_text("keep")
    for images in ("gray", "nothing.png"):
        for out in ("new/deep", "mine", "mine/new"):
            assert cli("predict", taught / "model", images, "--out", out)[0] == 1
            assert not (tmp_path / "new").exists()
            assert [path.name for path in (tmp_path / "mine").iterdir()] == ["note.txt"]


def test_what_cannot_be_done_is_said(cli, taught, tmp_path):
    drawn_images(tmp_path / "images", images=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/cell.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    for arguments, words in (
        (["predict", taught / "model", "nothing.png", "--out", "out"], ["nothing.png", "no such file"]),
        (["predict", taught / "model", "--out", "out"], ["No images were named", "IMAGES"]),
        (["predict", taught / "model", "empty", "--out", "out"], ["empty", "no image"]),
        (["predict", taught / "model", "broken", "--out", "out"], ["cell.png", "cannot be read"]),
        (["predict", taught / "model", "images", "--out", "images/out"], ["images", "only read"]),
        (["predict", "Model_2019.hdf5", "images", "--out", "out"], ["Model_2019.hdf5", "Keras", "Fit the model again"]),
        (["predict", "no-model", "images", "--out", "out"], ["fieldmark.toml"]),
    ):
        status, _, err = cli(*arguments)
        assert status == 1
        assert all(word in err for word in words), err
    assert not (tmp_path / "images/out").exists()


def test_a_gpu_that_was_asked_for_is_used(cli, taught, tmp_path, monkeypatch):
    """All of the way from the command to the tiles, on a machine that only seems to have one."""
    drawn_images(tmp_path / "images", images=3)
    asked = []

    def device_for(accelerator: str) -> torch.device:
        asked.append(accelerator)
        return DEVICE if accelerator == "gpu" else torch.device("cpu")

    monkeypatch.setattr("fieldmark.infer.predict.device_for", device_for)
    seen = []
    monkeypatch.setattr(NetForward, "_tensor", _watched(NetForward._tensor, seen))
    for words in (["--accelerator", "gpu"], ["--gpu", "-1"], []):
        with elsewhere():
            out = "-".join(["out", *words])
            status, _, err = cli(
                "predict", taught / "model", "images/drawn2.png", "--out", out, "--format", "npy", *words
            )
        assert status == 0, err
        assert np.array_equal(read(tmp_path / out / "drawn2.npy"), read(taught / "wanted/drawn2.npy"))
    assert asked == ["gpu", "cpu", "auto"]
    assert seen == [DEVICE.type, "cpu", "cpu"]


def _watched(real, seen):
    def tensor(self, prepared):
        made = real(self, prepared)
        seen.append(made.device.type)
        return made

    return tensor


def test_what_was_begun_on_another_device_is_not_gone_on_with(cli, taught, tmp_path, monkeypatch):
    """Half an image of a GPU and half of the processor would be neither's bits."""
    begun = []
    real = jobs._begin
    monkeypatch.setattr(
        jobs, "_begin", lambda work, made_from, names: begun.append(made_from) or real(work, made_from, names)
    )
    drawn_images(tmp_path / "images", images=1)
    for place in (torch.device("cpu"), DEVICE):
        monkeypatch.setattr("fieldmark.infer.predict.device_for", lambda _, place=place: place)
        with elsewhere():
            assert cli("predict", taught / "model", "images", "--out", f"out-{place.type}", "--format", "png")[0] == 0
    one, other = (words.split() for words in begun)
    assert (one[0], one[1], other[1]) == (other[0], "cpu", DEVICE.type)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--accelerator", "gpu"], 1, "accelerator: gpu was asked for, and torch finds no GPU on this machine"),
        (["--gpu", "0"], 0, "GPU 0: this machine has no such GPU; running on the CPU."),
        (["--gpu", "0", "--accelerator", "cpu"], 2, "--gpu 0 and --accelerator cpu contradict each other"),
        (["--gpu", "-1", "--accelerator", "gpu"], 2, "--gpu -1 and --accelerator gpu contradict each other"),
    ],
)
def test_without_a_gpu_it_is_said_what_is_done(cli, taught, tmp_path, monkeypatch, words, status, said):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    drawn_images(tmp_path / "images", images=1)
    found, _, err = cli("predict", taught / "model", "images", "--out", "out", *words)
    assert (found, said in err) == (status, True), err
