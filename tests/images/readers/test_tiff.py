"""TIFF dialects: axes, palettes, values that are not touched, pixel sizes, pyramids, bounded memory."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import tifffile

from fieldmark.core.axes import PixelSize
from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile, TooLarge
from fieldmark.images import open_image
from fieldmark.images.readers.tiff_layout import plan_layout
from fieldmark.images.readers.tiff_planes import SegmentCache

GRAY = (np.arange(30 * 40).reshape(30, 40) % 256).astype(np.uint8)


def everything(path, **options):
    with open_image(path, **options) as source:
        return source.read(Box.whole(source.shape))


@pytest.mark.parametrize(
    ("axes", "shape", "expected", "kept"),
    [
        ("YX", (5, 6), (1, 1, 1, 5, 6), "yx"),
        ("YXS", (5, 6, 3), (1, 3, 1, 5, 6), "cyx"),
        ("SYX", (3, 5, 6), (1, 3, 1, 5, 6), "cyx"),
        ("IYX", (7, 5, 6), (1, 1, 7, 5, 6), "zyx"),
        ("QYX", (7, 5, 6), (1, 1, 7, 5, 6), "zyx"),
        ("QZYX", (7, 2, 5, 6), (7, 1, 2, 5, 6), "tzyx"),
        ("TZCYXS", (2, 3, 4, 5, 6, 3), (2, 12, 3, 5, 6), "tczyx"),
        ("TCZYX", (1, 4, 1, 5, 6), (1, 4, 1, 5, 6), "cyx"),
        ("YX", (1, 1), (1, 1, 1, 1, 1), "yx"),
        ("QQYX", (2, 3, 5, 6), (3, 1, 2, 5, 6), "tzyx"),
    ],
)
def test_axes_become_ours(axes, shape, expected, kept):
    layout = plan_layout(axes, shape, "a.tif")
    assert layout.shape == expected
    assert layout.axes == kept


@pytest.mark.parametrize(("axes", "shape"), [("QQQYX", (2, 3, 4, 5, 6)), ("ZX", (5, 6)), ("TQZYX", (2, 2, 2, 5, 6))])
def test_more_axes_than_five_are_refused(axes, shape):
    with pytest.raises(BadFile, match=r"a\.tif: its axes are"):
        plan_layout(axes, shape, "a.tif")


def test_pages_follow_the_files_order():
    layout = plan_layout("ZTCYX", (2, 3, 4, 5, 6), "a.tif")
    pages = np.arange(24).reshape(2, 3, 4)
    assert all(layout.page(t, c, z) == pages[z, t, c] for t in range(3) for c in range(4) for z in range(2))


def test_samples_of_channels_are_channels(tmp_path):
    truth = np.random.default_rng(0).integers(0, 255, (2, 4, 16, 20, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", truth, photometric="rgb", metadata={"axes": "CZYXS"}, compression="zlib")
    found = everything(tmp_path / "a.ome.tif")
    assert found.shape == (1, 6, 4, 16, 20)
    for c, s, z in np.ndindex(2, 3, 4):
        np.testing.assert_array_equal(found[0, c * 3 + s, z], truth[c, z, :, :, s])


def test_a_palette_becomes_its_colors(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tif", GRAY, photometric="palette", colormap=colors)
    expected = np.stack([(colors[i] // 257)[GRAY] for i in range(3)]).astype(np.uint8)
    with open_image(tmp_path / "a.tif") as source:
        assert (source.axes, source.shape, source.dtype) == ("cyx", (1, 3, 1, 30, 40), np.uint8)
        np.testing.assert_array_equal(source.read(Box.whole(source.shape))[0, :, 0], expected)
        np.testing.assert_array_equal(
            source.read(Box((0, 1, 0, 3, 4), (1, 3, 1, 9, 8)))[0, :, 0], expected[1:, 3:9, 4:8]
        )
    np.testing.assert_array_equal(everything(tmp_path / "a.tif", expand_palette=False)[0, 0, 0], GRAY)


def test_a_deep_palette_keeps_its_depth(tmp_path):
    colors = np.random.default_rng(0).integers(0, 65_536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", GRAY, photometric="palette", colormap=colors)
    np.testing.assert_array_equal(everything(tmp_path / "a.tif")[0, :, 0], colors[:, GRAY])


def test_a_palette_of_one_bit(tmp_path):
    colors = np.array([[10, 200], [20, 100], [30, 0]], np.uint8)
    tags = {256: 16, 257: 2, 258: 1, 259: 1, 262: 3, 273: 212, 277: 1, 278: 2, 279: 4}
    body = b"".join(struct.pack("<HHII", code, 3, 1, value) for code, value in tags.items())
    body += struct.pack("<HHII", 320, 3, 6, 200)
    head = (struct.pack("<2sHIH", b"II", 42, 8, 10) + body + bytes(4)).ljust(200, b"\0")
    pixels = np.array([[0, 1] * 8, [1, 1, 0, 0] * 4])
    data = head + (colors.astype("<u2") * 257).tobytes() + np.packbits(pixels).tobytes()
    (tmp_path / "a.tif").write_bytes(data)
    np.testing.assert_array_equal(everything(tmp_path / "a.tif")[0, :, 0], colors[:, pixels])


def test_a_palette_that_only_tints_leaves_the_values(tmp_path):
    colors = np.zeros((3, 256), np.uint16)
    colors[1] = np.arange(256) * 257  # green: a look-up table for display
    tifffile.imwrite(tmp_path / "a.tif", GRAY, photometric="palette", colormap=colors)
    np.testing.assert_array_equal(everything(tmp_path / "a.tif")[0, :, 0], GRAY[None])


def test_white_is_zero_is_not_inverted(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GRAY, photometric="miniswhite")
    np.testing.assert_array_equal(everything(tmp_path / "a.tif")[0, 0, 0], GRAY)


def test_one_bit_is_zero_or_one(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GRAY > 100, compression="zlib")
    found = everything(tmp_path / "a.tif")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[0, 0, 0], (GRAY > 100).astype(np.uint8))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_values_of_the_earth_are_untouched(tmp_path, compression):
    heights = np.linspace(-400, 8000, 40 * 30).reshape(40, 30).astype(np.float32)
    heights[3, 4], heights[5, 6], heights[7, 8] = np.nan, -9999, np.inf
    nodata = [(42113, 2, 6, "-9999", True)]
    tifffile.imwrite(tmp_path / "a.tif", heights, tile=(16, 16), compression=compression, extratags=nodata)
    np.testing.assert_array_equal(everything(tmp_path / "a.tif")[0, 0, 0], heights)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint32", "uint64", "float16", "float64"])
def test_every_type_of_number(tmp_path, dtype):
    truth = np.random.default_rng(0).integers(-100, 100, (20, 20)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", truth)
    found = everything(tmp_path / "a.tif")
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found[0, 0, 0], truth)


@pytest.mark.parametrize("compression", ["jpeg2000", "webp"])
def test_image_codecs_in_tiles(tmp_path, compression):
    truth = np.dstack([GRAY, GRAY[::-1], GRAY[:, ::-1]])
    args = {"level": 0} if compression == "jpeg2000" else {"lossless": True}
    tifffile.imwrite(tmp_path / "a.tif", truth, tile=(16, 16), compression=compression, compressionargs=args)
    np.testing.assert_array_equal(everything(tmp_path / "a.tif")[0, :, 0], truth.transpose(2, 0, 1))


def test_jpeg_tiles_are_colors(tmp_path):
    luma, blue, red = 150, 120, 140
    stored = np.full((32, 48, 3), (luma, blue, red), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stored, tile=(16, 16), compression="jpeg", photometric="ycbcr")
    b, r = blue - 128, red - 128
    expected = (luma + 1.402 * r, luma - 0.344 * b - 0.714 * r, luma + 1.772 * b)  # the definition of YCbCr
    found = everything(tmp_path / "a.tif")[0, :, 0]
    assert np.abs(found.T.astype(float) - expected).max() <= 3


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"resolution": (4e4, 2e4), "resolutionunit": "CENTIMETER"}, PixelSize(y=0.5, x=0.25)),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, PixelSize()),
        ({"resolution": (101_600, 50_800), "resolutionunit": "INCH"}, PixelSize(y=0.5, x=0.25)),
        ({"resolution": (4e4, 2e4), "resolutionunit": "NONE"}, PixelSize()),
        ({}, PixelSize()),
        ({"description": "Aperio|AppMag = 20|MPP = 0.4990|Left = 2"}, PixelSize(y=0.499, x=0.499)),
        ({"imagej": True, "resolution": (4.0, 2.0), "metadata": {"unit": "um"}}, PixelSize(y=0.5, x=0.25)),
        ({"imagej": True, "resolution": (4.0, 2.0), "metadata": {"unit": "pixel"}}, PixelSize()),
    ],
)
def test_pixel_sizes(tmp_path, facts, expected):
    tifffile.imwrite(tmp_path / "a.tif", GRAY, **({"metadata": None} | facts))
    with open_image(tmp_path / "a.tif") as source:
        found = source.pixel_size
    assert found.z == expected.z
    assert found.y == pytest.approx(expected.y)
    assert found.x == pytest.approx(expected.x)


def test_pixel_sizes_of_stacks(tmp_path):
    stack = np.stack([GRAY] * 3)
    notes = {"axes": "ZYX", "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata=notes)
    imagej = {"axes": "ZYX", "unit": "micron", "spacing": 2.0}
    tifffile.imwrite(tmp_path / "b.tif", stack, imagej=True, resolution=(4.0, 2.0), metadata=imagej)
    for name in ("a.ome.tif", "b.tif"):
        with open_image(tmp_path / name) as source:
            assert source.pixel_size == PixelSize(z=2.0, y=0.5, x=0.25)


def test_of_several_series_the_first(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as out:
        out.write(GRAY, metadata=None)
        out.write(GRAY[:7, :9], metadata=None)
    assert everything(tmp_path / "a.tif").shape == (1, 1, 1, 30, 40)


def test_pages_that_are_left_out_are_no_data(tmp_path):
    """A sparse tile has offset and length 0, as GDAL writes it."""
    tifffile.imwrite(tmp_path / "a.tif", GRAY, tile=(16, 16), compression="zlib", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        for name in ("TileOffsets", "TileByteCounts"):
            tag = tif.pages[0].tags[name]
            tag.overwrite((*tag.value[:1], 0, *tag.value[2:]))
    found = everything(tmp_path / "a.tif")[0, 0, 0]
    expected = GRAY.copy()
    expected[:16, 16:32] = 0
    np.testing.assert_array_equal(found, expected)


def test_a_strip_of_the_whole_image_counts_against_the_limit(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((300, 400), np.uint8), compression="zlib", rowsperstrip=300)
    with pytest.raises(TooLarge, match=r"a\.tif.*120,000 bytes.*--max-bytes"):
        open_image(tmp_path / "a.tif", max_bytes=100_000)
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((300, 400), np.uint8), compression="zlib", rowsperstrip=10)
    assert everything(tmp_path / "b.tif", max_bytes=100_000).shape == (1, 1, 1, 300, 400)


def test_an_ndpi_slide_is_refused_by_name(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GRAY)
    (tmp_path / "a.tif").rename(tmp_path / "a.ndpi")
    with pytest.raises(BadFile, match="NDPI"):
        open_image(tmp_path / "a.ndpi")


def test_the_cache_keeps_what_fits_and_always_the_last():
    cache = SegmentCache(max_bytes=250)
    for i in range(4):
        cache.put((0, i), np.zeros(100, np.uint8))
    assert [cache.get((0, i))[0] for i in range(4)] == [False, False, True, True]
    cache.put((1, 0), np.zeros(1000, np.uint8))
    assert cache.get((1, 0))[0]
    assert not cache.get((0, 3))[0]
    cache.put((1, 1), None)
    assert cache.get((1, 1)) == (True, None)
