"""Label tiles as bytes."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.errors import FieldmarkError
from fieldmark.labels.raster import TILE
from fieldmark.labels.tiles import decode_mask, decode_tile, encode_mask, encode_tile


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
    found = decode_tile(encode_tile(ids))
    assert found.dtype == np.uint32
    assert (found == ids).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_a_mask_comes_back(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((TILE, TILE)) < share
    assert (decode_mask(encode_mask(mask)) == mask).all()


def test_a_stroke_takes_few_bytes() -> None:
    ids = np.zeros((TILE, TILE), dtype=np.uint32)
    ids[100:120, 30:200] = 7
    assert len(encode_tile(ids)) < 300


GOOD = encode_tile(drawn(1, 5))
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


@pytest.mark.parametrize("data", [b"", b"?", encode_mask(np.ones((TILE, TILE), bool))[:-1], zlib.compress(b"12")])
def test_damaged_masks_are_refused(data: bytes) -> None:
    with pytest.raises(FieldmarkError, match="restore the project"):
        decode_mask(data)
