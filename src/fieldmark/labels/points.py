"""Points: marked places, such as key points and counted objects."""

from __future__ import annotations

from math import isfinite

from sqlalchemy import ColumnElement, select

from fieldmark.errors import BadInput, NotFound
from fieldmark.labels.lookup import require_image
from fieldmark.labels.records import PointRecord
from fieldmark.labels.strokes import Strokes
from fieldmark.store import Change
from fieldmark.store.tables import classes
from fieldmark.store.tables import points as table


class Points(Strokes):
    """The part of `Labels` that knows the points."""

    def add_point(self, image_id: int, class_id: int, t: int, z: float, y: float, x: float, author: str) -> PointRecord:
        """Mark a place.

        Args:
            image_id: Of the image.
            class_id: Of the class.
            t: Time, from 0.
            z: Slice, from 0; may lie between two.
            y: Row in pixels; the center of the first row is at 0.5.
            x: Column in pixels, likewise.
            author: Who marks it.

        Raises:
            NotFound: There is no such image or class.
            BadInput: The place is not in the image, or the class was deleted.
        """
        with self.store.transaction(author, "add point") as change:
            name, _ = require_image(change.connection, image_id)
            label = self.live_class(class_id).name
            change.summary = f"{name}: point {label}"
            point = insert_point(change, image_id, class_id, (t, z, y, x), author, change.time)
        return self.get_point(point)

    def points(self, image_id: int | None = None, class_id: int | None = None) -> list[PointRecord]:
        """The points of classes that were not deleted, oldest first."""
        conditions: list[ColumnElement[bool]] = [classes.c.deleted.is_(False), classes.c.merged_into.is_(None)]
        if image_id is not None:
            conditions.append(table.c.image_id == image_id)
        if class_id is not None:
            conditions.append(table.c.class_id == class_id)
        query = select(table).join(classes, classes.c.id == table.c.class_id).where(*conditions)
        with self.store.reading() as connection:
            return [PointRecord(**row._mapping) for row in connection.execute(query.order_by(table.c.id))]

    def get_point(self, point_id: int) -> PointRecord:
        """The point with this id.

        Raises:
            NotFound: There is none.
        """
        with self.store.reading() as connection:
            row = connection.execute(select(table).where(table.c.id == point_id)).first()
        if row is None:
            raise NotFound("point", str(point_id), [])
        return PointRecord(**row._mapping)

    def delete_point(self, point_id: int, author: str) -> None:
        """Take a point away; undo brings it back under its id.

        Raises:
            NotFound: There is no such point.
        """
        self.get_point(point_id)
        with self.store.transaction(author, "delete point") as change:
            change.summary = f"delete point {point_id}"
            change.delete(table, {"id": point_id})


def insert_point(
    change: Change, image_id: int, class_id: int, place: tuple[int, float, float, float], author: str, time: str
) -> int:
    """Write a point at (t, z, y, x) and give back its id.

    Raises:
        BadInput: The place is not in the image.
    """
    name, (times, _, depth, height, width) = require_image(change.connection, image_id)
    t, z, y, x = place
    inside = 0 <= t < times and 0 <= z <= depth and 0 <= y <= height and 0 <= x <= width
    if not (inside and all(isfinite(value) for value in place)):
        raise BadInput(
            f"{name} has t, z, y, x up to {times - 1}, {depth}, {height}, {width}; the point "
            f"{t}, {z:g}, {y:g}, {x:g} is not inside."
        )
    row = {"image_id": image_id, "class_id": class_id, "t": t, "z": float(z), "y": float(y), "x": float(x)}
    return change.insert(table, row | {"author": author, "time": time, "revision": change.id})
