"""The main job by hand on real micrographs: five marked images of parasite eggs teach, two others are the test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from fieldmark.images import encode_png

FIELDMARK = [sys.executable, "-m", "fieldmark.faces.cli"]
MARKED = ["000002", "000013", "000156", "000391", "000405"]
OTHERS = ["000007", "000137"]
SECONDS = 900
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def fieldmark(folder: Path, *arguments: str) -> str:
    """What a command says on stdout, run in a folder as a person does."""
    command = [*FIELDMARK, *arguments]
    environment = os.environ | ONE_THREAD
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def taught(folder: Path, eggs: Path, *names: str) -> None:
    """The project `P` in a folder, with a model `eggs` and what it predicts of these images, or of all, in `pred`."""
    fieldmark(folder, "init", "P", "--classes", "background,egg")
    fieldmark(folder, "-C", "P", "add", str(eggs / "orig"))
    fieldmark(folder, "-C", "P", "labels", "import", str(eggs / "markers"), "--kind", "markers")
    fieldmark(folder, "-C", "P", "fit", "flim", "--name", "eggs")
    fieldmark(folder, "-C", "P", "predict", "eggs", *names, "--out", "pred", "--format", "png")


def scores(folder: Path, eggs: Path) -> dict[str, Any]:
    """What `evaluate` says about the model; its Dice is checked against the masks that `predict` wrote."""
    found: dict[str, Any] = json.loads(
        fieldmark(folder, "-C", "P", "evaluate", "eggs", "--truth", str(eggs / "label"), "--json")
    )
    assert found["taught"] == [f"{name}.png" for name in MARKED]
    assert found["images"] == len(OTHERS)
    told = [dice(folder / "pred" / f"{name}.png", eggs / "label" / f"{name}.png") for name in OTHERS]
    assert found["classes"]["egg"]["dice"] == pytest.approx(np.mean(told), abs=1e-6)
    return found


def dice(prediction: Path, truth: Path) -> float:
    """Dice of the eggs: twice what is common over the sum of both."""
    ours, theirs = pixels(prediction) == 2, pixels(truth) > 0
    return float(2 * np.count_nonzero(ours & theirs) / (np.count_nonzero(ours) + np.count_nonzero(theirs)))


def pixels(path: Path) -> np.ndarray:
    decoded: np.ndarray = imagecodecs.png_decode(path.read_bytes())
    return decoded


def halved(eggs: Path, folder: Path) -> Path:
    """The same data at half the size, in a new folder: a quarter of the pixels."""
    for name in ("orig", "markers", "label"):
        (folder / name).mkdir(parents=True)
    for path in (eggs / "orig").iterdir():
        image = pixels(path)
        parts = [image[y::2, x::2].astype(np.float64) for y in (0, 1) for x in (0, 1)]
        mean = (sum(parts, np.zeros(parts[0].shape)) / 4).round().astype(image.dtype)
        (folder / "orig" / path.name).write_bytes(encode_png(mean))
        (folder / "label" / path.name).write_bytes(encode_png(pixels(eggs / "label" / path.name)[::2, ::2]))
    for path in (eggs / "markers").iterdir():
        (folder / "markers" / path.name).write_text(_halved_markers(path.read_text()))
    return folder


def _halved_markers(text: str) -> str:
    (_, width, height), *rows = ([int(word) for word in line.split()] for line in text.splitlines() if line)
    places = {(x // 2, y // 2): (marker, label) for x, y, marker, label in rows}
    lines = [f"{x} {y} {marker} {label}" for (x, y), (marker, label) in places.items()]
    return "\n".join([f"{len(lines)} {width // 2} {height // 2}", *lines]) + "\n"


def test_strokes_on_five_images_find_the_eggs_of_the_two_others_at_half_size(data_dir, tmp_path):
    eggs = halved(data_dir / "eggs", tmp_path / "half")
    taught(tmp_path, eggs, *(f"{name}.png" for name in OTHERS))
    found = scores(tmp_path, eggs)
    assert found["classes"]["egg"]["dice"] >= 0.8
    assert found["classes"]["egg"]["dice"] > found["baselines"]["forest"]["egg"]["dice"] + 0.1


@pytest.mark.prove
@pytest.mark.timeout(4 * SECONDS)
def test_strokes_on_five_images_find_the_eggs_of_the_two_others(data_dir, tmp_path):
    eggs = data_dir / "eggs"
    taught(tmp_path, eggs)
    found = scores(tmp_path, eggs)
    assert found["classes"]["egg"]["dice"] >= 0.8
    assert found["classes"]["egg"]["dice"] > found["baselines"]["forest"]["egg"]["dice"]


@pytest.mark.prove
@pytest.mark.timeout(5 * SECONDS)
def test_each_marked_image_left_out_is_found_better_than_by_the_forest(data_dir, tmp_path):
    ours, forest = [], []
    for left_out in MARKED:
        folder = tmp_path / left_out
        eggs = halved(data_dir / "eggs", folder / "half")
        for name in OTHERS:
            (eggs / "orig" / f"{name}.png").unlink()
        (eggs / "markers" / f"{left_out}-seeds.txt").unlink()
        taught(folder, eggs, f"{left_out}.png")
        command = ["-C", "P", "evaluate", "eggs", "--truth", str(eggs / "label"), "--json"]
        found = json.loads(fieldmark(folder, *command))
        assert found["images"] == 1
        ours.append(found["classes"]["egg"]["dice"])
        forest.append(found["baselines"]["forest"]["egg"]["dice"])
    assert np.mean(ours) > np.mean(forest)
