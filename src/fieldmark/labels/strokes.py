"""Strokes: drawn one by one or imported plane by plane, read as stroke ids or classes."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, func, insert, select, text, update

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput, Conflict, NotFound
from fieldmark.labels.answers import Answers
from fieldmark.labels.classes import class_map
from fieldmark.labels.lookup import require_plane
from fieldmark.labels.raster import TILE, Polyline, Runs, tile_box, tiles_over
from fieldmark.labels.records import StrokeRecord
from fieldmark.labels.tiles import Painted, Piece, Plane, add_owned, paint, read_ids, tiles_in
from fieldmark.store import Change
from fieldmark.store.tables import images, stroke_tiles
from fieldmark.store.tables import strokes as table


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
class PlanesReport:
    """What `import_planes` wrote: images and strokes, and pixels that had another stroke's label before."""

    images: int
    strokes: int
    covered: int


class Strokes(Answers):
    """The part of `Labels` that knows the strokes."""

    def draw(
        self,
        image_id: int,
        class_id: int | None,
        geometry: Polyline | Runs,
        author: str,
        *,
        t: int = 0,
        z: int = 0,
        expect: int | None = None,
        source: str = "draw",
    ) -> StrokeRecord:
        """Draw a stroke; when this returns, it is on the disk.

        Args:
            image_id: Of the image.
            class_id: Of the class; None erases: the pixels become unknown.
            geometry: What it covers; cut to the image.
            author: Who draws.
            t: Time, from 0.
            z: Slice, from 0.
            expect: The revision that the author was looking at; None to draw over anything.
            source: What made it.

        Raises:
            NotFound: There is no such image or class.
            BadInput: The class was deleted, the plane does not exist, or no pixel center of the image is covered.
            Conflict: Another person painted some of its pixels after `expect`. The stroke is kept in the journal and
                changes nothing; `mine` is it (with id 0), `theirs` are the strokes in its way.
        """
        plane, joined = Plane(image_id, t, z), self.store.in_transaction
        with self.store.transaction(author, "draw" if class_id else "erase") as change:
            name, size = require_plane(change.connection, plane)
            label = self.live_class(class_id).name if class_id is not None else "unknown"
            change.summary = f"{name}: {'draw ' + label if class_id is not None else 'erase'}"
            drawn, theirs = _draw(change, plane, size, class_id, geometry, source, expect)
            if theirs and not joined:
                change.kind, change.summary = "refused", f"{change.summary} (refused: {theirs[0].author} was first)"
            if theirs:
                change.record("refused", stroke=_as_data(plane, class_id, geometry, expect))
        if theirs:
            raise _in_the_way(drawn, theirs, label)
        return drawn

    def import_planes(self, planes: Iterable[LabelPlane], author: str, *, verb: str = "import") -> PlanesReport:
        """Paint whole planes of labels on top, in one transaction; nothing is written if the iteration fails.

        Raises:
            NotFound: There is no such image or class.
            BadInput: A plane's size is not the image's, or it names a set without a class.
        """
        touched: set[int] = set()
        count, lost = 0, 0
        with self.store.transaction(author, verb) as change:
            for one in planes:
                plane = Plane(one.image_id, one.t, one.z)
                ids, painted = _paint_sets(change, plane, one)
                change.record("strokes", ids=ids, alive=True)
                touched.add(one.image_id)
                count, lost = count + len(ids), lost + sum(n for owner, n in painted.lost.items() if owner)
            change.summary = f"{verb}: {count} strokes on {len(touched)} images"
        return PlanesReport(len(touched), count, lost)

    def strokes(
        self,
        image_id: int | None = None,
        *,
        t: int | None = None,
        z: int | None = None,
        class_id: int | None = None,
        author: str | None = None,
    ) -> list[StrokeRecord]:
        """The strokes that stand, oldest first; also those whose pixels were all covered since."""
        wanted = {"image_id": image_id, "t": t, "z": z, "class_id": class_id, "author": author}
        conditions = [table.c[name] == value for name, value in wanted.items() if value is not None]
        with self.store.reading() as connection:
            rows = connection.execute(select(table).where(table.c.alive, *conditions).order_by(table.c.id))
            return [_record(row) for row in rows]

    def stroke_ids(self, image_id: int, t: int, z: int, box2d: Box) -> np.ndarray:
        """The stroke that owns each pixel of a (y, x) box: uint32 (h, w), 0 for nobody."""
        with self.store.reading() as connection:
            return read_ids(connection, Plane(image_id, t, z), box2d)

    def class_ids(self, image_id: int, t: int, z: int, box2d: Box) -> np.ndarray:
        """The class of each pixel of a (y, x) box: int32 (h, w), 0 where it is unknown."""
        with self.store.reading() as connection:
            ids = read_ids(connection, Plane(image_id, t, z), box2d)
            owners, index = np.unique(ids, return_inverse=True)
            found = _classes_of(connection, owners.tolist())
        return np.array([found.get(owner, 0) for owner in owners.tolist()], dtype=np.int32)[index].reshape(ids.shape)

    def stroke_pixels(self, stroke_id: int) -> np.ndarray:
        """The pixels that a stroke still owns: (n, 2) int64 y, x, in no promised order.

        Raises:
            NotFound: There is no such stroke.
        """
        found = [np.zeros((0, 2), dtype=np.int64)]
        with self.store.reading() as connection:
            row = connection.execute(select(table).where(table.c.id == stroke_id)).first()
            if row is None:
                raise NotFound("stroke", str(stroke_id), [])
            plane, box = Plane(row.image_id, row._mapping["t"], row.z), Box((row.y0, row.x0), (row.y1, row.x1))
            for ty, tx, ids in tiles_in(connection, plane, box):
                found.append(np.argwhere(ids == stroke_id) + tile_box(ty, tx).start)
        return np.concatenate(found)

    def geometry(self, stroke_id: int) -> Polyline | Runs:
        """What a stroke covered when it was drawn: its path, or its pixels as runs.

        Raises:
            NotFound: There is no such stroke.
        """
        with self.store.reading() as connection:
            row = connection.execute(select(table).where(table.c.id == stroke_id)).first()
            if row is None:
                raise NotFound("stroke", str(stroke_id), [])
            if row.kind == "polyline":
                return Polyline(np.frombuffer(zlib.decompress(row.geometry), dtype="<f8").reshape(-1, 2), row.radius)
            return _runs_of(connection, stroke_id)

    def labelled_images(self, include_excluded: bool = False) -> list[int]:
        """Ids of the images on which a pixel has a class, in order; those left out only if asked for."""
        in_use = [] if include_excluded else [images.c.excluded == ""]
        with self.store.reading() as connection:
            known = [one for one, counts_as in class_map(connection).items() if counts_as]
            query = select(table.c.image_id).join(images, images.c.id == table.c.image_id).where(*in_use)
            return sorted(set(connection.scalars(query.where(table.c.owned > 0, table.c.class_id.in_(known)))))

    def planes(self, image_id: int) -> list[tuple[int, int]]:
        """The planes (t, z) of an image on which a pixel has a class, in order."""
        with self.store.reading() as connection:
            known = [one for one, counts_as in class_map(connection).items() if counts_as]
            here = [table.c.image_id == image_id, table.c.owned > 0, table.c.class_id.in_(known)]
            found = connection.execute(select(table.c.t, table.c.z).where(*here).distinct())
            return sorted((time, depth) for time, depth in found)

    def count_pixels(self) -> dict[int, int]:
        """Labelled pixels of each class, all images together."""
        with self.store.reading() as connection:
            counts_as = class_map(connection)
            query = select(table.c.class_id, func.sum(table.c.owned)).where(table.c.alive).group_by(table.c.class_id)
            counts: Counter[int] = Counter()
            for class_id, pixels in connection.execute(query):
                counts[counts_as.get(class_id, 0)] += pixels
        return {class_id: n for class_id, n in counts.items() if class_id and n}


