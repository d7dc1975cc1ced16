"""TIFF in all its dialects, read lazily.

Values are given as the file keeps them: WhiteIsZero is not inverted, GeoTIFF no-data values are
not replaced, orientation tags do not turn the image. Palettes become colors, unless they only
tint a gray image (ImageJ look-up tables, fluorescence colors): then the values are the image.
A file with several series gives its first.
"""

from __future__ import annotations

import sys
from math import prod
from threading import RLock
from typing import Any, cast

import numpy as np

from fieldmark.core.axes import PixelSize
from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile
from fieldmark.images.faults import decoding
from fieldmark.images.readers import OpenRequest
from fieldmark.images.readers.tiff_ifds import check_directories
from fieldmark.images.readers.tiff_layout import Layout, plan_layout
from fieldmark.images.readers.tiff_pieces import READ
from fieldmark.images.readers.tiff_planes import MappedPlanes, PagedPlanes, Planes, segment_place, stacked_planes
from fieldmark.images.readers.tiff_scale import check_ome, read_pixel_size
from fieldmark.images.source import BaseSource, check_bytes, readable_dtype

_PALETTE = 3
_DAMAGED = "Copy or export it again."
_ONE_FILE = {"is_mmstack": False, "is_ndtiff": False, "is_ndpi": False, "is_eer": False}
"""Dialects that reach for other files or for 64-bit tricks are read as the plain TIFF that they also are."""


