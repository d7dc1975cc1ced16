"""The tables of a project, and what each column means.

Times are UTC in ISO 8601. `revision` is the id of the journal entry that last changed the row. Ids are never
used twice, also after an undo.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    true,
)

SCHEMA = 2
"""Version of these tables, kept in the database. A newer one is refused; an older one is brought up on opening."""

MIGRATIONS = (("ALTER TABLE images ADD COLUMN columns VARCHAR",),)
"""The n-th: statements that bring version n + 1 (from 0) up to the next."""

metadata = MetaData()

journal = Table(
    "journal",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("time", String, nullable=False),
    Column("author", String, nullable=False),
    Column("verb", String, nullable=False),
    Column("summary", String, nullable=False),
    Column("kind", String, nullable=False),  # change, undo, redo or refused
    Column("inverse", LargeBinary, nullable=False),  # operations: zlib of JSON
    Column("undoes", Integer, ForeignKey("journal.id")),
    Column("undone_by", Integer, ForeignKey("journal.id")),
    sqlite_autoincrement=True,
)

images = Table(
    "images",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uri", String, nullable=False),  # absolute path with forward slashes
    Column("name", String, nullable=False, unique=True),
    Column("content_hash", String, nullable=False, index=True),
    Column("shape", String, nullable=False),  # "t,c,z,y,x"
    Column("dtype", String, nullable=False),
    Column("axes", String, nullable=False),
    Column("size_z", Float),  # micrometers
    Column("size_y", Float),
    Column("size_x", Float),
    Column("group", String, nullable=False),
    Column("split", String, nullable=False),
    Column("excluded", String, nullable=False),  # why; empty for an image in use
    Column("columns", String),  # JSON object of what tables say of the image; null for nothing
    sqlite_autoincrement=True,
)

classes = Table(
    "classes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False),
    Column("color", String, nullable=False),  # #rrggbb
    Column("position", Integer, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("merged_into", Integer, ForeignKey("classes.id")),
    sqlite_autoincrement=True,
)

# An answer taken back or undone stays as a row without a value, so that its revision is not forgotten; it may outlive
# its image or class in the journal's order, so these two columns are no foreign keys. `LIVE_USES` guards them.
answers = Table(
    "answers",
    metadata,
    Column("image_id", Integer, nullable=False),
    Column("class_id", Integer, nullable=False),
    Column("value", Boolean),  # null: somebody took the answer back
    Column("author", String, nullable=False),
    Column("time", String, nullable=False),
    Column("revision", Integer, nullable=False),
    PrimaryKeyConstraint("image_id", "class_id"),
)

points = Table(
    "points",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("image_id", Integer, ForeignKey("images.id"), nullable=False, index=True),
    Column("class_id", Integer, ForeignKey("classes.id"), nullable=False),
    Column("t", Integer, nullable=False),
    Column("z", Float, nullable=False),
    Column("y", Float, nullable=False),
    Column("x", Float, nullable=False),
    Column("author", String, nullable=False),
    Column("time", String, nullable=False),
    Column("revision", Integer, nullable=False),
    sqlite_autoincrement=True,
)

# A stroke that was undone stays, with alive = 0, so that it can be redone. It may then outlive its image or class
# in the journal's order, so these two columns are no foreign keys; `Store.check` looks at those of living strokes.
strokes = Table(
    "strokes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("image_id", Integer, nullable=False),
    Column("t", Integer, nullable=False),
    Column("z", Integer, nullable=False),
    Column("class_id", Integer),  # null: an eraser
    Column("author", String, nullable=False),
    Column("time", String, nullable=False),
    Column("source", String, nullable=False),  # draw, or import:KIND:FILE
    Column("kind", String, nullable=False),  # polyline or runs
    Column("radius", Float),  # of a polyline, in pixels
    Column("geometry", LargeBinary),  # of a polyline: zlib of float64 x, y; of runs: null, see stroke_tiles
    Column("y0", Integer, nullable=False),
    Column("x0", Integer, nullable=False),
    Column("y1", Integer, nullable=False),
    Column("x1", Integer, nullable=False),
    Column("owned", Integer, nullable=False),  # pixels that are this stroke's now
    Column("alive", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    Index("strokes_by_plane", "image_id", "t", "z"),
    sqlite_autoincrement=True,
)

# The pixels that a stroke covered when it was drawn, cut at the label tiles: undo is exact for ever, whatever
# becomes of the rasterizer.
stroke_tiles = Table(
    "stroke_tiles",
    metadata,
    Column("image_id", Integer, nullable=False),
    Column("t", Integer, nullable=False),
    Column("z", Integer, nullable=False),
    Column("ty", Integer, nullable=False),
    Column("tx", Integer, nullable=False),
    Column(  # looked at when the transaction ends: a stroke's row is written after its tiles, when its size is known
        "stroke_id",
        Integer,
        ForeignKey("strokes.id", deferrable=True, initially="DEFERRED"),
        nullable=False,
        index=True,
    ),
    Column("mask", LargeBinary, nullable=False),
    PrimaryKeyConstraint("image_id", "t", "z", "ty", "tx", "stroke_id"),
)

label_tiles = Table(
    "label_tiles",
    metadata,
    Column("image_id", Integer, nullable=False),
    Column("t", Integer, nullable=False),
    Column("z", Integer, nullable=False),
    Column("ty", Integer, nullable=False),
    Column("tx", Integer, nullable=False),
    Column("ids", LargeBinary, nullable=False),
    PrimaryKeyConstraint("image_id", "t", "z", "ty", "tx"),
)

LIVE_USES = {
    "images": (
        ("answers", answers.c.image_id, answers.c.value.is_not(None)),
        ("points", points.c.image_id, true()),
        ("strokes", strokes.c.image_id, strokes.c.alive),
    ),
    "classes": (
        ("answers", answers.c.class_id, answers.c.value.is_not(None)),
        ("points", points.c.class_id, true()),
        ("strokes", strokes.c.class_id, strokes.c.alive),
        ("merged classes", classes.c.merged_into, true()),
    ),
}
"""What keeps a row from being taken away: words for it, the column that names it, and which rows count."""
