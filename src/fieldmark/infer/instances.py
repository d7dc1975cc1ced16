"""The objects of a class, one by one, whatever the image's size: numbered blocks, joined over their borders.

Objects that touch are one, unless they are split: then each is a basin around a middle, a place that is farther
from the border than all around it, and two basins are one object after all where there is no neck between them.
A block is seen with a margin, and middles are told by their place in the image, so that neighboring blocks call
the same object by the same name. Only what no middle in sight claims is joined by touch alone.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.core.geometry import Box, TilePlan
from fieldmark.infer.tiles import with_channels

if TYPE_CHECKING:
    from fieldmark.images import ImageSource
    from fieldmark.images.writers import ImageWriter

PLANE_BLOCK = (1, 512, 512)
SOLID_BLOCK = (32, 128, 128)
"""Pixels along z, y, x that are numbered at a time, in planes and in volumes."""
PLANE_MARGIN = (0, 128, 128)
SOLID_MARGIN = (30, 48, 48)
"""What is seen around them where objects are split; depths are told apart up to a third of it."""
NECK = 0.85
"""Two basins are one object where the way between their middles never narrows below this share of the smaller one."""
_SMOOTH = 1.0
"""Sigma in pixels of the distance's smoothing: ragged borders have many false middles."""
_TAIL = 4
"""Pixels that the smoothing reaches."""
_LEVELS = 256
"""Distances are told apart to this fraction of a pixel; equal ones by a number that is drawn from their place."""


@dataclass(frozen=True, slots=True)
class ObjectRule:
    """What an object is.

    Args:
        value: The class's value in the map.
        solid: Whether objects reach through slices; else each plane is for itself.
        split: Least distance between the middles of objects that touch, in pixels; 0 to leave them together.
    """

    value: int
    solid: bool = False
    split: int = 0


class _Found:
    """What is known of all pieces: a few numbers for each. Piece 0 is the background."""

    def __init__(self) -> None:
        self.parent = [0]
        """Union-find: a piece of the same object, the piece itself where it is the first."""
        self.height = [0.0]
        """The depth of a piece's middle; 0 for nameless ones."""
        self.named: dict[int, int] = {}
        """A middle's place in the image to its piece."""
        self.nameless: set[int] = set()
        self.claims: Counter[tuple[int, int]] = Counter()
        """(nameless piece, neighbor beyond a border) to the pixels along which they touch."""

    @property
    def count(self) -> int:
        return len(self.parent) - 1

    def add(self, height: float = 0.0) -> int:
        self.parent.append(len(self.parent))
        self.height.append(height)
        return self.count

    def owner(self, piece: int) -> int:
        while self.parent[piece] != piece:
            self.parent[piece] = self.parent[self.parent[piece]]
            piece = self.parent[piece]
        return piece

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.owner(one), self.owner(other)))
        self.parent[high] = low

    def owners(self) -> np.ndarray:
        """(count + 1,) the first piece of each piece's object."""
        return np.array([self.owner(piece) for piece in range(len(self.parent))])


def write_objects(made: Path, target: Path, rule: ObjectRule) -> int:
    """Write the objects of a class map as numbers from 1, 0 elsewhere; how many there are.

    Pixels touch by corners too. Numbers grow with the place of an object's first pixel, block by block. In memory
    are a block and a few numbers for each object.

    Args:
        made: A class map of one channel.
        target: An OME-Zarr image, uint32, of the same shape; written anew.
        rule: What an object is.
    """
    from fieldmark.images import open_image

    pieces = target.with_name(f"pieces-{target.name}")
    for path in (pieces, target):
        shutil.rmtree(path, ignore_errors=True)
    found = _Found()
    with open_image(made) as source:
        plan = _plan(source.shape, rule)
        with _written(pieces, source) as writer:
            for tile in plan:
                labels = _numbered(source, plan, tile.core, tile.read, rule, found)
                writer.write(with_channels(tile.core, 1), labels)
    with open_image(pieces) as numbered:
        for tile in plan:
            _touch(numbered, plan, tile.core, rule, found)
        for piece, neighbor in _strongest(found):
            found.join(piece, neighbor)
        count = _renumber(numbered, plan, found.owners(), target)
    shutil.rmtree(pieces)
    return count


def _renumber(numbered: ImageSource, plan: TilePlan, owner: np.ndarray, target: Path) -> int:
    """Write the objects of pieces, numbered in the order in which they are met; how many there are."""
    final, count = np.zeros(len(owner), np.uint32), 0
    with _written(target, numbered) as writer:
        for tile in plan:
            box = with_channels(tile.core, 1)
            owners = owner[numbered.read(box)]
            count = _count_on(owners, final, count)
            writer.write(box, final[owners])
    return count


