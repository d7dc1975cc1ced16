"""Label tiles: for each pixel the id of the stroke that owns it, 0 for nobody.

One rule decides all: a pixel belongs to the newest living stroke (the one with the highest id) that covers it.
Drawing puts a new id on top; undo and redo look up, in the tiles that they touch, who is alive below.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, and_, delete, insert, select, update

from fieldmark.core.geometry import Box
from fieldmark.errors import FieldmarkError
from fieldmark.labels.raster import TILE, tile_box
from fieldmark.store.journal import Reversal
from fieldmark.store.tables import classes, images, label_tiles, stroke_tiles, strokes

if TYPE_CHECKING:
    from fieldmark.store.database import Change

_PIXELS = TILE * TILE
_MOST_RUNS = _PIXELS // 4
_RUNS, _WHOLE = b"R", b"W"
_CHUNK = 500  # ids in one statement; SQLite allows 999 in its oldest builds


@dataclass(frozen=True, slots=True)
class Plane:
    """One y-x plane of an image."""

    image_id: int
    t: int = 0
    z: int = 0

    @property
    def key(self) -> dict[str, int]:
        return {"image_id": self.image_id, "t": self.t, "z": self.z}

    def of(self, table: Any) -> Any:
        """The condition that picks this plane's rows."""
        return and_(table.c.image_id == self.image_id, table.c.t == self.t, table.c.z == self.z)


@dataclass(frozen=True, slots=True)
class Piece:
    """What is to be painted on one tile.

    Args:
        ids: (256, 256) uint32 stroke ids, 0 where nothing is painted.
        present: The ids that occur, without 0.
    """

    ty: int
    tx: int
    ids: np.ndarray
    present: tuple[int, ...]


@dataclass(slots=True)
class Painted:
    """What `paint` did: pixels painted for each new id, pixels taken from each old one, and the new ones' 2-D boxes."""

    gained: Counter[int] = field(default_factory=Counter)
    lost: Counter[int] = field(default_factory=Counter)
    boxes: dict[int, Box] = field(default_factory=dict)


def encode_tile(ids: np.ndarray) -> bytes:
    """A (256, 256) uint32 tile as bytes: runs where there are few, the whole array where there are many; zlib."""
    flat = np.ascontiguousarray(ids, dtype="<u4").reshape(-1)
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    if len(starts) > _MOST_RUNS:
        return _WHOLE + zlib.compress(flat.tobytes(), 1)
    return _RUNS + zlib.compress(starts.astype("<u2").tobytes() + flat[starts].tobytes(), 1)


def decode_tile(data: bytes) -> np.ndarray:
    """The (256, 256) uint32 tile of `encode_tile`.

    Raises:
        FieldmarkError: The bytes are damaged.
    """
    raw = _unpack(data[1:], _PIXELS * 4)
    if data[:1] == _WHOLE and len(raw) == _PIXELS * 4:
        return np.frombuffer(raw, dtype="<u4").reshape(TILE, TILE).astype(np.uint32)
    count, rest = divmod(len(raw), 6)
    starts = np.frombuffer(raw, dtype="<u2", count=count).astype(np.int64)
    lengths = np.diff(starts, append=_PIXELS)
    if data[:1] != _RUNS or rest or not count or starts[0] != 0 or lengths.min() < 1:
        raise FieldmarkError("A label tile is damaged; restore the project from a copy.")
    values = np.frombuffer(raw, dtype="<u4", offset=count * 2)
    return np.repeat(values, lengths).reshape(TILE, TILE).astype(np.uint32)


def encode_mask(mask: np.ndarray) -> bytes:
    """A (256, 256) bool mask as bytes."""
    return zlib.compress(np.packbits(mask).tobytes(), 1)


