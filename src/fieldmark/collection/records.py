"""What the collection knows of an image, and what came of adding some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fieldmark.core.axes import PixelSize


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of the project: a source of pixels along t, c, z, y, x."""

    uri: str
    """Absolute path, with forward slashes."""
    name: str
    """The path relative to what was added, such as `sub/000002.png`; unique in the project."""
    content_hash: str
    """Of the file's bytes (`core.fingerprint.file_hash`)."""
    shape: tuple[int, int, int, int, int]
    dtype: str
    axes: str
    """The axes that the file really has, such as `cyx`."""
    pixel_size: PixelSize = field(default_factory=PixelSize)
    group: str = ""
    """Images of one group are never split between training and test; empty for none."""
    split: str = ""
    """`train`, `val`, `test` or any other word; empty for none."""
    excluded: str = ""
    """Why the image is left out; empty for an image in use."""
    columns: Mapping[str, str | None] = field(default_factory=dict)
    """What tables say of it, by column; None where a column differs within the image. What is unknown is absent."""
    id: int = 0
    """0 until the project gives it one."""

    @property
    def path(self) -> Path:
        return Path(self.uri)


@dataclass(frozen=True, slots=True)
class MovedImage:
    """An image of the project that was found at another place, by its content."""

    image: ImageRecord
    """As the project knew it."""
    uri: str
    """Where its content is now."""


@dataclass(frozen=True, slots=True)
class AddReport:
    """What came of adding images. Names are as the user would type them."""

    added: list[ImageRecord] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    """Already in the project, at the same place and with the same content."""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Name and reason of each file that could not be added."""
    moved: list[MovedImage] = field(default_factory=list)
    """Images of the project that stood elsewhere before; their labels came along."""
    described: list[ImageRecord] = field(default_factory=list)
    """Images of the project, with columns of a table that said something new of them."""
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    """Name of an added image, and name of the image that has the same content (its `duplicate_of`)."""
    notes: list[str] = field(default_factory=list)
    """What was found and decided, in words."""
