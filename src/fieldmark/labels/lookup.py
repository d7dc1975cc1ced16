"""What the labels must know of images: their names and sizes."""

from __future__ import annotations

from sqlalchemy import Connection, select

from fieldmark.collection.catalog import shape_of
from fieldmark.errors import BadInput, NotFound
from fieldmark.labels.tiles import Plane
from fieldmark.store.tables import images

Shape5 = tuple[int, int, int, int, int]


def require_image(connection: Connection, image_id: int) -> tuple[str, Shape5]:
    """Name and shape (t, c, z, y, x) of an image.

    Raises:
        NotFound: The project has no such image.
    """
    row = connection.execute(select(images.c.name, images.c.shape).where(images.c.id == image_id)).first()
    if row is None:
        raise NotFound("image", str(image_id), [str(known) for known in connection.scalars(select(images.c.id))])
    return row.name, shape_of(row.shape)


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