def decode_mask(data: bytes) -> np.ndarray:
    """The (256, 256) bool mask of `encode_mask`.

    Raises:
        FieldmarkError: The bytes are damaged.
    """
    raw = _unpack(data, _PIXELS // 8)
    if len(raw) != _PIXELS // 8:
        raise FieldmarkError("The pixels of a stroke are damaged; restore the project from a copy.")
    return np.unpackbits(np.frombuffer(raw, dtype=np.uint8)).astype(bool).reshape(TILE, TILE)


def read_ids(connection: Connection, plane: Plane, box: Box) -> np.ndarray:
    """The owner of each pixel of a 2-D (y, x) box: uint32 of `box.shape`, 0 for nobody and outside the image."""
    out = np.zeros(box.shape, dtype=np.uint32)
    for ty, tx, ids in tiles_in(connection, plane, box):
        tile = tile_box(ty, tx)
        common = tile.intersection(box)
        out[common.relative_to(box).slices] = ids[common.relative_to(tile).slices]
    return out


def tiles_in(connection: Connection, plane: Plane, box: Box) -> Iterator[tuple[int, int, np.ndarray]]:
    """The stored tiles (ty, tx, ids) that a 2-D box meets."""
    if box.is_empty:
        return
    low, high = [n // TILE for n in box.start], [-(-n // TILE) for n in box.stop]
    wanted = and_(
        plane.of(label_tiles),
        label_tiles.c.ty.between(low[0], high[0] - 1),
        label_tiles.c.tx.between(low[1], high[1] - 1),
    )
    for row in connection.execute(select(label_tiles).where(wanted)):
        yield row.ty, row.tx, decode_tile(row.ids)


def paint(connection: Connection, plane: Plane, pieces: Iterable[Piece]) -> Painted:
    """Put new strokes on top, tile row by tile row.

    Args:
        connection: In a transaction.
        plane: Where.
        pieces: In order of `ty`, then `tx`, each tile at most once. Their strokes are newer than all that stand there.
    """
    done = Painted()
    for ty, row in groupby(pieces, key=lambda piece: piece.ty):
        batch = list(row)
        span = Box((ty * TILE, batch[0].tx * TILE), ((ty + 1) * TILE, (batch[-1].tx + 1) * TILE))
        old = {tx: ids for _, tx, ids in tiles_in(connection, plane, span)}
        tiles, masks = [], []
        for piece in batch:
            touched = piece.ids != 0
            below = old[piece.tx] if piece.tx in old else np.zeros_like(piece.ids)
            done.gained.update(_counts(piece.ids[touched]))
            done.lost.update(_counts(below[touched]))
            key = plane.key | {"ty": ty, "tx": piece.tx}
            tiles.append(key | {"ids": encode_tile(np.where(touched, piece.ids, below))})
            for one in piece.present:
                mask = piece.ids == one
                done.boxes[one] = _joined(done.boxes.get(one), _box_of(mask, tile_box(ty, piece.tx)))
                masks.append(key | {"stroke_id": one, "mask": encode_mask(mask)})
        connection.execute(insert(label_tiles).prefix_with("OR REPLACE"), tiles)
        connection.execute(insert(stroke_tiles), masks)
    return done


def add_owned(connection: Connection, gains: dict[int, int]) -> None:
    """Bring the strokes' counts of owned pixels up to date."""
    steps = [{"stroke": stroke, "gain": gain} for stroke, gain in gains.items() if gain and stroke]
    if steps:
        statement = "UPDATE strokes SET owned = owned + :gain WHERE id = :stroke"
        connection.exec_driver_sql(statement, steps)


def reverse_strokes(change: Change, data: dict[str, Any]) -> Reversal:
    """Take strokes away, or bring them back: `{"ids": [...], "alive": whether the change brought them to life}`."""
    alive = not data["alive"]
    kept: list[tuple[object, object]] = []
    ids: list[int] = []
    for stroke in data["ids"]:
        obstacle = _obstacle(change.connection, stroke, alive)
        if obstacle is None:
            ids.append(stroke)
        else:
            kept.append((f"stroke {stroke}", obstacle))
    set_alive(change, ids, alive)
    return Reversal(len(ids), tuple(kept))


def set_alive(change: Change, ids: Sequence[int], alive: bool) -> None:
    """Bring strokes to life or take them away, give their pixels to whom they then belong, and record it."""
    if not ids:
        return
    connection = change.connection
    for some in _chunks(ids):
        connection.execute(update(strokes).where(strokes.c.id.in_(some)).values(alive=alive, revision=change.id))
    gains: Counter[int] = Counter()
    for plane, ty, tx in _tiles_of(connection, ids):
        before = _tile(connection, plane, ty, tx)
        living = list(living_on(connection, plane, ty, tx))
        where = _covered(living, ids) if alive else np.isin(before, np.asarray(ids, dtype=np.uint32))
        after = top_strokes(living, where, before)
        _save(connection, plane, ty, tx, after)
        moved = before != after
        gains.update(_counts(after[moved]))
        gains.subtract(_counts(before[moved]))
    add_owned(connection, gains)
    change.record("strokes", ids=list(ids), alive=alive)


def top_strokes(living: Sequence[tuple[int, bytes]], where: np.ndarray, before: np.ndarray) -> np.ndarray:
    """A tile with its owners found anew.

    Args:
        living: Ids and masks of the living strokes on the tile, the newest first.
        where: (256, 256) bool, the pixels to look at.
        before: (256, 256) uint32, kept elsewhere.
    """
    after = np.where(where, np.uint32(0), before)
    open_ = where.copy()
    for stroke, mask in living:
        if not open_.any():
            break
        mine = decode_mask(mask) & open_
        after[mine] = stroke
        open_ &= ~mine
    return after


def _obstacle(connection: Connection, stroke: int, alive: bool) -> str | None:
    """Why a stroke cannot be brought to life or taken away; None where nothing stands in the way."""
    row = connection.execute(select(strokes).where(strokes.c.id == stroke)).first()
    if row is None or row.alive == alive:
        return "changed since"
    if not alive:
        return None
    if connection.execute(select(images.c.id).where(images.c.id == row.image_id)).first() is None:
        return "its image is not in the project any more"
    known = select(classes.c.id).where(classes.c.id == row.class_id)
    if row.class_id is not None and connection.execute(known).first() is None:
        return "its class is not in the project any more"
    return None


def _tiles_of(connection: Connection, ids: Sequence[int]) -> list[tuple[Plane, int, int]]:
    """The tiles that any of these strokes covers, each once."""
    columns = [stroke_tiles.c[name] for name in ("image_id", "t", "z", "ty", "tx")]
    found: set[tuple[int, ...]] = set()
    for some in _chunks(ids):
        rows = connection.execute(select(*columns).where(stroke_tiles.c.stroke_id.in_(some)).distinct())
        found.update(tuple(row) for row in rows)
    return [(Plane(image, t, z), ty, tx) for image, t, z, ty, tx in sorted(found)]


def living_on(connection: Connection, plane: Plane, ty: int, tx: int) -> Iterator[tuple[int, bytes]]:
    """Ids and masks of the living strokes on a tile, the newest first."""
    here = and_(plane.of(stroke_tiles), stroke_tiles.c.ty == ty, stroke_tiles.c.tx == tx, strokes.c.alive)
    joined = select(stroke_tiles.c.stroke_id, stroke_tiles.c.mask).join(strokes).where(here)
    for row in connection.execute(joined.order_by(stroke_tiles.c.stroke_id.desc())):
        yield row.stroke_id, row.mask


def _covered(living: Sequence[tuple[int, bytes]], ids: Sequence[int]) -> np.ndarray:
    wanted, covered = set(ids), np.zeros((TILE, TILE), dtype=bool)
    for stroke, mask in living:
        if stroke in wanted:
            covered |= decode_mask(mask)
    return covered


def _tile(connection: Connection, plane: Plane, ty: int, tx: int) -> np.ndarray:
    return read_ids(connection, plane, tile_box(ty, tx))


def _save(connection: Connection, plane: Plane, ty: int, tx: int, ids: np.ndarray) -> None:
    here = and_(plane.of(label_tiles), label_tiles.c.ty == ty, label_tiles.c.tx == tx)
    if ids.any():
        row = plane.key | {"ty": ty, "tx": tx, "ids": encode_tile(ids)}
        connection.execute(insert(label_tiles).prefix_with("OR REPLACE"), row)
    else:
        connection.execute(delete(label_tiles).where(here))


def _counts(ids: np.ndarray) -> dict[int, int]:
    """How often each id occurs in a 1-D array."""
    values, counts = np.unique(ids, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _chunks(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]


def _unpack(data: bytes, most: int) -> bytes:
    """Inflate at most `most` bytes: a hostile file cannot ask for more."""
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        raise FieldmarkError(f"A label tile is damaged ({error}); restore the project from a copy.") from error
    if not unpacker.eof or len(raw) > most:
        raise FieldmarkError("A label tile is cut short or too large; restore the project from a copy.")
    return raw


def _box_of(mask: np.ndarray, tile: Box) -> Box:
    """The tight 2-D box of a tile's mask, in image coordinates; the mask holds a True."""
    y, x = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    inner = Box((int(y[0]), int(x[0])), (int(y[-1]) + 1, int(x[-1]) + 1))
    return inner.shifted(tile.start)


def _joined(one: Box | None, other: Box) -> Box:
    if one is None:
        return other
    start = tuple(min(pair) for pair in zip(one.start, other.start, strict=True))
    return Box(start, tuple(max(pair) for pair in zip(one.stop, other.stop, strict=True)))
