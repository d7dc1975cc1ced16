"""Small real projects that need no download: images that scikit-image carries, strokes and masks of our own.

The images come out of the installed scikit-image package. What people said about them
lies in `demo_data` as text: one marker file for each field with strokes, and one file of
runs for each picture's reference mask. `demo_data/README.md` states how they were made.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fieldmark.errors import BadFile, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np


@dataclass(frozen=True, slots=True)
class DemoField:
    """One image of a demo project."""

    name: str
    """Stem for its files, such as `coins-3`."""
    image: np.ndarray
    """(h, w) or (h, w, 3) uint8."""
    markers_text: str | None
    """Strokes as marker text (`count width height`, then `x y id label`, labels from 1), or None."""
    mask: np.ndarray
    """(h, w) uint8 reference: 1 for the first class, 2 for the second; 0 is unknown. Never trained on."""


@dataclass(frozen=True, slots=True)
class DemoProject:
    """A picture cut into fields, with the names of its classes in label order."""

    name: str
    summary: str
    classes: tuple[str, ...]
    fields: tuple[DemoField, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where a project's pixels come from, and how they are cut: rows x columns of fields."""

    summary: str
    classes: tuple[str, ...]
    picture: str
    """Its name in `skimage.data`."""
    rows: int
    columns: int
    shrink: int = 1
    """Each field pixel is the mean of so many by so many of the picture's."""
    crop: tuple[slice, slice] = (slice(None), slice(None))
    """Rows and columns of the shrunk picture to keep."""


_PLANS = {
    "coins": _Plan("Greek coins on a dark, unevenly lit ground; gray", ("background", "coin"), "coins", 2, 4),
    "gland": _Plan(
        "Colon glands stained brown in a tissue section; color", ("background", "gland"), "immunohistochemistry", 4, 2
    ),
    "retina": _Plan(
        "Vessels of a retina, at half the picture's resolution; color, and hard",
        ("background", "vessel"),
        "retina",
        2,
        4,
        shrink=2,
        crop=(slice(110, 366), slice(160, 608)),
    ),
}


def demo_names() -> tuple[str, ...]:
    """The names of the demo projects; loads no image."""
    return tuple(_PLANS)


def demo_projects() -> list[DemoProject]:
    """All demo projects, with their pixels; a few megabytes in all."""
    return [demo_project(name) for name in _PLANS]


def demo_project(name: str) -> DemoProject:
    """One demo project.

    Raises:
        NotFound: No demo project has that name.
    """
    if name not in _PLANS:
        raise NotFound("demo project", name, _PLANS)
    plan = _PLANS[name]
    return DemoProject(name, plan.summary, plan.classes, tuple(_fields(name, plan)))


def _fields(name: str, plan: _Plan) -> Iterator[DemoField]:
    image = _shrunk(_picture(plan.picture), plan.shrink)[plan.crop]
    mask = read_runs(_text(f"{name}-mask.txt"), f"{name}-mask.txt")
    if mask.shape != image.shape[:2]:
        raise BadFile(
            f"{name}-mask.txt",
            f"is {mask.shape[1]} x {mask.shape[0]} pixels, but the installed scikit-image's picture gives "
            f"{image.shape[1]} x {image.shape[0]}. Install a scikit-image that carries the original picture.",
        )
    for number, (rows, columns) in enumerate(_cuts(image.shape, plan.rows, plan.columns), start=1):
        field = f"{name}-{number}"
        yield DemoField(field, image[rows, columns].copy(), _markers(field), mask[rows, columns].copy())


def _shrunk(image: np.ndarray, by: int) -> np.ndarray:
    """Means over squares of `by` x `by` pixels; what is left over at the lower and right border is dropped."""
    if by == 1:
        return image
    rows, columns = image.shape[0] // by, image.shape[1] // by
    squares = image[: rows * by, : columns * by].reshape(rows, by, columns, by, -1)
    small: np.ndarray = squares.mean(axis=(1, 3)).round().astype(image.dtype)
    return small


def _cuts(shape: tuple[int, ...], rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """Rectangles that partition the picture, row by row; each as large as the others but for a pixel."""
    for row in range(rows):
        for column in range(columns):
            yield _part(shape[0], row, rows), _part(shape[1], column, columns)


def _part(size: int, index: int, parts: int) -> slice:
    return slice(size * index // parts, size * (index + 1) // parts)


def read_runs(text: str, name: str) -> np.ndarray:
    """Decode a label map written as runs.

    Args:
        text: `width height` on the first line, then one line a row of `label:length` pairs
            that add up to the width; `=` repeats the row above. Lines with `#` are remarks.
        name: The file's name, for the error.

    Returns:
        (height, width) uint8.

    Raises:
        BadFile: The rows do not fill the size on the first line.
    """
    import numpy as np

    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    width, height = (int(part) for part in lines[0].split())
    rows: list[list[int]] = []
    for line in lines[1:]:
        rows.append(rows[-1] if line == "=" else _row(line))
    if len(rows) != height or any(len(row) != width for row in rows):
        raise BadFile(name, f"its rows do not fill {width} x {height} pixels. Install the package again.")
    return np.array(rows, np.uint8)


def _row(line: str) -> list[int]:
    pixels: list[int] = []
    for run in line.split():
        label, _, length = run.partition(":")
        pixels += [int(label)] * int(length)
    return pixels


def _markers(field: str) -> str | None:
    name = f"{field}-markers.txt"
    return _text(name) if files("fieldmark.workbench").joinpath("demo_data", name).is_file() else None


def _text(name: str) -> str:
    return files("fieldmark.workbench").joinpath("demo_data", name).read_text("utf-8")


def _picture(name: str) -> np.ndarray:
    from skimage import data

    picture: Any = getattr(data, name)()
    return picture  # type: ignore[no-any-return]
