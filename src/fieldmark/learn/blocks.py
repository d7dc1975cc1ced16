"""Decoded planes of files that are read again and again, kept up to a limit of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.core.geometry import Box

if TYPE_CHECKING:
    from fieldmark.images import ImageSource

LIMIT = 1 << 30
"""Bytes that are kept in all."""
SHARE = 16
"""What takes more than the limit's 16th by itself is never kept: its boxes are read from the file."""

Opener = Callable[[], "ImageSource"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a file once it was opened.

    Args:
        shape: Pixels along t, c, z, y, x.
        dtype: Of its values.
        channels: Type of each channel in its file.
        slices: Slices along z that its file stores together.
    """

    shape: tuple[int, int, int, int, int]
    dtype: np.dtype
    channels: tuple[np.dtype, ...]
    slices: int

    @property
    def bytes_at_once(self) -> int:
        """Of the slices that are decoded together."""
        _, c, _, y, x = self.shape
        return prod((c, self.slices, y, x)) * self.dtype.itemsize


class Blocks:
    """Boxes of files, by the name of the file. Not for several threads at once.

    Args:
        limit: Bytes that may be kept; what was not read for the longest time goes first.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.held = 0
        self._facts: dict[Hashable, Facts] = {}
        self._kept: OrderedDict[Hashable, np.ndarray] = OrderedDict()

    def facts(self, name: Hashable, opened: Opener) -> Facts:
        """Shape and type of a file; it is opened once for that."""
        if name not in self._facts:
            from fieldmark.images.source import Grained, channel_dtypes

            source = opened()
            slices = source.grain()[2] if isinstance(source, Grained) else 1
            self._facts[name] = Facts(source.shape, source.dtype, channel_dtypes(source), min(slices, source.shape[2]))
        return self._facts[name]

    def read(self, name: Hashable, opened: Opener, box: Box) -> np.ndarray:
        """(t, c, z, y, x) pixels of a 5-D box: a new array of the file's type."""
        facts = self.facts(name, opened)
        if facts.bytes_at_once > self.limit // SHARE:
            return opened().read(box)
        (t0, c0, z0, y0, x0), (t1, c1, z1, y1, x1) = box.start, box.stop
        found = np.empty(box.shape, facts.dtype)
        for t in range(t0, t1):
            for first in range(z0 - z0 % facts.slices, z1, facts.slices):
                stored = self._stored(name, facts, opened, t, first)
                own = slice(max(z0, first), min(z1, first + facts.slices))
                inside = slice(own.start - first, own.stop - first)
                put = slice(own.start - z0, own.stop - z0)
                found[t - t0, :, put] = stored[c0:c1, inside, y0:y1, x0:x1]
        return found

    def get(self, name: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """What was made under a name before, or is made now; nobody may change it."""
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        made = make()
        if made.nbytes <= self.limit // SHARE:
            self._kept[name] = made
            self.held += made.nbytes
            while self.held > self.limit:
                self.held -= self._kept.popitem(last=False)[1].nbytes
        return made

    def _stored(self, name: Hashable, facts: Facts, opened: Opener, t: int, first: int) -> np.ndarray:
        """(c, z, y, x) the slices that are stored together, from `first` on."""
        _, c, z, y, x = facts.shape
        box = Box((t, 0, first, 0, 0), (t + 1, c, min(z, first + facts.slices), y, x))
        return self.get((name, t, first), lambda: opened().read(box)[0])
