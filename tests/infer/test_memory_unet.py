"""Law 9 for blended tiles: whole processes, measured from outside. The networks need not be trained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fieldmark.checkpoint import ClassSpec, Header, save
from fieldmark.core.geometry import Box
from fieldmark.images import open_image
from fieldmark.images.writers import create_writer
from fieldmark.models.build import build
from fieldmark.models.tensors import arrays_of
from fieldmark.prepare import scale_step
from fieldmark.testing.memory import PeakPss, can_measure
from fieldmark.workbench import Workbench

pytestmark = pytest.mark.skipif(not can_measure(), reason="the proportional set size is read from Linux's /proc")

LIMIT = 1.5 * 2**30
CLASSES = 8
FIELDMARK = [sys.executable, "-m", "fieldmark.faces.cli"]


def texture(path: Path, shape: tuple[int, ...], side: int) -> None:
    """An image of one texture, made piece by piece."""
    rng = np.random.default_rng(0)
    _, _, depth, height, width = shape
    piece = rng.integers(0, 255, (1, 1, 1, side, side)).astype(np.uint8)
    writer = create_writer(path, "ome-zarr", shape=shape, dtype=np.uint8, chunk=side)
    for z, y, x in np.ndindex(depth, -(-height // side), -(-width // side)):
        start = (0, 0, z, y * side, x * side)
        stop = (1, 1, z + 1, min(height, start[3] + side), min(width, start[4] + side))
        box = Box(start, stop)
        writer.write(box, piece[..., : box.shape[3], : box.shape[4]])
    writer.finish()


def model(folder: Path, **net: object) -> None:
    """A U-Net of eight classes that no halo makes exact."""
    config = {"task": "segment", "out_channels": CLASSES, "filters": (8, 16, 32), "norm": "instance"} | net
    made = build("unet", config, 1, seed=0)
    header = Header(
        family="unet",
        config=config,
        preparation=[scale_step(255.0)],
        outputs=("classes",),
        channels=1,
        stride=made.strides,
        halo=made.halo,
        tile_exact=made.tile_exact,
        classes=tuple(ClassSpec(id=n, name=f"class {n}", value=n) for n in range(CLASSES)),
    )
    save(folder, header, arrays_of(made))


def peak_of(folder: Path, shape: tuple[int, ...], *options: str, **net: object) -> int:
    """Bytes that the whole tree takes at most while one image is predicted by the command line."""
    texture(folder / "images" / "large.ome.zarr", shape, 512)
    with Workbench.init(folder / "project") as bench:
        bench.add([folder / "images" / "large.ome.zarr"])
        model(bench.project.models / "m", **net)
    order = ["-C", str(folder / "project"), "predict", "m", "--out", str(folder / "out"), *options]
    process = subprocess.Popen([*FIELDMARK, *order], stderr=subprocess.PIPE)
    with PeakPss(process.pid) as memory:
        _, said = process.communicate()
    assert process.returncode == 0, said
    assert memory.samples > 10
    with open_image(folder / "out" / "large.ome.zarr") as labels:
        assert labels.shape == shape
        last = labels.read(Box((0, 0, shape[2] - 1, *(n - 64 for n in shape[3:])), (1, 1, *shape[2:])))
    assert last.std() > 0  # the last tile was written too
    return memory.peak


@pytest.mark.prove
@pytest.mark.timeout(14400)
def test_twenty_thousand_pixels_a_side_and_eight_classes_take_no_more_than_four_thousand(tmp_path):
    small = peak_of(tmp_path / "small", (1, 1, 1, 4000, 4000))
    large = peak_of(tmp_path / "large", (1, 1, 1, 20_000, 20_000))
    assert large < LIMIT, f"{large / 2**20:.0f} MiB"
    assert large < 1.25 * small, f"{large / 2**20:.0f} MiB beside {small / 2**20:.0f} MiB"


@pytest.mark.prove
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("net", [{"dims": "3"}, {"dims": "2.5", "depth": 5}], ids=["3", "2.5"])
def test_volumes_are_predicted_within_the_limit(tmp_path, net):
    peak = peak_of(tmp_path, (1, 1, 32, 1024, 1024), "--probabilities", "--probabilities-dtype", "uint8", **net)
    assert peak < LIMIT, f"{peak / 2**20:.0f} MiB"


def test_a_small_image_is_predicted_within_the_limit(tmp_path):
    peak = peak_of(tmp_path, (1, 1, 1, 1200, 1100))
    assert peak < LIMIT, f"{peak / 2**20:.0f} MiB"
