"""Some times, channels and slices of an image: what is read is what indexing gives."""

from __future__ import annotations

import numpy as np

from fieldmark.core.axes import PixelSize
from fieldmark.core.geometry import Box
from fieldmark.images.picked import PickedSource
from fieldmark.images.source import ArraySource, plane_numbers

SHAPE = (4, 3, 5, 6, 7)


def test_boxes_are_those_of_the_picked_planes():
    pixels = np.random.default_rng(0).integers(0, 60_000, SHAPE).astype(np.uint16)
    times, channels, slices = (1, 3), (2, 0), (0, 2, 4)
    truth = pixels[np.ix_(times, channels, slices)]
    with PickedSource(ArraySource(pixels, pixel_size=PixelSize(1, 2, 3)), times, channels, slices) as source:
        assert source.shape == truth.shape == (2, 2, 3, 6, 7)
        assert source.pixel_size == PixelSize(1, 2, 3)
        assert plane_numbers(source) == (times, slices)
        rng = np.random.default_rng(1)
        for _ in range(30):
            start = [int(rng.integers(n)) for n in source.shape]
            stop = [int(rng.integers(a + 1, n + 1)) for a, n in zip(start, source.shape, strict=True)]
            box = Box(tuple(start), tuple(stop))
            assert np.array_equal(source.read(box), truth[box.slices])
