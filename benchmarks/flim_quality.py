"""FLIM's estimators and decoders on real images, beside other methods: one JSON line a case, resumable.

    python -m benchmarks.flim_quality eggs|coseg|scribbles --lines FILE [--seeds N] [--methods NAME ...]

`eggs`: five marked micrographs teach, the two others are the test; and each marked one in turn is
left out. `coseg`: two marked photos of bears teach, nineteen others are the test. `scribbles`:
each image from the scribble on itself, another person for each seed, with strokes carried through
space where the method gives a prior (`spread`). Every case has Dice and weighted
F-beta of the mask, and weighted F-beta and mean absolute error of the map. What is in FILE is not computed again.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import unet
from benchmarks.quality import DATA, Marked, complete, dice, markers, pixels, probabilities, taught_by
from fieldmark.evaluate.baselines import forest, random_walker
from fieldmark.evaluate.weighted import mean_absolute_error, weighted_fbeta
from fieldmark.infer.propagate import propagate
from fieldmark.recipes import FitRecipe

Prior = Callable[[Path], np.ndarray]
"""From an image file to (2, y, x) probabilities."""
Method = Callable[[list[Marked], int], Prior]

ESTIMATORS = ("centers", "nearest", "points", "random")
DECODERS = ("vanilla", "probabilistic", "mean", "labelled", "trained")
STACK = [{"layers": [{"out_channels": width, "pool": "max"} for width in (24, 32, 48, 48)]}]
"""The four layers of the default encoder, without the scale space that no decoder looks at."""


def flim(recipe: dict[str, Any], lessons: list[Marked], seed: int) -> Prior:
    """A FLIM model of one recipe."""
    with tempfile.TemporaryDirectory() as folder:
        model = taught_by(lessons, Path(folder), FitRecipe(seed=seed, **recipe))
    return lambda path: probabilities(model, path)


def features_forest(lessons: list[Marked], seed: int) -> Prior:
    """scikit-image's features and a random forest."""
    peer = forest([pixels(one.path) for one in lessons], [one.strokes for one in lessons], classes=[1, 2], seed=seed)

    def answer(path: Path) -> np.ndarray:
        found = peer.predict(pixels(path), path.name).probabilities
        assert found is not None
        return found

    return answer


METHODS: dict[str, Method] = (
    {f"{kind}, forests": partial(flim, {"net": {"kernels": {"kind": kind}}}) for kind in ESTIMATORS}
    | {
        f"centers, {kind}": partial(
            flim, {"net": {"branches": STACK, "scales": []}, "head": {"kind": "adaptive", "decoder": kind}}
        )
        for kind in DECODERS
    }
    | {"features + forest": features_forest, "U-Net": unet.fit}
)


def eggs(method: Method, seeds: int) -> Iterator[tuple[str, Any]]:
    """The two unmarked images, and each marked one left out."""
    folder = DATA / "eggs"
    marked = [Marked(folder / "orig" / f"{p.name[:6]}.png", markers(p)) for p in sorted((folder / "markers").iterdir())]
    names = {one.path.name for one in marked}
    others = [path for path in sorted((folder / "orig").iterdir()) if path.name not in names]

    def truth(path: Path) -> np.ndarray:
        return pixels(folder / "label" / path.name)[..., 0] > 0

    for seed in range(seeds):
        yield f"eggs test|{seed}", partial(held_out, method, marked, others, truth, seed)
        for out in marked:
            rest = [one for one in marked if one is not out]
            yield f"eggs without|{out.path.stem} {seed}", partial(held_out, method, rest, [out.path], truth, seed)


def coseg(method: Method, seeds: int) -> Iterator[tuple[str, Any]]:
    """Nineteen photos of bears; a photo that teaches does not test."""
    folder = DATA / "coseg"
    marked = [Marked(p.with_suffix(".png"), markers(p)) for p in sorted((folder / "imgs_and_markers").glob("*.txt"))]
    taught = {one.path.stem for one in marked}
    tests = [path for path in sorted((folder / "datasets/dataset1/imgs").iterdir()) if path.stem not in taught]

    def truth(path: Path) -> np.ndarray:
        return pixels(folder / "datasets/dataset1/gts" / f"{path.stem}_label.png")[..., 0] > 0

    for seed in range(seeds):
        yield f"coseg bears|{seed}", partial(held_out, method, marked, tests, truth, seed)


def scribbles(method: Method, seeds: int) -> Iterator[tuple[str, Any]]:
    """Each image from its own strokes."""
    for folder in sorted((DATA / "scribbles").glob("*/*/")):
        for person in range(min(seeds, 3)):
            yield f"scribbles {folder.parent.name}|{folder.name} {person}", partial(_scribble, method, folder, person)


