"""What a compressed tile or strip declares of itself, compared with what the directory promises."""

from __future__ import annotations

import struct

from fieldmark.errors import BadFile
from fieldmark.images.readers.headers import webp_size
from fieldmark.images.readers.jpeg import read_jpeg_header

_JPEG = frozenset({7})
_JPEG2000 = frozenset({33003, 33005, 34712})
_WEBP = frozenset({50001})
_BYTES = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})  # none, LZW, deflate, PackBits, LZMA, Zstandard
_SLACK = 4
"""A piece may declare this many times the pixels promised: edge tiles are padded differently by different writers."""

READ = _JPEG | _JPEG2000 | _WEBP | _BYTES
"""TIFF compressions that are read: those whose decoded size is known before they are decoded."""


def check_piece(data: bytes, compression: int, promised: tuple[int, int], shown: str) -> None:
    """Refuse a tile or strip that would decode to far more than (rows, columns) `promised`.

    Raises:
        BadFile: It would, or it declares no size at all.
    """
    if compression in _BYTES:
        return  # these are decoded into a buffer of the promised size
    rows, columns = _declared(data, compression, shown)
    if rows * columns > _SLACK * promised[0] * promised[1]:
        raise BadFile(
            shown,
            f"a tile of {promised[0]} x {promised[1]} pixels claims to hold {rows} x {columns}: "
            "it is damaged. Copy or export it again.",
        )


def _declared(data: bytes, compression: int, shown: str) -> tuple[int, int]:
    if compression in _JPEG:
        header = read_jpeg_header(data, shown)
        return header.height, header.width
    if compression in _WEBP:
        width, height = webp_size(data[:64], shown)
        return height, width
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(data) < start + 16:
        raise BadFile(shown, "one of its JPEG 2000 tiles has no header: it is damaged. Copy or export it again.")
    columns, rows = struct.unpack_from(">II", data, start + 8)
    return int(rows), int(columns)
