"""Labels as values: what the database knows, without the database."""

from __future__ import annotations

from dataclasses import dataclass, field

from fieldmark.core.geometry import Box


@dataclass(frozen=True, slots=True)
class ClassRecord:
    """One class. Its id is never given to another class, and begins at 1."""

    id: int
    name: str
    color: str
    """`#rrggbb`."""
    position: int
    """From 1, in the order that the user chose; the value that files use for the class. 0 for a deleted class."""
    deleted: bool = False
    """Deleted or merged into another class; its id stays."""
    merged_into: int | None = None


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """What somebody said of a whole image and one class."""

    image_id: int
    class_id: int
    value: bool | None
    """True for yes, False for no; None for an answer taken back: unknown."""
    author: str
    time: str
    revision: int


@dataclass(frozen=True, slots=True)
class StrokeRecord:
    """One stroke, as it stands in the database."""

    id: int
    image_id: int
    t: int
    z: int
    class_id: int | None
    """What it counts as now, after merges; None for an eraser, and while its class is deleted: unknown."""
    author: str
    time: str
    source: str
    """`draw`, or `import:KIND:FILE`."""
    pixels: int
    """How many pixels it owns now; those that a later stroke covered are not counted."""
    box: Box
    """2-D (y, x) box of the pixels that it covered when it was drawn."""
    revision: int
    """The journal entry that brought it to life."""


@dataclass(frozen=True, slots=True)
class PointRecord:
    """A marked place. `y` and `x` are in pixels; the center of the first pixel is at 0.5, 0.5."""

    id: int
    image_id: int
    class_id: int
    t: int
    z: float
    y: float
    x: float
    author: str
    time: str
    revision: int


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import brought in."""

    images: int = 0
    """Images that got labels."""
    strokes: int = 0
    """Strokes, answers or points that were written."""
    notes: list[str] = field(default_factory=list)
    """What was found and decided, in words: conventions, pixels that carried two labels, labels that were covered."""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Name and reason of each file that belongs to no image."""
