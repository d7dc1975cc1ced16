"""What a preparation leaves on disk: masks, weight maps, tables, and copies of tiles where they were asked for.

Every file is whole or absent, and one that is there already is not made again.
"""

from __future__ import annotations

import csv
import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np

from fieldmark.collection.frames import META, META_COLUMNS
from fieldmark.core.files import write_atomic
from fieldmark.core.geometry import Box
from fieldmark.images import encode_png, open_image
from fieldmark.prepare.estimate import Ground, Plane
from fieldmark.prepare.pipeline import apply
from fieldmark.recipes.prepare import TilesConfig

_LEVEL = 1
"""Of compression: masks are almost as small by the quickest one."""
Where = tuple[int, int, int]
"""Position, time and slice, by the numbers in names."""


def frame_name(channel: int, where: Where, suffix: str) -> str:
    """A frame's name, as microDL's are."""
    p, t, z = where
    return f"im_c{channel:03d}_z{z:03d}_t{t:03d}_p{p:03d}{suffix}"


def write_whole(path: Path, data: bytes) -> None:
    """Write one of many files: whole or absent when a process dies; the last file of all is made durable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(data)
    os.replace(draft, path)


def write_array(path: Path, array: np.ndarray) -> None:
    """An array as `.npy`."""
    data = BytesIO()
    np.save(data, array, allow_pickle=False)
    write_whole(path, data.getvalue())


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A CSV as microDL writes it: a column of row numbers without a name comes first."""
    text = StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("", *columns))
    for number, row in enumerate(rows):
        lines.writerow((number, *(f"{cell:.9g}" if isinstance(cell, float) else cell for cell in row)))
    write_atomic(path, text.getvalue().encode())


@dataclass(frozen=True, slots=True)
class MaskFolder:
    """Computed masks, one for each plane.

    Args:
        folder: Where they are written.
        channel: Their number in names.
        suffix: `.png` (0 and 255) or `.npy` (bool).
    """

    folder: Path
    channel: int
    suffix: str

    def of(self, plane: Plane, where: Where, ground: Ground) -> np.ndarray:
        """(y, x) bool foreground of a plane: read where it is there, else found and written."""
        path = self.folder / frame_name(self.channel, where, self.suffix)
        if path.is_file():
            return self.read(where)
        mask = ground.found(plane)
        if self.suffix == ".npy":
            write_array(path, mask)
        else:
            write_whole(path, encode_png(mask.astype(np.uint8) * np.uint8(255), level=_LEVEL))
        return mask

    def read(self, where: Where) -> np.ndarray:
        """(y, x) bool, as written."""
        with open_image(self.folder / frame_name(self.channel, where, self.suffix)) as source:
            mask: np.ndarray = source.read(Box.whole(source.shape))[0, 0, 0] > 0
        return mask

    def finish(self, places: Sequence[Where]) -> None:
        """The table of what is there."""
        write_frames_meta(self.folder, self.channel, "mask", places, self.suffix)


