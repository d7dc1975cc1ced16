"""Telling zarr folders apart by their small metadata files, without the zarr library."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from fieldmark.errors import BadFile

MOST_METADATA = 1 << 24
"""Most bytes of one metadata file that are read."""
_NAMES = ("zarr.json", ".zgroup", ".zattrs", ".zarray")


def is_zarr_folder(folder: Path) -> bool:
    """Whether a folder is a zarr group or array of either version."""
    return any((folder / name).is_file() for name in _NAMES)


def is_zarr_array(folder: Path) -> bool:
    """Whether a folder is a zarr array, not a group."""
    if (folder / ".zarray").is_file():
        return True
    try:
        return read_metadata(folder, "zarr.json", str(folder)).get("node_type") == "array"
    except BadFile:
        return False


def holds_image(folder: Path) -> bool:
    """Whether a folder is to be opened as one OME-Zarr image.

    It is if it has multiscales metadata, or metadata that cannot be read: opening it then says what is wrong.
    """
    if not is_zarr_folder(folder):
        return False
    try:
        return "multiscales" in ome_attributes(folder, str(folder))
    except BadFile:
        return True


def ome_attributes(folder: Path, shown: str) -> dict[str, Any]:
    """The OME metadata of a zarr group: `attributes.ome` in version 0.5, `.zattrs` before.

    Raises:
        BadFile: The metadata cannot be read.
    """
    if (folder / "zarr.json").is_file():
        attributes = read_metadata(folder, "zarr.json", shown).get("attributes", {})
        ome = attributes.get("ome", {}) if isinstance(attributes, dict) else {}
        return ome if isinstance(ome, dict) else {}
    return read_metadata(folder, ".zattrs", shown) if (folder / ".zattrs").is_file() else {}


def read_metadata(folder: Path, name: str, shown: str) -> dict[str, Any]:
    """One JSON file of a zarr folder; an empty dictionary where there is none.

    Raises:
        BadFile: It is no regular file inside the folder, is too large, or holds no JSON object.
    """
    path = folder / name
    if not path.exists():
        return {}
    try:
        check_inside(path, folder, shown)
        if path.stat().st_size > MOST_METADATA:
            raise BadFile(shown, f"its {name} is larger than {MOST_METADATA:,} bytes. Export the image again.")
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, BadFile):
            raise
        raise BadFile(shown, f"its {name} cannot be read ({str(error)[:120]}). Copy or export it again.") from error
    if not isinstance(found, dict):
        raise BadFile(shown, f"its {name} holds no JSON object. Copy or export it again.")
    return found


def check_inside(path: Path, folder: Path, shown: str) -> None:
    """Refuse a path that leads out of a folder, or to something that is not a regular file or folder.

    Raises:
        BadFile: It does.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BadFile(shown, f"{path.name!r} in it leads out of its folder; that is not followed. Copy the files in.")
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise BadFile(shown, f"{path.name!r} in it is a device, pipe or socket, not a file. Remove it.")
