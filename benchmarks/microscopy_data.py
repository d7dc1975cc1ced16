"""The data of `benchmarks.microscopy`: what teaches and what tests, and strokes drawn by a rule."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.core.seeds import derive_seed
from fieldmark.images import open_image

DATA = Path(os.environ.get("FIELDMARK_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
TAUGHT, TESTED = 60, 40
"""Images of nuclei that teach and test."""
SPARSE = 30
"""Images of nuclei that strokes teach."""
GAP = 32
"""Columns between what teaches and the strip that tests, in pixels: more than the texture is correlated over."""
STRIP = 256
BRUSH = 3
"""Radius of a stroke in pixels."""
LONGEST = 60
"""Steps of a stroke, each of one radius."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An image, and what is right for it: files."""

    image: Path
    target: Path


@dataclass(frozen=True, slots=True)
class Problem:
    """What teaches, what tests, and what is asked.

    Args:
        train: Pairs that teach.
        test: Pairs that test; none of them, and no field of them, teaches.
        data: Settings of `FitRecipe.data` for them.
        classes: Name and written value of each class; empty where images are the answer.
        strokes: The share of the teaching pixels that is painted; None where label maps teach.
    """

    train: tuple[Pair, ...]
    test: tuple[Pair, ...]
    data: dict[str, Any]
    classes: tuple[tuple[str, int], ...] = ()
    strokes: float | None = None


def pixels(path: Path) -> np.ndarray:
    """(c, y, x) of an image file; of a stack, its slices as channels."""
    with open_image(path, expand_palette=False) as source:
        whole = source.read(Box.whole(source.shape))[0]
    merged: np.ndarray = whole.reshape(-1, *whole.shape[2:])
    return merged


NUCLEUS: dict[str, Any] = {
    "data": {"target": {"kind": "labels", "objects": True}},
    "classes": (("background", 0), ("nucleus", 1)),
}


def nuclei(seed: int, folder: Path) -> Problem:
    """Fluorescence: gray images of many experiments, parted by image."""
    names = _drawn([row["name"] for row in _index() if row["kind"] == "fluorescence"], seed)
    pairs = [_nucleus(name) for name in names[: TAUGHT + TESTED]]
    return Problem(tuple(pairs[:TAUGHT]), tuple(pairs[TAUGHT:]), **NUCLEUS)


def all_nuclei(seed: int, folder: Path) -> Problem:
    """Every kind of image, gray ones repeated in three channels; parted by image, each kind by its share."""
    import tifffile

    rows = {row["name"]: row["kind"] for row in _index()}
    names = _drawn(list(rows), seed)[: TAUGHT + TESTED]
    pairs = []
    for name in names:
        found = pixels(DATA / "nuclei" / "images" / f"{name}.png")
        color = np.broadcast_to(found, (3, *found.shape[1:]))
        tifffile.imwrite(folder / f"{name}.tif", np.moveaxis(color, 0, -1), photometric="rgb")
        pairs.append(Pair(folder / f"{name}.tif", _nucleus(name).target))
    return Problem(tuple(pairs[:TAUGHT]), tuple(pairs[TAUGHT:]), **NUCLEUS)


def strokes(share: float) -> Callable[[int, Path], Problem]:
    """Fluorescence, of which people paint a share; the images that test are those of `nuclei`."""

    def problem(seed: int, folder: Path) -> Problem:
        whole = nuclei(seed, folder)
        asked = {"data": {"target": {"kind": "marks"}}, "classes": NUCLEUS["classes"]}
        return Problem(whole.train[:SPARSE], whole.test, strokes=share, **asked)

    return problem


def membranes(seed: int, folder: Path) -> Problem:
    """Slices of one stack: six in a row are left out, of which the outer ones, next to what teaches, do not test."""
    names = [f"{n:02d}.png" for n in range(20)]
    first = (14, 0, 7)[seed % 3]
    out = range(first, first + 6)
    inner = [n for n in out if 0 < n < 19 and n - 1 in out and n + 1 in out] + [n for n in out if n in (0, 19)]
    own = DATA / "membranes"
    pairs = [Pair(own / "images" / name, own / "membrane_white_is_cell" / name) for name in names]
    train = tuple(pair for n, pair in enumerate(pairs) if n not in out)
    return Problem(
        train,
        tuple(pairs[n] for n in sorted(inner)),
        {"target": {"kind": "labels"}},
        (("membrane", 0), ("cell", 255)),
    )


