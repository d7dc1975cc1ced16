"""Pictures of predictions for the eye: what was seen, what is right, what was said, two of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.core.colors import RGB, class_color
from fieldmark.core.files import write_atomic
from fieldmark.core.geometry import Box
from fieldmark.infer.predict import seen_channels
from fieldmark.recipes.predict import FIGURE_PLANES
from fieldmark.report.pictures import overlay, sheet

if TYPE_CHECKING:
    from fieldmark.images import ImageSource
    from fieldmark.infer.predict import Model

SIDE = 384
"""Longest side of a picture in pixels; larger planes are shown smaller."""
_STRIP = 512
NO_CODES: Mapping[int, int] = MappingProxyType({})
NO_PLANES: Mapping[tuple[int, int], Path] = MappingProxyType({})

Shown = tuple["ImageSource", "Sequence[int]"]
"""An image and those of its channels that are shown; empty for the first ones."""


def draw_figures(
    model: Model,
    source: ImageSource,
    made: Path,
    targets: Sequence[Path],
    truth: Path | None = None,
    channels: Sequence[int] = (),
    codes: Mapping[int, int] = NO_CODES,
    true_planes: Mapping[tuple[int, int], Path] = NO_PLANES,
) -> None:
    """Write contact sheets: a row a plane, in the order t, z, and its pictures side by side.

    Side by side are what the model sees, what is right where that is known, what it says, and two of them together:
    classes over the image; images in magenta (what is right, else the input) and green, white where both are bright.

    Args:
        model: What predicted.
        source: The image.
        made: Its class map or predicted image.
        targets: PNG files, one for each `FIGURE_PLANES` planes.
        truth: What is right: a class map or an image of the same planes; None to leave it out.
        channels: Those of the truth that are meant; empty for its first ones.
        codes: What the model writes for each value of a true class map; empty where that holds the model's own values.
        true_planes: True class maps of single planes (t, z), instead of one file; the others are black.
    """
    from fieldmark.images import encode_png, open_image

    seen = seen_channels(model.header, source.shape[1])
    planes = list(np.ndindex(source.shape[0], source.shape[2]))
    colors = {spec.value: class_color(place) for place, spec in enumerate(model.header.classes)}
    if made.name == "image.ome.zarr":
        colors = {}
    with open_image(made) as said:
        right = open_image(truth, expand_palette=not colors) if truth is not None and not true_planes else None
        for page, target in enumerate(targets):
            here = planes[page * FIGURE_PLANES : (page + 1) * FIGURE_PLANES]
            if true_planes:
                rows = [_with_true_plane((source, seen), said, true_planes, codes, plane, colors) for plane in here]
            elif colors:
                rows = [_class_pictures((source, seen), said, (right, codes), plane, colors) for plane in here]
            else:
                rows = [_image_pictures((source, seen), said, (right, channels), plane) for plane in here]
            pictures = [picture for row in rows for picture in row]
            write_atomic(target, encode_png(sheet(pictures, len(rows[0]), background=(40, 40, 40))))
        if right is not None:
            right.close()


def _class_pictures(
    source: Shown,
    said: ImageSource,
    right: tuple[ImageSource | None, Mapping[int, int]],
    plane: tuple[int, ...],
    colors: dict[int, RGB],
) -> list[np.ndarray]:
    """(h, w, 3) uint8 each: input, truth where it is known, prediction, prediction over the input."""
    seen = _picture(source, plane)
    size = seen.shape[:2]
    blank = np.zeros((*size, 3), np.uint8)
    labels = sampled(said, plane, size)
    map_of, codes = right
    truth = [] if map_of is None else [_coded(sampled(map_of, _inside(map_of, plane), size), codes)]
    maps = [overlay(blank, one, colors, alpha=1.0) for one in (*truth, labels)]
    return [seen, *maps, overlay(seen, labels, colors)]


def _with_true_plane(
    source: Shown,
    said: ImageSource,
    files: Mapping[tuple[int, int], Path],
    codes: Mapping[int, int],
    plane: tuple[int, ...],
    colors: dict[int, RGB],
) -> list[np.ndarray]:
    """The same where planes have files of their own; truth is black where there is none."""
    from fieldmark.images import open_image

    t, z = plane
    if (t, z) not in files:
        seen, *others = _class_pictures(source, said, (None, codes), plane, colors)
        return [seen, np.zeros_like(seen), *others]
    with open_image(files[t, z], expand_palette=False) as right:
        return _class_pictures(source, said, (right, codes), plane, colors)


def _coded(labels: np.ndarray, codes: Mapping[int, int]) -> np.ndarray:
    """Values of a true class map as the model writes its classes."""
    written = np.zeros_like(labels, np.int64) if codes else labels
    for value, ours in codes.items():
        written[labels == value] = ours
    return written


def _image_pictures(
    source: Shown, said: ImageSource, right: tuple[ImageSource | None, Sequence[int]], plane: tuple[int, ...]
) -> list[np.ndarray]:
    """(h, w, 3) uint8 each: input, truth where it is known, prediction, both together."""
    seen, answer = _picture(source, plane), _picture((said, ()), plane)
    truth, channels = right
    if truth is None:
        return [seen, answer, _composed(seen, answer)]
    wanted = _matched(_picture((truth, channels), _inside(truth, plane)), seen.shape[:2])
    return [seen, wanted, answer, _composed(wanted, answer)]


def _picture(shown: Shown, plane: tuple[int, ...]) -> np.ndarray:
    from fieldmark.images import thumbnail

    (source, channels), (t, z) = shown, plane
    return thumbnail(source, SIDE, t, z, channels)


def _inside(source: ImageSource, plane: tuple[int, ...]) -> tuple[int, int]:
    """The plane, or the last one where truth has fewer."""
    t, z = plane
    return min(t, source.shape[0] - 1), min(z, source.shape[2] - 1)


def _composed(below: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """The prediction in green over a picture in magenta: white where both are bright."""
    gray = below.mean(axis=2)
    return np.stack([gray, _matched(answer, below.shape[:2]).mean(axis=2), gray], axis=2).astype(np.uint8)


def _matched(picture: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The nearest pixels on another grid: (*size, 3)."""
    rows, columns = (_places(n, m) for n, m in zip(picture.shape[:2], size, strict=True))
    nearest: np.ndarray = picture[np.ix_(rows, columns)]
    return nearest


def sampled(source: ImageSource, plane: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    """Single values of the first channel of a plane, on a grid of `size`, read strip by strip: (h, w) int64."""
    t, z = plane
    height, width = source.shape[3:]
    rows, columns = (_places(n, m) for n, m in zip((height, width), size, strict=True))
    found = np.zeros(size, np.int64)
    for top in range(0, height, _STRIP):
        inside = (rows >= top) & (rows < top + _STRIP)
        if inside.any():
            box = Box((t, 0, z, top, 0), (t + 1, 1, z + 1, min(height, top + _STRIP), width))
            found[inside] = source.read(box)[0, 0, 0][np.ix_(rows[inside] - top, columns)]
    return found


def _places(size: int, count: int) -> np.ndarray:
    """The pixels in the middle of `count` equal parts of a side."""
    places: np.ndarray = ((np.arange(count) + 0.5) * size / count).astype(np.int64)
    return places
