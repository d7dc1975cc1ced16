"""The sizes of WebP and GIF images, from their first bytes."""

from __future__ import annotations

import struct

from fieldmark.errors import BadFile


def webp_size(head: bytes, shown: str) -> tuple[int, int]:
    """Width and height that a WebP stream declares.

    Raises:
        BadFile: It does not begin as WebP.
    """
    kind = head[12:16]
    if len(head) < 30 or head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        raise BadFile(shown, "its WebP header is damaged. Copy or export it again.")
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
        return width, height
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise BadFile(shown, "its WebP header is damaged. Copy or export it again.")


def gif_size(head: bytes, shown: str) -> tuple[int, int]:
    """Width and height of the first frame of a GIF, with the screen that it lies on.

    Args:
        head: The file's beginning, up to the first frame.
        shown: The name used in errors.

    Raises:
        BadFile: There is no frame in it.
    """
    try:
        width, height, flags = struct.unpack_from("<HHB", head, 6)
        place = 13 + _table_bytes(flags)
        while head[place] == _EXTENSION:
            place = _after_blocks(head, place + 2)
        if head[place] != _FRAME:
            raise BadFile(shown, "it holds no frame where a GIF has its first one. Copy or export it again.")
        left, top, columns, rows = struct.unpack_from("<HHHH", head, place + 1)
    except (IndexError, struct.error) as error:
        raise BadFile(shown, "its GIF header is cut off. Copy or export it again.") from error
    return max(width, left + columns), max(height, top + rows)


_EXTENSION, _FRAME = 0x21, 0x2C


def _table_bytes(flags: int) -> int:
    """The size of the color table that follows a header with these flags."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, place: int) -> int:
    """Where the chain of sub-blocks at `place` ends."""
    while data[place]:
        place += data[place] + 1
    return place + 1
