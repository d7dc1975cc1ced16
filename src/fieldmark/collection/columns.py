"""What a column says of images, for parting them by it."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import PurePosixPath

from fieldmark.collection.records import ImageRecord
from fieldmark.errors import BadInput

FOLDER = "folder"
"""The folder in an image's name: a column that all images have."""


def columns_of(image: ImageRecord) -> dict[str, str | None]:
    """Every column of an image; None where it differs within the image."""
    parent = PurePosixPath(image.name).parent.as_posix()
    return {FOLDER: "" if parent == "." else parent, **image.columns}


def column_names(images: Sequence[ImageRecord]) -> list[str]:
    """The columns that say something of an image, sorted."""
    return sorted({name for image in images for name in columns_of(image)})


def column_values(images: Sequence[ImageRecord], column: str, *, others: Sequence[str] = ()) -> list[str]:
    """What a column that images are to be parted by says of each of them; empty where it says nothing.

    Args:
        images: Of the project.
        column: Its name.
        others: What images may be parted by besides, for errors.

    Raises:
        BadInput: No image has such a column, or it differs within an image.
    """
    names = column_names(images)
    asked = f"data.split.by (dataset.split_by_column in a file of microDL) is {column!r}"
    if column not in names:
        raise BadInput(
            f"{asked}, and no image has such a column. {_nearest(column, [*names, *others])}Columns here: "
            f"{', '.join(names)}; besides, {', '.join(others)}. More come with a table: fieldmark add --layout csv."
        )
    values: list[str] = []
    for image in images:
        value = columns_of(image).get(column, "")
        if value is None:
            raise BadInput(
                f"{asked}, which differs within {image.name} and so says nothing of the whole image. Choose another "
                f"column ({', '.join(name for name in names if name != column)}), or time or slice for planes."
            )
        values.append(value)
    return values


def _nearest(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]!r}? " if near else ""
