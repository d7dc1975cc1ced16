"""NIfTI volumes, against headers packed by hand and against files that another writer made."""

from __future__ import annotations

import gzip
import struct
import sys
import zlib

import numpy as np
import pytest

from fieldmark.core.axes import PixelSize
from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile, MissingExtra, TooLarge
from fieldmark.images import open_image

nibabel = pytest.importorskip("nibabel", reason="the extra `nifti` is not installed")

VOLUME = np.arange(5 * 4 * 3, dtype=np.int16).reshape(5, 4, 3) - 7  # x, y, z


def by_hand(
    volume: np.ndarray = VOLUME,
    *,
    order: str = "<",
    kind: int = 4,
    shape: tuple[int, ...] | None = None,
    sizes: tuple[float, ...] = (0.5, 0.25, 2.0),
    units: int = 2,
    slope: float = 0.0,
    intercept: float = 0.0,
    start: float = 352,
    magic: bytes = b"n+1\0",
) -> bytes:
    """A NIfTI-1 file: offsets from the format's definition."""
    sides = shape or volume.shape
    head = bytearray(348)
    struct.pack_into(f"{order}i", head, 0, 348)
    struct.pack_into(f"{order}8h", head, 40, len(sides), *sides, *([1] * (7 - len(sides))))
    struct.pack_into(f"{order}2h", head, 70, kind, volume.dtype.itemsize * 8)
    struct.pack_into(f"{order}4f", head, 76, 1, *sizes)
    struct.pack_into(f"{order}3f", head, 108, start, slope, intercept)
    head[123] = units
    head[344:348] = magic
    return bytes(head) + bytes(4) + volume.astype(volume.dtype.newbyteorder(order)).tobytes("F")


def everything(path, **facts) -> np.ndarray:
    with open_image(path, **facts) as source:
        return source.read(Box.whole(source.shape))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_columns_are_x_and_rows_are_y(tmp_path, order, name):
    data = by_hand(order=order)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    with open_image(tmp_path / name) as source:
        assert (source.shape, source.axes, source.dtype) == ((1, 1, 3, 4, 5), "zyx", np.int16)
        assert source.pixel_size == PixelSize(2000.0, 250.0, 500.0)
        found = source.read(Box.whole(source.shape))
        part = source.read(Box((0, 0, 1, 2, 3), (1, 1, 3, 3, 5)))
    for x, y, z in np.ndindex(VOLUME.shape):
        assert found[0, 0, z, y, x] == VOLUME[x, y, z]
    np.testing.assert_array_equal(part, found[:, :, 1:3, 2:3, 3:5])


def test_pictures_are_those_of_programs_that_transpose_the_first_two_axes(tmp_path):
    nibabel.save(nibabel.Nifti1Image(VOLUME, np.eye(4)), tmp_path / "a.nii.gz")
    loaded = np.asarray(nibabel.load(tmp_path / "a.nii.gz").get_fdata()).transpose(1, 0, 2)
    np.testing.assert_array_equal(everything(tmp_path / "a.nii.gz")[0, 0], np.moveaxis(loaded, -1, 0))


@pytest.mark.parametrize("version", ["Nifti1Image", "Nifti2Image"])
@pytest.mark.parametrize(
    ("shape", "expected", "axes"),
    [
        ((5, 4), (1, 1, 1, 4, 5), "yx"),
        ((5, 4, 1), (1, 1, 1, 4, 5), "yx"),
        ((5, 4, 3, 2), (2, 1, 3, 4, 5), "tzyx"),
        ((5, 4, 3, 2, 6), (2, 6, 3, 4, 5), "tczyx"),
        ((5, 4, 3, 1, 6), (1, 6, 3, 4, 5), "tczyx"),
    ],
)
def test_axes(tmp_path, version, shape, expected, axes):
    truth = np.random.default_rng(0).random(shape).astype(np.float32)
    nibabel.save(getattr(nibabel, version)(truth, np.eye(4)), tmp_path / "a.nii")
    with open_image(tmp_path / "a.nii") as source:
        assert (source.shape, source.axes) == (expected, axes)
        found = source.read(Box.whole(source.shape))
    x, y, z, t, c = (*shape, 1, 1, 1)[:5]
    np.testing.assert_array_equal(found, truth.reshape(x, y, z, t, c).transpose(3, 4, 2, 1, 0))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_values_mean_what_the_header_says(tmp_path, name):
    data = by_hand(slope=0.5, intercept=-3)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    found = everything(tmp_path / name)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0, 0], VOLUME.transpose(2, 1, 0) * 0.5 - 3)