def _draw(
    change: Change,
    plane: Plane,
    size: tuple[int, int],
    class_id: int | None,
    geometry: Polyline | Runs,
    source: str,
    expect: int | None,
) -> tuple[StrokeRecord, list[StrokeRecord]]:
    """Paint a stroke; if another person was there since `expect`, take it away and say whose strokes those are."""
    connection = change.connection
    stroke = _next_stroke(connection)
    connection.exec_driver_sql("SAVEPOINT draw")
    _insert(change, plane, stroke, class_id, source, geometry)
    painted = paint(connection, plane, _pieces(geometry, size, stroke))
    if stroke not in painted.gained:
        connection.exec_driver_sql("ROLLBACK TO draw")
        raise BadInput("The stroke covers no pixel of the image; draw it inside the image.")
    _settle(connection, [stroke], painted)
    drawn = _record(connection.execute(select(table).where(table.c.id == stroke)).one())
    theirs = [] if expect is None else _newer(connection, painted.lost, change.author, expect)
    if theirs:
        connection.exec_driver_sql("ROLLBACK TO draw")
        drawn = replace(drawn, id=0)
        theirs = _newer(connection, painted.lost, change.author, expect or 0)  # as they stand without it
    else:
        change.record("strokes", ids=[stroke], alive=True)
    connection.exec_driver_sql("RELEASE draw")
    return drawn, theirs


