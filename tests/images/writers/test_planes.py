"""Names of files for the planes of a stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldmark.images.writers.planes import plane_files


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((1, 1, 1, 5, 5), ["a.png"]),
        ((1, 3, 1, 5, 5), ["a.png"]),
        ((1, 1, 2, 5, 5), ["a_z000.png", "a_z001.png"]),
        ((2, 3, 1, 5, 5), ["a_t000.png", "a_t001.png"]),
        ((2, 1, 2, 5, 5), ["a_t000_z000.png", "a_t000_z001.png", "a_t001_z000.png", "a_t001_z001.png"]),
        ((1, 2, 2, 5, 5), ["a_z000_c000.png", "a_z000_c001.png", "a_z001_c000.png", "a_z001_c001.png"]),
    ],
)
def test_names_tell_what_there_are_several_of(shape, names):
    assert [file.path.name for file in plane_files(Path("deep/a.png"), shape)] == names
    assert all(file.path.parent == Path("deep") for file in plane_files(Path("deep/a.png"), shape))


@pytest.mark.parametrize("shape", [(2, 1, 3, 4, 5), (2, 2, 3, 4, 5), (1, 4, 3, 4, 5), (1, 7, 1, 4, 5)])
def test_files_hold_every_plane_and_channel_once(shape):
    held = [(one.t, c, one.z) for one in plane_files(Path("a.png"), shape) for c in range(one.first, one.last)]
    t, c, z = shape[:3]
    assert sorted(held) == [(i, j, k) for i in range(t) for j in range(c) for k in range(z)]


def test_names_sort_in_the_order_of_the_planes():
    names = [file.path.name for file in plane_files(Path("a.png"), (1, 1, 1001, 1, 1))]
    assert names == sorted(names)
    assert (names[0], names[-1]) == ("a_z0000.png", "a_z1000.png")


def test_planes_keep_the_numbers_that_they_have_elsewhere():
    found = plane_files(Path("a.png"), (2, 1, 2, 5, 5), ((3, 4), (7, 1200)))
    assert [file.path.stem for file in found] == ["a_t003_z0007", "a_t003_z1200", "a_t004_z0007", "a_t004_z1200"]
    assert [(file.t, file.z) for file in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
