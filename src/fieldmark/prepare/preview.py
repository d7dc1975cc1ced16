"""A preparation as pictures: each step of it on a plane, for a person who wants to see before anything is learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.core.colors import CLASS_COLORS
from fieldmark.core.geometry import Box
from fieldmark.images import encode_png
from fieldmark.prepare.flat_field import surface_at
from fieldmark.prepare.tiling import share_of, tiles_of
from fieldmark.prepare.weights import SIGMA, border_weights
from fieldmark.report.blocks import Block, Figure, Gallery, Legend, Section, Text
from fieldmark.report.pictures import displayable, overlay

if TYPE_CHECKING:
    from fieldmark.prepare.estimate import Estimated, Plane
    from fieldmark.recipes.prepare import TilesConfig

MOST_PIXELS = 1 << 22
"""Of a plane that is prepared; of larger ones every n-th row and column."""
SHOWN_SIDE = 420
"""Pixels of a picture at most."""
MOST_CHANNELS = 3
_TILE, _MASK = CLASS_COLORS[2], CLASS_COLORS[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is shown of a plane besides its pixels.

    Args:
        names: Of the channels.
        tiles: How it is cut; None for no tiles.
        mask: A person's own foreground (y, x) bool; None for the computed one, if any.
        labels: Label map (y, x) or mask for the weight map; None for the foreground.
        weights: Whether there is a weight map.
    """

    names: Sequence[str]
    tiles: TilesConfig | None = None
    mask: Callable[[Plane], np.ndarray] | None = None
    labels: Callable[[Plane], np.ndarray] | None = None
    weights: bool = False


def preview_section(title: str, plane: Plane, estimated: Estimated, shown: Shown) -> Section:
    """The steps of a preparation on one plane."""
    values = {
        name: plane.whole.values(steps, plane.t, plane.z, MOST_PIXELS)
        for name, steps in (("raw", []), ("corrected", estimated.first), ("normalized", estimated.steps))
    }
    size = plane.source.shape[3:]
    every = plane.whole.every(MOST_PIXELS)
    blocks: list[Block] = []
    for channel in range(min(MOST_CHANNELS, len(values["raw"]))):
        blocks += _channel(channel, values, estimated, shown.names[channel], size)
    mask = _mask(plane, values["corrected"], estimated, shown, every)
    blocks += _foreground(plane, values["corrected"], mask, shown, every)
    return Section(title, tuple(blocks))


