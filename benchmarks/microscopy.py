"""U-Nets on real microscopy beside other methods with the same budget: one JSON line a case, resumable.

    python -m benchmarks.microscopy --lines FILE [--problems NAME ...] [--methods NAME ...] [--seeds N ...]
        [--set KEY=VALUE ...]

Everything is held out by image or field (`benchmarks/microscopy_data.py`). All networks see as many crops of the same
size, with the same loss, rates and augmentation, in bfloat16; the CPU seconds that each took are in the table. A case
whose line is in FILE is not computed again; the table of all lines is printed at the end.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.microscopy_data import Pair, Problem, all_nuclei, membranes, nuclei, pixels, stain, strokes
from benchmarks.microscopy_methods import METHODS, Answer, places_of
from benchmarks.quality import complete, dice
from fieldmark.evaluate.images import score_values
from fieldmark.evaluate.instances import average_precision, find_fits, objects_of, variation
from fieldmark.recipes.loading import with_overrides

PROBLEMS: dict[str, Callable[[int, Path], Problem]] = {
    "nuclei": nuclei,
    "stain DAPI": stain("DAPI"),
    "stain NFH": stain("NFH"),
    "membranes": membranes,
    "nuclei, all kinds": all_nuclei,
    "nuclei, 1 % painted": strokes(0.01),
    "nuclei, 5 % painted": strokes(0.05),
    "nuclei, 100 % painted": strokes(1.0),
}
BUDGET: dict[str, Any] = {"train": {"epochs": 10, "crops_per_epoch": 160}}
"""Settings of `FitRecipe`, for every network; all others are the defaults."""
SPLIT, LEAST = 7, 30
"""Objects are taken apart and specks left out as by `fieldmark evaluate --split watershed --min-area 30`."""


def measured(problem: str, method: str, seed: int, settings: dict[str, Any]) -> dict[str, float]:
    """Mean scores over the images that test, and the CPU seconds of learning and of answering."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asked = PROBLEMS[problem](seed, folder)
        start = time.process_time()
        answer = METHODS[method](asked, seed, folder / "fit", settings)
        learned = time.process_time() - start
        rows = [scored(asked, pair, answer) for pair in asked.test]
        took = time.process_time() - start - learned
    scores = {key: float(np.mean([row[key] for row in rows if key in row])) for key in rows[0]}
    return scores | {"learning": learned, "answering": took, "taught": len(asked.train), "tested": len(asked.test)}


def scored(problem: Problem, pair: Pair, answer: Answer) -> dict[str, float]:
    """Of one image; a score that does not exist there is left out."""
    said = answer(pair.image)
    if not problem.classes:
        found = score_values(said[0], pixels(pair.target)[0], metrics=("corr", "ssim"))
    elif problem.classes[0][0] == "membrane":
        found = _cells(said.argmax(axis=0) == 1, places_of(problem, pair) == 1)
    else:
        mask, truth = said.argmax(axis=0) == 1, pixels(pair.target)[0].astype(np.int64)
        fits = find_fits(objects_of(mask, SPLIT, LEAST), truth)
        found = {"dice": dice(mask, truth > 0), "ap50": average_precision(fits, 0.5)}
    return {key: value for key, value in found.items() if value is not None}


def _cells(mask: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    """Dice of the membranes, and variation of information of the cells between them, in bits."""
    from skimage.measure import label

    right = label(truth, connectivity=1)  # cells that touch by a corner are two
    parted = variation(objects_of(mask, SPLIT, LEAST), right)
    return {"dice": dice(~mask, ~truth), "vi": None if parted is None else sum(parted)}


def cases(
    problems: Sequence[str], methods: Sequence[str], seeds: Sequence[int], settings: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Every case and what computes its line."""
    for seed in seeds:
        for problem in problems:
            for method in methods:
                yield f"{problem}|{method}|{seed}", partial(measured, problem, method, seed, settings)


SCORES = {"dice": "Dice", "ap50": "AP@0.5", "vi": "VI, bits", "corr": "Pearson", "ssim": "SSIM"}


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Mean and spread over the seeds, as Markdown."""
    groups: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for line in lines:
        problem, method, _ = line["case"].split("|")
        groups[problem, method].append(line["scores"])
    head = ("problem", "method", "seeds", *SCORES.values(), "CPU s of learning")
    text = f"| {' | '.join(head)} |\n|{'---|' * len(head)}\n"
    order = {name: place for place, name in enumerate(PROBLEMS)}
    for (problem, method), scores in sorted(groups.items(), key=lambda item: order.get(item[0][0], len(order))):
        cells = [_spread([score[key] for score in scores if key in score]) for key in SCORES]
        slowest = max(score["learning"] for score in scores)
        text += f"| {problem} | {method} | {len(scores)} | {' | '.join(cells)} | {slowest:.0f} |\n"
    return text


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values):.3f}" if len(values) > 1 else "")


def main() -> None:
    """Compute what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=Path, required=True)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    wanted = cases(options.problems, options.methods, options.seeds, with_overrides(BUDGET, options.overrides))
    print(table(complete(options.lines, wanted)))


if __name__ == "__main__":
    main()