def held_out(
    method: Method, lessons: list[Marked], tests: list[Path], truth: Callable[[Path], np.ndarray], seed: int
) -> dict[str, float]:
    """Mean scores over images without strokes."""
    prior = method(lessons, seed)
    scores = [score(prior(path), truth(path)) for path in tests]
    return {name: float(np.nanmean([one[name] for one in scores])) for name in scores[0]}


def score(shares: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Dice and weighted F-beta of the mask; weighted F-beta and error of the object's map."""
    map_, mask = np.clip(shares[1], 0, 1), shares.argmax(axis=0) == 1
    return {
        "dice": dice(mask, truth),
        "mask_fbeta": weighted_fbeta(mask.astype(np.float32), truth),
        "weighted_fbeta": weighted_fbeta(map_, truth),
        "mae": mean_absolute_error(map_, truth),
    }


def _scribble(method: Method, folder: Path, person: int) -> dict[str, float]:
    strokes = pixels(folder / f"scribble_{person}.png")[..., 0].astype(np.int64)
    truth, path = pixels(folder / "seg.png")[..., 0] > 0, folder / "img.png"
    prior = method([Marked(path, strokes)], 0)(path)
    spread = propagate(np.moveaxis(pixels(path), -1, 0), prior, strokes)
    return score(prior, truth) | {"spread": dice(spread.classes == 1, truth)}


def walker(seeds: int) -> Iterator[tuple[str, Any]]:
    """The random walker alone, on the scribbles."""
    for folder in sorted((DATA / "scribbles").glob("*/*/")):
        for person in range(min(seeds, 3)):
            yield f"scribbles {folder.parent.name}|{folder.name} {person}", partial(_walked, folder, person)


def _walked(folder: Path, person: int) -> dict[str, float]:
    strokes = pixels(folder / f"scribble_{person}.png")[..., 0].astype(np.int64)
    found = random_walker(pixels(folder / "img.png"), strokes).probabilities
    assert found is not None
    return score(found, pixels(folder / "seg.png")[..., 0] > 0)


DATASETS = {"eggs": eggs, "coseg": coseg, "scribbles": scribbles}


def cases(data: str, methods: list[str], seeds: int) -> Iterator[tuple[str, Any]]:
    """All cases of a data set, a method after the other."""
    for name in methods:
        if name == "U-Net" and data != "eggs":
            continue
        yield from ((f"{name}|{case}", compute) for case, compute in DATASETS[data](METHODS[name], seeds))
    if data == "scribbles":
        yield from ((f"random walker|{case}", compute) for case, compute in walker(seeds))


def table(lines: list[dict[str, Any]]) -> str:
    """Mean and spread of each score by method and group, as Markdown."""
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        method, group, _ = line["case"].split("|")
        for name, value in line["scores"].items():
            found[group, method][name].append(value)
    head = ("images", "method", "n", "Dice", "F-beta of the mask", "F-beta of the map", "MAE", "Dice, spread")
    text = f"| {' | '.join(head)} |\n|{'---|' * len(head)}\n"
    for (group, method), scores in sorted(found.items()):
        cells = " | ".join(
            _cell(scores.get(name, [])) for name in ("dice", "mask_fbeta", "weighted_fbeta", "mae", "spread")
        )
        text += f"| {group} | {method} | {len(scores['dice'])} | {cells} |\n"
    return text


def summary(lines: list[dict[str, Any]]) -> str:
    """A line a method, as Markdown: what the documentation shows. Scribbles: the mean of their sets."""
    found: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for line in lines:
        method, group, _ = line["case"].split("|")
        for name, value in line["scores"].items():
            found[method][group][name].append(value)
    head = ("method", "eggs", "F-beta", "MAE", "eggs left out", "bears", "scribbles", "carried")
    text = f"| {' | '.join(head)} |\n|{'---|' * len(head)}\n"
    for method, groups in found.items():
        test, out, bears = (groups.get(name, {}) for name in ("eggs test", "eggs without", "coseg bears"))
        sets = [own for name, own in groups.items() if name.startswith("scribbles")]
        cells = [_cell(test.get(name, [])) for name in ("dice", "mask_fbeta", "mae")]
        cells += [_cell(out.get("dice", [])), _cell(bears.get("dice", []))]
        cells += [_cell([float(np.mean(own[name])) for own in sets if name in own]) for name in ("dice", "spread")]
        text += f"| {method} | {' | '.join(cells)} |\n"
    return text


def _cell(values: list[float]) -> str:
    return f"{np.nanmean(values):.3f} ± {np.nanstd(values):.3f}" if values else "-"


def main() -> None:
    """Compute what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=DATASETS)
    parser.add_argument("--lines", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    options = parser.parse_args()
    lines = complete(options.lines, cases(options.data, options.methods, options.seeds))
    print(table(lines))
    print(summary(lines))


if __name__ == "__main__":
    main()
