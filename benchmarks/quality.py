"""Masks from strokes on real images, beside a forest and a random walker: one JSON line a case, resumable.

    python -m benchmarks.quality eggs|scribbles --lines FILE [--seeds N]

`eggs`: five marked micrographs teach, the two others are the test; and each marked one in turn
is left out. `scribbles`: each image is taught by one person's scribble on itself. Reads the
folder FIELDMARK_DATA (`../shared/data` where it is not set). A case whose line is in FILE is
not computed again; the table of all lines is printed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.checkpoint import ClassSpec
from fieldmark.core.fingerprint import file_hash
from fieldmark.core.geometry import Box
from fieldmark.evaluate.baselines import forest, random_walker
from fieldmark.images import open_image
from fieldmark.infer.predict import Model, forward_of, plan_for
from fieldmark.infer.propagate import propagate
from fieldmark.infer.sinks import ArraySink
from fieldmark.infer.tiles import predict_tiles
from fieldmark.learn.run import FitJob, run_fit
from fieldmark.learn.samples import Marks, SampleImage, Samples
from fieldmark.models.build import load_net
from fieldmark.recipes import FitRecipe, PredictRecipe

DATA = Path(os.environ.get("FIELDMARK_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
CLASSES = (ClassSpec(id=1, name="background", value=1), ClassSpec(id=2, name="object", value=2))


@dataclass(frozen=True, slots=True)
class Marked:
    """An image file and its strokes: (y, x) integers, 0 unknown, 1 background, 2 object."""

    path: Path
    strokes: np.ndarray


def taught_by(lessons: list[Marked], folder: Path, recipe: FitRecipe) -> Model:
    """A model from the strokes of these images."""
    for _ in run_fit(job_of(lessons, folder, recipe)):
        pass
    header, net = load_net(folder / "model")
    return Model("quality", header, net)


def job_of(lessons: list[Marked], folder: Path, recipe: FitRecipe) -> FitJob:
    """What a fit from the strokes of these images is told."""
    samples = [SampleImage(one.path.name, str(one.path), file_hash(one.path)) for one in lessons]
    marks = Marks(*(np.concatenate(parts) for parts in zip(*map(_marks, range(len(lessons)), lessons), strict=True)))
    return FitJob(recipe=recipe, samples=Samples(samples, marks, 2), classes=CLASSES, folder=folder)


def _marks(index: int, marked: Marked) -> tuple[np.ndarray, ...]:
    """Rows of image, place, stroke and class; one stroke for each 8-connected component and class."""
    from skimage.measure import label

    strokes = label(marked.strokes, background=0, connectivity=2)
    y, x = np.nonzero(marked.strokes)
    places = np.column_stack([np.zeros((len(y), 2), np.int64), y, x])
    return np.full(len(y), index), places, strokes[y, x] + 10_000 * index, marked.strokes[y, x].astype(np.int64) - 1


def pixels(path: Path) -> np.ndarray:
    """(y, x, c) of an image file."""
    with open_image(path) as source:
        return np.moveaxis(source.read(Box.whole(source.shape))[0, :, 0], 0, -1)


def probabilities(model: Model, path: Path) -> np.ndarray:
    """(2, y, x) of a whole image."""
    recipe = PredictRecipe()
    with open_image(path) as source:
        sink = ArraySink(source.shape, 2)
        for _ in predict_tiles(forward_of(model, recipe), source, plan_for(model, source, recipe, path.name), sink):
            pass
    return sink.answers[0, :, 0]


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    """Dice of two masks."""
    return float(2 * (found & truth).sum() / max(1, found.sum() + truth.sum()))


def eggs(seeds: int) -> Iterator[tuple[str, Any]]:
    """Cases of the eggs: name and what computes its line."""
    folder = DATA / "eggs"
    marked = [Marked(folder / "orig" / f"{p.name[:6]}.png", markers(p)) for p in sorted((folder / "markers").iterdir())]
    names = {one.path.name for one in marked}
    others = [path for path in sorted((folder / "orig").iterdir()) if path.name not in names]
    for seed in range(seeds):
        yield f"eggs test seed {seed}", lambda s=seed: _eggs(marked, others, s)
        for out in marked:
            rest = [one for one in marked if one is not out]
            yield (
                f"eggs without {out.path.stem} seed {seed}",
                lambda r=rest, o=out, s=seed: _eggs(r, [o.path], s),
            )


def markers(path: Path) -> np.ndarray:
    (_, width, height), *rows = [[int(v) for v in line.split()] for line in path.read_text().splitlines() if line]
    strokes = np.zeros((height, width), np.int64)
    for x, y, _, value in rows:
        strokes[y, x] = value + 1
    return strokes


def _eggs(lessons: list[Marked], tests: list[Path], seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        model = taught_by(lessons, Path(folder), FitRecipe(seed=seed))
    peer = forest([pixels(one.path) for one in lessons], [one.strokes for one in lessons], seed=seed)
    scores = defaultdict(list)
    for path in tests:
        truth = pixels(DATA / "eggs" / "label" / path.name)[..., 0] > 0
        scores["ours"].append(dice(probabilities(model, path).argmax(axis=0) == 1, truth))
        scores["forest"].append(dice(peer.predict(pixels(path), path.name).labels == 2, truth))
    return {method: float(np.mean(values)) for method, values in scores.items()}


def scribbles(seeds: int) -> Iterator[tuple[str, Any]]:
    """Cases of the scribbles: each image from its own strokes, three people."""
    for folder in sorted((DATA / "scribbles").glob("*/*/")):
        for person in range(3):
            name = f"scribbles {folder.parent.name} {folder.name} person {person}"
            yield name, lambda f=folder, p=person: _scribble(f, p)


def _scribble(folder: Path, person: int) -> dict[str, float]:
    strokes = pixels(folder / f"scribble_{person}.png")[..., 0].astype(np.int64)
    truth, image = pixels(folder / "seg.png")[..., 0] > 0, pixels(folder / "img.png")
    lesson = Marked(folder / "img.png", strokes)
    with tempfile.TemporaryDirectory() as place:
        prior = probabilities(taught_by([lesson], Path(place), FitRecipe()), lesson.path)
    spread = propagate(np.moveaxis(image, -1, 0), prior, strokes)
    return {
        "ours": dice(spread.classes == 1, truth),
        "ours, not propagated": dice(prior.argmax(axis=0) == 1, truth),
        "forest": dice(forest([image], [strokes]).predict(image, "").labels == 2, truth),
        "random walker": dice(random_walker(image, strokes).labels == 2, truth),
    }


CASES = {"eggs": eggs, "scribbles": scribbles}


def table(lines: list[dict[str, Any]]) -> str:
    """Mean and spread by group (`eggs test`, `eggs without`, each scribble set), as Markdown."""
    groups: dict[str, list[dict[str, float]]] = defaultdict(list)
    for line in lines:
        groups[" ".join(line["case"].split()[:2])].append(line["scores"])
    methods = list(dict.fromkeys(method for line in lines for method in line["scores"]))
    text = f"| cases | n | {' | '.join(methods)} |\n|{'---|' * (len(methods) + 2)}\n"
    for group, scores in groups.items():
        cells = []
        for method in methods:
            values = [score[method] for score in scores if method in score]
            cells.append(f"{np.mean(values):.3f} ± {np.std(values):.3f}" if values else "-")
        text += f"| {group} | {len(scores)} | {' | '.join(cells)} |\n"
    return text


def complete(file: Path, cases: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    """The lines of a file, after every case that has none was computed and added to it."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {line["case"] for line in lines}
    with open(file, "a") as out:
        for case, compute in cases:
            if case not in done:
                lines.append({"case": case, "scores": compute()})
                out.write(json.dumps(lines[-1]) + "\n")
                out.flush()
    return lines


def main() -> None:
    """Compute what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=CASES)
    parser.add_argument("--lines", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    lines = complete(options.lines, CASES[options.data](options.seeds))
    print(table([line for line in lines if line["case"].startswith(options.data)]))


if __name__ == "__main__":
    main()
