"""Thumbnails: the right pixels, colors and contrast, in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import tifffile

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.images import ArraySource, create_writer, encode_png, open_image, thumbnail

GRAY = (np.add.outer(np.arange(30), np.arange(40)) * 3).astype(np.uint8)


def test_small_bytes_are_themselves():
    found = thumbnail(ArraySource(GRAY, "yx"))
    assert (found.shape, found.dtype) == ((30, 40, 3), np.uint8)
    for channel in range(3):
        np.testing.assert_array_equal(found[..., channel], GRAY)


@pytest.mark.parametrize("channels", [3, 4, 7])
def test_three_channels_or_more_are_red_green_blue(channels):
    stack = np.random.default_rng(0).integers(0, 255, (channels, 8, 9)).astype(np.uint8)
    np.testing.assert_array_equal(thumbnail(ArraySource(stack, "cyx")), stack[:3].transpose(1, 2, 0))


@pytest.mark.parametrize("channels", [(2,), (4, 1, 3), (3, 0, 5, 6)])
def test_chosen_channels_are_shown_in_their_order(channels):
    stack = np.random.default_rng(0).integers(0, 255, (7, 8, 9)).astype(np.uint8)
    found = thumbnail(ArraySource(stack, "cyx"), channels=channels)
    wanted = stack[list(channels)][:3] if len(channels) > 1 else stack[[channels[0]] * 3]
    np.testing.assert_array_equal(found, wanted.transpose(1, 2, 0))


def test_two_channels_are_magenta_and_green():
    found = thumbnail(ArraySource(np.stack([GRAY, GRAY.max() - GRAY]), "cyx"))
    np.testing.assert_array_equal(found[..., 0], GRAY)
    np.testing.assert_array_equal(found[..., 1], GRAY.max() - GRAY)
    np.testing.assert_array_equal(found[..., 2], GRAY)


def test_other_types_are_stretched_without_regard_to_a_few_odd_pixels():
    deep = np.linspace(500, 900, 100 * 100).reshape(100, 100).astype(np.float32)
    deep[0, 0], deep[50, 50], deep[60, 60] = 1e9, np.nan, -np.inf
    found = thumbnail(ArraySource(deep, "yx"))[..., 0]
    assert found[50, 50] == found[60, 60] == 0
    assert found[1, 1] <= 3
    assert found[-1, -1] == 255
    assert abs(int(found[49, 99]) - 127) <= 2


@pytest.mark.parametrize("value", [0, 7, np.nan])
def test_a_constant_image_is_black(value):
    assert thumbnail(ArraySource(np.full((5, 6), value, np.float32), "yx")).max() == 0


def test_the_plane_that_was_asked_for():
    stack = np.arange(2 * 5 * 4 * 4).reshape(2, 5, 4, 4).astype(np.uint8)
    source = ArraySource(stack, "tzyx")
    np.testing.assert_array_equal(thumbnail(source)[..., 0], stack[0, 2])
    np.testing.assert_array_equal(thumbnail(source, t=1, z=4)[..., 0], stack[1, 4])


@pytest.mark.parametrize("bad", [{"t": 1}, {"z": 3}, {"z": -1}, {"side": 0}])
def test_a_plane_that_is_not_there_is_refused(bad):
    with pytest.raises(BadInput, match="thumbnail"):
        thumbnail(ArraySource(np.zeros((3, 4, 4), np.uint8), "zyx"), **bad)


@pytest.mark.parametrize(("shape", "expected"), [((1000, 500), (64, 32)), ((3, 1000), (1, 64)), ((64, 64), (64, 64))])
def test_the_longest_side_is_the_side(shape, expected):
    assert thumbnail(ArraySource(np.zeros(shape, np.uint8), "yx"), 64).shape == (*expected, 3)


def test_shrinking_is_the_mean_of_the_pixels():
    plane = np.random.default_rng(0).integers(0, 255, (120, 180)).astype(np.uint8)
    expected = np.rint(plane.reshape(30, 4, 45, 4).mean(axis=(1, 3)))
    np.testing.assert_array_equal(thumbnail(ArraySource(plane, "yx"), 45)[..., 0], expected)


@pytest.mark.parametrize("piece", [700, 5000, 1 << 24])
def test_the_pieces_do_not_show(piece, monkeypatch):
    from fieldmark.images import thumbnails

    plane = np.random.default_rng(0).integers(0, 255, (613, 377)).astype(np.uint8)
    whole = thumbnail(ArraySource(plane, "yx"), 31)
    every = thumbnails.pieces
    monkeypatch.setattr(thumbnails, "pieces", lambda *args, **facts: every(*args, max_bytes=piece, **facts))
    np.testing.assert_array_equal(thumbnail(Tiled(plane, "yx"), 31), whole)


class Tiled(ArraySource):
    def grain(self, level: int = 0) -> tuple[int, ...]:
        return (1, 1, 1, 20, 30)


def test_a_gradient_stays_where_it_is():
    """Falls if rows and columns are swapped, or samples shifted by a piece."""
    ramp = np.add.outer(np.arange(3000) / 20, np.arange(2000) / 100).astype(np.uint8)
    found = thumbnail(ArraySource(ramp, "yx"), 100)[..., 0].astype(float)
    rows, columns = np.mgrid[0:100, 0:67]
    assert np.abs(found - (rows * 30 + 15) / 20 - (columns * 29.85 + 15) / 100).max() < 2.5


def test_it_reads_the_smallest_level_that_is_large_enough(tmp_path, monkeypatch):
    writer = create_writer(
        tmp_path / "a.ome.zarr", "ome-zarr", shape=(1, 1, 1, 800, 600), dtype="u1", axes="yx", levels=4
    )
    writer.write(Box.whole((1, 1, 1, 800, 600)), np.full((1, 1, 1, 800, 600), 9, np.uint8))
    writer.finish()
    with open_image(tmp_path / "a.ome.zarr") as source:
        used = []
        read = source.read
        monkeypatch.setattr(source, "read", lambda box, level=0: (used.append(level), read(box, level))[1])
        found = thumbnail(source, 150)
    assert found.shape == (150, 112, 3)
    assert (found == 9).all()
    assert set(used) == {2}


def test_memory_follows_the_tile(tmp_path):
    """A TIFF of 8,192 x 8,192 x 3 pixels: 201 MB if it were held at once."""
    side, tile = 8192, 1024
    tiles = iter([np.full((tile, tile, 3), 50, np.uint8)] * 64)
    tifffile.imwrite(
        tmp_path / "a.tif",
        tiles,
        shape=(side, side, 3),
        dtype="u1",
        tile=(tile, tile),
        compression="zstd",
        photometric="rgb",
    )
    tracemalloc.start()
    with open_image(tmp_path / "a.tif") as source:
        found = thumbnail(source, 256)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.shape == (256, 256, 3)
    assert (found == 50).all()
    assert peak < 130e6


def test_png_bytes_hold_the_picture():
    import io

    from PIL import Image

    rgb = np.dstack([GRAY, GRAY // 2, GRAY[::-1]])
    for array in (GRAY, rgb, GRAY.astype(np.uint16) * 200, rgb[::-1, ::2]):
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(encode_png(array)))), array)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 2)), np.zeros((2, 2, 2), np.uint8), np.zeros((0, 3), np.uint8), np.zeros(4, np.uint8)]
)
def test_png_of_something_else_is_refused(array):
    with pytest.raises(BadInput, match="PNG holds"):
        encode_png(array)
