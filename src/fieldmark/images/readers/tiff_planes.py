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
        rows = key.tilelength if key.is_tiled else min(key.rowsperstrip, key.imagelength)
        columns = key.tilewidth if key.is_tiled else key.imagewidth
        self._grain = (int(rows), int(columns))
        self._grid = (ceil(key.imagelength / rows), ceil(key.imagewidth / columns))
        self._nodata = key.nodata

    def grain(self) -> tuple[int, int]:
        return self._grain

    def read(self, at: tuple[int, int, int], samples: range, place: Box) -> np.ndarray:
        out = np.empty((len(samples), *place.shape), self._series.dtype)
        page = self._layout.page(*at)
        groups = samples if self._planar else [samples.start]
        for group in groups:
            wanted = range(group, group + 1) if self._planar else samples
            target = out[group - samples.start : group - samples.start + len(wanted)]
            self._fill(target, page, wanted, place)
        return out

    def _fill(self, out: np.ndarray, page: int, samples: range, place: Box) -> None:
        rows, columns = self._grain
        for row in range(place.start[0] // rows, ceil(place.stop[0] / rows)):
            for column in range(place.start[1] // columns, ceil(place.stop[1] / columns)):
                corner = (row * rows, column * columns)
                piece = Box(corner, (corner[0] + rows, corner[1] + columns))
                both = place.intersection(piece)
                target = out[(slice(None), *both.relative_to(place).slices)]
                plane = samples.start if self._planar else 0
                segment = self._segment(page, (plane * self._grid[0] + row) * self._grid[1] + column)
                if segment is None:
                    target[:] = self._nodata
                    continue
                inner = segment[(*both.relative_to(piece).slices,)]
                kept = inner if self._planar else inner[..., samples.start : samples.stop]
                target[:] = np.moveaxis(kept, -1, 0)

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