def stain(target: str) -> Callable[[int, Path], Problem]:
    """Phase contrast to fluorescence: one field, of which a strip of rows is held out."""

    def problem(seed: int, folder: Path) -> Problem:
        import tifffile

        phase = tifffile.imread(DATA / "stain" / "phase_contrast_z7.ome.tif")
        right = tifffile.imread(DATA / "stain" / f"target_{target}.tif")
        rows = phase.shape[1]
        first = (rows - STRIP, 0, (rows - STRIP) // 2)[seed % 3]
        parts = [(0, first - GAP), (first + STRIP + GAP, rows), (first, first + STRIP)]
        pairs = []
        for number, (top, bottom) in enumerate(parts):
            pair = Pair(folder / f"{number}-phase.ome.tif", folder / f"{number}-{target}.tif")
            if bottom - top > 0:
                tifffile.imwrite(pair.image, phase[:, top:bottom], metadata={"axes": "CYX"}, ome=True)
                tifffile.imwrite(pair.target, right[top:bottom])
                pairs.append(pair)
        return Problem(tuple(pairs[:-1]), (pairs[-1],), {"target": {"kind": "image"}, "split": NO_SPLIT})

    return problem


NO_SPLIT = {"train": 1.0, "validation": 0.0, "test": 0.0}
"""One field is too little to hold out a second part of it: the last epoch's weights are taken."""


def _nucleus(name: str) -> Pair:
    return Pair(DATA / "nuclei" / "images" / f"{name}.png", DATA / "nuclei" / "labels" / f"{name}.png")


def _index() -> list[dict[str, str]]:
    with open(DATA / "nuclei" / "index.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _drawn(names: Sequence[str], seed: int) -> list[str]:
    rng = np.random.default_rng(derive_seed(seed, "microscopy"))
    return [names[place] for place in rng.permutation(len(names))]


def paint(truth: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Strokes over a label map, as a person would draw them: a brush of `BRUSH` pixels that walks within one class.

    Every class gets as many pixels as another, or all it has. A stroke begins at a pixel of its class that nobody has
    painted, by chance; it goes on in steps of one radius, turning by up to 30 degrees, until it would leave the class,
    has taken `LONGEST` steps, or its class has its pixels. It paints pixels of its own class alone; with a share of 1
    every pixel is painted.

    Args:
        truth: (y, x) whole numbers from 0: the class of every pixel.
        share: Of all pixels that are painted, 0..1.
        seed: Draws the strokes.

    Returns:
        (y, x) int64: the number of the stroke, from 1; 0 where nobody has painted.
    """
    if share >= 1:
        return truth.astype(np.int64) + 1
    rng = np.random.default_rng(seed)
    painted = np.zeros(truth.shape, np.int64)
    classes, counts = np.unique(truth, return_counts=True)
    left, stroke = max(1, round(share * truth.size)), 0
    for place, rank in enumerate(np.argsort(counts, kind="stable")):
        own, wanted = truth == classes[rank], min(int(counts[rank]), left // (len(classes) - place))
        left -= wanted
        while (room := wanted - int((painted[own] > 0).sum())) > 0:
            free = np.argwhere(own & (painted == 0))
            stroke += 1
            _walk(painted, own, free[rng.integers(len(free))], stroke, room, rng)
    return painted


def _walk(
    painted: np.ndarray, own: np.ndarray, start: np.ndarray, stroke: int, room: int, rng: np.random.Generator
) -> None:
    """One stroke of a number, on at most `room` pixels of `own`; changes `painted`."""
    at, angle = start.astype(np.float64), rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-BRUSH : BRUSH + 1, -BRUSH : BRUSH + 1]
    disk = np.stack([y, x], axis=-1)[np.hypot(y, x) <= BRUSH]
    size = np.array(own.shape)
    for _ in range(LONGEST):
        center = np.rint(at).astype(int)
        if (center < 0).any() or (center >= size).any() or not own[tuple(center)]:
            return
        cells = disk + center
        cells = cells[((cells >= 0) & (cells < size)).all(axis=1)]
        free = own[tuple(cells.T)] & (painted[tuple(cells.T)] == 0)
        painted[tuple(cells[free][:room].T)] = stroke
        room -= int(free.sum())
        if room <= 0:
            return
        angle += rng.uniform(-np.pi / 6, np.pi / 6)
        at += BRUSH * np.array([np.sin(angle), np.cos(angle)])
