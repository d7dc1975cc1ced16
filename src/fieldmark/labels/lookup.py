"""What the labels must know of images: their names and sizes."""

from __future__ import annotations

from sqlalchemy import Connection, select

from fieldmark.collection.catalog import shape_of
from fieldmark.errors import BadInput, NotFound
from fieldmark.labels.tiles import Plane
from fieldmark.store.rows import driver
from fieldmark.store.tables import classes, images

Shape5 = tuple[int, int, int, int, int]

# Plain SQL: every stroke asks these.
_IMAGE = "SELECT name, shape FROM images WHERE id = ?"
_CLASS = "SELECT name, deleted, merged_into FROM classes WHERE id = ?"


def require_image(connection: Connection, image_id: int) -> tuple[str, Shape5]:
    """Name and shape (t, c, z, y, x) of an image.

    Raises:
        NotFound: The project has no such image.
    """
    row = driver(connection).execute(_IMAGE, (image_id,)).fetchone()
    if row is None:
        raise NotFound("image", str(image_id), [str(known) for known in connection.scalars(select(images.c.id))])
    return row[0], shape_of(row[1])


def require_plane(connection: Connection, plane: Plane) -> tuple[str, tuple[int, int]]:
    """Name of the image, and (height, width) of the plane.

    Raises:
        NotFound: The project has no such image.
        BadInput: The image has no such plane.
    """
    name, (times, _, depth, height, width) = require_image(connection, plane.image_id)
    if not (0 <= plane.t < times and 0 <= plane.z < depth):
        raise BadInput(
            f"{name} has {times} times and {depth} slices; t = {plane.t}, z = {plane.z} is none of them. "
            "Both count from 0."
        )
    return name, (height, width)


def require_class(connection: Connection, class_id: int) -> str:
    """Name of a class that is neither deleted nor merged.

    Raises:
        NotFound: No class has this id.
        BadInput: It was deleted or merged.
    """
    row = driver(connection).execute(_CLASS, (class_id,)).fetchone()
    if row is None:
        raise NotFound("class", str(class_id), [str(known) for known in connection.scalars(select(classes.c.id))])
    name, deleted, merged_into = row
    if deleted or merged_into is not None:
        fate = "deleted" if merged_into is None else "merged into another"
        raise BadInput(f"Class {name!r} was {fate}; restore it first, or use another class.")
    return str(name)
