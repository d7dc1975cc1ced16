"""A whole fit from strokes with our defaults, beside the filters of FLIM's four layers alone."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import flim_reference as reference
from benchmarks.bench_kernels import Case, eggs, in_turns, threads
from benchmarks.quality import Marked, job_of
from benchmarks.rows import Row, spread
from fieldmark.images import encode_png
from fieldmark.learn.run import run_fit
from fieldmark.recipes import FitRecipe

CLAIM = "A fit with our defaults, filters and pixel classifier, takes a fraction of the peer's filters alone."
PEER = (
    "`benchmarks/flim_reference.py`: four layers of the sizes of our default's stack, scikit-learn's KMeans for each "
    "marker with ten starts, as FLIM does it; as many threads for both."
)
WIDTHS = (24, 32, 48, 48)
SIDES = (400, 256)
CORES = os.cpu_count() or 1
REPEATS = 5


def measure(repeats: int = REPEATS) -> list[Row]:
    """Seconds of a fit on the eggs, at their own size and at 256 pixels a side: of a processor, and by the clock."""
    layers = [reference.Layer(3, 5, out, 2) for out in WIDTHS]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for side in SIDES:
            case = replace(_at(eggs(), side, Path(name) / str(side)), layers=layers)
            rows += [_row(case, side, count, repeats) for count in (1, CORES)]
    return rows


def _row(case: Case, side: int, count: int, repeats: int) -> Row:
    """On one thread, what a processor was busy; on several, what a person waited."""
    actions: dict[str, Callable[[], object]] = {"ours": partial(_fit, _lessons(case)), "peer": partial(_fit_peer, case)}
    with threads(count):
        for action in actions.values():
            action()  # imports, and memory that is taken once
        taken = in_turns(actions, repeats, time.process_time if count == 1 else time.perf_counter)
    ours, peer = (float(np.median(taken[who])) for who in ("ours", "peer"))
    told = f"{spread(taken['ours'])}; peer {spread(taken['peer'])}"
    name = f"eggs, five images of {side} px: fit, {count} thread{'s' * (count > 1)}"
    return Row(name, ours, peer, "CPU s" if count == 1 else "s", spread=told)


def _lessons(case: Case) -> list[Marked]:
    drawn = zip(case.paths, case.places, case.classes, strict=True)
    return [Marked(path, _drawn(path, at, classes)) for path, at, classes in drawn]


def _fit(lessons: list[Marked]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for _ in run_fit(job_of(lessons, Path(folder), FitRecipe())):
            pass


def _fit_peer(case: Case) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a small marker has fewer patches in a deep layer than kernels
        case.fit_peer(10)


def _drawn(path: Path, at: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(y, x) strokes: 0 unknown, else 1 + the class."""
    from benchmarks.quality import pixels

    strokes = np.zeros(pixels(path).shape[:2], np.int64)
    strokes[tuple(at.T)] = classes + 1
    return strokes


def _at(case: Case, side: int, folder: Path) -> Case:
    """The case with images of another size, and its strokes with them; marks that meet on a pixel are one."""
    from skimage.transform import resize

    from benchmarks.quality import pixels

    folder.mkdir()
    paths, places, markers, classes = [], [], [], []
    for path, at, own, klass in zip(case.paths, case.places, case.markers, case.classes, strict=True):
        image = pixels(path)
        small = resize(image, (side, side), preserve_range=True, anti_aliasing=True)
        paths.append(folder / path.name)
        paths[-1].write_bytes(encode_png(small.round().astype(image.dtype)))
        moved = at * side // np.array(image.shape[:2])
        _, first = np.unique(moved, axis=0, return_index=True)
        places.append(moved[first])
        markers.append(own[first])
        classes.append(klass[first])
    return replace(case, paths=paths, places=places, markers=markers, classes=classes)
