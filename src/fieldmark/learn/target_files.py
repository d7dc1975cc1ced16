"""Files beside the images of a fit: label maps, target images, masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fieldmark.core.axes import AS_IS
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.infer.tiles import with_channels
from fieldmark.prepare import image_maximum

if TYPE_CHECKING:
    from fieldmark.images import ImageSource
    from fieldmark.learn.samples import Samples

OPEN_TARGETS = 8

Known = tuple[np.ndarray, np.ndarray]
"""Answers (T, z, y, x) float32, and the weight of each pixel (1, z, y, x) float32: 0 where nobody knows."""

Planes = tuple[Sequence[int], Sequence[int]]
"""Places along t and along z."""

Within = tuple[int, frozenset[int]]
"""An axis, 0 for t and 1 for z, and the places along it that are meant."""


class Files:
    """A file beside each image, or channels of the image itself, read through the cache of the samples.

    A file of one slice belongs to the middle slice of its image: the others have no answer.

    Args:
        samples: The images.
        kind: `target` or `mask`: the field of each image that names its file.
        indices: Whether palettes stand for numbers, as in label maps, not for colors.
    """

    def __init__(self, samples: Samples, kind: str, *, indices: bool = False) -> None:
        self.samples, self.kind, self.indices = samples, kind, indices
        self._opened = lru_cache(maxsize=OPEN_TARGETS)(self._open)
        self._maximum = lru_cache(maxsize=None)(lambda index: image_maximum(self._source(index)[1]()))

    def path(self, index: int) -> str:
        """Of an image's file; empty where its own channels are meant."""
        return str(getattr(self.samples.images[index], self.kind))

    def shown(self, index: int) -> str:
        """What an error calls it."""
        name, path = self.samples.images[index].name, self.path(index)
        return f"{Path(path).name} ({self.kind} of {name})" if path else name

    def shape(self, index: int) -> tuple[int, int, int, int, int]:
        return self.samples.blocks.facts(*self._source(index)).shape

    def dtype(self, index: int) -> np.dtype:
        return self.samples.blocks.facts(*self._source(index)).dtype

    def channel_dtype(self, index: int, channel: int) -> np.dtype:
        """The type of a channel in its file; `read` gives values of `dtype`, which holds those of all channels."""
        return self.samples.blocks.facts(*self._source(index)).channels[channel]

    def maximum(self, index: int) -> float:
        """The largest magnitude in the whole file, read once."""
        return self._maximum(index)

    def check(self, index: int) -> None:
        """Raise BadInput where the file has another size than its image."""
        found, image = self.shape(index), self.samples.shape(index)
        fits = found[0] == image[0] and found[3:] == image[3:] and found[2] in (1, image[2])
        if not fits:
            name = self.samples.images[index].name
            raise BadInput(
                f"{Path(self.path(index)).name}: is {_size(found)} (t, z, y, x), and its image {name} is "
                f"{_size(image)}. Give one of the same size, or of a single slice for the middle of a stack."
            )

    def slices(self, index: int) -> range:
        """The slices of the image that the file is about."""
        own, depth = self.shape(index)[2], self.samples.shape(index)[2]
        return range(depth) if own == depth else range(depth // 2, depth // 2 + 1)

    def read(self, index: int, box: Box, channels: Sequence[int]) -> Known:
        """Values (C, z, y, x) of the file's type in a box of the image, and (1, z, 1, 1) which slices it has."""
        own = self.slices(index)
        shape = self.shape(index)
        shift = own.start if shape[2] == 1 else 0
        z0, z1 = max(box.start[1], own.start), min(box.stop[1], own.stop)
        known = np.zeros((1, box.shape[1], 1, 1), np.float32)
        values = np.zeros((len(channels), *box.shape[1:]), self.dtype(index))
        if z0 < z1:
            (t0, _, *low), (t1, _, *high) = box.start, box.stop
            wanted = Box((t0, z0 - shift, *low), (t1, z1 - shift, *high))
            there = slice(z0 - box.start[1], z1 - box.start[1])
            pixels = self.samples.blocks.read(*self._source(index), with_channels(wanted, shape[1]))[0]
            values[:, there], known[:, there] = pixels[list(channels)], 1.0
        return values, known

    def knows(self, index: int, box: Box) -> bool:
        own = self.slices(index)
        return box.start[1] < own.stop and own.start < box.stop[1]

    def somewhere(self, index: int, rng: np.random.Generator, within: Within | None = None) -> tuple[int, ...] | None:
        """A place in the planes that are meant and that the file has; None where it has all of them."""
        t, _, z, y, x = self.samples.shape(index)
        planes: list[Sequence[int]] = [range(t), self.slices(index)]
        if within is None and len(planes[1]) == z:
            return None
        if within is not None:
            planes[within[0]] = sorted(within[1] & {*planes[within[0]]})
        return *(int(rng.choice(np.asarray(along))) for along in planes), int(rng.integers(y)), int(rng.integers(x))

    def _source(self, index: int) -> tuple[object, _Opener]:
        if self.path(index) or (self.indices and self.samples.resize != AS_IS):
            return (self.kind, index), _Opener(self._opened, index)
        return ("image", index), _Opener(self.samples.source, index)

    def _open(self, index: int) -> ImageSource:
        from fieldmark.images import open_image

        path = self.path(index) or self.samples.images[index].uri
        source = open_image(Path(path), shown=self.shown(index), expand_palette=not (self.indices and self.path(index)))
        return self.samples.at_size(source, nearest=self.indices)


class _Opener:
    """Opens a file only where it must be read."""

    def __init__(self, opened: _Opened, index: int) -> None:
        self.opened, self.index = opened, index

    def __call__(self) -> ImageSource:
        return self.opened(self.index)


class _Opened(Protocol):
    def __call__(self, index: int, /) -> ImageSource: ...


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, (shape[0], *shape[2:])))
