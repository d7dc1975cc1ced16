"""Some times, channels and slices of an image, as an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.images.source import BaseSource, Grained, ImageSource, channel_dtypes, name_of, plane_numbers


class PickedSource(BaseSource):
    """Another image with fewer times, channels and slices; nothing else of it is read.

    Args:
        source: The image; closed with this one.
        times: Places along t, in order.
        channels: Places along c.
        slices: Places along z.
    """

    def __init__(
        self, source: ImageSource, times: Sequence[int], channels: Sequence[int], slices: Sequence[int]
    ) -> None:
        self._source, self._picked = source, (tuple(times), tuple(channels), tuple(slices))
        shape = (len(times), len(channels), len(slices), *source.shape[3:])
        super().__init__(name_of(source), [shape], source.dtype, source.axes, source.pixel_size)
        own = channel_dtypes(source)
        self.channel_dtypes = tuple(own[channel] for channel in channels)
        of_times, of_slices = plane_numbers(source)
        self.plane_numbers = tuple(of_times[t] for t in times), tuple(of_slices[z] for z in slices)

    def grain(self, level: int = 0) -> tuple[int, ...]:
        y, x = self._source.grain(level)[3:] if isinstance(self._source, Grained) else self.shape[3:]
        return 1, self.shape[1], 1, y, x

    def _read(self, box: Box, level: int) -> np.ndarray:
        found = np.empty(box.shape, self.dtype)
        times, channels, slices = (
            picked[first:last] for picked, first, last in zip(self._picked, box.start[:3], box.stop[:3], strict=True)
        )
        low, high = min(channels), max(channels) + 1
        own = [channel - low for channel in channels]
        for t, time in enumerate(times):
            for z, place in enumerate(slices):
                plane = Box((time, low, place, *box.start[3:]), (time + 1, high, place + 1, *box.stop[3:]))
                found[t, :, z] = self._source.read(plane)[0, own, 0]
        return found

    def close(self) -> None:
        super().close()
        self._source.close()
