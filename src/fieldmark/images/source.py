"""What an image is to the rest of the house: five axes, a scale, and boxes of pixels on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from threading import Lock
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import numpy as np

from fieldmark.core.axes import AXES, PixelSize
from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile, BadInput, TooLarge

DEFAULT_MAX_BYTES = 2**31
"""Most decoded bytes of anything that can only be decoded whole: an image, a TIFF strip, a chunk."""

Shape5 = tuple[int, int, int, int, int]


class ImageSource(Protocol):
    """An open image, read box by box.

    RGB samples are channels, and come in the order in which the file keeps them. Values are the
    file's own: nothing is scaled, inverted, rotated (EXIF orientation) or replaced (no-data).
    """

    @property
    def shape(self) -> Shape5:
        """Pixels along t, c, z, y, x; 1 for an axis that the file does not have."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Type of the values, in the machine's byte order; never bool, complex or object."""
        ...

    @property
    def axes(self) -> str:
        """The axes that the file really has, in `tczyx` order, such as `cyx`."""
        ...

    @property
    def pixel_size(self) -> PixelSize:
        """Size of a pixel in micrometers, where the file says."""
        ...

    @property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """5-D shape of each pyramid level, the full one first."""
        ...

    def read(self, box: Box, level: int = 0) -> np.ndarray:
        """The pixels of a 5-D box inside the level: a new contiguous array of `box.shape` and `dtype`.

        Raises:
            BadInput: The box is not 5-D or not inside the level, or there is no such level.
            BadFile: The file is damaged there.
        """
        ...

    def close(self) -> None:
        """Let go of the file. Closing twice is allowed; reading afterwards is not."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class Grained(Protocol):
    """A source that knows in which pieces its file is best read."""

    def grain(self, level: int = 0) -> tuple[int, ...]:
        """5-D shape of the pieces (tiles, strips, chunks) of a level."""
        ...


def channel_dtypes(source: ImageSource) -> tuple[np.dtype, ...]:
    """The type of each channel in its file; what is read has `source.dtype`, which holds the values of all of them."""
    own = source.channel_dtypes if isinstance(source, BaseSource) else ()
    return own or (source.dtype,) * source.shape[1]


def plane_numbers(source: ImageSource) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The numbers that an image's times and slices have in its files' names; counted from 0 where none says it."""
    own = source.plane_numbers if isinstance(source, BaseSource) else ((), ())
    return own[0] or tuple(range(source.shape[0])), own[1] or tuple(range(source.shape[2]))


def name_of(source: ImageSource) -> str:
    """What an image is called in errors."""
    return source.shown if isinstance(source, BaseSource) else "an image"


class BaseSource:
    """What all sources share: the facts, the check of a box, and closing."""

    def __init__(
        self,
        shown: str,
        levels: Sequence[tuple[int, ...]],
        dtype: np.dtype,
        axes: str,
        pixel_size: PixelSize | None = None,
    ) -> None:
        self.shown = shown
        """The image's name as the user typed it."""
        self._levels = tuple(tuple(int(n) for n in level) for level in levels)
        self._dtype = np.dtype(dtype).newbyteorder("=")
        self._axes = axes
        self._pixel_size = pixel_size or PixelSize()
        self.channel_dtypes: tuple[np.dtype, ...] = ()
        """See the function of that name; empty where channels have the image's type."""
        self.plane_numbers: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
        """See the function of that name; empty where times and slices are counted from 0."""
        self._closed = False

    @property
    def shape(self) -> Shape5:
        t, c, z, y, x = self._levels[0]
        return t, c, z, y, x

    @property
    def dtype(self) -> np.dtype:
        return self._dtype

    @property
    def axes(self) -> str:
        return self._axes

    @property
    def pixel_size(self) -> PixelSize:
        return self._pixel_size

    @property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        return self._levels

    def read(self, box: Box, level: int = 0) -> np.ndarray:
        self._check(box, level)
        pixels = self._read(box, level)
        return np.ascontiguousarray(pixels, dtype=self._dtype)

    def _read(self, box: Box, level: int) -> np.ndarray:
        raise NotImplementedError

    def _check(self, box: Box, level: int) -> None:
        if self._closed:
            raise BadInput(f"{self.shown} is closed; open it again to read from it.")
        if not 0 <= level < len(self._levels):
            raise BadInput(f"{self.shown} has levels 0 to {len(self._levels) - 1}; level {level} was asked for.")
        shape = self._levels[level]
        if box.ndim != len(AXES) or not Box.whole(shape).contains(box):
            raise BadInput(f"{self.shown}: the box {box.start}..{box.stop} is not inside {shape} ({AXES}).")

    def close(self) -> None:
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ArraySource(BaseSource):
    """An image that is already an array: in memory, or mapped from a file.

    Args:
        array: (t, c, z, y, x), or any array with `axes` naming its axes, a subset of `tczyx` in that order.
        axes: The axes of `array`.
        pixel_size: In micrometers.
        shown: The name used in errors.
    """

    def __init__(
        self, array: np.ndarray, axes: str = AXES, *, pixel_size: PixelSize | None = None, shown: str = "array"
    ) -> None:
        self._array: np.ndarray | None = as_tczyx(array, axes)
        kept = readable_dtype(array.dtype, shown)
        super().__init__(shown, [self._array.shape], kept, axes, pixel_size)

    def _read(self, box: Box, level: int) -> np.ndarray:
        if self._array is None:
            raise BadInput(f"{self.shown} is closed; open it again to read from it.")
        return np.array(self._array[box.slices], dtype=self._dtype, order="C")

    def close(self) -> None:
        super().close()
        self._array = None


