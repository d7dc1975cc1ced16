"""Pictures of what was scored: planes of images, of single objects, and of predicted images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fieldmark.core.colors import class_color
from fieldmark.images import open_image
from fieldmark.images.png import encode_png
from fieldmark.report.blocks import Figure
from fieldmark.report.pictures import displayable, overlay
from fieldmark.workbench.cases import read_plane
from fieldmark.workbench.evaluating_objects import objects_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fieldmark.collection import ImageRecord
    from fieldmark.workbench.cases import Case

SHOWN_SIDE = 512
"""Pictures in a report are about this wide at most, in pixels."""
COLORS = 8
"""Objects are told apart by that many colors, in turn."""


def picture_figure(picture: np.ndarray, caption: str) -> Figure:
    """(y, x, 3) uint8 with words below."""
    return Figure(encode_png(picture), caption)


def shown_image(record: ImageRecord, plane: tuple[int, int] = (0, 0)) -> tuple[np.ndarray, int]:
    """One plane (t, z) as (y, x, 3) uint8, every `step`-th pixel of it."""
    step = _step(record)
    with open_image(record.path) as source:
        return _displayed(read_plane(source, *plane), step), step


def _step(record: ImageRecord) -> int:
    return max(1, -(-max(record.shape[3:]) // SHOWN_SIDE))


def _displayed(plane: np.ndarray, step: int) -> np.ndarray:
    """(c, y, x) as something to look at: the first three channels, or the first."""
    plane = plane[:, ::step, ::step]
    return displayable(np.moveaxis(plane[:3], 0, -1) if len(plane) >= 3 else plane[0])


def object_figures(
    case: Case, image: np.ndarray, step: int, objects: Callable[[np.ndarray], np.ndarray]
) -> tuple[Figure, Figure]:
    """The predicted objects and the right ones over a picture of the first plane that has truth."""
    said = _plane(objects_path(case.prediction), *case.first)
    right = objects(_plane(case.truth_of(*case.first), *((0, 0) if case.planes else case.first)))
    return (
        picture_figure(_numbered(image, said[::step, ::step]), "predicted objects"),
        picture_figure(_numbered(image, right[::step, ::step]), "true objects"),
    )


def _plane(path: Path, t: int, z: int) -> np.ndarray:
    with open_image(path, expand_palette=False) as source:
        plane: np.ndarray = read_plane(source, t, z)[0].astype(np.int64)
    return plane


def _numbered(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Objects over a picture, in a few colors; the outline keeps neighbors of one color apart."""
    colored = np.where(labels > 0, (labels - 1) % COLORS + 1, 0)
    return overlay(image, colored, {number: class_color(number - 1) for number in range(1, COLORS + 1)})


def value_figures(case: Case, kind: str) -> tuple[Figure, ...]:
    """The middle slices of an image, of what was predicted and of what is right, each stretched for the eye."""
    step, middle = _step(case.record), case.record.shape[2] // 2
    files = [
        (case.record.path, f"{case.record.name} ({kind})"),
        (case.prediction, "prediction"),
        (case.truth, "reference"),
    ]
    figures = []
    for path, caption in files:
        with open_image(path) as source:
            plane = read_plane(source, 0, min(middle, source.shape[2] - 1))
        figures.append(picture_figure(_displayed(plane, step), caption))
    return tuple(figures)
