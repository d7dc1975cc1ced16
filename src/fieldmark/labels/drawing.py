"""How a stroke gets into the database: cut into tiles, painted, and refused where another person was first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput, Conflict
from fieldmark.labels.classes import class_map
from fieldmark.labels.codec import encode_path
from fieldmark.labels.lookup import require_plane
from fieldmark.labels.raster import TILE, Polyline, Runs, tile_box, tiles_over
from fieldmark.labels.records import StrokeRecord
from fieldmark.labels.runs import TileRuns, runs_of
from fieldmark.labels.tiles import Painted, Piece, Plane, add_owned, paint
from fieldmark.store import Change
from fieldmark.store.rows import driver, insert_rows
from fieldmark.store.tables import strokes as table

_AT_ONCE = 2_048  # pixels; the mask of a stroke that is at most so high and wide is made in one go, else by tiles


@dataclass(frozen=True, eq=False)
class LabelPlane:
    """Labels for one plane of an image, to be imported.

    Args:
        sets: (height, width) integers, the plane's size: 0 for nobody, else the number of a set, which is one stroke.
        classes: The class of set 1, 2, ...
        source: Where they come from, such as `import:markers:000002-seeds.txt`.
    """

    image_id: int
    t: int
    z: int
    sets: np.ndarray
    classes: Sequence[int]
    source: str


@dataclass(frozen=True, slots=True)
class Order:
    """A stroke that somebody wants to draw."""

    plane: Plane
    size: tuple[int, int]
    """Height and width of the plane."""
    class_id: int | None
    geometry: Polyline | Runs
    source: str
    expect: int | None


def draw_stroke(change: Change, order: Order) -> tuple[StrokeRecord, list[StrokeRecord]]:
    """Paint a stroke; if another person was there since `expect`, take it away and say whose strokes those are.

    Raises:
        BadInput: It covers no pixel.
    """
    connection = change.connection
    stroke = _next_stroke(connection)
    if order.expect is not None:
        connection.exec_driver_sql("SAVEPOINT draw")
    painted = paint(connection, order.plane, _pieces(order.geometry, order.size, stroke))
    if stroke not in painted.gained:
        raise BadInput("The stroke covers no pixel of the image; draw it inside the image.")
    row = _row(change, order.plane, stroke, order.class_id, order.source, painted, order.geometry)
    counts_as = {order.class_id: order.class_id} if order.class_id else {}
    theirs = [] if order.expect is None else _newer(connection, painted.lost, change.author, order.expect)
    if theirs:
        connection.exec_driver_sql("ROLLBACK TO draw")
        return replace(record_of(row, counts_as), id=0), theirs
    insert_rows(connection, table, [row])
    add_owned(connection, {owner: -pixels for owner, pixels in painted.lost.items()})
    change.record("strokes", ids=[stroke], alive=True)
    return record_of(row, counts_as), []


def draw_plane(change: Change, plane: Plane, labels: LabelPlane) -> tuple[list[int], int]:
    """Paint each set of a plane as a stroke of its own; their ids, and how many pixels had a label before.

    Raises:
        NotFound: There is no such image.
        BadInput: The size is not the image's, or a set has no class.
    """
    connection = change.connection
    _check_sets(connection, plane, labels)
    first = _next_stroke(connection)
    present = [number for number in np.unique(labels.sets).tolist() if number > 0]
    ids = list(range(first, first + len(present)))
    ids_of = np.zeros(len(labels.classes) + 1, dtype=np.uint32)
    ids_of[present] = ids
    painted = paint(connection, plane, _set_pieces(labels.sets, ids_of))
    pairs = zip(ids, present, strict=True)
    rows = [_row(change, plane, one, labels.classes[number - 1], labels.source, painted) for one, number in pairs]
    if rows:
        insert_rows(connection, table, rows)
        change.record("strokes", ids=ids, alive=True)
    add_owned(connection, {owner: -pixels for owner, pixels in painted.lost.items()})
    return ids, sum(pixels for owner, pixels in painted.lost.items() if owner)


def record_of(row: Any, counts_as: dict[int, int]) -> StrokeRecord:
    """A row of the table, as a mapping, as a record; `counts_as` is `class_map`'s."""
    return StrokeRecord(
        id=row["id"],
        image_id=row["image_id"],
        t=row["t"],
        z=row["z"],
        class_id=counts_as.get(row["class_id"]) or None,
        author=row["author"],
        time=row["time"],
        source=row["source"],
        pixels=row["owned"],
        box=Box((row["y0"], row["x0"]), (row["y1"], row["x1"])),
        revision=row["revision"],
    )


