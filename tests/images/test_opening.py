"""What a file is told by; what is imported for it; lengths in their units."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from fieldmark.errors import BadFile, BadInput
from fieldmark.images import READERS, encode_png, open_image
from fieldmark.images.readers import SUFFIXES
from fieldmark.images.units import micrometers


def test_listing_formats_imports_nothing_heavy():
    code = (
        "import sys, fieldmark.images, fieldmark.images.readers, fieldmark.images.writers\n"
        "list(fieldmark.images.readers.READERS); list(fieldmark.images.writers.WRITERS)\n"
        "fieldmark.images.is_image_name('a.png')\n"
        "heavy = {'numpy', 'zarr', 'tifffile', 'imagecodecs', 'PIL', 'pydantic', 'torch'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_opening_a_png_imports_neither_zarr_nor_tifffile(tmp_path):
    (tmp_path / "a.png").write_bytes(encode_png(np.zeros((4, 4), np.uint8)))
    code = (
        "import sys\nfrom fieldmark.images import decode_once, open_image\n"
        f"decode_once(open_image({str(tmp_path / 'a.png')!r}))\n"
        "heavy = {'zarr', 'tifffile', 'torch', 'skimage', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_format_has_suffixes_and_a_summary():
    # Listings of frames and of planes are our own, known by their first bytes, and named by no suffix.
    assert set(SUFFIXES) == {name for name, _ in READERS} - {"frames", "planes"}
    assert all(entry.summary for _, entry in READERS)


def test_a_wrong_suffix_is_seen_through(tmp_path):
    (tmp_path / "a.tif").write_bytes(encode_png(np.full((4, 5), 7, np.uint8)))
    with open_image(tmp_path / "a.tif") as source:
        assert source.shape == (1, 1, 1, 4, 5)


def test_text_that_begins_like_a_bitmap_is_none(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"BMW sold\nmany cars")
    with pytest.raises(BadFile, match="no image format that Fieldmark reads"):
        open_image(tmp_path / "a.txt")


def test_errors_name_what_the_user_typed(tmp_path):
    with pytest.raises(BadFile, match=r"^\./pics/a\.png: "):
        open_image(tmp_path / "b.png", shown="./pics/a.png")
    with pytest.raises(BadFile, match=r"b\.png: there is no such file"):
        open_image(str(tmp_path / "b.png"))


def test_a_limit_of_nothing_is_refused(tmp_path):
    with pytest.raises(BadInput, match="max_bytes is 0"):
        open_image(tmp_path / "a.png", max_bytes=0)


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [
        (250, "nm", 0.25),
        ("0.5", "µm", 0.5),
        (0.5, "\u03bcm", 0.5),
        (2, "micron", 2.0),
        (1, "\\u00B5m", 1.0),
        (1, "mm", 1000.0),
        (1, "pixel", None),
        (1, "", None),
        (0, "um", None),
        (-1, "um", None),
        (float("inf"), "um", None),
        ("wide", "um", None),
    ],
)
def test_lengths(size, unit, expected):
    assert micrometers(size, unit) == pytest.approx(expected)
