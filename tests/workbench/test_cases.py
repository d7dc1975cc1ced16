"""Which values true maps hold: the same as of whole planes, and memory does not follow the map."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile

from fieldmark.errors import BadInput
from fieldmark.images import ArraySource, open_image
from fieldmark.images.decode import values_in
from fieldmark.recipes import DataConfig
from fieldmark.workbench.cases import Case, truth_values
from fieldmark.workbench.predicting import _truth_codes
from fieldmark.workbench.targets import _values

SIDE = 5000
MOST_BYTES = 90_000_000
"""A whole plane as 64-bit numbers has 200 million."""
HEADER: Any = SimpleNamespace(classes=[SimpleNamespace(name=f"class {n}", value=n) for n in (1, 2, 255)])


def case_of(file: Path, shape: tuple[int, ...]) -> Case:
    record: Any = SimpleNamespace(name="a", shape=shape)
    return Case(record, file, file, taught=False)


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """Values that are in one corner alone each."""
    pixels = np.ones((SIDE, SIDE), np.uint8)
    pixels[0, -1], pixels[-1, 0], pixels[-1, -1] = 2, 255, 7
    file = tmp_path_factory.mktemp("maps") / "a.tif"
    tifffile.imwrite(file, pixels, tile=(512, 512))
    return file


@pytest.mark.parametrize(
    "read",
    [
        lambda file: truth_values(case_of(file, (1, 1, 1, SIDE, SIDE)))["a.tif"],
        lambda file: set(_values([{"target": str(file)}], DataConfig.model_validate({"target": {"kind": "labels"}}))),
    ],
)
def test_values_of_a_large_map_are_found_in_little_memory(large, read: Callable[[Path], set[int]]):
    tracemalloc.start()
    found = read(large)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == {1, 2, 7, 255}
    assert peak < MOST_BYTES


def test_what_a_large_map_means_is_read_in_little_memory(large, tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.where(tifffile.imread(large) == 1, 0, 255).astype(np.uint8), tile=(512, 512)
    )
    tracemalloc.start()
    codes = _truth_codes(HEADER, [tmp_path / "a.tif"], None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert codes == [[0, 1], [255, 255]]
    assert peak < MOST_BYTES


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (2, 1, 3, 700, 40), (1, 3, 2, 1030, 1041), (3, 2, 1, 9, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_pieces_hold_what_the_whole_holds(shape, dtype):
    pixels = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    pixels[-1, :, -1, -1, -1] = 101
    for channel in range(shape[1]):
        found = values_in(ArraySource(pixels), [channel], lambda own: own)
        assert found == set(np.unique(pixels[:, channel]).tolist())


def test_channels_come_together():
    pixels = np.random.default_rng(0).integers(0, 100, (2, 3, 2, 50, 60)).astype(np.uint8)
    seen = values_in(ArraySource(pixels), range(3), lambda own: own.astype(int) @ [1, 1000, 1_000_000])
    assert seen == set(np.unique(pixels.astype(int).transpose(0, 2, 3, 4, 1) @ [1, 1000, 1_000_000]).tolist())


def test_color_and_other_planes_are_refused_by_name(tmp_path):
    color = np.zeros((30, 40, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", color, photometric="rgb")
    assert truth_values(case_of(tmp_path / "a.tif", (1, 1, 1, 30, 40))) == {"a.tif": {0}}
    color[-1, -1, 1] = 3
    tifffile.imwrite(tmp_path / "a.tif", color, photometric="rgb")
    with pytest.raises(BadInput, match=r"a\.tif: is no mask: it has 3 channels, and they differ"):
        truth_values(case_of(tmp_path / "a.tif", (1, 1, 1, 30, 40)))
    with pytest.raises(BadInput, match=r"has 1 times and 1 slices, but a has 1 and 2"):
        truth_values(case_of(tmp_path / "a.tif", (1, 1, 2, 30, 40)))
    with open_image(tmp_path / "a.tif") as source:
        assert values_in(source, [1], lambda own: own) == {0, 3}