def _pieces(geometry: Polyline | Runs, size: tuple[int, int], stroke: int) -> Iterator[Piece]:
    """The tiles that a stroke really covers, cut to the image."""
    image = Box.whole(size)
    for ty, tx in tiles_over(geometry.box.intersection(image)):
        tile = tile_box(ty, tx)
        inside = tile.intersection(image)
        covered = geometry.mask(inside)
        if covered.any():
            ids = np.zeros((TILE, TILE), dtype=np.uint32)
            ids[inside.relative_to(tile).slices][covered] = stroke
            yield Piece(ty, tx, ids, (stroke,))


def _paint_sets(change: Change, plane: Plane, labels: LabelPlane) -> tuple[list[int], Painted]:
    """Paint each set of a plane as a stroke of its own; the sets' stroke ids, and what was painted."""
    name, size = require_plane(change.connection, plane)
    if labels.sets.shape != size or labels.sets.dtype.kind not in "iu":
        raise BadInput(f"{name} is {size} (y, x); its labels are {labels.sets.dtype} of shape {labels.sets.shape}.")
    known = class_map(change.connection)
    highest = int(labels.sets.max(initial=0))
    if highest > len(labels.classes) or not set(labels.classes) <= set(known):
        raise BadInput(f"{name}: {labels.source} names a class that the project does not have.")
    first = _next_stroke(change.connection)
    present = [number for number in np.unique(labels.sets).tolist() if number > 0]
    for offset, number in enumerate(present):
        _insert(change, plane, first + offset, labels.classes[number - 1], labels.source)
    ids_of = np.zeros(len(labels.classes) + 1, dtype=np.uint32)
    ids_of[present] = np.arange(first, first + len(present))
    painted = paint(change.connection, plane, _set_pieces(labels.sets, ids_of))
    ids = list(range(first, first + len(present)))
    _settle(change.connection, ids, painted)
    return ids, painted


def _set_pieces(sets: np.ndarray, ids_of: np.ndarray) -> Iterator[Piece]:
    image = Box.whole(sets.shape)
    for ty, tx in tiles_over(image):
        tile = tile_box(ty, tx)
        inside = tile.intersection(image)
        ids = np.zeros((TILE, TILE), dtype=np.uint32)
        ids[inside.relative_to(tile).slices] = ids_of[sets[inside.slices]]
        present = tuple(number for number in np.unique(ids).tolist() if number)
        if present:
            yield Piece(ty, tx, ids, present)


