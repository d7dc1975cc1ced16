"""Planes of one pyramid level of a TIFF file, read piece by piece."""

from __future__ import annotations

from collections import OrderedDict
from math import ceil
from pathlib import Path
from threading import RLock
from typing import Any, Protocol

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile
from fieldmark.images.faults import decoding
from fieldmark.images.readers.tiff_layout import Layout
from fieldmark.images.readers.tiff_pieces import check_piece

_CACHE_BYTES = 1 << 26
_JPEG = 7
_ROLES = "tczsyx"


class Planes(Protocol):
    """Reads a rectangle of one plane."""

    def read(self, at: tuple[int, int, int], samples: range, place: Box) -> np.ndarray:
        """The pixels of plane (t, c, z) inside the 2-D box `place`: (len(samples), y, x)."""
        ...

    def grain(self) -> tuple[int, int]:
        """Rows and columns of the pieces that are decoded together."""
        ...


class MappedPlanes:
    """Pixels that stand in the file as they are in memory."""

    def __init__(self, path: Path, offset: int, dtype: np.dtype, layout: Layout) -> None:
        array = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=layout.sizes)
        in_order = sorted(range(len(layout.order)), key=lambda i: _ROLES.index(layout.order[i]))
        full = tuple(layout.size(role) for role in _ROLES)
        self._view = array.transpose(in_order).reshape(full)

    def read(self, at: tuple[int, int, int], samples: range, place: Box) -> np.ndarray:
        plane = self._view[at]
        return np.asarray(plane[(slice(samples.start, samples.stop), *place.slices)])

    def grain(self) -> tuple[int, int]:
        return 512, int(self._view.shape[-1])


class SegmentCache:
    """The tiles or strips decoded last, up to a fixed number of bytes; the very last is always kept."""

    def __init__(self, max_bytes: int = _CACHE_BYTES) -> None:
        self._kept: OrderedDict[tuple[int, int], np.ndarray | None] = OrderedDict()
        self._max_bytes = max_bytes
        self._bytes = 0
        self._lock = RLock()

    def get(self, key: tuple[int, int]) -> tuple[bool, np.ndarray | None]:
        with self._lock:
            if key not in self._kept:
                return False, None
            self._kept.move_to_end(key)
            return True, self._kept[key]

    def put(self, key: tuple[int, int], segment: np.ndarray | None) -> None:
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = segment
            self._bytes += segment.nbytes if segment is not None else 0
            while self._bytes > self._max_bytes and len(self._kept) > 1:
                _, old = self._kept.popitem(last=False)
                self._bytes -= old.nbytes if old is not None else 0


class PagedPlanes:
    """Pixels in compressed or scattered tiles and strips: only those that meet a box are decoded."""

    def __init__(self, series: Any, layout: Layout, shown: str, lock: RLock) -> None:
        self._series = series
        self._layout = layout
        self._shown = shown
        self._lock = lock  # the library's file handle and page list are shared by all levels
        self._cache = SegmentCache()
        key = series.keyframe
        self._planar = key.planarconfig == 2 and key.samplesperpixel > 1
        self._stacked = stacked_planes(key, layout)
        rows = key.tilelength if key.is_tiled else min(key.rowsperstrip, key.imagelength)
        columns = key.tilewidth if key.is_tiled else key.imagewidth
        self._grain = (int(rows), int(columns))
        self._grid = (ceil(key.imagelength / rows), ceil(key.imagewidth / columns))
        self._nodata = key.nodata

    def grain(self) -> tuple[int, int]:
        return self._grain

    def read(self, at: tuple[int, int, int], samples: range, place: Box) -> np.ndarray:
        out = np.empty((len(samples), *place.shape), self._series.dtype)
        page, first = divmod(self._layout.page(*at), self._stacked)
        if not self._planar:
            self._fill(out, (page, 0), samples, place)
            return out
        for target, sample in zip(out, samples, strict=True):
            self._fill(target[None], (page, first + sample), range(1), place)
        return out

    def _fill(self, out: np.ndarray, plane: tuple[int, int], samples: range, place: Box) -> None:
        """Fill (len(samples), y, x) from the pieces of a plane of a page that meet `place`."""
        rows, columns = self._grain
        page, apart = plane
        for row in range(place.start[0] // rows, ceil(place.stop[0] / rows)):
            for column in range(place.start[1] // columns, ceil(place.stop[1] / columns)):
                piece = Box((row * rows, column * columns), ((row + 1) * rows, (column + 1) * columns))
                both = place.intersection(piece)
                target = out[(slice(None), *both.relative_to(place).slices)]
                segment = self._segment(page, (apart * self._grid[0] + row) * self._grid[1] + column)
                if segment is None:
                    target[:] = self._nodata
                    continue
                inner = segment[both.relative_to(piece).slices]
                target[:] = np.moveaxis(inner[..., samples.start : samples.stop], -1, 0)

    def _segment(self, page: int, index: int) -> np.ndarray | None:
        """One decoded tile or strip as (rows, columns, samples); None where the file leaves it out."""
        known, segment = self._cache.get((page, index))
        if known:
            return segment
        with decoding(self._shown, "TIFF image"):
            data, extra = self._encoded(page, index)
            if data is not None:
                check_piece(data, self._series.keyframe.compression, self._grain, self._shown)
                decoded = self._series.keyframe.decode(data, index, **extra)[0]
                segment = None if decoded is None else decoded.reshape(decoded.shape[-3:])
        self._cache.put((page, index), segment)
        return segment

    def _encoded(self, page: int, index: int) -> tuple[bytes | None, dict[str, Any]]:
        with self._lock:
            frame = self._series[page]
            if frame is None:
                raise BadFile(self._shown, f"plane {page + 1} of its series is missing. Export the whole image again.")
            offset, size = segment_place(frame, index, self._shown)
            if not size:
                return None, {}
            handle = frame.parent.filehandle
            handle.seek(offset)
            data: bytes = handle.read(size)
            key = self._series.keyframe
            extra = {"jpegtables": frame.jpegtables, "jpegheader": key.jpegheader} if key.compression == _JPEG else {}
        if len(data) < size:
            raise BadFile(self._shown, f"it ends inside piece {index + 1} of plane {page + 1}: it is truncated.")
        return data, extra


def stacked_planes(page: Any, layout: Layout) -> int:
    """How many planes of the image a page holds apart, as if they were the samples of a pixel.

    Some writers store a stack of three or four slices as one page with as many separate samples.
    """
    apart = int(page.shaped[0])
    return apart if apart > 1 and "s" not in layout.order else 1


def segment_place(frame: Any, index: int, shown: str) -> tuple[int, int]:
    """Where a tile or strip stands in the file, checked against the file's size.

    Raises:
        BadFile: The directory does not name it, or names a place outside the file.
    """
    if index >= len(frame.dataoffsets) or index >= len(frame.databytecounts):
        raise BadFile(
            shown,
            f"its TIFF directory lists {len(frame.dataoffsets)} tiles or strips, but its size needs more: "
            "it is damaged. Copy or export it again.",
        )
    offset, size = int(frame.dataoffsets[index]), int(frame.databytecounts[index])
    if size and offset + size > frame.parent.filehandle.size:
        raise BadFile(
            shown,
            f"tile or strip {index + 1} should end at byte {offset + size:,}, but the file has "
            f"{frame.parent.filehandle.size:,} bytes: it is truncated. Copy or export it again.",
        )
    return offset, size
