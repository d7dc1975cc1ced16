"""JPEG: the frame header is read by hand, and the end mark is looked for before decoding.

The decoder itself fills the missing part of a truncated image with gray and says nothing.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np

from fieldmark.errors import BadFile
from fieldmark.images.faults import decoding
from fieldmark.images.readers import OpenRequest
from fieldmark.images.source import DecodedSource, check_bytes

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What a JPEG stream declares in its frame header."""

    width: int
    height: int
    samples: int
    bits: int
    complete: bool
    """The end mark is there, after at least one scan."""


def open_jpeg(ask: OpenRequest) -> DecodedSource:
    """Open a JPEG image, gray or RGB, of 8 bits.

    The orientation that a camera notes in EXIF is not applied: labels drawn on the pixels must
    not turn with a viewer's habit.
    """
    ask.check_encoded()
    with decoding(ask.shown, "JPEG image"):
        header = read_jpeg_header(ask.path.read_bytes(), ask.shown)
    check_frame(header, ask.shown)
    if not header.complete:
        raise BadFile(ask.shown, "it ends before the JPEG end mark: it is truncated. Copy or export it again.")
    shape: tuple[int, ...] = (header.height, header.width)
    check_bytes(ask.shown, (header.samples, *shape), np.dtype(np.uint8), ask.max_bytes)
    axes, shape = ("yx", shape) if header.samples == 1 else ("cyx", (header.samples, *shape))
    return DecodedSource(ask.shown, shape, np.dtype(np.uint8), axes, lambda: _decode(ask))


def check_frame(header: JpegHeader, shown: str) -> None:
    """Refuse frames that would not be read as they were meant."""
    if header.bits != 8 or header.samples not in {1, 3}:
        raise BadFile(
            shown,
            f"it is a JPEG of {header.samples} samples of {header.bits} bits; gray and RGB of 8 bits are read. "
            "Convert it to RGB, or to TIFF.",
        )


def read_jpeg_header(data: bytes, shown: str) -> JpegHeader:
    """The frame header of a JPEG stream, and whether the stream is complete.

    Raises:
        BadFile: There is no frame header before the first scan, or two frames disagree.
    """
    frame: tuple[int, int, int, int] | None = None
    place, scans, complete = 2, 0, False
    while (marker := _marker(data, place)) is not None:
        kind, place = marker
        if kind == _END:
            complete = scans > 0
            break
        if kind == _START or kind in _BARE:
            continue
        length = int.from_bytes(data[place : place + 2], "big")
        if length < 2:
            raise BadFile(shown, f"its JPEG segment at byte {place} has no length: it is damaged. Export it again.")
        if kind in _FRAMES:
            found = struct.unpack_from(">BHHB", data, place + 2)
            if frame not in {None, found}:
                raise BadFile(shown, "it has two JPEG frames that disagree: it is damaged. Export it again.")
            frame = found
        scans += kind == _SCAN
        place += length
    if frame is None:
        raise BadFile(shown, "it has no JPEG frame header: it is truncated or damaged. Copy or export it again.")
    bits, height, width, samples = frame
    return JpegHeader(width, height, samples, bits, complete)


def _marker(data: bytes, place: int) -> tuple[int, int] | None:
    """The next marker at or after `place`, over entropy-coded bytes if need be, and where it ends."""
    found = _NEXT_MARKER.search(data, place)
    return (data[found.end() - 1], found.end()) if found else None


def _decode(ask: OpenRequest) -> np.ndarray:
    import imagecodecs

    with decoding(ask.shown, "JPEG image"):
        pixels: np.ndarray = imagecodecs.jpeg_decode(ask.path.read_bytes())
    return pixels if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
