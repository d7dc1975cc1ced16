"""Volumes with known objects, from the network to the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fieldmark.core.geometry import Box
from fieldmark.images import open_image
from fieldmark.labels import Runs
from fieldmark.recipes import PredictRecipe
from tests.workbench.bright import FAMILY, save_bright

SHAPE = (40, 80, 96)
GRAY, WHITE = 1, 2


def box(z: slice, y: slice, x: slice) -> np.ndarray:
    drawn = np.zeros(SHAPE, bool)
    drawn[z, y, x] = True
    return drawn


def stairs() -> np.ndarray:
    """Ten voxels that touch by corners, through borders of tiles."""
    drawn = np.zeros(SHAPE, bool)
    drawn[range(27, 37), range(58, 68), range(60, 70)] = True
    return drawn


OBJECTS = {
    "rod": (WHITE, box(np.s_[:], np.s_[5:6], np.s_[5:6])),  # 40 voxels, one a plane
    "stairs": (WHITE, stairs()),
    "speck": (WHITE, box(np.s_[3:5], np.s_[20:22], np.s_[3:5])),  # 8
    "slab": (WHITE, box(np.s_[4:5], np.s_[28:36], np.s_[3:12])),  # 72, in one plane
    "block": (GRAY, box(np.s_[30:34], np.s_[62:66], np.s_[40:44])),  # 64, over borders of tiles
    "beside": (WHITE, box(np.s_[30:32], np.s_[60:62], np.s_[40:42])),  # 8, touches the block
}


@pytest.fixture
def volume(bench, folder: Path) -> str:
    pixels = np.full(SHAPE, 10, np.uint8)
    for value, drawn in OBJECTS.values():
        pixels[drawn] = 100 * value
    np.save(folder / "volume.npy", pixels)
    bench.add([folder / "volume.npy"])
    bench.allow = (FAMILY,)
    return "volume.npy"


def kept(*names: str) -> np.ndarray:
    wanted = np.zeros(SHAPE, np.uint8)
    for name in names:
        value, drawn = OBJECTS[name]
        wanted[drawn] = value
    return wanted


def predicted(bench, model: str, image: str, out: Path, form: str = "npy", **recipe) -> dict[str, np.ndarray]:
    settings = PredictRecipe(tile=64, propagate="none", instances="white", **recipe)
    list(bench.predict(model, [image], out=out, form=form, recipe=settings))
    found = {}
    for word in ("", "-instances"):
        path = next(out.glob(f"volume{word}.*"))
        with open_image(path) as source:
            found[word] = source.read(Box.whole(source.shape))[0, 0]
    return found


@pytest.mark.parametrize("form", ["npy", "tiff", "ome-zarr"])
def test_a_network_of_volumes_keeps_objects_by_their_voxels(bench, tmp_path, volume, form):
    model = save_bright(tmp_path / "bright", 3)
    assert np.array_equal(predicted(bench, model, volume, tmp_path / "all")[""], kept(*OBJECTS))
    found = predicted(bench, model, volume, tmp_path / "some", form, min_area=10, max_area=70)
    assert np.array_equal(found[""], kept("rod", "stairs", "block"))
    numbers = found["-instances"]
    assert numbers.max() == 2
    assert np.array_equal(numbers > 0, kept("rod", "stairs") > 0)
    assert np.array_equal(numbers == numbers[0, 5, 5], OBJECTS["rod"][1])


def test_a_network_of_planes_keeps_objects_by_their_pixels(bench, tmp_path, volume):
    found = predicted(bench, save_bright(tmp_path / "bright", 2), volume, tmp_path / "out", min_area=10, max_area=80)
    assert np.array_equal(found[""], kept("slab", "block"))


def test_what_somebody_drew_on_stays_whatever_its_size(bench, tmp_path, volume):
    """A stroke on one voxel of the speck keeps all of it, through its slices."""
    ground, disc = bench.labels.classes()[:2]
    model = save_bright(tmp_path / "bright", 3, (ground.id, 900, disc.id))
    bench.labels.draw(bench.collection.find(volume).id, disc.id, Runs(np.array([[21, 4, 5]])), "tester", z=4)
    found = predicted(bench, model, volume, tmp_path / "out", min_area=10, max_area=70)
    assert np.array_equal(found[""], kept("rod", "stairs", "block", "speck"))
    assert found["-instances"].max() == 3
