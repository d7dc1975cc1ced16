"""One position of a folder of frames: single planes in files of their own, named by a listing, as one image.

A listing is a text file of ours: `# fieldmark frames 1`, a line of columns, and one line for each frame. The folder
that the frames lie in is the one line of `folder.txt` beside it, so that frames can move while their listing, by
which the project knows them, stays what it is.
"""

from __future__ import annotations

import csv
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePosixPath
from threading import Lock

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile
from fieldmark.images.readers import FRAMES_MAGIC, OpenRequest
from fieldmark.images.source import BaseSource, ImageSource

COLUMNS = ("channel_idx", "slice_idx", "time_idx", "channel_name", "file_name", "bytes", "sha256")
FOLDER = "folder.txt"
CACHE_BYTES = 1 << 28
"""Of decoded frames that stay open."""
_MOST_BYTES = 1 << 28
_MOST_FRAMES = 1 << 22


@dataclass(frozen=True, slots=True)
class Frame:
    """One plane of a position: where it belongs, and its file."""

    channel: int
    slice: int
    time: int
    channel_name: str
    file: str
    """Relative to the folder of frames, with forward slashes."""
    bytes: int
    sha256: str


def listing_of(frames: Iterable[Frame]) -> bytes:
    """The listing of a position's frames."""
    text = StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for frame in sorted(frames, key=lambda one: (one.time, one.channel, one.slice)):
        lines.writerow(
            (frame.channel, frame.slice, frame.time, frame.channel_name, frame.file, frame.bytes, frame.sha256)
        )
    return FRAMES_MAGIC + b" 1\n" + text.getvalue().encode()


