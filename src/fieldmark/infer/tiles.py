"""Run a forward over a plan of tiles, whatever the image's size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from math import lcm, prod
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from fieldmark.core.geometry import Box, Tile, TilePlan, round_up
from fieldmark.infer.blend import Blend, BlendPlan, Waiting, votes

if TYPE_CHECKING:
    from fieldmark.images import ImageSource


VOLUME_READ = 3_300_000
"""Pixels that a tile of a 3-D model reads at most, halo and all: its maps must fit in memory."""
VOLUME_STEP = 16
"""Sides of such tiles are tried in steps of about so many pixels."""


AnyPlan = TilePlan | BlendPlan


class Forward(Protocol):
    """From raw pixels to answers, for a block of any size."""

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """(t, c, z, y, x) raw pixels to (t, k, z, y, x) float32 answers."""


@runtime_checkable
class Surveyor(Protocol):
    """A forward that is told before each tile what its next block is, and may look at the whole plane for it."""

    def look(self, source: ImageSource, plan: AnyPlan, tile: Tile) -> None:
        """The next block is this tile's; of a `TilePlan` its core alone is answered, else all that the tile reads."""


@runtime_checkable
class Reader(Protocol):
    """A forward that reads by itself what it must see of an image, such as at another size."""

    def answer(self, source: ImageSource, box: Box) -> np.ndarray:
        """(t, k, z, y, x) float32 answers for a box over t, z, y, x."""


class Sink(Protocol):
    """Where answers go, tile by tile, and which tiles it has already."""

    def is_done(self, index: int) -> bool: ...

    def write(self, core: Box, answers: np.ndarray) -> None:
        """`core` is a box over t, z, y, x; `answers` is (t, k, z, y, x)."""

    def mark_done(self, index: int) -> None: ...


def plan_tiles(
    shape: tuple[int, ...], *, tile: int, stride: tuple[int, int, int], halo: tuple[int, int, int], depth: int = 0
) -> TilePlan:
    """How an image is cut along t, z, y, x for a model of that stride and halo.

    Args:
        shape: (t, c, z, y, x) of the image.
        tile: Core side along y and x, in pixels; rounded up to the stride. Cores of 3-D models may be smaller: they
            are chosen so that all tiles read as little as they can, with no more than `VOLUME_READ` pixels in one.
        stride: Total downsampling along z, y, x.
        halo: Receptive-field radius along z, y, x, in pixels; rounded up to the stride.
        depth: Slices of a core; 0 for one, or as many as a tile of a model that sees several may have.
    """
    t, _, z, y, x = shape
    sz, sy, sx = stride
    hz, hy, hx = halo_on_grid = tuple(round_up(h, s) for h, s in zip(halo, stride, strict=True))
    if not depth and (sz > 1 or halo[0] > 0):
        depth, tile = _volume_core((z, y, x), tile, stride, halo_on_grid)
    return TilePlan(
        shape=(t, z, y, x),
        tile=(1, round_up(max(1, depth), sz), round_up(tile, sy), round_up(tile, sx)),
        halo=(0, hz, hy, hx),
        stride=(1, *stride),
    )


def _volume_core(shape: tuple[int, ...], most: int, stride: tuple[int, ...], halo: tuple[int, ...]) -> tuple[int, int]:
    """Slices of a core, and its side along y and x; see `plan_tiles`."""
    step_z, step = (round_up(VOLUME_STEP, side) for side in (stride[0], lcm(*stride[1:])))
    cores = [
        (depth, side, side)
        for depth in range(step_z, round_up(shape[0], step_z) + 1, step_z)
        for side in range(min(step, most), min(most, round_up(max(shape[1:]), step)) + 1, step)
    ]
    read = {core: _read_by_one(core, shape, halo) for core in cores}
    small = [core for core in cores if read[core] <= VOLUME_READ] or [min(cores, key=lambda core: read[core])]
    depth, side, _ = min(small, key=lambda core: (_read_by_all(core, shape, halo), -prod(core)))
    return depth, side


def _read_by_one(core: tuple[int, ...], shape: tuple[int, ...], halo: tuple[int, ...]) -> int:
    """Pixels of the largest tile."""
    return prod(min(n, side + 2 * h) for side, n, h in zip(core, shape, halo, strict=True))


