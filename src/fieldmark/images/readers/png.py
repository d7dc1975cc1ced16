"""PNG: 16-bit color stays 16-bit; the header is read by hand before anything is decoded."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from fieldmark.errors import BadFile
from fieldmark.images.faults import decoding
from fieldmark.images.readers import OpenRequest
from fieldmark.images.source import DecodedSource, check_bytes

_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_PALETTE = 3
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_CHUNK_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class PngHeader:
    """What a PNG file says of itself before its pixels."""

    width: int
    height: int
    depth: int
    """Bits per sample."""
    color: int
    """The format's color type: 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGB and alpha."""
    transparent: bool
    """Has a tRNS chunk, which the decoder turns into one more channel."""

    @property
    def samples(self) -> int:
        return _SAMPLES[self.color] + self.transparent

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint16 if self.depth > 8 else np.uint8)


def open_png(ask: OpenRequest) -> DecodedSource:
    """Open a PNG image; of an animated one, the first frame.

    Gray of 1, 2 or 4 bits is spread to 0..255, as the format defines. Palettes become RGB (RGBA
    where entries are transparent) unless indices are asked for. Gamma, color profiles and the
    print resolution (pHYs) do not touch the values.
    """
    ask.check_encoded()
    with decoding(ask.shown, "PNG image"):
        header = read_png_header(ask)
    indexed = header.color == _PALETTE and not ask.expand_palette
    samples = 1 if indexed else header.samples
    shape: tuple[int, ...] = (header.height, header.width)
    check_bytes(ask.shown, (samples, *shape), header.dtype, ask.max_bytes)
    axes, shape = ("yx", shape) if samples == 1 else ("cyx", (samples, *shape))
    decode = _decode_indices if indexed else _decode
    return DecodedSource(ask.shown, shape, header.dtype, axes, lambda: decode(ask))


def read_png_header(ask: OpenRequest) -> PngHeader:
    """Walk the chunks of a PNG file up to its pixels, and check that its end is there.

    Raises:
        BadFile: The header is missing or makes no sense, or the file ends before its end chunk.
    """
    with open(ask.path, "rb") as file:
        file.seek(8)
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind != b"IHDR" or length != 13:
            raise BadFile(ask.shown, "its first chunk is not a PNG header. Copy or export it again.")
        width, height, depth, color, *_ = struct.unpack(">IIBBBBB4x", file.read(17))
        transparent = False
        while kind != b"IEND":
            head = file.read(8)
            if len(head) < 8:
                raise BadFile(ask.shown, "it ends before the PNG end mark: it is truncated. Copy or export it again.")
            length, kind = struct.unpack(">I4s", head)
            if length > _CHUNK_LIMIT:
                raise BadFile(ask.shown, f"it has a chunk of {length:,} bytes: it is damaged. Copy or export it again.")
            transparent |= kind == b"tRNS"
            file.seek(length + 4, 1)
    if depth not in _DEPTHS.get(color, ()):
        raise BadFile(ask.shown, f"its header has color type {color} with {depth} bits, which PNG does not know.")
    return PngHeader(width, height, depth, color, transparent)


def _decode(ask: OpenRequest) -> np.ndarray:
    import imagecodecs

    with decoding(ask.shown, "PNG image"):
        pixels: np.ndarray = imagecodecs.png_decode(_pixels_only(ask.path.read_bytes(), ask.shown))
    return pixels if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def _pixels_only(data: bytes, shown: str) -> bytes:
    """The PNG with only the chunks that make its pixels, each with its checksum verified.

    The decoder writes to standard error about color profiles and text that we do not use.

    Raises:
        BadFile: A chunk is damaged.
    """
    view, place, kind = memoryview(data), 8, b""
    kept: list[bytes | memoryview] = [data[:8]]
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, place)
        chunk = view[place : place + length + 12]
        if kind in _PIXEL_CHUNKS:
            if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
                raise BadFile(shown, f"its PNG chunk at byte {place:,} is damaged. Copy or export it again.")
            kept.append(chunk)
        place += length + 12
    return b"".join(kept)


def _decode_indices(ask: OpenRequest) -> np.ndarray:
    from PIL.PngImagePlugin import PngImageFile

    # The plug-in's class, not Image.open: its limit on pixels is a global that warns.
    with decoding(ask.shown, "PNG image"), open(ask.path, "rb") as file, PngImageFile(file) as image:
        return np.array(image)
