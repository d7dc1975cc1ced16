"""Real files of the fields that Fieldmark is for, compared with other readers or with what is known of them."""

from __future__ import annotations

import csv

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from fieldmark.core.geometry import Box
from fieldmark.images import decode_once, find_images, open_image, thumbnail


def everything(path) -> np.ndarray:
    with open_image(path) as source:
        return source.read(Box.whole(source.shape))


def test_egg_micrographs_stay_16_bit(data_dir):
    found = find_images(data_dir / "eggs/orig").images
    assert len(found) == 7
    for path, _ in found:
        with open_image(path) as source:
            assert (source.shape, source.dtype) == ((1, 3, 1, 400, 400), np.uint16)
            pixels = source.read(Box.whole(source.shape))
        assert pixels.max() > 255
        assert len(np.unique(pixels)) > 300  # 8-bit values spread to 16 bits would be 256 at most
        np.testing.assert_array_equal(pixels[0, :, 0].transpose(1, 2, 0), imagecodecs.png_decode(path.read_bytes()))


def test_a_slide_tile_by_tile(data_dir):
    path = data_dir / "slides/cmu_small_region.svs"
    truth = tifffile.imread(path)
    with open_image(path) as source:
        assert source.shape == (1, 3, 1, *truth.shape[:2])
        assert source.pixel_size.y == source.pixel_size.x == 0.499
        for corner in [(0, 0), (230, 1990), (2900, 2150)]:
            box = Box((0, 0, 0, *corner), (1, 3, 1, min(2967, corner[0] + 300), min(2220, corner[1] + 250)))
            np.testing.assert_array_equal(
                source.read(box)[0, :, 0], truth[box.slices[3], box.slices[4]].transpose(2, 0, 1)
            )
        picture = thumbnail(source, 200).astype(float)
    small = np.asarray(Image.fromarray(truth).resize(picture.shape[1::-1], Image.Resampling.BOX)).astype(float)
    assert np.abs(picture - small).mean() < 6


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("nuclei3d/img3d.tif", (1, 1, 31, 61, 57), np.uint16),
        ("nuclei3d/mask2d.tif", (1, 1, 1, 512, 512), np.uint16),
        ("stain/phase_contrast_z7.ome.tif", (1, 1, 7, 1024, 768), np.uint16),
        ("channels/bian_ccby/BPAE_nuclei.tif", (1, 1, 1, 680, 1100), np.float32),
        ("channels/fly_bsd3/01_POS002_D.TIF", (1, 1, 1, 1006, 1000), np.uint8),
    ],
)
def test_stacks_and_channels(data_dir, name, shape, dtype):
    found = everything(data_dir / name)
    assert (found.shape, found.dtype) == (shape, dtype)
    np.testing.assert_array_equal(found.squeeze(), tifffile.imread(data_dir / name))


def test_blood_cells_and_plankton_decode(data_dir):
    for name in ("blood/smears", "plankton/copepod_calanoid"):
        found = find_images(data_dir / name)
        assert found.images
        for path, shown in found.images[:10]:
            with open_image(path, shown=shown) as source:
                decode_once(source)
                truth = np.asarray(Image.open(path))
                np.testing.assert_allclose(
                    source.read(Box.whole(source.shape))[0, :, 0].squeeze().astype(int),
                    (truth if truth.ndim == 2 else truth.transpose(2, 0, 1)).astype(int),
                    atol=2,  # decoders round differently
                )


def test_the_index_of_nuclei_is_what_the_folder_holds(data_dir):
    with open(data_dir / "nuclei/index.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(find_images(data_dir / "nuclei/images").images) == len(rows) == 248