def as_data(order: Order) -> dict[str, Any]:
    """A refused stroke for the journal: JSON values."""
    if isinstance(order.geometry, Polyline):
        shape: dict[str, Any] = {"points": order.geometry.points.tolist(), "radius": order.geometry.radius}
    else:
        shape = {"runs": order.geometry.rows.tolist()}
    return order.plane.key | {"class_id": order.class_id, "expect": order.expect} | shape


def in_the_way(mine: StrokeRecord, theirs: list[StrokeRecord], label: str) -> Conflict:
    """The error for a stroke over another person's newer pixels, with both."""
    people = " and ".join(sorted({stroke.author or "somebody" for stroke in theirs}))
    return Conflict(
        f"Your stroke ({label}) covers pixels that {people} painted after you loaded the page (stroke "
        f"{theirs[-1].id}, revision {theirs[-1].revision}). Theirs stands, yours is kept in the "
        "history: look at theirs, then draw again if yours should go over it.",
        mine=mine,
        theirs=theirs,
    )


def _pieces(geometry: Polyline | Runs, size: tuple[int, int], stroke: int) -> Iterator[Piece]:
    """The tiles that a stroke really covers, cut to the image."""
    image = Box.whole(size)
    reach = geometry.box.intersection(image)
    whole = geometry.mask(reach) if max(reach.shape) <= _AT_ONCE else None
    for ty, tx in geometry.tiles(image) if whole is None else tiles_over(reach):
        tile = tile_box(ty, tx)
        inside = tile.intersection(reach)
        covered = geometry.mask(inside) if whole is None else whole[inside.relative_to(reach).slices]
        if covered.any():
            mask = runs_of(_whole_tile(covered, inside.relative_to(tile)))
            yield Piece(ty, tx, TileRuns(mask.starts, mask.values * np.uint32(stroke)))


def _whole_tile(part: np.ndarray, place: Box) -> np.ndarray:
    """A (256, 256) tile with values at one place of it, and 0 elsewhere."""
    if part.shape == (TILE, TILE):
        return part
    tile = np.zeros((TILE, TILE), dtype=part.dtype)
    tile[place.slices] = part
    return tile


def _check_sets(connection: Connection, plane: Plane, labels: LabelPlane) -> None:
    name, size = require_plane(connection, plane)
    if labels.sets.shape != size or labels.sets.dtype.kind not in "iu":
        raise BadInput(f"{name} is {size} (y, x); its labels are {labels.sets.dtype} of shape {labels.sets.shape}.")
    highest, known = int(labels.sets.max(initial=0)), set(class_map(connection))
    if highest > len(labels.classes) or not set(labels.classes) <= known:
        raise BadInput(f"{name}: {labels.source} names a class that the project does not have.")


def _set_pieces(sets: np.ndarray, ids_of: np.ndarray) -> Iterator[Piece]:
    image = Box.whole(sets.shape)
    for ty, tx in tiles_over(image):
        tile = tile_box(ty, tx)
        inside = tile.intersection(image)
        here = sets[inside.slices]
        if here.any():
            yield Piece(ty, tx, runs_of(_whole_tile(ids_of[here], inside.relative_to(tile))))


def _row(
    change: Change,
    plane: Plane,
    stroke: int,
    class_id: int | None,
    source: str,
    painted: Painted,
    geometry: Polyline | Runs | None = None,
) -> dict[str, Any]:
    """A new stroke's row; the geometry of runs is in its tiles."""
    path = geometry if isinstance(geometry, Polyline) else None
    (y0, x0), (y1, x1) = painted.boxes[stroke].start, painted.boxes[stroke].stop
    return plane.key | {
        "id": stroke,
        "class_id": class_id,
        "author": change.author,
        "time": change.time,
        "source": source,
        "kind": "polyline" if path else "runs",
        "radius": path.radius if path else None,
        "geometry": encode_path(path.points) if path else None,
        "y0": y0,
        "x0": x0,
        "y1": y1,
        "x1": x1,
        "owned": painted.gained[stroke],
        "alive": True,
        "revision": change.id,
    }


def _newer(connection: Connection, owners: Iterable[int], author: str, expect: int) -> list[StrokeRecord]:
    """Which of these strokes came from another person after a revision."""
    covered = sorted(set(owners) - {0})
    rows: list[Any] = []
    for start in range(0, len(covered), 500):
        some = table.c.id.in_(covered[start : start + 500])
        query = select(table).where(some, table.c.revision > expect, table.c.author != author).order_by(table.c.id)
        rows += connection.execute(query).mappings()
    counts_as = class_map(connection) if rows else {}
    return [record_of(row, counts_as) for row in rows]


def _next_stroke(connection: Connection) -> int:
    used = driver(connection).execute("SELECT seq FROM sqlite_sequence WHERE name = 'strokes'").fetchone()
    return 1 if used is None else int(used[0]) + 1
