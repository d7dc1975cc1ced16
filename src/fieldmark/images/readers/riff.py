"""The size of a WebP image, from its first bytes."""

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