@contextmanager
def _written(path: Path, like: ImageSource) -> Iterator[ImageWriter]:
    """A uint32 image as large as another; it is one when the block ends well."""
    from fieldmark.images.writers import create_writer

    options: dict[str, Any] = {"pixel_size": like.pixel_size, "axes": like.axes}
    writer = create_writer(path, "ome-zarr", shape=like.shape, dtype="uint32", **options)
    yield writer
    writer.finish()


def _plan(shape: tuple[int, ...], rule: ObjectRule) -> TilePlan:
    t, _, *size = shape
    block, margin = (SOLID_BLOCK, SOLID_MARGIN) if rule.solid else (PLANE_BLOCK, PLANE_MARGIN)
    seen = margin if rule.split else (0, 0, 0)
    return TilePlan((t, *size), (1, *block), (0, *seen), (1, 1, 1, 1))


def _numbered(source: ImageSource, plan: TilePlan, core: Box, read: Box, rule: ObjectRule, found: _Found) -> np.ndarray:
    """The pieces of a block: (1, 1, z, y, x) uint32."""
    from skimage.measure import label

    mask = source.read(with_channels(read, 1))[0, 0] == rule.value
    if rule.split:
        labels = _basins(mask, plan, core, read, rule, found)
        return labels[core.relative_to(read).slices[1:]][None, None]
    labels, count = label(mask, connectivity=3, return_num=True)
    labels[labels > 0] += found.count
    for _ in range(int(count)):
        found.add()
    numbered: np.ndarray = labels.astype(np.uint32)[None, None]
    return numbered


def _basins(mask: np.ndarray, plan: TilePlan, core: Box, read: Box, rule: ObjectRule, found: _Found) -> np.ndarray:
    """(z, y, x) uint32 pieces around the middles that are seen, and nameless ones that hold none."""
    from skimage.measure import label
    from skimage.segmentation import watershed

    depth = _depth(mask, plan, rule)
    markers = np.zeros(mask.shape, np.int32)
    for at in _middles(depth, mask, plan, read, rule):
        where = tuple(int(n) for n in at)
        place = int(np.ravel_multi_index([a + n for a, n in zip(read.start, (0, *where), strict=True)], plan.shape))
        if place not in found.named:
            found.named[place] = found.add(float(depth[where]))
        markers[where] = found.named[place]
    labels = watershed(-depth, markers, connectivity=3, mask=mask) if markers.any() else markers
    rest, count = label(mask & (labels == 0), connectivity=3, return_num=True)
    pieces: np.ndarray = np.where(rest > 0, rest + found.count, labels).astype(np.uint32)
    found.nameless.update(found.add() for _ in range(int(count)))
    _join_basins(pieces, depth, core.grown((0, 1, 1, 1), inside=read).relative_to(read), found)
    return pieces


def _most_depth(plan: TilePlan) -> int:
    """Depths beyond this are not told apart: only to here does every block see where the border is."""
    cut = [m for m, n, b in zip(plan.halo[1:], plan.shape[1:], plan.tile[1:], strict=True) if n > b]
    return min(cut, default=3 * max(plan.shape)) // 3


def _depth(mask: np.ndarray, plan: TilePlan, rule: ObjectRule) -> np.ndarray:
    """(z, y, x) how far each pixel of an object is from its border, smoothed; what lies out of sight is no border."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    most = float(_most_depth(plan))
    distance = np.full(mask.shape, most) if mask.all() else np.minimum(distance_transform_edt(mask), most)
    smoothed = gaussian_filter(distance, [_SMOOTH if rule.solid else 0.0, _SMOOTH, _SMOOTH])
    depth: np.ndarray = np.where(mask, smoothed, 0.0)
    return depth


def _middles(depth: np.ndarray, mask: np.ndarray, plan: TilePlan, read: Box, rule: ObjectRule) -> np.ndarray:
    """(N, 3) places in the block of pixels that are deepest within the least distance around them.

    Equal depths are told apart by their place in the image, so that every block that sees a middle finds the same.
    A middle is told only where the block sees farther than the middle's depth.
    """
    from scipy.ndimage import maximum_filter

    key = np.rint(depth * _LEVELS) + _lots(read)
    wide = _most_depth(plan) // 2
    flat = depth >= _most_depth(plan) - 1 / _LEVELS
    found = np.zeros_like(mask)
    for reach, here in ((rule.split, mask & ~flat), (max(rule.split, wide), mask & flat)):
        if here.any():
            sides = [2 * reach + 1 if rule.solid else 1, 2 * reach + 1, 2 * reach + 1]
            sure = _sight(plan, read) >= depth + reach + _TAIL
            found |= here & sure & (maximum_filter(key, sides) == key)
    return np.argwhere(found)


def _sight(plan: TilePlan, read: Box) -> np.ndarray:
    """How far each pixel of a block is from where its sight ends; (z, y, x) by broadcasting, far inside the image."""
    far = float(4 * max(plan.shape))
    total = np.full((1, 1, 1), far)
    for axis, (start, stop, size) in enumerate(zip(read.start[1:], read.stop[1:], plan.shape[1:], strict=True)):
        places = np.arange(stop - start)
        before = places if start > 0 else far
        after = stop - start - 1 - places if stop < size else far
        shape = [-1 if own == axis else 1 for own in range(3)]
        total = np.minimum(total, np.minimum(before, after + np.zeros(len(places))).reshape(shape))
    return total


def _lots(read: Box) -> np.ndarray:
    """(z, y, x) numbers in 0..1 that depend on a pixel's place in the image alone."""
    sides = (np.arange(a, b, dtype=np.uint64) for a, b in zip(read.start[1:], read.stop[1:], strict=True))
    z, y, x = np.ix_(*sides)
    mixed = (z * np.uint64(73856093)) ^ (y * np.uint64(19349663)) ^ (x * np.uint64(83492791))
    mixed = (mixed ^ (mixed >> np.uint64(13))) * np.uint64(0x9E3779B97F4A7C15)
    lots: np.ndarray = (mixed >> np.uint64(40)) / float(1 << 24)
    return lots


