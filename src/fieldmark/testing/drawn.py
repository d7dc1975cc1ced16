"""Drawn images with known masks: a test can say `Dice >= 0.9`, not `a number came out`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldmark.checkpoint import ClassSpec
from fieldmark.core.files import write_atomic
from fieldmark.core.fingerprint import file_hash
from fieldmark.images.png import encode_png
from fieldmark.learn.run import FitJob
from fieldmark.learn.samples import Answers, Marks, SampleImage, Samples
from fieldmark.recipes import FitRecipe

CLASSES = (ClassSpec(id=1, name="ground", value=1), ClassSpec(id=2, name="disc", value=2))


@dataclass(frozen=True, slots=True)
class Drawing:
    """An image of discs on a striped ground.

    Args:
        image: (height, width, 3) uint8.
        mask: (height, width) 0 ground, 1 disc.
    """

    image: np.ndarray
    mask: np.ndarray


def draw_discs(height: int = 93, width: int = 117, *, seed: int = 0) -> Drawing:
    """Bright smooth discs on a darker striped ground, with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.int64)
    for _ in range(5):
        cy, cx, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(8, 18)
        mask[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = 1
    ground = 70 + 30 * ((x + y) // 3 % 2)
    gray = np.where(mask == 1, 170, ground) + rng.normal(0, 6, (height, width))
    image = np.stack([gray, gray * 0.8, 255 - gray], axis=-1)
    return Drawing(np.clip(image, 0, 255).astype(np.uint8), mask)


def draw_marks(drawing: Drawing, image: int, *, each: int = 60, seed: int = 0) -> Marks:
    """Two short runs of marked pixels, one on each class, as a person's strokes would be."""
    parts = []
    for value in (0, 1):
        at = np.argwhere(drawing.mask == value)
        start = int(np.random.default_rng((seed, value)).integers(max(1, len(at) - each)))
        parts.append(at[start : start + each])
    places = np.concatenate([np.column_stack([np.zeros((len(at), 2), np.int64), at]) for at in parts])
    klass = np.repeat([0, 1], [len(at) for at in parts])
    return Marks(np.full(len(klass), image), places, klass + 1 + 2 * image, klass)


def drawn_job(folder: Path, recipe: FitRecipe, *, images: int = 2, seed: int = 0) -> FitJob:
    """A fit on drawn images: they are written into `folder/images`, its run is `folder/run`."""
    samples, marks = [], []
    for index in range(images):
        drawing = draw_discs(seed=seed + index)
        path = folder / "images" / f"drawn{index}.png"
        write_atomic(path, encode_png(drawing.image))
        samples.append(SampleImage(path.name, path.as_posix(), file_hash(path)))
        marks.append(draw_marks(drawing, index, seed=seed + index))
    joined = Marks(
        *(np.concatenate([getattr(m, name) for m in marks]) for name in ("image", "place", "stroke", "klass"))
    )
    # nothing but alternation decides the answers: what is learned from them is tested elsewhere
    answers = Answers(np.arange(images), np.arange(images) % len(CLASSES))
    learned = Samples(samples, joined, len(CLASSES), answers=answers)
    return FitJob(recipe=recipe, samples=learned, classes=CLASSES, folder=folder / "run")
