"""libIFT's multi-band images, against bytes made by hand."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from fieldmark.core.axes import PixelSize
from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile, BadInput
from fieldmark.images import open_image
from fieldmark.images.writers.mimg import write_mimg


def value(x: int, y: int, z: int, band: int) -> float:
    return 1000 * band + 100 * z + 10 * y + x + 0.25


def by_hand(width: int, height: int, depth: int, bands: int, size: str = "0.500000 0.250000 2.000000") -> bytes:
    """Voxel p = x + y * width + z * width * height; the bands of a voxel side by side."""
    out = f"MIG\n{width} {height} {depth} {bands}\n{size}\n".encode()
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                out += struct.pack(f"<{bands}f", *(value(x, y, z, band) for band in range(bands)))
    return out


def truth(width: int, height: int, depth: int, bands: int) -> np.ndarray:
    every = np.zeros((1, bands, depth, height, width), np.float32)
    for _, band, z, y, x in np.ndindex(every.shape):
        every[0, band, z, y, x] = value(x, y, z, band)
    return every


@pytest.mark.parametrize(
    ("sides", "axes"), [((5, 3, 2, 4), "czyx"), ((5, 3, 1, 4), "cyx"), ((5, 3, 2, 1), "zyx"), ((1, 1, 1, 1), "yx")]
)
def test_bytes_by_hand_are_read_and_written(tmp_path, sides, axes):
    (tmp_path / "a.mimg").write_bytes(by_hand(*sides))
    with open_image(tmp_path / "a.mimg") as source:
        assert (source.axes, source.dtype) == (axes, np.float32)
        assert source.pixel_size == PixelSize(2.0, 0.25, 0.5)
        np.testing.assert_array_equal(source.read(Box.whole(source.shape)), truth(*sides))
    write_mimg(tmp_path / "b.mimg", truth(*sides)[0], PixelSize(2.0, 0.25, 0.5))
    assert (tmp_path / "b.mimg").read_bytes() == by_hand(*sides)


def test_a_plane_and_any_numbers_are_written(tmp_path):
    plane = truth(5, 300, 1, 2)[0, :, 0].astype(np.float64)
    write_mimg(tmp_path / "a.mimg", plane[:, ::-1])
    with open_image(tmp_path / "a.mimg") as source:
        assert source.pixel_size == PixelSize()
        np.testing.assert_array_equal(source.read(Box.whole(source.shape))[0, :, 0], plane[:, ::-1])


@pytest.mark.parametrize("height", [255, 256, 257, 512, 513])
def test_images_higher_than_what_is_written_at_once(tmp_path, height):
    write_mimg(tmp_path / "a.mimg", truth(2, height, 1, 2)[0])
    assert (tmp_path / "a.mimg").read_bytes() == by_hand(2, height, 1, 2, "1.000000 1.000000 1.000000")


def test_a_box_is_read(tmp_path):
    (tmp_path / "a.mimg").write_bytes(by_hand(5, 4, 3, 2))
    box = Box((0, 1, 1, 2, 1), (1, 2, 3, 4, 4))
    with open_image(tmp_path / "a.mimg") as source:
        np.testing.assert_array_equal(source.read(box), truth(5, 4, 3, 2)[box.slices])


@pytest.mark.parametrize("more", [b"# words\n", b"\r\n", b" "])
def test_text_behind_the_header_is_passed_over(tmp_path, more):
    data = by_hand(2, 2, 1, 3)
    at = data.index(b"2.000000\n") + 9
    (tmp_path / "a.mimg").write_bytes(data[:at] + more + data[at:])
    with open_image(tmp_path / "a.mimg") as source:
        np.testing.assert_array_equal(source.read(Box.whole(source.shape)), truth(2, 2, 1, 3))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("1.000000 1.000000 1.000000", PixelSize()),
        ("0.5 nan -3", PixelSize(None, None, 0.5)),
        ("1 1 2", PixelSize(2, 1, 1)),
    ],
)
def test_sizes_that_nobody_knows(tmp_path, size, expected):
    (tmp_path / "a.mimg").write_bytes(by_hand(2, 2, 1, 1, size))
    with open_image(tmp_path / "a.mimg") as source:
        assert source.pixel_size == expected


BAD = {
    "a byte is missing": (lambda d: d[:-1], "truncated or damaged"),
    "bytes follow": (lambda d: d + b"\1\2\3", "truncated or damaged"),
    "more voxels": (lambda d: d.replace(b"2 2 1 3", b"2 2 9 3"), "2 x 2 x 9 voxels of 3 bands"),
    "10 ** 13 voxels": (lambda d: d.replace(b"2 2 1 3", b"99999 99999 999 9"), "truncated or damaged"),
    "no band": (lambda d: d.replace(b"2 2 1 3", b"2 2 1 0"), "four numbers from 1"),
    "a negative side": (lambda d: d.replace(b"2 2 1 3", b"2 -2 1 3"), "four numbers from 1"),
    "three sides": (lambda d: d.replace(b"2 2 1 3", b"2 2 1"), "four numbers from 1"),
    "words": (lambda d: d.replace(b"2.000000\n", b"two\n"), "the voxel's size"),
    "two sizes": (lambda d: d.replace(b" 2.000000\n", b"\n"), "the voxel's size"),
    "one line": (lambda d: d[:6], "three lines"),
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_files_are_refused(tmp_path, name):
    change, message = BAD[name]
    (tmp_path / "a.mimg").write_bytes(change(by_hand(2, 2, 1, 3)))
    with pytest.raises(BadFile, match=message) as caught:
        open_image(tmp_path / "a.mimg", shown="shown")
    assert str(caught.value).startswith("shown: ")


def test_arrays_that_are_no_map_are_refused(tmp_path):
    for array in (np.zeros((3, 3)), np.zeros((0, 3, 3)), np.zeros((1, 2, 2), complex)):
        with pytest.raises(BadInput, match=r"cannot be a \.mimg"):
            write_mimg(tmp_path / "a.mimg", array)
    assert not list(tmp_path.iterdir())