def _join_basins(labels: np.ndarray, depth: np.ndarray, inside: Box, found: _Found) -> None:
    """Join pieces between which, within a part of the block, is no neck."""
    part = inside.slices[1:]
    labels, depth = labels[part], depth[part]
    for axis in range(3):
        before, after = _pairs(labels, axis)
        touching = (before != after) & (before > 0) & (after > 0)
        heights = np.minimum(*_pairs(depth, axis))[touching]
        pairs = np.sort(np.stack([before[touching], after[touching]], axis=1), axis=1)
        unique, place = np.unique(pairs, axis=0, return_inverse=True)
        highest = np.zeros(len(unique))
        np.maximum.at(highest, place.ravel(), heights)
        for (a, b), height in zip(unique.tolist(), highest.tolist(), strict=True):
            if height >= NECK * min(found.height[a], found.height[b]):
                found.join(a, b)


def _pairs(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Each value and the next one along an axis."""
    stop = values.shape[axis]
    return values.take(range(stop - 1), axis), values.take(range(1, stop), axis)


def _touch(numbered: ImageSource, plan: TilePlan, core: Box, rule: ObjectRule, found: _Found) -> None:
    """Note what touches over the near borders of a block, corners included."""
    image = Box.whole(plan.shape)
    for axis in (1, 2, 3) if rule.solid else (2, 3):
        edge = core.start[axis]
        if edge == 0:
            continue
        wide = core.grown([0, int(rule.solid), 1, 1], inside=image)
        start = tuple(edge - 1 if place == axis else side for place, side in enumerate(wide.start))
        stop = tuple(edge + 1 if place == axis else side for place, side in enumerate(wide.stop))
        slab = numbered.read(with_channels(Box(start, stop), 1))[0, 0]
        near, far = np.moveaxis(slab, axis - 1, 0)
        for one, other in _contacts(near, far):
            _note_contact(one, other, rule, found)


def _contacts(near: np.ndarray, far: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pieces (N,) on both sides of a border, pixel by pixel, straight and over corners."""
    for shifts in product((-1, 0, 1), repeat=2):
        ours = tuple(slice(max(0, s), n + min(0, s)) for s, n in zip(shifts, near.shape, strict=True))
        theirs = tuple(slice(max(0, -s), n + min(0, -s)) for s, n in zip(shifts, near.shape, strict=True))
        one, other = near[ours].ravel(), far[theirs].ravel()
        both = (one > 0) & (other > 0) & (one != other)
        yield one[both], other[both]


def _note_contact(one: np.ndarray, other: np.ndarray, rule: ObjectRule, found: _Found) -> None:
    unique, times = np.unique(np.stack([one, other], axis=1), axis=0, return_counts=True)
    for (a, b), count in zip(unique.tolist(), times.tolist(), strict=True):
        if not rule.split:
            found.join(a, b)
            continue
        for nameless, neighbor in ((a, b), (b, a)):
            if nameless in found.nameless:
                found.claims[nameless, neighbor] += count


def _strongest(found: _Found) -> Iterator[tuple[int, int]]:
    """Each nameless piece with the neighbor that it touches along most pixels."""
    best: dict[int, tuple[int, int]] = {}
    for (piece, neighbor), count in sorted(found.claims.items()):
        if count > best.get(piece, (0, 0))[0]:
            best[piece] = count, neighbor
    yield from ((piece, neighbor) for piece, (_, neighbor) in best.items())


def _count_on(owners: np.ndarray, final: np.ndarray, count: int) -> int:
    """Give numbers to the objects of a block that have none yet, in the order of their first pixels."""
    seen, first = np.unique(owners, return_index=True)
    for owner in seen[np.argsort(first)]:
        if owner > 0 and final[owner] == 0:
            count += 1
            final[owner] = count
    return count
