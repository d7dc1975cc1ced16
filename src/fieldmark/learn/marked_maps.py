"""What the layers of a FLIM network see around marks, computed once as far as memory allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fieldmark.core.geometry import Box, round_up
from fieldmark.infer.forward import pad_to_stride
from fieldmark.learn.sampling import TILE

if TYPE_CHECKING:
    from fieldmark.learn.samples import Samples
    from fieldmark.models.flim import FlimNet

KEPT_BYTES = 256 << 20
"""Maps up to this size are kept for the next layer; beyond it they are computed anew."""


class MarkedMaps:
    """Maps of the tiles that hold marks, cut to the marks and what their features see.

    A kept map and one that is computed anew are the same bits: they went through the same layers.

    Args:
        samples: Images and marks.
        rows: The marks that are looked at.
    """

    def __init__(self, samples: Samples, rows: np.ndarray) -> None:
        self.samples = samples
        self._wanted = np.zeros(len(samples.marks), bool)
        self._wanted[rows] = True
        self._kept: dict[tuple[int, int, int], tuple[int, Tensor]] = {}

    def of(
        self, net: FlimNet, branch: int, layer: int, preferred: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Tile by tile: what a layer sees (C, y, x), (N, 2) y, x of marks on it, and the (N,) rows of these.

        Of a stroke's marks that fall on one pixel of the map, the first is named: of the rows in `preferred`, if any.
        """
        for index, tile, inside in self.samples.marked_tiles(tile=TILE, stride=net.stride, radius=net.radius):
            chosen = inside[self._wanted[inside]]
            if len(chosen):
                places = self.samples.marks.place[chosen]
                box = around(places, tile.read, net.reach(branch), net.stride)
                seen = self._seen(net, branch, layer, (branch, index, tile.index), box)
                at = (places[:, 2:] - np.array(box.start[2:])) // net.stride_before(branch, layer)
                order = np.arange(len(chosen))
                if preferred is not None:
                    order = np.argsort(~np.isin(chosen, preferred), kind="stable")
                first = first_of_each(self.samples.marks.stroke[chosen[order]], at[order], seen.shape[1:])
                named = np.sort(order[first])
                yield seen, at[named], chosen[named]

    def _seen(self, net: FlimNet, branch: int, layer: int, key: tuple[int, int, int], box: Box) -> np.ndarray:
        done, x = self._kept.get(key, (0, None))
        if x is None or done > layer:
            done, x = 0, torch.from_numpy(pad_to_stride(self.samples.read(key[1], box), net.stride))[None]
        with torch.inference_mode():
            for step in range(done, layer):
                x = net.block(branch, step)(x.contiguous(memory_format=torch.channels_last))
        self._keep(key, layer, x)
        seen: np.ndarray = x[0].contiguous().numpy()
        return seen

    def _keep(self, key: tuple[int, int, int], layer: int, x: Tensor) -> None:
        """For the next layer of the branch; maps of other branches are of no use to it."""
        self._kept = {other: kept for other, kept in self._kept.items() if other[0] == key[0] and other != key}
        if sum(kept.nbytes for _, kept in self._kept.values()) + x.nbytes <= KEPT_BYTES:
            self._kept[key] = layer, x


def around(places: np.ndarray, read: Box, reach: int, stride: int) -> Box:
    """The part of a box over t, z, y, x that features at some places (N, 4) see, on the grid of `stride`."""
    low = (places[:, 2:].min(axis=0) - reach) // stride * stride
    high = places[:, 2:].max(axis=0) + 1 + reach
    start = tuple(max(int(a), b) for a, b in zip(low, read.start[2:], strict=True))
    stop = tuple(min(round_up(int(a), stride), b) for a, b in zip(high, read.stop[2:], strict=True))
    return Box((*read.start[:2], *start), (*read.stop[:2], *stop))


def first_of_each(strokes: np.ndarray, at: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Which of (N,) strokes at (N, 2) pixels of a map are the first of their stroke on their pixel, in order."""
    _, own = np.unique(strokes, return_inverse=True)
    keys = (own * shape[0] + at[:, 0]) * shape[1] + at[:, 1]
    return np.sort(np.unique(keys, return_index=True)[1])
