"""A process that writes labels until it is killed, and says what it was told is saved. Run by test_kill.py.

Reads seeds from its input. For each, it forks a writer, which opens the project and prints one line of JSON for each
write after it returned; then it waits for the writer's end.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.errors import BadInput
from fieldmark.labels import LabelPlane, Labels, Polyline
from fieldmark.store import open_store

SIDE = 600
Said = dict[str, Any]


def say(line: Said) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


def draw(labels: Labels, rng: np.random.Generator) -> Said:
    points, radius = rng.uniform(0, SIDE, (rng.integers(1, 5), 2)), float(rng.uniform(2, 60))
    class_id = [None, 1, 2][rng.integers(3)]
    stroke = labels.draw(1, class_id, Polyline(points, radius), "eve")
    return {"stroke": stroke.id, "points": points.tolist(), "radius": radius}


def answer(labels: Labels, rng: np.random.Generator) -> Said:
    class_id, value = int(rng.integers(1, 3)), [None, True, False][rng.integers(3)]
    before = {one.class_id: one.value for one in labels.answers(1)}.get(class_id)
    labels.set_answer(1, class_id, value, "eve")
    return {"class": class_id, "before": before, "after": value} if value is not before else {}


def take_in(labels: Labels, rng: np.random.Generator) -> Said:
    y, x, height, width = rng.integers(0, SIDE // 2, 4).tolist()
    sets = np.zeros((SIDE, SIDE), dtype=np.uint8)
    sets[y : y + height + 1, x : x + width + 1] = 1
    labels.import_planes([LabelPlane(1, 0, 0, sets, [1], "import:test")], "eve")
    return {"stroke": labels.strokes(1)[-1].id, "block": [y, x, y + height + 1, x + width + 1]}


def undo(labels: Labels, _rng: np.random.Generator) -> Said:
    return {"undoes": labels.store.undo("eve").undoes}


def redo(labels: Labels, _rng: np.random.Generator) -> Said:
    return {"undoes": labels.store.redo("eve").undoes}


VERBS: list[Callable[[Labels, np.random.Generator], Said]] = [draw, draw, draw, answer, take_in, undo, undo, redo]


def write(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with open_store(path) as store:
        labels = Labels(store)
        while True:
            verb = VERBS[rng.integers(len(VERBS))]
            before = store.revision
            try:
                said = verb(labels, rng)
            except BadInput:  # nothing to undo or redo
                continue
            if store.revision > before:
                say(said | {"revision": store.revision})


def main(path: Path) -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            write(path, int(line))
        say({"writer": child})
        os.waitpid(child, 0)
        say({"ended": child})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
