"""Listings of chosen planes: what they name is read, and what they may not name is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile
from fieldmark.images import open_image
from fieldmark.images.readers.frames import FOLDER
from fieldmark.images.readers.planes import Planes, planes_listing
from fieldmark.images.source import plane_numbers
from fieldmark.images.writers import create_writer

PIXELS = np.random.default_rng(0).integers(0, 60_000, (3, 2, 4, 20, 24)).astype(np.uint16)
CHOSEN = Planes("store/a.ome.zarr", "0" * 64, (0, 2), (0, 1), (1, 3))


@pytest.fixture
def listing(tmp_path) -> Path:
    """Of planes of an image, which lies elsewhere."""
    (tmp_path / "images/store").mkdir(parents=True)
    writer = create_writer(tmp_path / "images/store/a.ome.zarr", "ome-zarr", shape=PIXELS.shape, dtype=PIXELS.dtype)
    writer.write(Box.whole(PIXELS.shape), PIXELS)
    writer.finish()
    file = tmp_path / "lists/p000.frames"
    file.parent.mkdir()
    file.write_bytes(planes_listing(CHOSEN))
    (file.parent / FOLDER).write_text(f"{tmp_path / 'images'}\n")
    return file


def test_the_planes_that_it_names_are_read(listing):
    with open_image(listing) as source:
        assert plane_numbers(source) == ((0, 2), (1, 3))
        assert np.array_equal(source.read(Box.whole(source.shape)), PIXELS[[0, 2]][:, :, [1, 3]])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("store/a", "../images/store/a", "leads out of the folder of images"),
        ("store/a", "/etc/a", "leads out of the folder of images"),
        ("store/a.ome.zarr", "store/b.ome.zarr", "is not there any more"),
        ("store/a.ome.zarr", "p000.frames", "is not there any more"),
        ("0 2", "0 3", "has 3 times, 2 channels and 4 slices, and had more"),
        ("0 2", "2 0", "its listing is damaged"),
        ("0 2", "-1 2", "its listing is damaged"),
        ("0 2", "", "its listing is damaged"),
        ("0 2", "0 x", "its listing is damaged"),
        ("image,", "picture,", "its listing is damaged"),
        ("\nstore", "\nstore/a.ome.zarr,0,0,0,0\nstore", "its listing is damaged"),
    ],
)
def test_what_is_wrong_with_it_is_said(listing, old, new, words):
    text = listing.read_text()
    assert old in text
    listing.write_text(text.replace(old, new, 1))
    with pytest.raises(BadFile, match=words):
        open_image(listing)


def test_a_listing_without_its_folder_is_refused(listing):
    (listing.parent / FOLDER).unlink()
    with pytest.raises(BadFile, match=r"does not say where"):
        open_image(listing)
