"""Formats that are rare in science: BMP, GIF and WebP, decoded whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fieldmark.errors import BadFile, TooLarge
from fieldmark.images.faults import decoding
from fieldmark.images.readers import OpenRequest
from fieldmark.images.readers.headers import gif_size, webp_size
from fieldmark.images.source import DecodedSource, check_bytes

_BYTE = np.dtype(np.uint8)
_MOST_GIF_PIXELS = 1 << 26
"""Below the number at which the library that decodes them warns on standard error."""
_AS_IS = {"1": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def open_bmp(ask: OpenRequest) -> DecodedSource:
    """Open a BMP image."""
    from PIL.BmpImagePlugin import BmpImageFile

    return _open_pillow(ask, BmpImageFile, "BMP image")


def open_gif(ask: OpenRequest) -> DecodedSource:
    """Open the first frame of a GIF image."""
    from PIL.GifImagePlugin import GifImageFile

    ask.check_encoded()
    with decoding(ask.shown, "GIF image"):
        width, height = gif_size(ask.path.read_bytes(), ask.shown)
    if width * height > _MOST_GIF_PIXELS:
        raise TooLarge(
            ask.shown,
            f"it is a GIF of {width} x {height} pixels; at most {_MOST_GIF_PIXELS:,} are read. "
            "Convert it to PNG or TIFF.",
        )
    return _open_pillow(ask, GifImageFile, "GIF image")


def open_webp(ask: OpenRequest) -> DecodedSource:
    """Open a WebP image as RGB, or as RGBA where it has transparency.

    Raises:
        BadFile: It is damaged or animated.
    """
    import imagecodecs

    ask.check_encoded()
    with decoding(ask.shown, "WebP image"), open(ask.path, "rb") as file:
        head = file.read(64)
        width, height = webp_size(head, ask.shown)
    if head[12:16] == b"VP8X" and head[20] & 2:
        raise BadFile(ask.shown, "it is an animated WebP image. Export the frame that you mean.")
    # Bit 4 of the extended header, or of the lossless one, says that there is an alpha channel.
    alpha = bool(head[20] & 16) if head[12:16] == b"VP8X" else head[12:16] == b"VP8L" and bool(head[24] & 16)
    shape = (4 if alpha else 3, height, width)
    check_bytes(ask.shown, shape, _BYTE, ask.max_bytes)

    def decode() -> np.ndarray:
        with decoding(ask.shown, "WebP image"):
            pixels: np.ndarray = imagecodecs.webp_decode(ask.path.read_bytes(), hasalpha=alpha)
        return np.moveaxis(pixels, -1, 0)

    return DecodedSource(ask.shown, shape, _BYTE, "cyx", decode)


def _open_pillow(ask: OpenRequest, plugin: Callable[..., Any], kind: str) -> DecodedSource:
    """Open with a plug-in's own class: the library's front door has a global limit that warns."""
    ask.check_encoded()
    with decoding(ask.shown, kind), open(ask.path, "rb") as file, plugin(file) as image:
        width, height = image.size
        mode = _target_mode(image, ask)
    samples = _AS_IS[mode]
    check_bytes(ask.shown, (samples, height, width), _BYTE, ask.max_bytes)
    shape: tuple[int, ...] = (height, width) if samples == 1 else (samples, height, width)

    def decode() -> np.ndarray:
        with decoding(ask.shown, kind), open(ask.path, "rb") as file, plugin(file) as image:
            image.load()
            same = image.mode == mode or (image.mode == "P" and mode == "L" and not ask.expand_palette)
            pixels = np.array(image if same else image.convert(mode)).astype(_BYTE)
        return pixels if samples == 1 else np.moveaxis(pixels, -1, 0)

    return DecodedSource(ask.shown, shape, _BYTE, "yx" if samples == 1 else "cyx", decode)


def _target_mode(image: Any, ask: OpenRequest) -> str:
    """What the pixels are given as: themselves, palette indices as gray, or colors."""
    if image.mode == "P" and not ask.expand_palette:
        return "L"
    return image.mode if image.mode in _AS_IS else "RGB"
