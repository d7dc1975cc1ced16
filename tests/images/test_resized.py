"""Images at another size: any box equals the whole, and the whole equals a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from fieldmark.core.axes import PixelSize
from fieldmark.core.geometry import Box
from fieldmark.images.resized import ResizedSource, scaled_size
from fieldmark.images.source import ArraySource


def drawn(dtype: str = "uint16", shape=(2, 2, 3, 29, 41)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60_000 if dtype == "uint16" else 250, shape).astype(dtype)


def read(source, box: Box | None = None) -> np.ndarray:
    return source.read(box or Box.whole(source.shape))


def by_hand(row: np.ndarray, new: int) -> list[float]:
    """A row blended pixel by pixel: a triangle around each new middle, as wide as what shrinks into it."""
    ratio = len(row) / new
    made = []
    for place in range(new):
        middle, reach = (place + 0.5) * ratio - 0.5, max(1, ratio)
        weights = [max(0, 1 - abs(old - middle) / reach) for old in range(len(row))]
        made.append(sum(w * float(v) for w, v in zip(weights, row, strict=True)) / sum(weights))
    return made


@pytest.mark.parametrize("factor", [0.5, 0.37, 1.0, 1.7, 3.0])
def test_the_whole_is_what_a_loop_says(factor):
    pixels = drawn("float32", (1, 1, 1, 29, 41))
    found = read(ResizedSource(ArraySource(pixels), factor))[0, 0, 0]
    y, x = scaled_size(29, factor), scaled_size(41, factor)
    assert found.shape == (y, x)
    wide = np.array([by_hand(row, x) for row in pixels[0, 0, 0]])
    truth = np.array([by_hand(column, y) for column in wide.T]).T
    assert np.allclose(found, truth, rtol=1e-4)


@pytest.mark.parametrize("factors", [(2.0, 1.0, 1.0), (0.4, 0.5, 1.3), (1.7, 1.7, 0.6)])
def test_each_axis_has_its_own_factor(factors):
    pixels = drawn("float32", (1, 1, 7, 11, 13))
    found = read(ResizedSource(ArraySource(pixels), factors))[0, 0]
    assert found.shape == tuple(scaled_size(n, by) for n, by in zip((7, 11, 13), factors, strict=True))
    truth = pixels[0, 0].astype(np.float64)
    for axis, size in enumerate(found.shape):
        truth = np.apply_along_axis(by_hand, axis, truth, size)
    assert np.allclose(found, truth, rtol=1e-4)


def test_a_single_plane_has_no_slices_to_be_scaled():
    source = ResizedSource(ArraySource(drawn(shape=(2, 1, 1, 6, 8)), pixel_size=PixelSize(2.0, 1.0, 1.0)), (3, 1, 1))
    assert source.shape == (2, 1, 1, 6, 8)
    assert source.pixel_size.z == 2.0


def test_slices_of_label_maps_are_repeated_or_left_out():
    labels = drawn("uint8", (1, 1, 4, 5, 6))
    twice = read(ResizedSource(ArraySource(labels), (2, 1, 1), "nearest"))
    assert np.array_equal(twice, labels.repeat(2, 2))
    source = ResizedSource(ArraySource(labels.repeat(3, 2), pixel_size=PixelSize(0.5, 1, 1)), (1 / 3, 1, 1), "nearest")
    assert np.array_equal(read(source), labels)
    assert source.pixel_size.z == pytest.approx(1.5)


@pytest.mark.parametrize("how", ["linear", "nearest"])
@pytest.mark.parametrize("factor", [0.5, 0.37, 1.7, (1.6, 0.5, 0.8), (0.5, 1, 1)])
def test_any_box_holds_the_bits_of_the_whole(factor, how):
    with ResizedSource(ArraySource(drawn()), factor, how) as source:
        whole = read(source)
        assert whole.dtype == np.uint16
        rng = np.random.default_rng(1)
        for _ in range(20):
            start = [int(rng.integers(n)) for n in source.shape]
            stop = [int(rng.integers(a + 1, n + 1)) for a, n in zip(start, source.shape, strict=True)]
            box = Box(tuple(start), tuple(stop))
            assert np.array_equal(read(source, box), whole[box.slices])


def test_large_boxes_are_read_in_parts(monkeypatch):
    pixels = drawn()
    for how in ("linear", "nearest"):
        whole = read(ResizedSource(ArraySource(pixels), 0.37, how))
        deep = read(ResizedSource(ArraySource(pixels), (2, 0.37, 0.5), how))
        monkeypatch.setattr("fieldmark.images.resized._MOST_PIXELS", 900)
        assert np.array_equal(read(ResizedSource(ArraySource(pixels), 0.37, how)), whole)
        assert np.array_equal(read(ResizedSource(ArraySource(pixels), (2, 0.37, 0.5), how)), deep)
        monkeypatch.undo()


def test_halves_are_means_of_what_shrinks_and_flat_stays_flat():
    stripes = np.tile(np.array([0, 1000], np.uint16), (32, 16))[None, None, None]
    small = read(ResizedSource(ArraySource(stripes), 0.5))[0, 0, 0]
    assert np.abs(small[:, 2:-2].astype(int) - 500).max() <= 1, "the finest stripes are gray, not black or white"
    flat = np.full((1, 1, 1, 13, 17), 65535, np.uint16)
    for factor in (0.3, 2.2):
        assert (read(ResizedSource(ArraySource(flat), factor)) == 65535).all()


def test_label_maps_keep_their_values():
    labels = drawn("uint8", (1, 1, 1, 12, 10))
    twice = read(ResizedSource(ArraySource(labels), 2, "nearest"))
    assert np.array_equal(twice, labels.repeat(2, 3).repeat(2, 4))
    half = read(ResizedSource(ArraySource(labels.repeat(2, 3).repeat(2, 4)), 0.5, "nearest"))
    assert np.array_equal(half, labels)


def test_pixels_grow_as_images_shrink():
    source = ResizedSource(ArraySource(drawn(), pixel_size=PixelSize(2.0, 0.5, 0.25)), 0.5)
    assert source.shape == (2, 2, 3, scaled_size(29, 0.5), 20)
    assert source.pixel_size.z == 2.0
    assert source.pixel_size.x == pytest.approx(0.25 * 41 / 20)
    assert read(ResizedSource(ArraySource(drawn(shape=(1, 1, 1, 1, 1))), 0.1)).shape == (1, 1, 1, 1, 1)