def _read_by_all(core: tuple[int, ...], shape: tuple[int, ...], halo: tuple[int, ...]) -> int:
    """Pixels of all tiles, those that several of them read counted for each."""
    return prod(n + 2 * h * (-(-n // side) - 1) for side, n, h in zip(core, shape, halo, strict=True))


def with_channels(box: Box, channels: int) -> Box:
    """A box over t, z, y, x as one over t, c, z, y, x that holds every channel."""
    (t0, *start), (t1, *stop) = box.start, box.stop
    return Box((t0, 0, *start), (t1, channels, *stop))


def plan_blend(
    shape: tuple[int, ...],
    *,
    tile: tuple[int, int, int],
    overlap: tuple[int, int, int],
    stride: tuple[int, int, int],
    margin: tuple[int, int, int] = (0, 0, 0),
    blend: Blend = "linear",
    background: int = 0,
) -> BlendPlan:
    """How an image (t, c, z, y, x) is cut into tiles that overlap; the other tuples are over z, y, x, in pixels.

    Tiles and margins are rounded up to the stride, overlaps cut to half of the tile.
    """
    t, _, *size = shape
    tile_z, tile_y, tile_x = (round_up(side, s) for side, s in zip(tile, stride, strict=True))
    margins = (round_up(side, s) for side, s in zip(margin, stride, strict=True))
    over = (min(o, side // 2) for o, side in zip(overlap, (tile_z, tile_y, tile_x), strict=True))
    return BlendPlan(
        (t, *size), (1, tile_z, tile_y, tile_x), (0, *over), (0, *margins), (1, *stride), blend, background
    )


def predict_tiles(
    forward: Forward, source: ImageSource, plan: AnyPlan, sink: Sink, folder: Path | None = None
) -> Iterator[Tile]:
    """Run `forward` over `plan`, write each core (or each cell, where tiles are blended), yield every finished tile.

    Memory in use is one tile, and of blended tiles the seams of about one row of tiles (in 3-D one slab); what of them
    is more than 256 MiB waits in files in `folder`, or where the system keeps such things. A tile that is marked done
    is skipped, so a stopped run goes on where it was; of a blended one, what has a share in an unfinished cell is
    computed again.
    """
    if isinstance(plan, BlendPlan):
        with closing(Waiting(plan.blend, folder)) as waiting:
            yield from _blend_tiles(forward, source, plan, sink, waiting)
        return
    for tile in plan:
        if sink.is_done(tile.index):
            continue
        answers = _answers(forward, source, plan, tile)
        if not isinstance(forward, Surveyor):
            answers = answers[with_channels(tile.core.relative_to(tile.read), answers.shape[1]).slices]
        sink.write(tile.core, answers)
        sink.mark_done(tile.index)
        yield tile


def _blend_tiles(
    forward: Forward, source: ImageSource, plan: BlendPlan, sink: Sink, waiting: Waiting
) -> Iterator[Tile]:
    """The cells that end with a tile are one box, which is written before the tile is marked.

    So the log of tiles tells which cells are finished.
    """
    for tile in plan:
        open_cells = [cell for cell in plan.cells(tile) if not sink.is_done(cell.last)]
        if not open_cells:
            continue
        answers = _answers(forward, source, plan, tile)
        if plan.blend == "any":
            answers = votes(answers, plan.background)
        whole = plan.finished(tile)
        done = np.empty((1, answers.shape[1], *whole.shape[1:]), np.float32)
        for cell in open_cells:
            inner = with_channels(cell.box.relative_to(tile.read), answers.shape[1])
            finished = waiting.add(tile.index, cell, answers[inner.slices])
            if finished is not None:
                done[with_channels(cell.box.relative_to(whole), answers.shape[1]).slices] = finished
        if not sink.is_done(tile.index):
            sink.write(whole, done)
            sink.mark_done(tile.index)
        yield tile


def _answers(forward: Forward, source: ImageSource, plan: AnyPlan, tile: Tile) -> np.ndarray:
    """(t, k, z, y, x) of all that the tile reads, or of its core (see `Surveyor`)."""
    if isinstance(forward, Reader):
        return forward.answer(source, tile.read)
    if isinstance(forward, Surveyor):
        forward.look(source, plan, tile)
    return forward(source.read(with_channels(tile.read, source.shape[1])))
