"""A box read from any format is what numpy slicing gives of the truth."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.images import ArraySource, decode_once, open_image
from fieldmark.images.decode import pieces

SHAPE = (2, 3, 4, 37, 53)
STACK = np.random.default_rng(7).integers(0, 60_000, SHAPE).astype(np.uint16)
RGB = (STACK[0, :, 0] % 256).astype(np.uint8)
GRAY = STACK[0, 0, 0]

Make = Callable[[Path], tuple[Path, list[np.ndarray]]]
FORMATS: dict[str, Make] = {}


def five(array: np.ndarray, axes: str) -> np.ndarray:
    return array[tuple(slice(None) if axis in axes else None for axis in "tczyx")]


def simple(name: str, write: Callable[[Path], object], truth: np.ndarray, axes: str) -> None:
    def make(folder: Path) -> tuple[Path, list[np.ndarray]]:
        write(folder / name)
        return folder / name, [five(truth, axes)]

    FORMATS[name] = make


def saved(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def tiff(array: np.ndarray, **facts: object) -> Callable[[Path], object]:
    return lambda path: tifffile.imwrite(path, array, **facts)


def pillow(**facts: object) -> Callable[[Path], object]:
    return lambda path: Image.fromarray(np.moveaxis(RGB, 0, -1)).save(path, **facts)


LAST = np.ascontiguousarray(np.moveaxis(RGB, 0, -1))
simple("gray.png", lambda p: p.write_bytes(imagecodecs.png_encode(GRAY)), GRAY, "yx")
simple("rgb.png", lambda p: p.write_bytes(imagecodecs.png_encode(LAST)), RGB, "cyx")
simple("rgb.bmp", pillow(), RGB, "cyx")
simple("rgb.webp", pillow(lossless=True), RGB, "cyx")
simple("rgb.ppm", pillow(), RGB, "cyx")
simple("gray.npy", lambda p: p.write_bytes(saved(GRAY)), GRAY, "yx")
simple("rgb.npy", lambda p: p.write_bytes(saved(LAST)), RGB, "cyx")
simple("stack.npy", lambda p: p.write_bytes(saved(STACK)), STACK, "tczyx")
simple("fortran.npy", lambda p: p.write_bytes(saved(np.asfortranarray(STACK))), STACK, "tczyx")
simple("swapped.npy", lambda p: p.write_bytes(saved(STACK.astype(">u2"))), STACK, "tczyx")
simple("plain.tif", tiff(GRAY), GRAY, "yx")
simple("strips.tif", tiff(GRAY, rowsperstrip=5, compression="zlib"), GRAY, "yx")
simple("tiles.tif", tiff(GRAY, tile=(16, 16), compression="lzw", predictor=True), GRAY, "yx")
simple("rgb.tif", tiff(LAST, tile=(16, 32), compression="packbits"), RGB, "cyx")
simple("planar.tif", tiff(RGB, planarconfig="separate", photometric="rgb"), RGB, "cyx")
simple(
    "planar_tiles.tif",
    tiff(RGB, planarconfig="separate", photometric="rgb", tile=(16, 16), compression="zstd"),
    RGB,
    "cyx",
)
simple(
    "big.tif",
    tiff(STACK, bigtiff=True, byteorder=">", compression="lzma", photometric="minisblack", metadata={"axes": "TCZYX"}),
    STACK,
    "tczyx",
)
simple("swapped.tif", tiff(GRAY, byteorder=">"), GRAY, "yx")
simple("ome.ome.tif", tiff(STACK, metadata={"axes": "TCZYX"}, tile=(16, 16)), STACK, "tczyx")
simple(
    "ome_order.ome.tif",
    tiff(STACK.transpose(2, 0, 1, 3, 4), metadata={"axes": "ZTCYX"}, compression="zlib"),
    STACK,
    "tczyx",
)
simple("imagej.tif", tiff(STACK.transpose(0, 2, 1, 3, 4), imagej=True, metadata={"axes": "TZCYX"}), STACK, "tczyx")


def pyramid_of(array: np.ndarray) -> list[np.ndarray]:
    return [array, array[..., ::2, ::2], array[..., ::4, ::4]]


def pyramidal(name: str, **facts: object) -> None:
    def make(folder: Path) -> tuple[Path, list[np.ndarray]]:
        levels = pyramid_of(RGB)
        with tifffile.TiffWriter(folder / name) as out:
            first, *rest = (np.ascontiguousarray(np.moveaxis(level, 0, -1)) for level in levels)
            out.write(first, subifds=len(rest), tile=(16, 16), **facts)
            for level in rest:
                out.write(level, subfiletype=1, tile=(16, 16), **facts)
        return folder / name, [five(level, "cyx") for level in levels]

    FORMATS[name] = make


simple(
    "slices_as_samples.tif",
    tiff(STACK[:, 0], compression="zlib", metadata={"axes": "TZYX"}, photometric="rgb", planarconfig="separate"),
    STACK[:, 0],
    "tzyx",
)
pyramidal("pyramid.ome.tif", compression="zlib")
pyramidal("pyramid.tif", compression="deflate", photometric="rgb")


def ome_zarr(name: str, version: int, **facts: object) -> None:
    def make(folder: Path) -> tuple[Path, list[np.ndarray]]:
        group = zarr.open_group(str(folder / name), mode="w", zarr_format=version)
        levels = pyramid_of(STACK)
        for i, level in enumerate(levels):
            group.create_array(str(i), shape=level.shape, dtype=level.dtype, **facts)[:] = level
        image = {"axes": [{"name": axis} for axis in "tczyx"], "datasets": [{"path": str(i)} for i in range(3)]}
        attributes = {"multiscales": [image]}
        group.update_attributes({"ome": attributes} if version == 3 else attributes)
        return folder / name, levels

    FORMATS[name] = make


ome_zarr("five.ome.zarr", 3, chunks=(1, 1, 2, 10, 16))
ome_zarr("sharded.ome.zarr", 3, chunks=(1, 1, 2, 8, 8), shards=(1, 3, 4, 16, 16))
ome_zarr("four.ome.zarr", 2, chunks=(1, 2, 1, 10, 16))


class Cache(dict):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def __missing__(self, name):
        return self.setdefault(name, self.make(name))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats")
    return Cache(lambda name: FORMATS[name](folder))


@st.composite
def boxes(draw, shape):
    sides = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    return Box(tuple(a for a, _ in sides), tuple(b for _, b in sides))


@pytest.mark.parametrize("name", FORMATS)
class TestEveryFormat:
    def test_the_whole_image(self, name, made):
        path, levels = made[name]
        with open_image(path) as source:
            assert source.levels == tuple(level.shape for level in levels)
            assert source.shape == levels[0].shape
            assert source.axes == "".join(a for a, n in zip("tczyx", levels[0].shape, strict=True) if n > 1)
            assert source.dtype == levels[0].dtype.newbyteorder("=")
            for i, truth in enumerate(levels):
                np.testing.assert_array_equal(source.read(Box.whole(truth.shape), i), truth)

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_any_box_of_any_level(self, name, made, data):
        path, levels = made[name]
        level = data.draw(st.integers(0, len(levels) - 1))
        box = data.draw(boxes(levels[level].shape))
        with open_image(path) as source:
            found = source.read(box, level)
        np.testing.assert_array_equal(found, levels[level][box.slices])
        assert found.flags.c_contiguous
        assert found.flags.writeable
        assert found.dtype.isnative

    def test_it_decodes(self, name, made):
        with open_image(made[name][0]) as source:
            decode_once(source)

    def test_pieces_partition_every_level(self, name, made):
        with open_image(made[name][0]) as source:
            for level, shape in enumerate(source.levels):
                seen = np.zeros(shape, int)
                for box in pieces(source, level, 4000):
                    seen[box.slices] += 1
                assert (seen == 1).all()

    def test_pieces_within_a_box_partition_the_box(self, name, made):
        with open_image(made[name][0]) as source:
            part = Box(tuple(n // 3 for n in source.shape), tuple(max(1, n - n // 4) for n in source.shape))
            seen = np.zeros(source.shape, int)
            for box in pieces(source, 0, 500, within=part):
                seen[box.slices] += 1
            assert (seen[part.slices] == 1).all()
            assert seen.sum() == part.size

    @pytest.mark.parametrize(
        ("start", "stop"),
        [((0,) * 5, (1, 1, 1, 1, 10**6)), ((0, 0, 0, -1, 0), (1, 1, 1, 1, 1)), ((0, 0), (1, 1))],
    )
    def test_a_box_outside_is_refused(self, name, made, start, stop):
        with open_image(made[name][0]) as source, pytest.raises(BadInput, match="is not inside"):
            source.read(Box(start, stop))

    def test_a_level_that_is_not_there_is_refused(self, name, made):
        with open_image(made[name][0]) as source, pytest.raises(BadInput, match="level 9"):
            source.read(Box.whole((1,) * 5), 9)

    def test_a_closed_image_says_so(self, name, made):
        source = open_image(made[name][0])
        source.close()
        source.close()
        with pytest.raises(BadInput, match="is closed"):
            source.read(Box.whole((1,) * 5))

    def test_its_content_counts_not_its_name(self, name, made, tmp_path):
        path, levels = made[name]
        if path.is_dir() or path.suffix in {".bmp", ".ppm"}:
            pytest.skip("a folder, or a format whose first bytes prove nothing")
        other = tmp_path / "image.jpg"
        other.write_bytes(path.read_bytes())
        with open_image(other) as source:
            np.testing.assert_array_equal(source.read(Box.whole(source.shape)), levels[0])


def test_an_array_is_a_source_too():
    source = ArraySource(GRAY.astype(">u2"), "yx")
    assert (source.shape, source.axes, source.dtype) == ((1, 1, 1, 37, 53), "yx", np.dtype("=u2"))
    np.testing.assert_array_equal(source.read(Box.whole(source.shape))[0, 0, 0], GRAY)
    assert not np.shares_memory(source.read(Box.whole(source.shape)), GRAY)


@pytest.mark.parametrize("axes", ["xy", "yxc", "yy", "q"])
def test_axes_in_another_order_are_refused(axes):
    with pytest.raises(BadInput, match="Axes"):
        ArraySource(np.zeros((2,) * len(axes)), axes)