def _channel(
    channel: int, values: dict[str, np.ndarray], estimated: Estimated, name: str, size: tuple[int, ...]
) -> list[Block]:
    """Raw, illumination, corrected and normalized pixels of one channel."""
    raw, corrected, normalized = (values[step][channel] for step in ("raw", "corrected", "normalized"))
    figures = [_figure(raw, f"raw, {_span(raw)}")]
    flat = next((step for step in estimated.first if step["step"] == "flat-field"), None)
    if flat is not None and flat["surfaces"][channel] is not None:
        y, x = (np.arange(0, n, -(-max(size) // SHOWN_SIDE)) for n in size)
        field = surface_at(flat["surfaces"][channel], y, x, (size[0], size[1]))
        figures += [
            _figure(field, f"illumination, {field.min():.3g} to {field.max():.3g} of its mean"),
            _figure(corrected, f"corrected, {_span(corrected)}"),
        ]
    if len(estimated.steps) > len(estimated.first):
        figures.append(_figure(normalized, f"normalized, {_span(normalized)}"))
    return [Text(f"Channel {name}"), Gallery(tuple(figures), columns=4)]


def _mask(plane: Plane, corrected: np.ndarray, estimated: Estimated, shown: Shown, every: int) -> np.ndarray | None:
    if shown.mask is not None:
        return shown.mask(plane)[::every, ::every]
    if estimated.ground is None:
        return None
    return plane.whole.foreground(estimated.first, estimated.ground, plane.t, plane.z, values=corrected, every=every)


def _foreground(plane: Plane, corrected: np.ndarray, mask: np.ndarray | None, shown: Shown, every: int) -> list[Block]:
    """What stands out, what lies between, and the tiles that show enough of it."""
    figures: list[Figure] = []
    back = corrected[0]
    if mask is not None:
        picture = overlay(_picture(back), _small(mask).astype(np.uint8), {1: _MASK})
        figures.append(Figure(encode_png(picture), f"foreground, {mask.mean():.1%} of the plane"))
    labels = shown.labels(plane)[::every, ::every] if shown.labels is not None else mask
    if shown.weights and labels is not None:
        weights = border_weights(labels, sigma=SIGMA / every)
        figures.append(_figure(_lit(weights), f"weights, 1 (black) to {weights.max():.3g} (white)"))
    blocks: list[Block] = []
    if shown.tiles is not None:
        picture, told = _tiles(plane, back, mask, shown.tiles, every)
        figures.append(Figure(encode_png(picture), told))
    if figures:
        words = "foreground" if shown.tiles is None else "foreground and tiles"
        blocks += [Text(f"What stands out: {words}"), Gallery(tuple(figures), columns=3)]
    if shown.tiles is not None:
        blocks.append(Legend((("chosen tiles", _TILE),)))
    return blocks


def _tiles(
    plane: Plane, back: np.ndarray, mask: np.ndarray | None, rule: TilesConfig, every: int
) -> tuple[np.ndarray, str]:
    """The grid of tiles over a plane: chosen ones tinted and framed, others framed in gray."""
    step = every * _step(back)
    picture = _picture(back)
    flat = rule.model_copy(update={"size": (1, *rule.size[1:]), "depths": ()})
    boxes = [Box(box.start[1:], box.stop[1:]) for box in tiles_of((1, *plane.source.shape[3:]), flat)]
    chosen = [box for box in boxes if mask is None or share_of(mask, _shrunk(box, every)) >= rule.min_fraction]
    covered = np.zeros(picture.shape[:2], np.uint8)
    for box in chosen:
        covered[_shrunk(box, step).slices] = 1
    picture = overlay(picture, covered, {1: _TILE}, alpha=0.25, outline=False)
    for box in sorted(boxes, key=chosen.__contains__):
        _frame(picture, _shrunk(box, step), _TILE if box in chosen else (130, 130, 130))
    told = f"{len(chosen)} of {len(boxes)} tiles of {rule.size[1]} x {rule.size[2]} are chosen"
    return picture, f"{told} (at least {rule.min_fraction:.0%} foreground)" if rule.min_fraction else told


def _lit(weights: np.ndarray) -> np.ndarray:
    """Weights from 1 to the largest as uint8: most of a plane weighs 1, so percentiles would show nothing."""
    shown: np.ndarray = ((weights - 1) * (255 / max(weights.max() - 1, 1e-6))).round().astype(np.uint8)
    return shown


def _frame(picture: np.ndarray, box: Box, color: tuple[int, int, int]) -> None:
    (y0, x0), (y1, x1) = box.start, box.stop
    last_y, last_x = (min(stop, n) - 1 for stop, n in zip((y1, x1), picture.shape[:2], strict=True))
    for row in (y0, last_y):
        picture[row, x0:x1] = color
    for column in (x0, last_x):
        picture[y0:y1, column] = color


def _shrunk(box: Box, step: int) -> Box:
    return Box(
        tuple(n // step for n in box.start),
        tuple(max(a // step + 1, n // step) for a, n in zip(box.start, box.stop, strict=True)),
    )


def _step(plane: np.ndarray) -> int:
    return max(1, -(-int(max(plane.shape)) // SHOWN_SIDE))


def _small(plane: np.ndarray) -> np.ndarray:
    step = _step(plane)
    return plane[::step, ::step]


def _picture(plane: np.ndarray) -> np.ndarray:
    return displayable(_small(plane))


def _figure(plane: np.ndarray, caption: str) -> Figure:
    return Figure(encode_png(_picture(plane)), caption)


def _span(values: np.ndarray) -> str:
    low, high = np.percentile(values, (1, 99))
    return f"{low:.4g} to {high:.4g} (1st to 99th percentile)"
