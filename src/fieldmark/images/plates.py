"""OME-Zarr plates (HCS): which fields their wells hold, as their metadata says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fieldmark.errors import BadFile
from fieldmark.images.zarr_folders import check_inside, is_zarr_folder, ome_attributes

_AGAIN = "Export the plate again."


@dataclass(frozen=True, slots=True)
class Field:
    """One field of view of a plate."""

    well: str
    """Such as `A/1`."""
    name: str
    """The field's path in the plate, such as `A/1/0`."""
    path: Path


def is_plate(folder: Path) -> bool:
    """Whether a folder is an OME-Zarr plate; False where its metadata cannot be read."""
    if not is_zarr_folder(folder):
        return False
    try:
        return "plate" in ome_attributes(folder, str(folder))
    except BadFile:
        return False


def fields_of(plate: Path, shown: str) -> list[Field]:
    """The fields of all wells, in the order of the metadata. Those that the metadata names may be missing on disk.

    Raises:
        BadFile: The metadata names no wells, or a path that leads out of the plate.
    """
    found = ome_attributes(plate, shown).get("plate")
    wells = found.get("wells") if isinstance(found, dict) else None
    if not isinstance(wells, list):
        raise BadFile(shown, f"its plate metadata lists no wells. {_AGAIN}")
    fields = [field for entry in wells for field in _fields(plate, _path(entry, shown), shown)]
    for place in {field.path for field in fields if field.path.exists()}:
        check_inside(place, plate, shown)
    return fields


def _fields(plate: Path, well: str, shown: str) -> list[Field]:
    """The fields of a well; the well itself as the only one, where it says nothing of them."""
    folder = plate / well
    found = ome_attributes(folder, shown).get("well") if folder.is_dir() else None
    images = found.get("images") if isinstance(found, dict) else None
    if not isinstance(images, list):
        inner = sorted(path.name for path in folder.iterdir() if is_zarr_folder(path)) if folder.is_dir() else [""]
        return [Field(well, "/".join(filter(None, (well, name))), folder / name) for name in inner]
    return [Field(well, name, plate / name) for name in (f"{well}/{_path(entry, shown)}" for entry in images)]


def _path(entry: Any, shown: str) -> str:
    """The path of a well in its plate, or of a field in its well."""
    path = entry.get("path") if isinstance(entry, dict) else None
    parts = PurePosixPath(path).parts if isinstance(path, str) else ()
    if not parts or any(part in {"/", "//", ".."} or "\\" in part or "\0" in part for part in parts):
        raise BadFile(shown, f"its metadata names the path {path!r}, which leads nowhere inside the plate. {_AGAIN}")
    return "/".join(parts)