class TiffSource(BaseSource):
    """An open TIFF file."""

    def __init__(self, tif: Any, levels: list[tuple[Layout, Planes]], colors: np.ndarray | None, **facts: Any) -> None:
        self._tif = tif
        self._planes = levels
        self._colors = colors  # (3, entries), or None for an image without a palette
        super().__init__(levels=[_shape(layout, colors) for layout, _ in levels], **facts)

    def grain(self, level: int = 0) -> tuple[int, ...]:
        """5-D shape of the tiles or strips of a level."""
        layout, planes = self._planes[level]
        samples = 3 if self._colors is not None else layout.size("s")
        return (1, samples, 1, *planes.grain())

    def _read(self, box: Box, level: int) -> np.ndarray:
        layout, planes = self._planes[level]
        samples = 3 if self._colors is not None else layout.size("s")
        out = np.empty(box.shape, self._dtype)
        place = Box(box.start[3:], box.stop[3:])
        if box.is_empty:
            return out
        for t in range(box.start[0], box.stop[0]):
            for z in range(box.start[2], box.stop[2]):
                for c in range(box.start[1] // samples, (box.stop[1] - 1) // samples + 1):
                    first, last = max(box.start[1], c * samples), min(box.stop[1], (c + 1) * samples)
                    wanted = range(first - c * samples, last - c * samples)
                    target = out[t - box.start[0], first - box.start[1] : last - box.start[1], z - box.start[2]]
                    target[:] = self._plane(planes, (t, c, z), wanted, place)
        return out

    def _plane(self, planes: Planes, at: tuple[int, int, int], samples: range, place: Box) -> np.ndarray:
        if self._colors is None:
            return planes.read(at, samples, place)
        values = planes.read(at, range(1), place)[0]
        index = values.view(np.uint8) if values.dtype == np.bool_ else values
        return self._colors[samples.start : samples.stop, index]

    def close(self) -> None:
        super().close()
        self._planes = []
        self._tif.close()


def open_tiff(ask: OpenRequest) -> TiffSource:
    """Open a TIFF file: plain, tiled, BigTIFF, OME-TIFF, ImageJ, GeoTIFF or SVS, with its pyramid.

    Raises:
        BadFile: It is damaged, spread over several files, or stores pixels in a way that is not read.
        TooLarge: One of its tiles or strips alone exceeds `ask.max_bytes`.
    """
    import tifffile

    if ask.path.suffix.lower() == ".ndpi":
        raise BadFile(ask.shown, "it is an NDPI slide, which is not read. Convert it to OME-TIFF or OME-Zarr.")
    with decoding(ask.shown, "TIFF image"):
        check_directories(ask.path, ask.shown)
        tif = tifffile.TiffFile(ask.path, _multifile=False, **_ONE_FILE)
    try:
        return _opened(tif, ask)
    except BaseException:
        tif.close()
        raise


def _opened(tif: Any, ask: OpenRequest) -> TiffSource:
    with decoding(ask.shown, "TIFF image"):
        if tif.is_ome:
            check_ome(tif.ome_metadata or "", ask.shown)
        found = tif.series
        if not found or not found[0].shape or found[0].transform is not None:
            raise BadFile(ask.shown, "no image in it can be read. Export it as a plain TIFF or OME-TIFF.")
        first = found[0]
        dtype = _dtype(first, ask)
        lock = RLock()
        levels = [_level(series, dtype, ask, lock) for series in first.levels]
        colors = _palette(first.keyframe, tif.is_imagej, ask.shown) if ask.expand_palette else None
        pixel_size: PixelSize = read_pixel_size(tif, ask.shown)
    layout = levels[0][0]
    if any(n > m for level, _ in levels for n, m in zip(level.shape, layout.shape, strict=True)):
        raise BadFile(ask.shown, f"a level of its pyramid is larger than the image itself. {_DAMAGED}")
    axes = layout.axes if colors is None or "c" in layout.axes else _with_channels(layout.axes)
    kept = readable_dtype(dtype if colors is None else colors.dtype, ask.shown)
    return TiffSource(tif, levels, colors, shown=ask.shown, dtype=kept, axes=axes, pixel_size=pixel_size)


def _dtype(series: Any, ask: OpenRequest) -> np.dtype:
    if series.keyframe.dtype is None:
        bits = series.keyframe.bitspersample
        raise BadFile(ask.shown, f"its values have {bits} bits in a form that is not read. Save it with 8, 16 or 32.")
    readable_dtype(series.dtype, ask.shown)
    return cast(np.dtype, series.dtype)


def _level(series: Any, dtype: np.dtype, ask: OpenRequest, lock: RLock) -> tuple[Layout, Planes]:
    key = series.keyframe
    layout = plan_layout(series.axes, series.shape, ask.shown)
    if key.compression not in READ:
        name = getattr(key.compression, "name", key.compression)
        raise BadFile(ask.shown, f"it is compressed as {name}, which is not read. Save it with deflate, LZW or none.")
    check_bytes(ask.shown, (key.imagelength, key.imagewidth, 1), np.dtype(np.uint8), sys.maxsize)  # no empty image
    offset = series.dataoffset
    if offset is not None:
        return layout, _mapped(series, offset, layout, ask)
    _check_pages(series, layout, ask)
    rows, columns = (key.tilelength, key.tilewidth) if key.is_tiled else (key.rowsperstrip, key.imagewidth)
    contiguous = 1 if key.planarconfig == 2 else key.samplesperpixel
    piece = (min(rows, key.imagelength) if not key.is_tiled else rows, columns, contiguous)
    check_bytes(ask.shown, piece, dtype, ask.max_bytes, what="one of its tiles or strips")
    segment_place(series[0], prod(key.chunked) - 1, ask.shown)
    return layout, PagedPlanes(series, layout, ask.shown, lock)


def _mapped(series: Any, offset: int, layout: Layout, ask: OpenRequest) -> MappedPlanes:
    stored = np.dtype(series.dtype).newbyteorder(series.keyframe.parent.byteorder)
    size, end = ask.path.stat().st_size, offset + prod(layout.sizes) * stored.itemsize
    if end > size:
        raise BadFile(
            ask.shown,
            f"its pixels should end at byte {end:,}, but the file has {size:,} bytes: it is truncated. {_DAMAGED}",
        )
    return MappedPlanes(ask.path, offset, stored, layout)


def _check_pages(series: Any, layout: Layout, ask: OpenRequest) -> None:
    """Make sure that what the description says of the axes is what the pages hold."""
    key = series.keyframe
    apart, depth, height, width, together = key.shaped
    stacked = stacked_planes(key, layout)
    planes = prod(size for _, size in layout.outer)
    same = (height, width, apart * together // stacked) == (layout.size("y"), layout.size("x"), layout.size("s"))
    innermost = layout.outer[-1][1] if layout.outer else 1
    if not same or innermost % stacked or depth != 1 or len(series) * stacked != planes or not layout.outer_first:
        raise BadFile(
            ask.shown,
            f"its description promises axes {series.axes} {series.shape}, but its {len(series)} pages of "
            f"{height} x {width} pixels are not that. Export it as a plain TIFF or OME-TIFF.",
        )
    if any(page is None for page in series._pages):
        raise BadFile(
            ask.shown, "planes of its series are missing: it was never finished. Export the whole image again."
        )


def _palette(page: Any, imagej: bool, shown: str) -> np.ndarray | None:
    """The colors of a palette image as (3, entries) uint8 or uint16; None where the values are the image.

    Raises:
        BadFile: There are fewer colors than values, or the values have a sign.
    """
    if page.photometric != _PALETTE or page.colormap is None or imagej or page.samplesperpixel != 1:
        return None
    colors = np.asarray(page.colormap, np.uint16)
    enough = colors.ndim == 2 and len(colors) == 3 and colors.shape[1] >= 2**page.bitspersample
    if not enough or page.dtype.kind not in "ub":
        raise BadFile(
            shown, f"its palette is {colors.shape} for {page.dtype} values of {page.bitspersample} bits. {_DAMAGED}"
        )
    if _only_tints(colors):
        return None
    if colors.max(initial=0) < 256:
        return colors.astype(np.uint8)  # a common mistake: 8-bit colors in the 16-bit table
    high, low = colors >> 8, colors & 255
    return high.astype(np.uint8) if np.isin(low, (0, 255)).all() or np.array_equal(high, low) else colors


def _only_tints(colors: np.ndarray) -> bool:
    """Whether every column of a palette is black throughout or rises with the value itself."""
    ramp = np.arange(colors.shape[1]) * 256 // colors.shape[1]
    return all(not column.any() or np.array_equal(column >> 8, ramp) for column in colors)


def _shape(layout: Layout, colors: np.ndarray | None) -> tuple[int, ...]:
    t, c, z, y, x = layout.shape
    return (t, c * (1 if colors is None else 3), z, y, x)


def _with_channels(axes: str) -> str:
    return "t" * ("t" in axes) + "c" + axes.lstrip("t")
