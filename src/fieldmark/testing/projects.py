"""Small drawn projects on disk, with strokes: for tests of the workbench and its faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldmark.core.files import write_atomic
from fieldmark.images.png import encode_png
from fieldmark.labels import Runs
from fieldmark.testing.drawn import draw_discs
from fieldmark.workbench import Workbench

CLASS_NAMES = ("ground", "disc")


def drawn_images(folder: Path, *, images: int = 2, height: int = 61, width: int = 75) -> None:
    """`drawn0.png`, `drawn1.png`, ... of discs."""
    for index in range(images):
        write_atomic(folder / f"drawn{index}.png", encode_png(draw_discs(height, width, seed=index).image))


def drawn_masks(folder: Path, *, images: int = 2, height: int = 61, width: int = 75) -> None:
    """What is right for `drawn_images`: 1 ground, 2 disc."""
    for index in range(images):
        mask = draw_discs(height, width, seed=index).mask + 1
        write_atomic(folder / f"drawn{index}.png", encode_png(mask.astype(np.uint8)))


def draw_strokes(bench: Workbench, image: str, *, seed: int = 0, height: int = 61, width: int = 75) -> None:
    """One stroke of each class on an image of `drawn_images`."""
    mask = draw_discs(height, width, seed=seed).mask
    record = bench.collection.find(image)
    for place, klass in enumerate(bench.labels.classes()[:2]):
        at = np.argwhere(mask == place)[40:100]
        runs = np.column_stack([at, at[:, 1] + 1])
        bench.labels.draw(record.id, klass.id, Runs(runs), "tester")


def drawn_project(folder: Path, *, images: int = 2, taught: int = 1) -> Path:
    """Make `folder/images` and `folder/project`, whose first `taught` images hold strokes; the project's path."""
    drawn_images(folder / "images", images=images)
    with Workbench.init(folder / "project", CLASS_NAMES) as bench:
        bench.add([folder / "images"])
        for index in range(taught):
            draw_strokes(bench, f"drawn{index}.png", seed=index)
    return folder / "project"
