"""PNG, JPEG, PNM, GIF, WebP and NumPy: what of a file counts, and what is not done to it."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from fieldmark.core.geometry import Box
from fieldmark.errors import TooLarge
from fieldmark.images import open_image

GRAY = (np.arange(30 * 40).reshape(30, 40) % 256).astype(np.uint8)
RGB = np.dstack([GRAY, GRAY[::-1], GRAY[:, ::-1]])


def everything(path, **options):
    with open_image(path, **options) as source:
        found = source.read(Box.whole(source.shape))
        assert found.shape == source.shape
        assert found.dtype == source.dtype
        return found


def pillow(path, array, mode=None, **facts):
    Image.fromarray(array, mode).save(path, **facts)
    return path


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_of_every_depth(tmp_path, samples, dtype):
    truth = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (20, 30, samples)).astype(dtype)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(truth.squeeze()))
    np.testing.assert_array_equal(everything(tmp_path / "a.png")[0, :, 0], truth.transpose(2, 0, 1))


def test_png_palettes_are_colors_or_indices(tmp_path):
    indices = GRAY % 4
    picture = Image.fromarray(indices, "P")
    colors = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [1, 2, 3]], np.uint8)
    picture.putpalette(colors.tobytes())
    for name, facts, samples in (("a.png", {"bits": 2}, 3), ("b.png", {"transparency": 1}, 4)):
        picture.save(tmp_path / name, **facts)
        found = everything(tmp_path / name)[0, :, 0]
        assert len(found) == samples
        np.testing.assert_array_equal(found[:3].transpose(1, 2, 0), colors[indices])
        np.testing.assert_array_equal(everything(tmp_path / name, expand_palette=False)[0, :, 0], indices[None])
    assert set(np.unique(found[3])) == {0, 255}


def test_png_of_one_bit_is_black_and_white(tmp_path):
    pillow(tmp_path / "a.png", GRAY > 9)
    np.testing.assert_array_equal(everything(tmp_path / "a.png")[0, 0, 0], np.where(GRAY > 9, 255, 0))


def test_of_an_animated_png_the_first_frame(tmp_path):
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(everything(tmp_path / "a.png")[0, :, 0], RGB.transpose(2, 0, 1))


def test_jpeg_gray_and_color(tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)
    pillow(tmp_path / "a.jpg", smooth, quality=95)
    pillow(tmp_path / "b.jpg", np.dstack([smooth, 255 - smooth, smooth]), quality=95, subsampling=0, progressive=True)
    gray, color = everything(tmp_path / "a.jpg"), everything(tmp_path / "b.jpg")
    assert (gray.shape, color.shape) == ((1, 1, 1, 40, 60), (1, 3, 1, 40, 60))
    assert np.abs(gray[0, 0, 0].astype(int) - smooth).max() <= 4
    assert np.abs(color[0, 1, 0].astype(int) - (255 - smooth)).max() <= 6


def test_the_cameras_orientation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees for display
    pillow(tmp_path / "a.jpg", RGB, exif=exif.tobytes())
    assert everything(tmp_path / "a.jpg").shape == (1, 3, 1, 30, 40)


def test_a_jpeg_with_a_thumbnail_that_ends_is_still_seen_to_be_cut(tmp_path):
    thumbnail = io.BytesIO()
    Image.fromarray(RGB[:8, :8].copy()).save(thumbnail, "JPEG")
    pillow(tmp_path / "a.jpg", RGB, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0" + thumbnail.getvalue())
    assert everything(tmp_path / "a.jpg").shape == (1, 3, 1, 30, 40)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(data[:-40])
    with pytest.raises(ValueError, match="truncated"):
        open_image(tmp_path / "b.jpg")


def test_whole_images_count_against_the_limit_before_they_are_decoded(tmp_path):
    pillow(tmp_path / "a.png", RGB)
    pillow(tmp_path / "a.jpg", RGB)
    pillow(tmp_path / "a.gif", RGB)
    for name in ("a.png", "a.jpg", "a.gif"):
        assert everything(tmp_path / name, max_bytes=RGB.size).size == RGB.size
        with pytest.raises(TooLarge, match="--max-bytes"):
            open_image(tmp_path / name, max_bytes=RGB.size - 1)


def test_an_encoded_file_larger_than_the_limit_is_not_even_read(tmp_path):
    path = pillow(tmp_path / "a.png", RGB[:2, :2].copy())
    with open(path, "ab") as file:
        file.write(bytes(5000))
    with pytest.raises(TooLarge, match=r"5,[0-9]+ bytes"):
        open_image(path, max_bytes=1000)


PNM = {
    "a.pbm": (b"P1\n# words\n3 2\n1 0 1\n0 1 0\n", np.array([[1, 0, 1], [0, 1, 0]], np.uint8)),
    "b.pbm": (b"P1 3 2 101010", np.array([[1, 0, 1], [0, 1, 0]], np.uint8)),
    "c.pbm": (b"P4\n3 2\n\xa0\x40", np.array([[1, 0, 1], [0, 1, 0]], np.uint8)),
    "a.pgm": (b"P2 2 2 15\n1 2\n3 15 ", np.array([[1, 2], [3, 15]], np.uint8)),
    "b.pgm": (b"P5 # words\n2 1 65535\n\x01\x02\xff\x00", np.array([[258, 65_280]], np.uint16)),
    "a.ppm": (b"P6\n1 2\n255\nabcdef", np.array([[[97, 98, 99]], [[100, 101, 102]]], np.uint8)),
    "b.ppm": (b"P3 1 1 999 7 8 999", np.array([[[7, 8, 999]]], np.uint16)),
}


@pytest.mark.parametrize("name", PNM)
def test_pnm_values_are_not_scaled(tmp_path, name):
    data, truth = PNM[name]
    (tmp_path / name).write_bytes(data)
    found = everything(tmp_path / name)
    assert found.dtype == truth.dtype
    np.testing.assert_array_equal(found[0, :, 0], truth[None] if truth.ndim == 2 else truth.transpose(2, 0, 1))


def test_gif_colors_and_indices(tmp_path):
    picture = Image.fromarray(GRAY % 3, "P")
    colors = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], np.uint8)
    picture.putpalette(colors.tobytes())
    picture.save(tmp_path / "a.gif", optimize=False)
    np.testing.assert_array_equal(everything(tmp_path / "a.gif")[0, :, 0].transpose(1, 2, 0), colors[GRAY % 3])
    np.testing.assert_array_equal(everything(tmp_path / "a.gif", expand_palette=False)[0, 0, 0], GRAY % 3)


def test_webp_with_and_without_transparency(tmp_path):
    alpha = np.dstack([RGB, np.where(GRAY > 90, 255, 128).astype(np.uint8)])
    for name, truth in (("a.webp", RGB), ("b.webp", alpha)):
        pillow(tmp_path / name, truth, lossless=True, exact=True)
        np.testing.assert_array_equal(everything(tmp_path / name)[0, :, 0].transpose(1, 2, 0), truth)
    pillow(tmp_path / "c.webp", RGB, quality=90)
    assert everything(tmp_path / "c.webp").shape == (1, 3, 1, 30, 40)


@pytest.mark.parametrize(
    ("shape", "expected", "axes"),
    [
        ((5, 6), (1, 1, 1, 5, 6), "yx"),
        ((5, 6, 3), (1, 3, 1, 5, 6), "cyx"),
        ((5, 6, 9), (1, 1, 5, 6, 9), "zyx"),
        ((7, 5, 6, 4), (1, 4, 7, 5, 6), "czyx"),
        ((2, 7, 5, 6), (1, 2, 7, 5, 6), "czyx"),
        ((2, 3, 4, 5, 6), (2, 3, 4, 5, 6), "tczyx"),
    ],
)
def test_numpy_axes_follow_their_number(tmp_path, shape, expected, axes):
    truth = np.random.default_rng(0).random(shape)
    np.save(tmp_path / "a.npy", truth)
    with open_image(tmp_path / "a.npy") as source:
        assert (source.shape, source.axes) == (expected, axes)
        found = source.read(Box.whole(source.shape))
    order = {(5, 6, 3): (2, 0, 1), (7, 5, 6, 4): (3, 0, 1, 2)}.get(shape, range(len(shape)))
    np.testing.assert_array_equal(found.squeeze(), truth.transpose(*order))


def test_truth_values_become_numbers(tmp_path):
    np.save(tmp_path / "a.npy", GRAY > 9)
    found = everything(tmp_path / "a.npy")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[0, 0, 0], (GRAY > 9).astype(int))
