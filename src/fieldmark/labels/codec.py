"""Label tiles, masks and paths as bytes. Tiles: runs where there are few, the whole array where there are many."""

from __future__ import annotations

import zlib

import numpy as np

from fieldmark.errors import FieldmarkError
from fieldmark.labels.raster import TILE
from fieldmark.labels.runs import PIXELS, TileRuns, array_of, lengths_of, runs_of

_MOST_RUNS = PIXELS // 4
_SMALL = 1_000  # bytes of a mask; a compressor would cost more time than it saves place
_SMALL_TILE = 32_000  # bytes; a tile is kept once, but written and read with each stroke over it
_LONGEST_PATH = 1 << 28  # bytes
_PLAIN, _RUNS, _WHOLE = b"P", b"R", b"W"


def encode_tile(tile: TileRuns) -> bytes:
    """A tile as bytes: where each run starts, and its value."""
    if len(tile.starts) > _MOST_RUNS:
        return _WHOLE + zlib.compress(array_of(tile).astype("<u4").tobytes(), 1)
    return _packed(tile.starts.astype("<u2").tobytes() + tile.values.astype("<u4").tobytes(), _SMALL_TILE)


def decode_tile(data: bytes) -> TileRuns:
    """The tile of `encode_tile`.

    Raises:
        FieldmarkError: The bytes are damaged.
    """
    raw = _unpacked(data, PIXELS * 4)
    if data[:1] == _WHOLE:
        _check(len(raw) == PIXELS * 4)
        return runs_of(np.frombuffer(raw, dtype="<u4").reshape(TILE, TILE))
    count, rest = divmod(len(raw), 6)
    _check(count > 0 and not rest)
    return TileRuns(_starts(raw, count), np.frombuffer(raw, dtype="<u4", offset=count * 2).astype(np.uint32))


def encode_mask(mask: TileRuns) -> bytes:
    """A tile of 0 and 1 as bytes: where it changes, and its first value."""
    if len(mask.starts) > _MOST_RUNS:
        return _WHOLE + zlib.compress(np.packbits(array_of(mask) != 0).tobytes(), 1)
    return _packed(mask.starts.astype("<u2").tobytes() + bytes([int(mask.values[0])]), _SMALL)


def decode_mask(data: bytes) -> np.ndarray:
    """The mask of `encode_mask`: bool (256, 256), writable.

    Raises:
        FieldmarkError: The bytes are damaged.
    """
    raw = _unpacked(data, PIXELS)
    if data[:1] == _WHOLE:
        _check(len(raw) == PIXELS // 8)
        return np.unpackbits(np.frombuffer(raw, dtype=np.uint8)).astype(bool).reshape(TILE, TILE)
    count, rest = divmod(len(raw) - 1, 2)
    _check(count > 0 and not rest and raw[-1:] in {b"\0", b"\1"})
    values = np.arange(raw[-1], raw[-1] + count) % 2 == 1
    return np.repeat(values, lengths_of(_starts(raw, count))).reshape(TILE, TILE)


def encode_path(points: np.ndarray) -> bytes:
    """The (n, 2) float64 points of a polyline as bytes."""
    return zlib.compress(points.astype("<f8").tobytes(), 1)


def decode_path(data: bytes) -> np.ndarray:
    """The points of `encode_path`.

    Raises:
        FieldmarkError: The bytes are damaged.
    """
    raw = _inflated(data, _LONGEST_PATH)
    _check(len(raw) > 0 and len(raw) % 16 == 0)
    return np.frombuffer(raw, dtype="<f8").reshape(-1, 2)


def _starts(raw: bytes, count: int) -> np.ndarray:
    starts = np.frombuffer(raw, dtype="<u2", count=count).astype(np.int64)
    _check(int(starts[0]) == 0 and bool((starts[1:] > starts[:-1]).all()))
    return starts


def _packed(raw: bytes, small: int) -> bytes:
    return _PLAIN + raw if len(raw) <= small else _RUNS + zlib.compress(raw, 1)


def _unpacked(data: bytes, most: int) -> bytes:
    """What is in a packed tile, at most `most` bytes: a hostile file cannot ask for more."""
    kind, body = data[:1], data[1:]
    if kind == _PLAIN:
        return body
    _check(kind in {_RUNS, _WHOLE})
    return _inflated(body, most)


def _inflated(data: bytes, most: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        raise FieldmarkError(f"A label tile is damaged ({error}); restore the project from a copy.") from error
    _check(unpacker.eof and len(raw) <= most)
    return raw


def _check(sound: bool) -> None:
    if not sound:
        raise FieldmarkError("A label tile is damaged; restore the project from a copy.")
