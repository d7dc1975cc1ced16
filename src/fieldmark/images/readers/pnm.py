"""PBM, PGM and PPM: raw values as they are, whatever the maximum that the header names."""

from __future__ import annotations

import re

import numpy as np

from fieldmark.errors import BadFile
from fieldmark.images.faults import decoding
from fieldmark.images.readers import OpenRequest
from fieldmark.images.source import DecodedSource, check_bytes

_TOKEN = re.compile(rb"(?:\s|#[^\n]*\n)*(\d+)")
_HEAD = 4096


def open_pnm(ask: OpenRequest) -> DecodedSource:
    """Open a PBM, PGM or PPM image, text or binary; of several in one file, the first.

    In a PBM 1 is black; it is given as 1. Values above 255 are uint16.
    """
    ask.check_encoded()
    with open(ask.path, "rb") as file:
        head = file.read(_HEAD)
    kind = int(head[1:2])
    numbers, start = _header(head, kind, ask.shown)
    width, height, top = (*numbers, 1)[:3]
    samples = 3 if kind in {3, 6} else 1
    if not 0 < top < 2**16:
        raise BadFile(
            ask.shown, f"its header names {top} as the largest value; 1 to 65535 are allowed. Export it again."
        )
    dtype = np.dtype(np.uint8 if top < 256 else np.uint16)
    check_bytes(ask.shown, (samples, height, width), dtype, ask.max_bytes)
    axes, shape = ("yx", (height, width)) if samples == 1 else ("cyx", (3, height, width))

    def decode() -> np.ndarray:
        with decoding(ask.shown, "PNM image"):
            values = _values(ask.path.read_bytes()[start:], kind, (height, width, samples), dtype)
        return np.moveaxis(values, -1, 0).reshape(shape)

    return DecodedSource(ask.shown, shape, dtype, axes, decode)


def _header(head: bytes, kind: int, shown: str) -> tuple[list[int], int]:
    """Width, height and (but for bitmaps) the largest value; and where the pixels begin."""
    numbers: list[int] = []
    place = 2
    for _ in range(2 if kind in {1, 4} else 3):
        found = _TOKEN.match(head, place)
        if not found or len(found[1]) > 10:
            raise BadFile(shown, "its PNM header is cut off or damaged. Copy or export it again.")
        numbers.append(int(found[1]))
        place = found.end()
    return numbers, place + 1


def _values(data: bytes, kind: int, shape: tuple[int, int, int], dtype: np.dtype) -> np.ndarray:
    height, width, samples = shape
    count = height * width * samples
    if kind == 4:
        row = -(-width // 8)
        packed = np.frombuffer(data, np.uint8, height * row).reshape(height, row)
        return np.unpackbits(packed, axis=1)[:, :width, None]
    if kind in {5, 6}:
        return np.frombuffer(data, dtype.newbyteorder(">"), count).reshape(shape)
    text = re.sub(rb"#[^\n]*", b"", data)
    words = list(text.replace(b" ", b"").replace(b"\n", b"").decode()) if kind == 1 else text.split()
    if len(words) < count:
        raise ValueError(f"{len(words)} of {count} values")
    return np.array([int(word) for word in words[:count]], dtype).reshape(shape)
