"""The chain of directories in a TIFF file, walked before any library trusts it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fieldmark.errors import BadFile

_MOST_TAGS = 4096
_DAMAGED = "Copy or export it again."


@dataclass(frozen=True, slots=True)
class _Layout:
    count: struct.Struct
    """How many tags a directory has."""
    offset: struct.Struct
    tag_bytes: int
    first: int
    """Where the offset of the first directory stands."""


def check_directories(path: Path, shown: str) -> int:
    """Walk the directories of a TIFF file and return how many there are.

    Raises:
        BadFile: The chain runs in a circle or out of the file, or a directory is cut off.
    """
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        layout = _layout(file, shown)
        seen: set[int] = set()
        place = _offset(file, layout, layout.first, shown)
        while place:
            if place in seen:
                raise BadFile(
                    shown, f"its TIFF directories run in a circle at byte {place:,}: it is damaged. {_DAMAGED}"
                )
            if place + layout.count.size > size:
                raise BadFile(
                    shown,
                    f"a TIFF directory should stand at byte {place:,}, but the file has {size:,} bytes: "
                    f"it is truncated. {_DAMAGED}",
                )
            seen.add(place)
            place = _next(file, layout, place, shown)
    if not seen:
        raise BadFile(shown, f"it is a TIFF file without a single directory: it was never finished. {_DAMAGED}")
    return len(seen)


def _layout(file: BinaryIO, shown: str) -> _Layout:
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    version = struct.unpack(f"{order}H", head[2:4])[0]
    if version == 42:
        return _Layout(struct.Struct(f"{order}H"), struct.Struct(f"{order}I"), 12, 4)
    if head[4:8] != struct.pack(f"{order}HH", 8, 0):
        raise BadFile(shown, f"its BigTIFF header is damaged. {_DAMAGED}")
    return _Layout(struct.Struct(f"{order}Q"), struct.Struct(f"{order}Q"), 20, 8)


def _offset(file: BinaryIO, layout: _Layout, place: int, shown: str) -> int:
    file.seek(place)
    data = file.read(layout.offset.size)
    if len(data) < layout.offset.size:
        raise BadFile(shown, f"it ends inside a TIFF directory: it is truncated. {_DAMAGED}")
    return int(layout.offset.unpack(data)[0])


def _next(file: BinaryIO, layout: _Layout, place: int, shown: str) -> int:
    """The offset of the directory after the one at `place`, 0 after the last."""
    file.seek(place)
    tags = int(layout.count.unpack(file.read(layout.count.size))[0])
    if not 0 < tags <= _MOST_TAGS:
        raise BadFile(shown, f"a TIFF directory claims to have {tags:,} entries: it is damaged. {_DAMAGED}")
    return _offset(file, layout, place + layout.count.size + tags * layout.tag_bytes, shown)
