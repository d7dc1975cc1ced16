"""A decoder on the command line: fit, predict with saliency and a size filter, evaluate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from skimage.measure import label

from fieldmark.core.geometry import Box
from fieldmark.faces.cli.main import group
from fieldmark.images import open_image
from fieldmark.testing.projects import drawn_masks, drawn_project
from fieldmark.testing.worker import use_fake_worker

FIT = ["fit", "flim", "--set", "head.kind=adaptive", "--set", "head.decoder=mean", "--name", "m"]
FIT += ["--set", "net={scales: [], branches: [{layers: [{out_channels: 8}]}]}"]


def run(project: Path, *arguments: str) -> str:
    result = CliRunner().invoke(group, ["-C", str(project), *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def pixels(path: Path) -> np.ndarray:
    with open_image(path) as source:
        return source.read(Box.whole(source.shape))[0, :, 0]


@pytest.mark.parametrize("form", ["png", "ome-zarr"])
def test_the_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    use_fake_worker(monkeypatch)
    project = drawn_project(tmp_path, images=3, taught=2)
    run(project, *FIT)
    run(project, "predict", "m", "--out", str(tmp_path / "all"), "--format", form, "--saliency", "--probabilities")
    sized = ["--out", str(tmp_path / "sized"), "--format", form, "--min-area", "30", "--max-area", "400"]
    run(project, "predict", "m", "drawn2.png", *sized)
    suffix = {"png": ".png", "ome-zarr": ".ome.zarr"}[form]
    saliency = pixels(tmp_path / "all" / f"drawn2-saliency{suffix}")
    assert saliency.dtype == np.uint8
    classes = pixels(tmp_path / "all" / f"drawn2{suffix}")
    assert ((saliency > 127) == (classes == 2)).all()
    labels, count = label(classes[0], background=1, connectivity=2, return_num=True)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    right = (areas >= 30) & (areas <= 400)
    right[0] = False
    assert not right[1:].all()
    assert np.array_equal(pixels(tmp_path / "sized" / f"drawn2{suffix}")[0] == 2, right[labels])


def test_it_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_worker(monkeypatch)
    project = drawn_project(tmp_path, images=3, taught=2)
    run(project, *FIT)
    drawn_masks(tmp_path / "truth", images=3)
    assert "disc" in run(project, "evaluate", "m", "--truth", str(tmp_path / "truth"))


def test_areas_that_contradict_are_refused(tmp_path: Path) -> None:
    project = drawn_project(tmp_path, images=1)
    order = ["predict", "m", "--out", str(tmp_path / "out"), "--min-area", "9", "--max-area", "3"]
    result = CliRunner().invoke(group, ["-C", str(project), *order])
    assert result.exit_code != 0
    assert "max_area 3 is less than min_area 9" in str(result.output) + str(result.exception)
