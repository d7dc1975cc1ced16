"""Keep the objects of a label map whose size is right, whatever the image's size."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
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


def filter_volumes(made: Path, writer: ImageWriter, rule: SizeRule, values: Sequence[int], held: np.ndarray) -> None:
    """The same of objects that reach through slices: a component is what touches in the volume, corners included.

    Args:
        made: One channel of unsigned integers, an OME-Zarr image; numbered objects lie beside it for a while.
        writer: Of the same shape and type.
        rule: Which stay.
        values: Those that the map may hold.
        held: (N, 4) t, z, y, x: components that hold one of these stay in any case.
    """
    from fieldmark.images import open_image
    from fieldmark.images.decode import pieces
    from fieldmark.infer.instances import ObjectRule, write_objects

    with ExitStack() as stack:
        source = stack.enter_context(open_image(made))
        found = []
        for value in values:
            if value != rule.background:
                numbered = made.with_name(f"sized-{value}.ome.zarr")
                stack.callback(shutil.rmtree, numbered, ignore_errors=True)
                count = write_objects(made, numbered, ObjectRule(value, solid=True))
                objects = stack.enter_context(open_image(numbered))
                found.append((objects, _stays(objects, count, rule, held)))
        for box in pieces(source):
            kept = source.read(box)
            for objects, stays in found:
                kept[~stays[objects.read(box)]] = rule.background
            writer.write(box, kept)


def _stays(objects: ImageSource, count: int, rule: SizeRule, held: np.ndarray) -> np.ndarray:
    """(count + 1,) whether each numbered object stays; what is none does."""
    from fieldmark.images.decode import pieces

    areas = np.zeros(count + 1, np.int64)
    for box in pieces(objects):
        areas += np.bincount(objects.read(box).ravel(), minlength=count + 1)
    stays = rule.allows(areas)
    for t, z, y, x in held.tolist():
        stays[objects.read(Box((t, 0, z, y, x), (t + 1, 1, z + 1, y + 1, x + 1))).ravel()] = True
    stays[0] = True
    return stays


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
