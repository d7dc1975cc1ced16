"""Open any image by its path."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import cast

from fieldmark.errors import BadFile, BadInput
from fieldmark.images.readers import (
    READERS,
    SUFFIXES,
    OpenRequest,
    content_agrees,
    format_of_content,
    format_of_name,
)
from fieldmark.images.source import DEFAULT_MAX_BYTES, ImageSource
from fieldmark.images.zarr_folders import is_zarr_folder

_HEAD = 64
_REFUSED = {
    b"PK\x03\x04": "it is a zip archive (.npz is one). Save each array as .npy instead",
    b"\x89HDF\r\n": "it is an HDF5 file. Export its images as TIFF or OME-Zarr",
    b"%PDF": "it is a PDF document. Export its pictures as PNG or TIFF",
}


def open_image(
    path: str | Path, *, max_bytes: int | None = None, shown: str | None = None, expand_palette: bool = True
) -> ImageSource:
    """Open an image without reading its pixels.

    The format is told by the file's first bytes, and by its name only where those prove nothing.

    Args:
        path: A file, or the folder of an OME-Zarr image.
        max_bytes: Most bytes that may be decoded at once; `DEFAULT_MAX_BYTES` if None.
        shown: The name as the user typed it, used in errors; `path` if None.
        expand_palette: Give palette images as colors; if not, as palette indices (for label masks).

    Raises:
        BadFile: There is no such file, it is no image, or it is damaged.
        TooLarge: It can only be decoded whole, and would take more than `max_bytes`.
    """
    limit = DEFAULT_MAX_BYTES if max_bytes is None else max_bytes
    if limit < 1:
        raise BadInput(f"max_bytes is {limit}; it is a number of bytes, at least 1.")
    ask = OpenRequest(Path(path), shown or str(path), limit, expand_palette)
    form = detect_format(ask.path, ask.shown)
    return cast(ImageSource, READERS.load(form)(ask))


def detect_format(path: Path, shown: str) -> str:
    """The name of the format of a file or folder.

    Raises:
        BadFile: There is no such file, or it is none that Fieldmark reads.
    """
    mode = _mode(path, shown)
    if stat.S_ISDIR(mode):
        return _folder_format(path, shown)
    if not stat.S_ISREG(mode):
        raise BadFile(shown, "it is a device, pipe or socket; images are regular files. Name a file.")
    return _file_format(_head(path, shown), shown, path.name)


def _mode(path: Path, shown: str) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise BadFile(shown, "there is no such file. Check the name.") from None
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise BadFile(shown, f"it cannot be reached ({reason}). Check the name and its permissions.") from error


def _head(path: Path, shown: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise BadFile(shown, f"it cannot be read ({error.strerror}). Check its permissions.") from error


def _folder_format(path: Path, shown: str) -> str:
    if is_zarr_folder(path):
        return "ome-zarr"
    promised = format_of_name(path.name)
    if promised == "ome-zarr":
        raise BadFile(
            shown, "this folder has no zarr.json, .zgroup or .zattrs: it is no OME-Zarr image. Copy it again."
        )
    if promised:
        raise BadFile(shown, f"it is a folder, not a {promised.upper()} image. Name the images inside it.")
    raise BadFile(shown, "it is a folder, not an image. Name an image inside it.")


def _file_format(head: bytes, shown: str, name: str) -> str:
    if not head:
        raise BadFile(shown, "it is empty (0 bytes). Copy or export it again.")
    if proven := format_of_content(head):
        return proven
    if refusal := next((text for magic, text in _REFUSED.items() if head.startswith(magic)), None):
        raise BadFile(shown, f"{refusal}.")
    promised = format_of_name(name)
    if promised is None:
        known = " ".join(sorted(suffix for suffixes in SUFFIXES.values() for suffix in suffixes))
        raise BadFile(shown, f"it is in no image format that Fieldmark reads ({known}). Convert it to TIFF or PNG.")
    if content_agrees(head, promised):
        return promised
    if promised == "ome-zarr":
        raise BadFile(shown, "it is a file; an OME-Zarr image is a folder. Unpack it, or name the folder.")
    raise BadFile(
        shown,
        f"its name says {promised.upper()}, but its content does not begin as one (found {head[:8].hex(' ')}): "
        "it is damaged or something else. Copy or export it again.",
    )
