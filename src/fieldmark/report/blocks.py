"""What a page is made of: values that any room can return without knowing how they will look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fieldmark.errors import BadInput

if TYPE_CHECKING:
    from fieldmark.core.colors import RGB

_PNG = b"\x89PNG\r\n\x1a\n"
MAX_COLUMNS = 12
"""The widest gallery; more pictures go into further rows."""


@dataclass(frozen=True, slots=True)
class Text:
    """Plain prose; a blank line starts a new paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a busy person must not miss, such as what was left out."""

    text: str


@dataclass(frozen=True, slots=True)
class Measured:
    """A number with its interval, or without one where nobody could tell it."""

    value: float | None
    low: float | None = None
    high: float | None = None


Cell = str | int | float | Measured | None
"""What stands in a table; None is a value that nobody knows."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns; the first column names the row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise BadInput(
                    f"A table row has {len(row)} cells, but there are {len(self.columns)} columns "
                    f"({', '.join(self.columns)}). Give each row one cell for each column."
                )


@dataclass(frozen=True, slots=True)
class Figure:
    """One picture.

    Args:
        png: The bytes of a PNG file.
        caption: Shown below it.
        alt: What it shows, for people who cannot see it; the caption where empty.
        scale: `pixelated` keeps the edges of pixels when small pictures are enlarged,
            `smooth` blends them.
    """

    png: bytes
    caption: str = ""
    alt: str = ""
    scale: Literal["pixelated", "smooth"] = "pixelated"

    def __post_init__(self) -> None:
        if not self.png.startswith(_PNG) or len(self.png) < 33:
            raise BadInput(f"The figure {self.caption!r} is not a PNG file. Encode the picture as PNG first.")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as the file states them."""
        return int.from_bytes(self.png[16:20], "big"), int.from_bytes(self.png[20:24], "big")


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures in rows of `columns`, for comparison side by side."""

    figures: tuple[Figure, ...]
    columns: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.columns <= MAX_COLUMNS:
            raise BadInput(f"A gallery has 1 to {MAX_COLUMNS} columns; got {self.columns}.")


@dataclass(frozen=True, slots=True)
class Legend:
    """Which color means what."""

    entries: tuple[tuple[str, RGB], ...]


@dataclass(frozen=True, slots=True)
class Series:
    """One curve: `(x, y)` points in order of x. A y of None is a gap."""

    name: str
    points: tuple[tuple[float, float | None], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over a common axis."""

    series: tuple[Series, ...]
    x_label: str
    y_label: str
    caption: str = ""


Block = Text | Notice | Table | Figure | Gallery | Legend | Chart


@dataclass(frozen=True, slots=True)
class Section:
    """Blocks under a title."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report."""

    title: str
    sections: tuple[Section, ...]
    subtitle: str = ""
    footer: str = ""
