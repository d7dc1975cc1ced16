"""Which images a path names, and what was left out and why."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fieldmark.errors import BadFile
from fieldmark.images.readers import format_of_name, is_image_name
from fieldmark.images.zarr_folders import holds_image, is_zarr_array, is_zarr_folder

COMPANIONS = frozenset(
    {".txt", ".csv", ".tsv", ".json", ".xml", ".md", ".rst", ".yaml", ".yml", ".toml", ".html", ".pdf", ".log", ".db"}
)
"""Suffixes of files that belong beside images; they are passed over without a word."""
_LINK = "a link "


@dataclass(frozen=True, slots=True)
class FoundImages:
    """The images under the paths that were named."""

    images: list[tuple[Path, str]] = field(default_factory=list)
    """Where each is, and its name as the user would type it, in natural order."""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """The name of what was left out, and the reason."""

    @property
    def links(self) -> list[tuple[str, str]]:
        """Of what was left out the links that are named as images."""
        return [(name, why) for name, why in self.left_out if why.startswith(_LINK) and is_image_name(name)]


def find_images(path: str | Path | Iterable[str | Path], *, shown: str | None = None) -> FoundImages:
    """The images that a path, or each of several, names.

    A file is itself, whatever its name. A folder is searched with its subfolders for files whose
    names promise an image; an OME-Zarr folder is one image. Hidden files are skipped. A link is
    followed only to a regular file inside the folder that was named.

    Args:
        path: A file or a folder, or several.
        shown: The name as the user typed it, for one path; the path itself if None.

    Raises:
        BadFile: A path does not exist or cannot be reached.
    """
    paths = [path] if isinstance(path, (str, Path)) else list(path)
    found = FoundImages()
    for each in paths:
        _one(Path(each), str(each) if shown is None else shown, found)
    return found


def natural_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """Sorts `cell2` before `cell10`, without regard to case."""
    parts = re.split(r"(\d+)", text.casefold())
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)


def order_of(name: str) -> tuple[tuple[tuple[int, int | str], ...], str]:
    """Sorts names as people count, no two alike: files that belong together by order are sorted by it on both sides."""
    return natural_key(name), name


def _one(path: Path, shown: str, found: FoundImages) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise BadFile(shown, "there is no such file or folder. Check the name.") from None
    except (OSError, ValueError) as error:
        raise BadFile(shown, f"it cannot be reached ({error}). Check the name and its permissions.") from error
    if not stat.S_ISDIR(mode) or holds_image(path):
        found.images.append((path, shown))
        return
    images: list[tuple[Path, str]] = []
    left_out: list[tuple[str, str]] = []
    for place, name, reason in _walk(path, shown, path.resolve()):
        if reason is None:
            images.append((place, name))
        else:
            left_out.append((name, reason))
    found.images.extend(sorted(images, key=lambda item: natural_key(item[1])))
    found.left_out.extend(sorted(left_out, key=lambda item: natural_key(item[0])))


def _walk(folder: Path, shown: str, root: Path) -> Iterator[tuple[Path, str, str | None]]:
    """Every image or thing left out below a folder: its place, its shown name, the reason it is left out."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield folder, shown, f"a folder that cannot be listed ({error.strerror})"
        return
    inside_zarr = is_zarr_folder(folder)
    for entry in entries:
        place, name = folder / entry.name, str(Path(shown) / entry.name)
        if entry.name.startswith("."):
            continue
        if not entry.is_symlink() and entry.is_dir():
            yield from _folder(place, name, root)
        elif not inside_zarr and not _is_companion(entry.name):
            yield place, name, _file_reason(entry, place, root)


def _folder(place: Path, name: str, root: Path) -> Iterator[tuple[Path, str, str | None]]:
    if holds_image(place):
        yield place, name, None
    elif is_zarr_array(place):
        yield place, name, "a zarr array without OME-Zarr metadata"
    elif format_of_name(place.name) == "ome-zarr" and not is_zarr_folder(place):
        yield place, name, "named as OME-Zarr, but without zarr metadata"
    else:
        yield from _walk(place, name, root)


def _file_reason(entry: os.DirEntry[str], place: Path, root: Path) -> str | None:
    """Why a file is left out; None for an image."""
    if entry.is_symlink() and (reason := link_reason(place, root)):
        return reason
    if not is_image_name(entry.name):
        return "not an image format that Fieldmark reads"
    if not stat.S_ISREG(place.stat().st_mode):
        return "a device, pipe or socket, not a file"
    return None


def link_reason(place: Path, root: Path) -> str | None:
    """Why a link is not followed; None for one to a file below `root`, which is a resolved path."""
    try:
        target = place.resolve(strict=True)
    except (OSError, RuntimeError):
        return f"{_LINK}that leads nowhere"
    if not target.is_relative_to(root):
        return f"{_LINK}that leads out of the folder"
    return None if target.is_file() else f"{_LINK}to something that is not a file"


def _is_companion(name: str) -> bool:
    return not is_image_name(name) and Path(name).suffix.lower() in COMPANIONS
