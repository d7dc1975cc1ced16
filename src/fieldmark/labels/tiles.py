"""Label tiles: for each pixel the id of the stroke that owns it, 0 for nobody.

One rule decides all: a pixel belongs to the newest living stroke (the one with the highest id) that covers it.
Drawing puts a new id on top; undo and redo look up, in the tiles that they touch, who is alive below.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, and_, delete, select, update

from fieldmark.core.geometry import Box
from fieldmark.labels.codec import decode_mask, decode_tile, encode_mask, encode_tile
from fieldmark.labels.raster import TILE, tile_box
from fieldmark.labels.runs import EMPTY, TileRuns, array_of, box_of, count, only, overlay, runs_of
from fieldmark.store.journal import Reversal
from fieldmark.store.rows import driver
from fieldmark.store.tables import classes, images, label_tiles, stroke_tiles, strokes

if TYPE_CHECKING:
    from fieldmark.store.database import Change

_BATCH = 64  # tiles read and written at once
_CHUNK = 500  # ids in one statement; SQLite allows 999 in its oldest builds

# The statements that every stroke runs are plain SQL: putting them together each time would cost more than they do.
_GET_TILES = (
    "SELECT ty, tx, ids FROM label_tiles"
    " WHERE image_id = ? AND t = ? AND z = ? AND ty >= ? AND ty < ? AND tx >= ? AND tx < ?"
)
_GET_IMAGE = "SELECT t, z, ty, tx, ids FROM label_tiles WHERE image_id = ? ORDER BY t, z, ty, tx"
_PUT_TILE = "INSERT OR REPLACE INTO label_tiles (image_id, t, z, ty, tx, ids) VALUES (?, ?, ?, ?, ?, ?)"
_PUT_MASK = "INSERT INTO stroke_tiles (image_id, t, z, ty, tx, stroke_id, mask) VALUES (?, ?, ?, ?, ?, ?, ?)"
_ADD_OWNED = "UPDATE strokes SET owned = owned + ? WHERE id = ?"


class Plane(NamedTuple):
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
    """What is to be painted on one tile: stroke ids, 0 where nothing is."""

    ty: int
    tx: int
    ids: TileRuns


@dataclass(slots=True)
class Painted:
    """What `paint` did: pixels painted for each new id, pixels taken from each old one, and the new ones' 2-D boxes."""

    gained: Counter[int] = field(default_factory=Counter)
    lost: Counter[int] = field(default_factory=Counter)
    boxes: dict[int, Box] = field(default_factory=dict)


def read_ids(connection: Connection, plane: Plane, box: Box) -> np.ndarray:
    """The owner of each pixel of a 2-D (y, x) box: uint32 of `box.shape`, 0 for nobody and outside the image."""
    out = np.zeros(box.shape, dtype=np.uint32)
    for ty, tx, ids in tiles_in(connection, plane, box):
        put_tile(out, box, tile_box(ty, tx), ids)
    return out


def put_tile(out: np.ndarray, box: Box, tile: Box, values: np.ndarray) -> None:
    """Copy what a tile (256, 256) and a 2-D box have in common into the box's array."""
    common = tile.intersection(box)
    out[common.relative_to(box).slices] = values[common.relative_to(tile).slices]


def tiles_in(connection: Connection, plane: Plane, box: Box) -> Iterator[tuple[int, int, np.ndarray]]:
    """The stored tiles that a 2-D box meets: ty, tx, uint32 (256, 256)."""
    for ty, tx, ids in runs_in(connection, plane, box):
        yield ty, tx, array_of(ids)


def runs_in(connection: Connection, plane: Plane, box: Box) -> Iterator[tuple[int, int, TileRuns]]:
    """The stored tiles that a 2-D box meets: ty, tx, stroke ids."""
    if box.is_empty:
        return
    low, high = [n // TILE for n in box.start], [-(-n // TILE) for n in box.stop]
    for ty, tx, ids in driver(connection).execute(_GET_TILES, (*plane, low[0], high[0], low[1], high[1])):
        yield ty, tx, decode_tile(ids)


def image_runs(connection: Connection, image_id: int) -> Iterator[tuple[Plane, int, int, TileRuns]]:
    """All stored tiles of an image, in order: plane, ty, tx, stroke ids."""
    for t, z, ty, tx, ids in driver(connection).execute(_GET_IMAGE, (image_id,)):
        yield Plane(image_id, t, z), ty, tx, decode_tile(ids)


def paint(connection: Connection, plane: Plane, pieces: Iterable[Piece]) -> Painted:
    """Put new strokes on top, some tiles at a time.

    Args:
        connection: In a transaction.
        plane: Where.
        pieces: In order of `ty`, then `tx`, each tile at most once. Their strokes are newer than all that stand there.
    """
    done = Painted()
    for batch in _batches(pieces):
        tiles: list[tuple[object, ...]] = []
        masks: list[tuple[object, ...]] = []
        old = {(ty, tx): ids for ty, tx, ids in runs_in(connection, plane, _span(batch))}
        for piece in batch:
            key = (*plane, piece.ty, piece.tx)
            on_top, covered = overlay(old.get((piece.ty, piece.tx), EMPTY), piece.ids)
            done.lost.update(covered)
            tiles.append((*key, encode_tile(on_top)))
            masks += [(*key, one, encode_mask(mask)) for one, mask in _masks(piece, done)]
        driver(connection).executemany(_PUT_TILE, tiles)
        driver(connection).executemany(_PUT_MASK, masks)
    return done


def add_owned(connection: Connection, gains: dict[int, int]) -> None:
    """Bring the strokes' counts of owned pixels up to date."""
    steps: list[tuple[object, ...]] = [(gain, stroke) for stroke, gain in gains.items() if gain and stroke]
    if steps:
        driver(connection).executemany(_ADD_OWNED, steps)


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
        driver(connection).execute(_PUT_TILE, (*plane, ty, tx, encode_tile(runs_of(ids))))
    else:
        connection.execute(delete(label_tiles).where(here))


def _counts(ids: np.ndarray) -> dict[int, int]:
    """How often each id occurs in a 1-D array."""
    values, counts = np.unique(ids, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _chunks(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]


def _batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Pieces in groups that span few tiles, so that each group's tiles are read at once."""
    batch: list[Piece] = []
    for piece in pieces:
        if batch and _span([*batch, piece]).size > _BATCH * TILE * TILE:
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def _span(batch: Sequence[Piece]) -> Box:
    """The 2-D box of the tiles from the first to the last of a group."""
    columns = [piece.tx for piece in batch]
    start = tile_box(batch[0].ty, min(columns)).start
    return Box(start, tile_box(batch[-1].ty, max(columns)).stop)


def _masks(piece: Piece, done: Painted) -> Iterator[tuple[int, TileRuns]]:
    """What each stroke of a piece covers; its pixels are counted, and its box brought up to date."""
    tile = tile_box(piece.ty, piece.tx)
    for one, pixels in count(piece.ids).items():
        mask = only(piece.ids, one)
        done.gained[one] += pixels
        done.boxes[one] = _joined(done.boxes.get(one), box_of(mask, tile))
        yield one, mask


def _joined(one: Box | None, other: Box) -> Box:
    if one is None:
        return other
    start = tuple(min(pair) for pair in zip(one.start, other.start, strict=True))
    return Box(start, tuple(max(pair) for pair in zip(one.stop, other.stop, strict=True)))
