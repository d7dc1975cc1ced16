"""NumPy files: what is written is read as the same image, whatever its axes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.core.geometry import Box
from fieldmark.images import create_writer, open_image

SHAPES = st.tuples(*[st.integers(1, n) for n in (3, 5, 6, 20, 20)])


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.sampled_from(["u1", "u2", "u4", "f4"]))
def test_what_is_written_is_read_as_the_same_image(tmp_path_factory, shape, dtype):
    pixels = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    writer = create_writer(path, "npy", shape=shape, dtype=dtype, chunk=8)
    for y in range(0, shape[3], 8):
        box = Box((0, 0, 0, y, 0), (*shape[:3], min(shape[3], y + 8), shape[4]))
        writer.write(box, pixels[box.slices])
    writer.finish()
    with open_image(path) as source:
        assert source.shape == shape
        assert np.array_equal(source.read(Box.whole(shape)), pixels)
    assert np.array_equal(np.load(path, allow_pickle=False).ravel(), pixels.ravel())
    assert [file.name for file in path.parent.iterdir()] == ["a.npy"]


@pytest.mark.parametrize(
    ("shape", "kept"),
    [
        ((1, 1, 1, 9, 7), (9, 7)),
        ((1, 1, 1, 9, 2), (9, 2)),
        ((1, 1, 5, 9, 7), (5, 9, 7)),
        ((1, 3, 1, 9, 7), (3, 1, 9, 7)),
        ((1, 1, 5, 9, 4), (1, 1, 5, 9, 4)),
        ((2, 1, 1, 9, 7), (2, 1, 1, 9, 7)),
    ],
)
def test_the_fewest_axes_are_kept(tmp_path, shape, kept):
    writer = create_writer(tmp_path / "a.npy", "npy", shape=shape, dtype="u1")
    writer.finish()
    assert np.load(tmp_path / "a.npy", allow_pickle=False).shape == kept
