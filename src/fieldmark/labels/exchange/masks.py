"""Label maps and scribble images: pictures whose values are labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile
from fieldmark.images import ImageSource, open_image

_HIGHEST = 65_535

Shape5 = tuple[int, int, int, int, int]


def read_map(
    path: Path, image: Shape5, plane: tuple[int, int] | None, shown: str
) -> Iterator[tuple[int, int, np.ndarray]]:
    """The planes of a label map, one by one: t, z and uint16 values (height, width).

    Args:
        path: The picture.
        image: Shape (t, c, z, y, x) of the image that it labels.
        plane: The (t, z) that the picture is of, where its name says; None for a picture of the whole image.
        shown: Its name as the user typed it.

    Raises:
        BadFile: It is damaged, has another size than the image, or values that are no labels.
    """
    with open_image(path, shown=shown, expand_palette=False) as source:
        times, channels, depth, height, width = source.shape
        wanted = (image[0], image[2], *image[3:]) if plane is None else (1, 1, *image[3:])
        if (times, depth, height, width) != wanted:
            raise BadFile(
                shown,
                f"it has {_words((times, depth, height, width))}; its image has {_words(wanted)}. "
                "A label map is as large as its image.",
            )
        if channels not in {1, 3}:
            raise BadFile(shown, f"it has {channels} channels; a label map has one. Save it as gray or with a palette.")
        for t in range(times):
            for z in range(depth):
                yield *(plane or (t, z)), _one_plane(source, t, z, shown)


def _one_plane(source: ImageSource, t: int, z: int, shown: str) -> np.ndarray:
    _, channels, _, height, width = source.shape
    pixels = source.read(Box((t, 0, z, 0, 0), (t + 1, channels, z + 1, height, width)))[0, :, 0]
    if channels > 1 and (pixels != pixels[:1]).any():
        raise BadFile(
            shown, "it is a color picture; a label map has one value a pixel. Save it as gray or with a palette."
        )
    values = pixels[0]
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise BadFile(shown, "it holds fractions; labels are whole numbers. Save it as 8 or 16 bit.")
    if values.min() < 0 or values.max() > _HIGHEST:
        raise BadFile(shown, f"its values go from {values.min()} to {values.max()}; labels go from 0 to {_HIGHEST}.")
    labels: np.ndarray = values.astype(np.uint16)
    return labels


def _words(size: tuple[int, ...]) -> str:
    times, depth, height, width = size
    extra = f" in {times} times and {depth} slices" if times * depth > 1 else ""
    return f"{width} x {height} pixels{extra}"