@pytest.mark.parametrize(("units", "factor"), [(0, 1000.0), (1, 1e6), (2, 1000.0), (3, 1.0)])
def test_voxel_sizes_are_micrometers(tmp_path, units, factor):
    (tmp_path / "a.nii").write_bytes(by_hand(units=units))
    with open_image(tmp_path / "a.nii") as source:
        assert source.pixel_size.x == pytest.approx(0.5 * factor)


def test_what_is_decoded_counts_against_the_limit(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(by_hand()))
    assert everything(tmp_path / "a.nii.gz", max_bytes=VOLUME.nbytes).size == VOLUME.size
    with pytest.raises(TooLarge, match="--max-bytes"):
        open_image(tmp_path / "a.nii.gz", max_bytes=VOLUME.nbytes - 1)


BAD = {
    "a byte is missing": (by_hand()[:-1], "more than the file can hold"),
    "a larger shape": (by_hand(shape=(5, 4, 300)), "more than the file can hold"),
    "10 ** 13 voxels": (by_hand(shape=(30_000, 30_000, 30_000)), "more than the file can hold"),
    "no side": (by_hand(shape=(5, 0, 3)), "axes of"),
    "a negative side": (by_hand(shape=(5, -4, 3)), "axes of"),
    "one axis": (by_hand(shape=(60,)), "axes of"),
    "six axes": (by_hand(shape=(5, 4, 3, 1, 1, 2)), "axes of"),
    "a start inside the header": (by_hand(start=4), "voxels begin at byte 4"),
    "no start": (by_hand(start=float("nan")), "voxels begin at byte nan"),
    "complex values": (by_hand(VOLUME.astype(np.complex64), kind=32), "its values are complex64"),
    "colors": (by_hand(kind=128), "integers or real numbers"),
    "an unknown type": (by_hand(kind=999), "damaged"),
    "a pair": (by_hand(magic=b"ni1\0"), "second file"),
    "another format": (b"\x5c\1\0\0" + bytes(600), "does not begin with a NIfTI header"),
    "a cut header": (by_hand()[:90], "does not begin with a NIfTI header"),
    "words": (b"words and words and words", "does not begin as one"),
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", BAD)
def test_damaged_files_are_refused(tmp_path, name, zipped, capfd):
    data, message = BAD[name]
    path = tmp_path / ("a.nii.gz" if zipped else "a.nii")
    path.write_bytes(gzip.compress(data) if zipped else data)
    with pytest.raises(BadFile) as caught, open_image(path, shown="shown") as source:
        source.read(Box((0,) * 5, (1,) * 5))
    assert str(caught.value).startswith("shown: ")
    if not zipped:
        assert message in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("damage", ["cut", "flip", "checksum"])
def test_a_damaged_archive_is_refused_when_it_is_read(tmp_path, damage):
    data = bytearray(gzip.compress(by_hand()))
    if damage == "cut":
        del data[-20:]
    else:
        data[-6 if damage == "checksum" else len(data) // 2] ^= 0x55
    (tmp_path / "a.nii.gz").write_bytes(data)
    with pytest.raises(BadFile, match="shown"), open_image(tmp_path / "a.nii.gz", shown="shown") as source:
        source.read(Box.whole(source.shape))


def test_a_bomb_is_refused_before_it_goes_off(tmp_path):
    stream = zlib.compressobj(9, wbits=31)
    bomb = stream.compress(by_hand(shape=(30_000, 30_000, 2))) + stream.compress(bytes(10**7)) + stream.flush()
    (tmp_path / "a.nii.gz").write_bytes(bomb)
    with pytest.raises(TooLarge):
        open_image(tmp_path / "a.nii.gz")


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.nii").write_bytes(by_hand())
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingExtra, match=r"pip install 'fieldmark\[nifti\]'"):
        open_image(tmp_path / "a.nii")