def _insert(
    change: Change,
    plane: Plane,
    stroke: int,
    class_id: int | None,
    source: str,
    geometry: Polyline | Runs | None = None,
) -> None:
    path = geometry if isinstance(geometry, Polyline) else None
    row = plane.key | {
        "id": stroke,
        "class_id": class_id,
        "author": change.author,
        "time": change.time,
        "source": source,
        "kind": "polyline" if path else "runs",
        "radius": path.radius if path else None,
        "geometry": zlib.compress(path.points.astype("<f8").tobytes(), 1) if path else None,
        "y0": 0,
        "x0": 0,
        "y1": 0,
        "x1": 0,
        "owned": 0,
        "alive": True,
        "revision": change.id,
    }
    change.connection.execute(insert(table), row)


def _settle(connection: Connection, ids: Sequence[int], painted: Painted) -> None:
    """Write the new strokes' boxes, and everybody's counts."""
    for stroke in ids:
        (y0, x0), (y1, x1) = painted.boxes[stroke].start, painted.boxes[stroke].stop
        connection.execute(update(table).where(table.c.id == stroke).values(y0=y0, x0=x0, y1=y1, x1=x1))
    gains = Counter(painted.gained)
    gains.subtract(painted.lost)
    add_owned(connection, gains)


def _newer(connection: Connection, owners: Iterable[int], author: str, expect: int) -> list[StrokeRecord]:
    """Which of these strokes came from another person after a revision."""
    covered = sorted(set(owners) - {0})
    found: list[StrokeRecord] = []
    for start in range(0, len(covered), 500):
        some = table.c.id.in_(covered[start : start + 500])
        query = select(table).where(some, table.c.revision > expect, table.c.author != author).order_by(table.c.id)
        found += [_record(row) for row in connection.execute(query)]
    return found


def _classes_of(connection: Connection, owners: Iterable[int]) -> dict[int, int]:
    """What class each stroke counts as; strokes of no known class are left out."""
    counts_as = class_map(connection)
    wanted = [owner for owner in owners if owner]
    found: dict[int, int] = {}
    for start in range(0, len(wanted), 500):
        some = table.c.id.in_(wanted[start : start + 500])
        for row in connection.execute(select(table.c.id, table.c.class_id).where(some)):
            found[row.id] = counts_as.get(row.class_id, 0)
    return found


def _runs_of(connection: Connection, stroke_id: int) -> Runs:
    from fieldmark.labels.tiles import decode_mask

    rows = connection.execute(select(stroke_tiles).where(stroke_tiles.c.stroke_id == stroke_id))
    parts = [Runs.of_mask(decode_mask(row.mask), (row.ty * TILE, row.tx * TILE)).rows for row in rows]
    return Runs(np.concatenate(parts))


def _next_stroke(connection: Connection) -> int:
    used = connection.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = 'strokes'"))
    return int(used or 0) + 1


def _record(row: Row[Any]) -> StrokeRecord:
    return StrokeRecord(
        id=row.id,
        image_id=row.image_id,
        t=row._mapping["t"],  # Row.t is the row as a tuple
        z=row.z,
        class_id=row.class_id,
        author=row.author,
        time=row.time,
        source=row.source,
        pixels=row.owned,
        box=Box((row.y0, row.x0), (row.y1, row.x1)),
        revision=row.revision,
    )


def _as_data(plane: Plane, class_id: int | None, geometry: Polyline | Runs, expect: int | None) -> dict[str, Any]:
    """A refused stroke for the journal: JSON values."""
    if isinstance(geometry, Polyline):
        shape: dict[str, Any] = {"points": geometry.points.tolist(), "radius": geometry.radius}
    else:
        shape = {"runs": geometry.rows.tolist()}
    data = plane.key | {"class_id": class_id, "expect": expect} | shape
    json.dumps(data, allow_nan=False)
    return data


def _in_the_way(mine: StrokeRecord, theirs: list[StrokeRecord], label: str) -> Conflict:
    people = " and ".join(sorted({stroke.author or "somebody" for stroke in theirs}))
    return Conflict(
        f"Your stroke ({label}) covers pixels that {people} painted after you loaded the page (stroke "
        f"{theirs[-1].id}, revision {theirs[-1].revision}). Theirs stands, yours is kept in the "
        "history: look at theirs, then draw again if yours should go over it.",
        mine=mine,
        theirs=theirs,
    )
