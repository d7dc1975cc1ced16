"""Points as a table: image, class, t, z, y, x, who, when."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fieldmark.errors import BadFile, BadInput
from fieldmark.labels.exchange.answers import Lookup
from fieldmark.labels.exchange.tables import checked_time, read_rows, write_rows
from fieldmark.labels.points import insert_point
from fieldmark.labels.records import ImportReport, PointRecord
from fieldmark.store.database import now

if TYPE_CHECKING:
    from fieldmark.collection import Collection
    from fieldmark.labels.book import Labels

COLUMNS = ("image", "class", "t", "z", "y", "x", "who", "when")


def import_points(labels: Labels, path: Path, author: str, collection: Collection) -> ImportReport:
    """Read a table of points into the project, all of it or nothing. `t` and `z` may be missing: 0."""
    file = path / "points.csv" if path.is_dir() else path
    lookup = Lookup(labels, collection)
    time = now()

    def make(row: dict[str, str]) -> PointRecord:
        t, z, y, x = (_number(row, name) for name in ("t", "z", "y", "x"))
        if t != int(t):
            raise BadInput(f"t is {t:g}; times are whole numbers.")
        when = checked_time(row.get("when", ""), time)
        image_id, class_id = lookup.image(row["image"]), lookup.class_(row["class"])
        return PointRecord(0, image_id, class_id, int(t), z, y, x, row.get("who") or author, when, 0)

    rows = read_rows(file, ("image", "class", "y", "x"), make)
    with labels.store.transaction(author, "import points") as change:
        change.summary = f"import {len(rows)} points"
        for one in rows:
            try:
                insert_point(change, one.image_id, one.class_id, (one.t, one.z, one.y, one.x), one.author, one.time)
            except BadInput as error:
                raise BadFile(file, str(error)) from error
    return ImportReport(len({one.image_id for one in rows}), len(rows))


def export_points(labels: Labels, collection: Collection) -> bytes:
    """All points that stand, as a table."""
    images = {image.id: image.name for image in collection.all(include_excluded=True)}
    classes = {one.id: one.name for one in labels.classes()}
    rows = [
        (images[one.image_id], classes[one.class_id], one.t, one.z, one.y, one.x, one.author, one.time)
        for one in labels.points()
    ]
    return write_rows(COLUMNS, rows)


def _number(row: dict[str, str], name: str) -> float:
    text = row.get(name, "") or ("0" if name in {"t", "z"} else "")
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"{name} is {text!r}; it must be a number.") from None
