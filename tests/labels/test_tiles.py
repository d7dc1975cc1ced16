"""Label tiles as bytes."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.errors import FieldmarkError
from fieldmark.labels.codec import decode_mask, decode_path, decode_tile, encode_mask, encode_path, encode_tile
from fieldmark.labels.raster import TILE, tile_box
from fieldmark.labels.runs import EMPTY, array_of, box_of, count, only, overlay, runs_of


def drawn(seed: int, kinds: int) -> np.ndarray:
    """A tile of few or very many runs."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((TILE, TILE), dtype=np.uint32)
    for _ in range(kinds):
        y, x, height, width = rng.integers(0, TILE, 4)
        ids[y : y + height, x : x + width] = rng.integers(1, 2**32)
    return rng.integers(0, 2**32, (TILE, TILE), dtype=np.uint32) if kinds == 9 else ids


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), kinds=st.integers(0, 9))
def test_a_tile_comes_back(seed: int, kinds: int) -> None:
    ids = drawn(seed, kinds)
    found = array_of(decode_tile(encode_tile(runs_of(ids))))
    assert found.dtype == np.uint32
    assert (found == ids).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_a_mask_comes_back(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((TILE, TILE)) < share
    assert (decode_mask(encode_mask(runs_of(mask))) == mask).all()


def test_a_stroke_takes_few_bytes() -> None:
    ids = np.zeros((TILE, TILE), dtype=np.uint32)
    ids[100:120, 30:200] = 7
    assert len(encode_tile(runs_of(ids))) < 300


GOOD = encode_tile(runs_of(drawn(1, 5)))
STARTS = np.array([0, 9, 5], dtype="<u2").tobytes() + np.array([1, 2, 3], dtype="<u4").tobytes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"R",
        b"?" + GOOD[1:],
        GOOD[:-2],
        b"W" + zlib.compress(b"\0" * 100),
        b"R" + zlib.compress(b""),
        b"R" + zlib.compress(b"\0" * 7),
        b"R" + zlib.compress(STARTS),
        b"R" + zlib.compress(b"\x05\0" + b"\0" * 4),
        b"W" + zlib.compress(b"\0" * 10_000_000),
    ],
)
def test_damaged_tiles_are_refused(data: bytes) -> None:
    with pytest.raises(FieldmarkError, match="restore the project"):
        decode_tile(data)


@pytest.mark.parametrize(
    "data", [b"", b"?", encode_mask(runs_of(np.ones((TILE, TILE), bool)))[:-1], zlib.compress(b"12")]
)
def test_damaged_masks_are_refused(data: bytes) -> None:
    with pytest.raises(FieldmarkError, match="restore the project"):
        decode_mask(data)


@settings(max_examples=25, deadline=None)
@given(one=st.integers(0, 1000), other=st.integers(0, 1000), kinds=st.integers(0, 4))
def test_tiles_on_top_of_each_other_in_runs_and_in_pixels(one: int, other: int, kinds: int) -> None:
    low, high = drawn(one, 4), drawn(other, kinds)
    found, covered = overlay(runs_of(low), runs_of(high))
    assert (array_of(found) == np.where(high, high, low)).all()
    assert len(found.starts) == len(runs_of(array_of(found)).starts)  # no run is cut in two
    values, counts = np.unique(low[high != 0], return_counts=True)
    assert covered == dict(zip(values.tolist(), counts.tolist(), strict=True))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), kinds=st.integers(1, 4))
def test_runs_are_counted_picked_and_boxed_as_pixels_are(seed: int, kinds: int) -> None:
    ids = drawn(seed, kinds)
    values, counts = np.unique(ids[ids != 0], return_counts=True)
    assert count(runs_of(ids)) == dict(zip(values.tolist(), counts.tolist(), strict=True))
    for value in values.tolist():
        mask = only(runs_of(ids), value)
        assert (array_of(mask) == (ids == value)).all()
        y, x = np.nonzero(ids == value)
        box = box_of(mask, tile_box(2, 1))
        assert box.start == (512 + y.min(), 256 + x.min())
        assert box.stop == (512 + y.max() + 1, 256 + x.max() + 1)


def test_an_empty_tile_is_nobodys() -> None:
    assert not array_of(EMPTY).any()
    assert count(EMPTY) == {}


def test_a_path_comes_back_and_a_damaged_one_is_refused() -> None:
    points = np.random.default_rng(0).normal(size=(30, 2))
    assert (decode_path(encode_path(points)) == points).all()
    for data in (b"", b"?", encode_path(points)[:-3], zlib.compress(b"1234"), zlib.compress(b"")):
        with pytest.raises(FieldmarkError, match="restore the project"):
            decode_path(data)
