"""Whether the labels in a database agree with each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from sqlalchemy import Connection, select

from fieldmark.errors import FieldmarkError
from fieldmark.labels.raster import TILE, tile_box
from fieldmark.labels.tiles import Plane, living_on, read_ids, top_strokes
from fieldmark.store import journal
from fieldmark.store.tables import answers, classes, images, label_tiles, stroke_tiles, strokes
from fieldmark.store.tables import journal as journal_table


def problems(connection: Connection) -> list[str]:
    """One sentence for each thing that is wrong; empty for sound labels. Reads every tile."""
    return [*_references(connection), *_journal(connection), *_tiles(connection)]


def _references(connection: Connection) -> Iterator[str]:
    known_images = set(connection.scalars(select(images.c.id)))
    known_classes = {None, *connection.scalars(select(classes.c.id))}
    for row in connection.execute(select(strokes.c.id, strokes.c.image_id, strokes.c.class_id).where(strokes.c.alive)):
        if row.image_id not in known_images or row.class_id not in known_classes:
            yield f"Stroke {row.id} refers to image {row.image_id} and class {row.class_id}; one is missing."
    for answer in connection.execute(select(answers).where(answers.c.value.is_not(None))):
        if answer.image_id not in known_images or answer.class_id not in known_classes:
            yield f"An answer refers to image {answer.image_id} and class {answer.class_id}; one is missing."


def _journal(connection: Connection) -> Iterator[str]:
    for row in connection.execute(select(journal_table.c.id, journal_table.c.inverse)):
        try:
            journal.decode(row.inverse)
        except FieldmarkError as error:
            yield f"Journal entry {row.id}: {error}"


def _tiles(connection: Connection) -> Iterator[str]:
    """Every pixel must belong to the newest living stroke that covers it, and each stroke's count must be right."""
    owned: Counter[int] = Counter()
    for plane, ty, tx in _all_tiles(connection):
        try:
            found = read_ids(connection, plane, tile_box(ty, tx))
            everywhere = np.ones((TILE, TILE), dtype=bool)
            wanted = top_strokes(list(living_on(connection, plane, ty, tx)), everywhere, found)
        except FieldmarkError as error:
            yield f"Tile {ty}, {tx} of image {plane.image_id}: {error}"
            continue
        values, counts = np.unique(found, return_counts=True)
        owned.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        if wrong := int((found != wanted).sum()):
            yield f"Tile {ty}, {tx} of image {plane.image_id} has {wrong} pixels with the wrong owner."
    for row in connection.execute(select(strokes.c.id, strokes.c.owned)):
        if row.owned != owned[row.id]:
            yield f"Stroke {row.id} is said to own {row.owned} pixels, and owns {owned[row.id]}."


def _all_tiles(connection: Connection) -> list[tuple[Plane, int, int]]:
    found: set[tuple[int, ...]] = set()
    for table in (label_tiles, stroke_tiles):
        columns = [table.c[name] for name in ("image_id", "t", "z", "ty", "tx")]
        found.update(tuple(row) for row in connection.execute(select(*columns).distinct()))
    return [(Plane(image, t, z), ty, tx) for image, t, z, ty, tx in sorted(found)]