def write_frames_meta(folder: Path, channel: int, name: str, places: Sequence[Where], suffix: str) -> None:
    """`frames_meta.csv` of a folder of planes of one channel."""
    rows = [
        (channel, z, t, name, frame_name(channel, (p, t, z), suffix), p, str(folder.resolve())) for p, t, z in places
    ]
    write_table(folder / META, META_COLUMNS, rows)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A tile that shows enough.

    Args:
        where: Position and time, and the tile's middle slice, or its first one where it has several.
        box: Over z, y, x.
        share: Of its pixels that are foreground, 0..1.
    """

    where: Where
    box: Box
    share: float


TILE_COLUMNS = ("pos_idx", "time_idx", "slice_idx", "row_start", "row_stop", "col_start", "col_stop", "slices")


def write_tile_list(path: Path, tiles: Sequence[Chosen], depth: int) -> None:
    """`tiles.csv`: a line for each tile, whatever its channels."""
    rows = []
    for tile in tiles:
        (p, t, z), (_, y0, x0), (_, y1, x1) = tile.where, tile.box.start, tile.box.stop
        rows.append((p, t, z, y0, y1, x0, x1, max(depth, tile.box.shape[0]), float(tile.share)))
    write_table(path, (*TILE_COLUMNS, "fg_frac"), rows)


class TileCopies:
    """Prepared tiles as `.npy` files, named and listed as microDL's.

    Args:
        folder: Where they are written.
        rule: How they are cut.
        depths: Number of each channel that is copied, to its place along the channel axis and the slices of a stack.
        steps: From raw to prepared pixels.
        masks: Written too, as a channel, where this is one.
    """

    def __init__(
        self,
        folder: Path,
        rule: TilesConfig,
        depths: dict[int, tuple[int, int]],
        steps: list[dict[str, object]],
        masks: MaskFolder | None,
    ) -> None:
        self.folder, self.rule, self.steps, self.masks = folder, rule, steps, masks
        self.depths = depths
        self.rows: list[tuple[object, ...]] = []
        self._planes: OrderedDict[tuple[int, int, int], np.ndarray] = OrderedDict()

    def write(self, tile: Chosen, planes: Sequence[Plane], slices: Sequence[int]) -> None:
        """A tile of each channel.

        Args:
            tile: Which.
            planes: All slices of its volume.
            slices: Their numbers in names.
        """
        solid = self.rule.size[0] > 1
        for channel, (place, depth) in self.depths.items():
            span = _span(tile.box, depth)
            name, path = self._place(tile, channel, span)
            if not path.is_file():
                stack = np.stack([self._prepared(planes[z])[place] for z in span])
                write_array(path, self._shaped(stack, tile.box))
            self._list(tile, channel, name, solid)
        if self.masks is not None:
            self._write_mask(tile, slices, solid)

    def finish(self) -> None:
        """The table of what is there."""
        solid = ("slice_start",) if self.rule.size[0] > 1 else ()
        columns = ("channel_idx", "slice_idx", "time_idx", "file_name", "pos_idx", "row_start", "col_start", *solid)
        write_table(self.folder / META, (*columns, "dir_name"), self.rows)

    def _write_mask(self, tile: Chosen, slices: Sequence[int], solid: bool) -> None:
        if self.masks is None:
            return
        span = _span(tile.box, self.rule.mask_depth)
        name, path = self._place(tile, self.masks.channel, span)
        if not path.is_file():
            p, t, _ = tile.where
            known = [self.masks.read((p, t, slices[z])) for z in span if 0 <= z < len(slices)]
            write_array(path, self._shaped(np.stack(known), tile.box))
        self._list(tile, self.masks.channel, name, solid)

    def _list(self, tile: Chosen, channel: int, name: str, solid: bool) -> None:
        (p, t, z), (z0, y0, x0) = tile.where, tile.box.start
        first = (z0,) if solid else ()
        self.rows.append((channel, z, t, name, p, y0, x0, *first, str(self.folder.resolve())))

    def _place(self, tile: Chosen, channel: int, span: range) -> tuple[str, Path]:
        (_, y0, x0), (_, y1, x1) = tile.box.start, tile.box.stop
        first = span.start if self.rule.size[0] > 1 else 0
        place = f"_r{y0}-{y1}_c{x0}-{x1}_sl{first}-{first + len(span)}.npy"
        name = frame_name(channel, tile.where, place)
        return name, self.folder / name

    def _prepared(self, plane: Plane) -> np.ndarray:
        """(C, y, x) float32; planes that the next tiles need again are kept."""
        key = (plane.index, plane.t, plane.z)
        if key not in self._planes:
            self._planes[key] = apply(plane.raw(), plane.whole.at(self.steps, plane.box))
            while len(self._planes) > max(self.rule.size[0], self.rule.depth):
                self._planes.popitem(last=False)
        return self._planes[key]

    def _shaped(self, stack: np.ndarray, box: Box) -> np.ndarray:
        """(z, y, x) planes to a tile with its axes in the order asked for; a small image's is grown by reflection."""
        cut = stack[(slice(None), *box.slices[1:])]
        wanted = (max(len(cut), self.rule.size[0]), *self.rule.size[1:])
        beyond = [(0, new - old) for new, old in zip(wanted, cut.shape, strict=True)]
        grown = np.pad(cut, beyond, mode="symmetric") if any(more for _, more in beyond) else cut
        return np.ascontiguousarray(grown.transpose(["zyx".index(axis) for axis in self.rule.order]))


def _span(box: Box, depth: int) -> range:
    """The slices of a stack around a tile."""
    half = depth // 2
    return range(box.start[0] - half, box.stop[0] + half)
