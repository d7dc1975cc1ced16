"""Predict at another size: the network sees resized pixels, its answers come back in the image's own grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldmark.core.geometry import Box, round_up
from fieldmark.images.resized import ResizedSource, needed, resampled
from fieldmark.infer.tiles import with_channels
from fieldmark.prepare import Whole

if TYPE_CHECKING:
    import numpy as np

    from fieldmark.core.axes import Factors
    from fieldmark.images import ImageSource
    from fieldmark.infer.forward import NetForward


class ResizedForward:
    """A network as a function of boxes of an image, which it sees at another size.

    What is read begins, along each axis, at a multiple of the stride of one grid over the whole resized image, so that
    a tile sees what the whole image would show it there; answers are blended back linearly.

    Args:
        inner: The network, with the steps that come after the resize.
        source: The image.
        factors: Along z, y and x.
        halo: How far the network looks along z, y and x, in resized pixels, where its tiles are exact; else 0.
    """

    def __init__(self, inner: NetForward, source: ImageSource, factors: Factors, halo: tuple[int, int, int]) -> None:
        self.inner, self.halo = inner, halo
        self.resized = ResizedSource(source, factors)
        inner.whole = Whole(lambda: self.resized, resized=factors)

    def __call__(self, block: np.ndarray) -> np.ndarray:
        raise TypeError("answers at another size need to know where a block lies: call `answer`")

    def answer(self, source: ImageSource, box: Box) -> np.ndarray:
        """(t, k, z, y, x) float32 answers for a box over t, z, y, x of the image as it is."""
        old, new = source.shape[2:], self.resized.shape[2:]
        spans = list(zip(box.start[1:], box.stop[1:], strict=True))
        seen = [self._seen(spans[axis], axis, old[axis], new[axis]) for axis in range(3)]
        start, stop = zip(*seen, strict=True)
        read = Box((box.start[0], *start), (box.stop[0], *stop))
        answers = self.inner.placed(self.resized.read(with_channels(read, self.resized.shape[1])), read)
        return resampled(answers, spans, start, old, new)

    def _seen(self, span: tuple[int, int], axis: int, old: int, new: int) -> tuple[int, int]:
        """What of the resized image is read along z (0), y (1) or x (2)."""
        first, last = needed(span, old, new)
        stride, halo = self.inner.stride[axis], self.halo[axis]
        return max(0, first - halo) // stride * stride, min(new, round_up(last + halo, stride))
