"""Which images a folder, a list or a table names. Opens no image."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fieldmark.errors import BadFile, BadInput
from fieldmark.images import find_images

_MADE = (".fieldmark/made", "fieldmark-labels.json")
"""Beside what predictions and exported labels write; neither is ever written among images."""
_LONGEST_LIST = 1 << 28  # bytes of a list or table


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image to be added: where it is, its name, and what the list says of it."""

    path: Path
    shown: str
    """The name that errors use: the path as the user typed it."""
    name: str
    """The path relative to the folder, list or table that named it."""
    group: str = ""
    split: str = ""
    klass: int = 0
    """The class that its name says, from 1; 0 for none."""
    columns: Mapping[str, str | None] = field(default_factory=dict)
    """See `ImageRecord.columns`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The images that were named, and (name, reason) of what was left out."""

    images: list[PlannedImage]
    left_out: list[tuple[str, str]]
    notes: list[str] = field(default_factory=list)
    """What was passed over on purpose, in words."""


def from_folder(path: Path) -> Plan:
    """The images below a folder with their names relative to it; a single image file is itself.

    Fields of a plate (OME-Zarr) have their well as group; those that the plate names and lacks are left out by name.
    What Fieldmark has written below the folder, predictions and exported labels, is no image of it; a note says so.

    Raises:
        BadFile: There is no such file or folder.
    """
    found = find_images(path)
    made = {place: above for place, _ in found.images if (above := _made_in(place, path)) is not None}
    plated, missing = _plated(path, [place for place, _ in found.images if place not in made])
    images = []
    for place, shown in found.images:
        if place in made:
            continue
        well, columns = plated.get(place, ("", {}))
        images.append(PlannedImage(place, shown, _relative(place, path), well, columns=columns))
    notes = [
        f"{above}: {count} images that Fieldmark has written (predictions, or exported labels) are passed over. To add "
        "them too, name that folder itself."
        for above, count in sorted(Counter(made.values()).items())
    ]
    return Plan(images, [*found.left_out, *missing], notes)


def _made_in(place: Path, root: Path) -> Path | None:
    """The outermost folder below the one that was named into which Fieldmark wrote a file; None for any other file."""
    inside = [above for above in place.parents if above != root and root in above.parents]
    return next((above for above in reversed(inside) if any((above / mark).exists() for mark in _MADE)), None)


def _plated(path: Path, places: Sequence[Path]) -> tuple[dict[Path, tuple[str, dict[str, str]]], list[tuple[str, str]]]:
    """Of each place that is a field of a plate, its well and columns; name and reason of fields that are missing."""
    from fieldmark.images.plates import fields_of, is_plate

    inside = {above for place in places for above in place.parents if above == path or path in above.parents}
    plated: dict[Path, tuple[str, dict[str, str]]] = {}
    missing: list[tuple[str, str]] = []
    for plate in sorted(folder for folder in {path, *inside} if is_plate(folder)):
        shown = str(plate)
        for one in fields_of(plate, shown):
            row, _, column = one.well.partition("/")
            columns = {"plate": plate.name, "well": one.well, "row": row, "column": column, "field": one.path.name}
            plated[one.path] = (one.well if plate == path else f"{_relative(plate, path)}/{one.well}", columns)
            if not one.path.is_dir():
                missing.append((f"{shown}/{one.name}", "the plate's metadata names it, but there is no such field"))
    return plated, missing


def from_list(path: Path) -> Plan:
    """The images that a text file names, one path a line, relative to the file. Empty lines and `#` lines are skipped.

    Raises:
        BadFile: The list cannot be read or is not text.
    """
    lines = [line.strip() for line in read_text(path).splitlines()]
    return _listed(path, [_Told(line) for line in lines if line and not line.startswith("#")])


def from_csv(path: Path) -> Plan:
    """The images that a table names in its column `path`, relative to the file, with optional `group` and `split`.

    Its other columns are kept with the images; an empty cell says nothing.

    Raises:
        BadFile: The table cannot be read, is not text, has no column `path`, or has two columns of one name.
    """
    rows = csv.DictReader(read_text(path).splitlines())
    try:
        columns = rows.fieldnames or ()
        if "path" not in columns:
            raise BadFile(path, f"its columns are {', '.join(columns) or 'none'}; one must be called `path`. Add it.")
        if twice := [name for name, times in Counter(columns).items() if name and times > 1]:
            raise BadFile(path, f"has {columns.count(twice[0])} columns called {twice[0]!r}. Rename all but one.")
        lines = list(rows)
    except csv.Error as error:
        raise BadFile(path, f"it is not a table of comma-separated values ({error}). Export it again.") from error
    return _listed(path, [told for line in lines if (told := _told(line)).place])


@dataclass(frozen=True, slots=True)
class _Told:
    """What a line of a list or a table says of an image."""

    place: str
    group: str = ""
    split: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


def _told(line: dict[str, str | None]) -> _Told:
    cells = told_columns(line)
    place, group, split = (cells.pop(name, "") for name in ("path", "group", "split"))
    return _Told(place, group, split, cells)


def told_columns(line: Mapping[str, str | None]) -> dict[str, str]:
    """The cells of a table's line that say something, by their column; those without a column's name are left out."""
    return {
        name.strip(): text for name, cell in line.items() if name and name.strip() and (text := (cell or "").strip())
    }


def _from_lids(path: Path) -> Plan:
    from fieldmark.collection.lids import from_lids

    return from_lids(path)


LAYOUTS: dict[str, Callable[[Path], Plan]] = {
    "folder": from_folder,
    "list": from_list,
    "csv": from_csv,
    "lids": _from_lids,
}


def plan(path: Path, layout: str) -> Plan:
    """The images that `path` names, read as `layout`, one of `LAYOUTS`.

    Raises:
        BadInput: There is no such layout.
        BadFile: The path cannot be read that way.
    """
    if layout not in LAYOUTS:
        raise BadInput(f"There is no layout {layout!r}; use one of {', '.join(LAYOUTS)}.")
    return LAYOUTS[layout](path)


def _listed(listing: Path, named: list[_Told]) -> Plan:
    images: list[PlannedImage] = []
    left_out: list[tuple[str, str]] = []
    for told in named:
        path = listing.parent / told.place
        if not _exists(path):
            left_out.append((told.place, f"{listing} names it, but there is no such file"))
            continue
        for inner, shown, name in _images_at(path, told.place):
            images.append(PlannedImage(inner, shown, name, told.group, told.split, columns=told.columns))
    return Plan(images, left_out)


def _images_at(path: Path, place: str) -> Iterator[tuple[Path, str, str]]:
    for inner, shown in find_images(path, shown=place).images:
        yield inner, shown, Path(shown).as_posix()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name with a zero byte, or one too long for the system
        return False


def _relative(place: Path, root: Path) -> str:
    return place.name if place == root else Path(os.path.relpath(place, root)).as_posix()


def read_text(path: Path) -> str:
    """What a list or a table holds, UTF-8.

    Raises:
        BadFile: It cannot be read, is too long, or is not text.
    """
    try:
        if path.stat().st_size > _LONGEST_LIST:
            raise BadFile(path, f"it has more than {_LONGEST_LIST:,} bytes: too long for a list of images.")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(path, f"it is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    except OSError as error:
        raise BadFile(path, f"it cannot be read ({error.strerror}). Check the name and its permissions.") from error