def missing_frames(places: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """What a full grid over the times, channels and slices of these (t, c, z) would have besides, in order."""
    found = set(places)
    times, channels, slices = (sorted({place[axis] for place in found}) for axis in range(3))
    return [place for t in times for c in channels for z in slices if (place := (t, c, z)) not in found]


def open_frames(ask: OpenRequest) -> FramesSource:
    """Open a listing. One frame is opened, for its size and type.

    Raises:
        BadFile: The listing is damaged, a frame is missing, has another size than it had, or is no single plane.
    """
    frames = _parse(ask)
    folder = frames_folder(ask.path, ask.shown)
    if absent := missing_frames((frame.time, frame.channel, frame.slice) for frame in frames):
        raise BadFile(ask.shown, f"its listing lacks {spelled(absent[0])}. Add the folder of frames again.")
    return FramesSource(ask, folder, frames)


def spelled(place: tuple[int, int, int]) -> str:
    """A frame's (t, c, z) in words."""
    t, c, z = place
    return f"the frame of time {t}, channel {c}, slice {z}"


class FramesSource(BaseSource):
    """A grid of planes over t, c and z; those last used stay decoded."""

    def __init__(self, ask: OpenRequest, folder: Path, frames: list[Frame]) -> None:
        self._ask, self._root = ask, folder
        times, channels, slices = (
            {place: n for n, place in enumerate(sorted({getattr(frame, name) for frame in frames}))}
            for name in ("time", "channel", "slice")
        )
        self._frames: Mapping[tuple[int, int, int], Frame] = {
            (times[frame.time], channels[frame.channel], slices[frame.slice]): frame for frame in frames
        }
        self.channel_names = tuple(
            next(frame.channel_name for frame in frames if frame.channel == place) for place in channels
        )
        self._open: OrderedDict[str, ImageSource] = OrderedDict()
        self._lock = Lock()
        counts = len(times), len(channels), len(slices)
        own = []
        for place in range(counts[1]):
            with self._opened(self._frames[0, place, 0]) as first:
                own.append((first.shape[3:], first.dtype, first.pixel_size))
        (y, x), _, pixel_size = own[0]
        types = tuple(one for _, one, _ in own)
        dtype = self._common(types)
        axes = "".join(axis for axis, count in zip("tcz", counts, strict=True) if count > 1) + "yx"
        super().__init__(ask.shown, [(*counts, y, x)], dtype, axes, pixel_size)
        self.channel_dtypes = types
        self.plane_numbers = tuple(times), tuple(slices)
        self.most_open = max(2 * counts[1], CACHE_BYTES // (y * x * dtype.itemsize))
        """Frames that stay decoded."""

    def grain(self, level: int = 0) -> tuple[int, ...]:
        return 1, 1, 1, *self.shape[3:]

    def _read(self, box: Box, level: int) -> np.ndarray:
        found = np.empty(box.shape, self.dtype)
        (t0, c0, z0, *start), stop = box.start, box.stop
        plane = Box((0, 0, 0, *start), (1, 1, 1, *stop[3:]))
        with self._lock:
            for t, c, z in np.ndindex(*box.shape[:3]):
                found[t, c, z] = self._frame(self._frames[t + t0, c + c0, z + z0]).read(plane)[0, 0, 0]
        return found

    def _common(self, types: Sequence[np.dtype]) -> np.dtype:
        """A type that holds every value of all channels. Raises BadFile where there is none."""
        common = np.result_type(*types)
        if not all(holds(common, one) for one in types):
            told = ", ".join(f"{name or number} {one}" for number, (name, one) in enumerate(self._told(types)))
            raise BadFile(
                self._ask.shown,
                f"its channels are {told}: no type holds all their values. Write 64-bit channels as 32 bits.",
            )
        return common

    def _told(self, types: Sequence[np.dtype]) -> list[tuple[str, np.dtype]]:
        return list(zip(self.channel_names, types, strict=True))

    def _frame(self, frame: Frame) -> ImageSource:
        if frame.file in self._open:
            self._open.move_to_end(frame.file)
            return self._open[frame.file]
        source = self._opened(frame)
        if source.shape[3:] != self.shape[3:] or not holds(self.dtype, source.dtype):
            found, wanted = (f"{one.shape[4]} x {one.shape[3]} {one.dtype}" for one in (source, self))
            source.close()
            raise BadFile(
                self.shown,
                f"{frame.file} is {found}, other frames are {wanted}. Frames of a position have one size, and those of "
                "a channel one type. Write it again like the others.",
            )
        self._open[frame.file] = source
        if len(self._open) > self.most_open:
            self._open.popitem(last=False)[1].close()
        return source

    def _opened(self, frame: Frame) -> ImageSource:
        from fieldmark.images.opening import open_image

        path = self._root / frame.file
        if not path.is_file():
            raise BadFile(
                self._ask.shown, f"{path} is not there any more. Put it back, or add the folder where it is now."
            )
        if path.stat().st_size != frame.bytes:
            raise BadFile(
                self._ask.shown,
                f"{path} had {frame.bytes:,} bytes when it was added and has {path.stat().st_size:,}; labels belong to "
                "the old content. Put the old file back.",
            )
        source = open_image(path, max_bytes=self._ask.max_bytes, shown=f"{self._ask.shown}: {frame.file}")
        if source.shape[:3] != (1, 1, 1):
            t, c, z = source.shape[:3]
            source.close()
            raise BadFile(
                self._ask.shown,
                f"{frame.file} holds {t} times, {c} channels and {z} slices; a frame is one plane. "
                "Add such images as a folder: --layout folder.",
            )
        return source

    def close(self) -> None:
        super().close()
        with self._lock:
            for source in self._open.values():
                source.close()
            self._open.clear()


def holds(wide: np.dtype, narrow: np.dtype) -> bool:
    """Whether one type can be turned into another without losing a value: fractions hold integers up to 2 to the 53."""
    whole = narrow.kind in "ui" and wide.kind == "f"
    return np.can_cast(narrow, wide, "safe") and not (whole and narrow.itemsize >= wide.itemsize)


def _parse(ask: OpenRequest) -> list[Frame]:
    damaged = "its listing is damaged. Add the folder of frames again."
    if ask.path.stat().st_size > _MOST_BYTES:
        raise BadFile(ask.shown, damaged)
    try:
        lines = ask.path.read_text(encoding="utf-8").splitlines()[1:]
        frames = [_frame_of(row) for row in csv.DictReader(lines)]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise BadFile(ask.shown, damaged) from error
    if not 0 < len(frames) <= _MOST_FRAMES:
        raise BadFile(ask.shown, damaged)
    if outside := next((frame.file for frame in frames if not is_inside(frame.file)), None):
        raise BadFile(ask.shown, f"its listing names {outside!r}, which leads out of the folder of frames.")
    return frames


def _frame_of(row: dict[str, str]) -> Frame:
    channel, plane, time, size = (int(row[name]) for name in ("channel_idx", "slice_idx", "time_idx", "bytes"))
    return Frame(channel, plane, time, row["channel_name"], row["file_name"], size, row["sha256"])


def is_inside(file: str) -> bool:
    """Whether a relative path stays below its folder."""
    path = PurePosixPath(file.replace("\\", "/"))
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and ":" not in path.parts[0]


def frames_folder(listing: Path, shown: str) -> Path:
    """The folder that the frames of a listing lie in. Raises BadFile where nothing says it."""
    beside = listing.parent / FOLDER
    try:
        return Path(beside.read_text(encoding="utf-8").rstrip("\n"))
    except (OSError, ValueError) as error:
        raise BadFile(shown, f"{beside} does not say where its frames are. Add their folder again.") from error
