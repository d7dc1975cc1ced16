"""Strokes: drawn one by one or imported plane by plane, read as stroke ids or classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, func, select

from fieldmark.core.geometry import Box
from fieldmark.errors import NotFound
from fieldmark.labels.answers import Answers
from fieldmark.labels.classes import class_map
from fieldmark.labels.codec import decode_mask, decode_path
from fieldmark.labels.drawing import LabelPlane, Order, as_data, draw_plane, draw_stroke, in_the_way, record_of
from fieldmark.labels.lookup import require_class, require_plane
from fieldmark.labels.raster import TILE, Polyline, Runs, tile_box
from fieldmark.labels.records import StrokeRecord
from fieldmark.labels.runs import TileRuns, array_of, owned_in
from fieldmark.labels.tiles import Plane, image_runs, put_tile, read_ids, runs_in, tiles_in
from fieldmark.store.tables import images, stroke_tiles
from fieldmark.store.tables import strokes as table


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
            label = require_class(change.connection, class_id) if class_id is not None else "unknown"
            change.summary = f"{name}: {'draw ' + label if class_id is not None else 'erase'}"
            order = Order(plane, size, class_id, geometry, source, expect)
            drawn, theirs = draw_stroke(change, order)
            if theirs and not joined:
                change.kind, change.summary = "refused", f"{change.summary} (refused: {theirs[0].author} was first)"
            if theirs:
                change.record("refused", stroke=as_data(order))
        if theirs:
            raise in_the_way(drawn, theirs, label)
        return drawn

    def import_planes(self, planes: Iterable[LabelPlane], author: str, *, verb: str = "import") -> PlanesReport:
        """Paint whole planes of labels on top, in one transaction; nothing is written if the iteration fails.

        Raises:
            NotFound: There is no such image or class.
            BadInput: A plane's size is not the image's, or it names a set without a class.
        """
        touched: set[int] = set()
        count = covered = 0
        with self.store.transaction(author, verb) as change:
            for one in planes:
                ids, lost = draw_plane(change, Plane(one.image_id, one.t, one.z), one)
                touched.add(one.image_id)
                count, covered = count + len(ids), covered + lost
            change.summary = f"{verb}: {count} strokes on {len(touched)} images"
        return PlanesReport(len(touched), count, covered)

    def strokes(
        self,
        image_id: int | None = None,
        *,
        t: int | None = None,
        z: int | None = None,
        class_id: int | None = None,
        author: str | None = None,
    ) -> list[StrokeRecord]:
        """The strokes that stand, oldest first; also those whose pixels were all covered since.

        A merged class's strokes are the class's that it was merged into.
        """
        wanted = {"image_id": image_id, "t": t, "z": z, "author": author}
        conditions = [table.c[name] == value for name, value in wanted.items() if value is not None]
        query = select(table).where(table.c.alive, *conditions).order_by(table.c.id)
        with self.store.reading() as connection:
            counts_as = class_map(connection)
            found = [record_of(row, counts_as) for row in connection.execute(query).mappings()]
        return [stroke for stroke in found if class_id is None or stroke.class_id == class_id]

    def stroke_ids(self, image_id: int, t: int, z: int, box2d: Box) -> np.ndarray:
        """The stroke that owns each pixel of a (y, x) box: uint32 (h, w), 0 for nobody."""
        with self.store.reading() as connection:
            return read_ids(connection, Plane(image_id, t, z), box2d)

    def class_ids(self, image_id: int, t: int, z: int, box2d: Box) -> np.ndarray:
        """The class of each pixel of a (y, x) box: int32 (h, w), 0 where it is unknown."""
        out = np.zeros(box2d.shape, dtype=np.int32)
        with self.store.reading() as connection:
            tiles = list(runs_in(connection, Plane(image_id, t, z), box2d))
            owners = np.unique(np.concatenate([np.zeros(1, np.uint32), *(runs.values for _, _, runs in tiles)]))
            found = _classes_of(connection, owners.tolist())
        class_of = np.array([found.get(owner, 0) for owner in owners.tolist()], dtype=np.int32)
        for ty, tx, runs in tiles:
            values = class_of[np.searchsorted(owners, runs.values)]
            put_tile(out, box2d, tile_box(ty, tx), array_of(TileRuns(runs.starts, values)))
        return out

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

    def owned_pixels(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Every pixel of an image that a stroke owns, erasers too; read in one pass, however many strokes there are.

        Returns:
            (n,) int64 strokes, rising, and (n, 4) int64 t, z, y, x: a stroke's pixels by plane and label tile.
        """
        owners, places = [np.zeros(0, dtype=np.int64)], [np.zeros((0, 4), dtype=np.int64)]
        with self.store.reading() as connection:
            for plane, ty, tx, runs in image_runs(connection, image_id):
                pixels, ids = owned_in(runs)
                owners.append(ids)
                places.append(np.empty((len(ids), 4), dtype=np.int64))
                places[-1][:, :2], places[-1][:, 2:] = plane[1:], pixels + tile_box(ty, tx).start
        strokes = np.concatenate(owners)
        order = np.argsort(strokes, kind="stable")
        return strokes[order], np.concatenate(places)[order]

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
                return Polyline(decode_path(row.geometry), row.radius)
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
    rows = connection.execute(select(stroke_tiles).where(stroke_tiles.c.stroke_id == stroke_id))
    parts = [Runs.of_mask(decode_mask(row.mask), (row.ty * TILE, row.tx * TILE)).rows for row in rows]
    return Runs(np.concatenate(parts))
