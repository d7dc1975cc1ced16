"""Law 9: memory follows the tile, not the image. Whole processes, measured from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fieldmark.core.geometry import Box
from fieldmark.images import open_image
from fieldmark.images.writers import create_writer
from fieldmark.testing.memory import PeakPss, can_measure, tree_pss
from fieldmark.testing.projects import drawn_project

pytestmark = pytest.mark.skipif(not can_measure(), reason="the proportional set size is read from Linux's /proc")

LIMIT = 1.5 * 2**30
FIELDMARK = [sys.executable, "-m", "fieldmark.faces.cli"]
PLAIN = ["--set", "net={width: 4, latent: 4, depth: 2}", "--set", "descend.epochs=1"]
PLAIN += ["--set", "descend.crops-per-epoch=8", "--set", "head.kind=logistic"]


def square(path: Path, side: int, chunk: int = 512) -> None:
    """A square of one texture, three channels, made chunk by chunk."""
    texture = np.random.default_rng(0).integers(0, 255, (1, 3, 1, chunk, chunk)).astype(np.uint8)
    writer = create_writer(path, "ome-zarr", shape=(1, 3, 1, side, side), dtype=np.uint8, chunk=chunk)
    for y in range(0, side, chunk):
        for x in range(0, side, chunk):
            stop = (min(y + chunk, side), min(x + chunk, side))
            box = Box((0, 0, 0, y, x), (1, 3, 1, *stop))
            writer.write(box, texture[..., : box.shape[3], : box.shape[4]])
    writer.finish()


def peak_of(folder: Path, side: int, fit: list[str]) -> int:
    """Bytes that the whole tree takes at most while one image is predicted by the command line."""
    project = drawn_project(folder, images=1)
    square(folder / "more" / "large.ome.zarr", side)
    for arguments in (["add", str(folder / "more" / "large.ome.zarr")], fit):
        subprocess.run([*FIELDMARK, "-C", str(project), *arguments], check=True, capture_output=True)
    order = ["predict", "m", "large.ome.zarr", "--out", str(folder / "out")]
    process = subprocess.Popen([*FIELDMARK, "-C", str(project), *order], stderr=subprocess.PIPE)
    with PeakPss(process.pid) as memory:
        _, said = process.communicate()
    assert process.returncode == 0, said
    assert memory.samples > 10
    with open_image(folder / "out" / "large.ome.zarr") as labels:
        assert labels.shape == (1, 1, 1, side, side)
        corner = labels.read(Box((0, 0, 0, side - 9, side - 9), (1, 1, 1, side, side)))
    assert corner.min() >= 1  # the last tile was written too
    return memory.peak


def test_the_sampler_counts_a_child_and_what_it_takes():
    script = "import sys; data = bytearray(200_000_000); print(1, flush=True); sys.stdin.read()"
    before = tree_pss(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    grown = tree_pss(os.getpid()) - before
    child.communicate(b"")
    assert 180e6 < grown < 300e6
    assert tree_pss(os.getpid()) - before < 50e6


def test_four_thousand_pixels_a_side_are_predicted_within_the_limit(tmp_path):
    peak = peak_of(tmp_path, 4000, ["fit", "autoencoder", "--name", "m", *PLAIN])
    assert peak < LIMIT, f"{peak / 2**20:.0f} MiB"


@pytest.mark.prove
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("family", "side"), [(["autoencoder", *PLAIN], 20_000), (["flim"], 8000)])
def test_a_larger_image_takes_no_more_than_four_thousand_pixels_a_side(tmp_path, family, side):
    """FLIM's default is slow: its image is only four times as large."""
    fit = ["fit", family[0], "--name", "m", *family[1:]]
    small = peak_of(tmp_path / "small", 4000, fit)
    large = peak_of(tmp_path / "large", side, fit)
    assert large < LIMIT, f"{large / 2**20:.0f} MiB"
    assert large < 1.15 * small, f"{large / 2**20:.0f} MiB beside {small / 2**20:.0f} MiB"