class DecodedSource(BaseSource):
    """An image that can only be decoded whole: on the first read, then kept until it is closed.

    `decode` returns the array that the header promised, with the axes `axes`.
    """

    def __init__(
        self,
        shown: str,
        shape: tuple[int, ...],
        dtype: np.dtype,
        axes: str,
        decode: Callable[[], np.ndarray],
        pixel_size: PixelSize | None = None,
    ) -> None:
        self._native = shape
        self._decode = decode
        self._pixels: np.ndarray | None = None
        self._lock = Lock()
        super().__init__(shown, [shape_tczyx(shape, axes)], dtype, axes, pixel_size)

    def _read(self, box: Box, level: int) -> np.ndarray:
        with self._lock:
            if self._pixels is None:
                self._pixels = as_tczyx(self._decoded(), self._axes)
            pixels = self._pixels
        return np.array(pixels[box.slices], dtype=self._dtype, order="C")

    def _decoded(self) -> np.ndarray:
        pixels = self._decode()
        if pixels.shape != self._native or pixels.dtype.itemsize != self._dtype.itemsize:
            raise BadFile(
                self.shown,
                f"its header promises {self._native} {self._dtype}, its pixels are {pixels.shape} "
                f"{pixels.dtype}: the file is damaged. Copy or export it again.",
            )
        return pixels

    def close(self) -> None:
        super().close()
        self._pixels = None


def shape_tczyx(shape: Sequence[int], axes: str) -> Shape5:
    """The 5-D shape of an array whose axes are `axes`, a subset of `tczyx` in that order."""
    if len(shape) != len(axes) or not is_subset(axes):
        raise BadInput(f"Axes {axes!r} do not describe a shape of {tuple(shape)}: name each, in the order {AXES!r}.")
    sizes = dict(zip(axes, shape, strict=True))
    t, c, z, y, x = (int(sizes.get(axis, 1)) for axis in AXES)
    return t, c, z, y, x


def as_tczyx(array: np.ndarray, axes: str) -> np.ndarray:
    """A view of `array` with all five axes."""
    return array.reshape(shape_tczyx(array.shape, axes))


def is_subset(axes: str) -> bool:
    """Whether `axes` names some of `tczyx`, each at most once and in that order."""
    return axes == "".join(axis for axis in AXES if axis in axes)


def readable_dtype(dtype: np.dtype, shown: str) -> np.dtype:
    """The type in which values are given: numbers in the machine's byte order, truth values as uint8.

    Raises:
        BadFile: The values are complex numbers, objects, records, text or dates.
    """
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise BadFile(shown, f"its values are {dtype}; images hold integers or real numbers. Save it as one of those.")
    return dtype.newbyteorder("=")


def check_bytes(
    shown: str, shape: Sequence[int], dtype: np.dtype, max_bytes: int, *, what: str = "the whole image"
) -> None:
    """Refuse what must be decoded at once and would not fit, before anything is allocated.

    Raises:
        BadFile: A side is not positive.
        TooLarge: More than `max_bytes`.
    """
    sides = [int(n) for n in shape]
    if min(sides, default=0) < 1:
        raise BadFile(shown, f"its header declares an empty image, {' x '.join(map(str, sides))}. Export it again.")
    size = prod(sides) * np.dtype(dtype).itemsize
    if size > max_bytes:
        raise TooLarge(
            shown,
            f"{what} ({' x '.join(map(str, sides))} {np.dtype(dtype)}) would take {size:,} bytes when decoded; the "
            f"limit is {max_bytes:,}. Raise it with --max-bytes, or convert the image to tiled TIFF or OME-Zarr.",
        )
