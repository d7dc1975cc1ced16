"""Keep the objects of a label map whose size is right, whatever the image's size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.core.geometry import Box

if TYPE_CHECKING:
    from fieldmark.images import ImageSource
    from fieldmark.images.writers import ImageWriter

STRIP = 512
"""Rows that are labelled at a time; components are joined over the borders of strips."""


@dataclass(frozen=True, slots=True)
class SizeRule:
    """Which components stay.

    Args:
        background: The value that is no object.
        least: Fewest pixels of a component.
        most: Most pixels; None for any number.
    """

    background: int
    least: int = 0
    most: int | None = None

    def allows(self, areas: np.ndarray) -> np.ndarray:
        """(N,) bool."""
        right: np.ndarray = areas >= self.least
        return right if self.most is None else right & (areas <= self.most)


def filter_components(source: ImageSource, writer: ImageWriter, rule: SizeRule, held: np.ndarray) -> None:
    """Write a label map in which components of a wrong size are background.

    A component is a set of pixels of one value that touch, corners included, in one plane. In
    memory are a strip of rows and a few numbers a component, twice read.

    Args:
        source: One channel of unsigned integers.
        writer: Of the same shape and type.
        rule: Which stay.
        held: (N, 4) t, z, y, x: components that hold one of these stay in any case.
    """
    times, _, depth, _, _ = source.shape
    for t in range(times):
        for z in range(depth):
            own = held[(held[:, 0] == t) & (held[:, 1] == z), 2:]
            stays = _decide(source, t, z, rule, own)
            first = 0
            for box, values in _strips(source, t, z):
                labels, count = _labelled(values, rule.background)
                gone = np.concatenate([[False], ~stays[first : first + count]])
                writer.write(box, np.where(gone[labels], values.dtype.type(rule.background), values)[None, None, None])
                first += count


def _decide(source: ImageSource, t: int, z: int, rule: SizeRule, held: np.ndarray) -> np.ndarray:
    """(N,) whether each piece of a strip stays, in the order of strips."""
    areas: list[np.ndarray] = []
    bonds: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    first, above = 0, None
    for box, values in _strips(source, t, z):
        labels, count = _labelled(values, rule.background)
        areas.append(np.bincount(labels.ravel(), minlength=count + 1)[1:])
        ids = np.where(labels > 0, labels + first, 0)  # from 1 over all strips
        if above is not None:
            bonds.append(_bonds(*above, ids[0], values[0]))
        top, bottom = box.start[3], box.stop[3]
        own = held[(held[:, 0] >= top) & (held[:, 0] < bottom)]
        kept.append(ids[own[:, 0] - top, own[:, 1]])
        first, above = first + count, (ids[-1], values[-1])
    return _joined(np.concatenate(areas), bonds, np.concatenate(kept), rule)


def _joined(areas: np.ndarray, bonds: list[np.ndarray], kept: np.ndarray, rule: SizeRule) -> np.ndarray:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = np.concatenate([*bonds, np.zeros((0, 2), np.int64)]) - 1
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(areas), len(areas)))
    if len(areas) == 0:
        return np.zeros(0, bool)
    count, owner = connected_components(graph, directed=False)
    stays = rule.allows(np.bincount(owner, areas, count))
    stays[owner[kept[kept > 0] - 1]] = True
    chosen: np.ndarray = stays[owner]
    return chosen


def _strips(source: ImageSource, t: int, z: int) -> Iterator[tuple[Box, np.ndarray]]:
    height, width = source.shape[3:]
    for top in range(0, height, STRIP):
        box = Box((t, 0, z, top, 0), (t + 1, 1, z + 1, min(height, top + STRIP), width))
        yield box, source.read(box)[0, 0, 0]


def _labelled(values: np.ndarray, background: int) -> tuple[np.ndarray, int]:
    from skimage.measure import label

    labels, count = label(values, background=background, connectivity=2, return_num=True)
    return labels, int(count)


def _bonds(above: np.ndarray, above_values: np.ndarray, below: np.ndarray, below_values: np.ndarray) -> np.ndarray:
    """(N, 2) pieces of one value that touch between the last row of a strip and the first of the next."""
    found = []
    for shift in (-1, 0, 1):
        up = slice(max(0, shift), len(above) + min(0, shift))
        down = slice(max(0, -shift), len(above) + min(0, -shift))
        touching = (above[up] > 0) & (below[down] > 0) & (above_values[up] == below_values[down])
        found.append(np.column_stack([above[up][touching], below[down][touching]]))
    return np.unique(np.concatenate(found), axis=0)
