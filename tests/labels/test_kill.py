"""What was acknowledged survives `kill -9` and a log that is cut short."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fieldmark.core.geometry import Box
from fieldmark.labels import Labels, Polyline
from fieldmark.store import open_store

if TYPE_CHECKING:
    from .conftest import Project

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the writer is made by fork, which this system lacks")

WRITER = Path(__file__).with_name("kill_writer.py")
SIDE = 600
WHOLE = Box((0, 0), (SIDE, SIDE))


class Truth:
    """What the project must hold, by what was acknowledged: each stroke's mask, and who is alive."""

    def __init__(self) -> None:
        self.masks: dict[int, np.ndarray] = {}
        self.living: set[int] = set()
        self.answers: dict[int, bool] = {}
        self.effects: dict[int, list[tuple[Any, ...]]] = {}
        self.revision = 0

    def hear(self, said: dict[str, Any]) -> None:
        """Take in one acknowledged write."""
        self.revision = said["revision"]
        if "undoes" in said:
            effect = [self._backwards(one) for one in self.effects[said["undoes"]]]
        elif "stroke" in said:
            self.masks[said["stroke"]] = self._mask(said)
            effect = [("stroke", said["stroke"], True)]
        else:
            effect = [("answer", said["class"], said["before"], said["after"])]
        self.effects[self.revision] = effect
        for one in effect:
            self._apply(one)

    def owners(self) -> np.ndarray:
        owners = np.zeros((SIDE, SIDE), dtype=np.uint32)
        for stroke in sorted(self.living):
            owners[self.masks[stroke]] = stroke
        return owners

    def _apply(self, effect: tuple[Any, ...]) -> None:
        if effect[0] == "stroke":
            (self.living.add if effect[2] else self.living.discard)(effect[1])
        elif effect[3] is None:
            self.answers.pop(effect[1], None)
        else:
            self.answers[effect[1]] = effect[3]

    @staticmethod
    def _backwards(effect: tuple[Any, ...]) -> tuple[Any, ...]:
        if effect[0] == "stroke":
            return ("stroke", effect[1], not effect[2])
        return ("answer", effect[1], effect[3], effect[2])

    @staticmethod
    def _mask(said: dict[str, Any]) -> np.ndarray:
        if "block" in said:
            mask = np.zeros((SIDE, SIDE), dtype=bool)
            y0, x0, y1, x1 = said["block"]
            mask[y0:y1, x0:x1] = True
            return mask
        return Polyline(np.array(said["points"]), said["radius"]).mask(WHOLE)


def hear_the_unacknowledged(truth: Truth, labels: Labels) -> None:
    """At most one write may have been saved whose acknowledgement the kill cut off; it must be whole."""
    revision = labels.store.revision
    assert truth.revision <= revision <= truth.revision + 1, "an acknowledged write is lost"
    if revision == truth.revision:
        return
    entry = labels.store.history(1)[0]
    said: dict[str, Any] = {"revision": revision}
    if entry.undoes is not None:
        said["undoes"] = entry.undoes
    elif "answer" in entry.verb:
        found = {one.class_id: one.value for one in labels.answers(1)}
        changed = [one for one in (1, 2) if found.get(one) is not truth.answers.get(one)]
        said |= {"class": changed[0], "before": truth.answers.get(changed[0]), "after": found.get(changed[0])}
    else:
        stroke = labels.strokes(1)[-1]
        shape = labels.geometry(stroke.id)
        said |= {"stroke": stroke.id, "block": [*stroke.box.start, *stroke.box.stop]}
        if isinstance(shape, Polyline):
            said = {"revision": revision, "stroke": stroke.id, "points": shape.points, "radius": shape.radius}
    truth.hear(said)


def assert_true(truth: Truth, labels: Labels) -> None:
    assert labels.store.check() == []
    assert (labels.stroke_ids(1, 0, 0, WHOLE) == truth.owners()).all()
    assert {one.class_id: one.value for one in labels.answers(1)} == truth.answers


def kill_rounds(project: Project, rounds: int, seed: int) -> int:
    """Let a writer write and kill it at a random moment, `rounds` times; how many writes were acknowledged."""
    project.add_image(height=SIDE, width=SIDE)
    project.add_classes("cell", "rest")
    truth, chance = Truth(), random.Random(seed)
    truth.revision = project.store.revision
    project.store.close()
    heard = 0
    command = [sys.executable, str(WRITER), str(project.store.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as zygote:
        for number in range(rounds):
            for said in one_life(zygote, seed + number, chance):
                truth.hear(said)
                heard += 1
            look_after(project.store.path, truth, undo=number % 2 == 1)
        zygote.communicate()
    return heard


def one_life(zygote: subprocess.Popen[bytes], seed: int, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Start a writer, kill it after some writes in the middle of the next, and give all that it acknowledged."""
    assert zygote.stdin
    assert zygote.stdout
    zygote.stdin.write(f"{seed}\n".encode())
    zygote.stdin.flush()
    writer = json.loads(zygote.stdout.readline())["writer"]
    for _ in range(chance.randrange(6)):
        yield json.loads(zygote.stdout.readline())
    time.sleep(chance.uniform(0, 0.03))
    os.kill(writer, signal.SIGKILL)
    while "ended" not in (said := json.loads(zygote.stdout.readline())):
        yield said


def look_after(path: Path, truth: Truth, *, undo: bool) -> None:
    """Open what a killed writer left: all is there, the check passes, and undo works."""
    with open_store(path) as store:
        labels = Labels(store)
        hear_the_unacknowledged(truth, labels)
        assert_true(truth, labels)
        if undo and any(entry.undone_by is None and entry.author == "eve" for entry in store.history(1)):
            entry = store.undo("eve") if store.history(1)[0].kind != "undo" else store.redo("eve")
            truth.hear({"revision": entry.id, "undoes": entry.undoes})
            assert_true(truth, labels)


def test_twenty_kills_lose_no_acknowledged_write(project: Project) -> None:
    assert kill_rounds(project, 20, seed=1) > 20


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_five_hundred_kills_lose_no_acknowledged_write(make_project: Callable[[], Project]) -> None:
    for series in range(25):
        kill_rounds(make_project(), 20, seed=1000 * (series + 1))


def test_a_log_cut_short_keeps_every_transaction_before_the_cut(project: Project, tmp_path: Path) -> None:
    project.add_image(height=SIDE, width=SIDE)
    cell, rest = project.add_classes("cell", "rest")
    project.store.close()  # folds the log into the file
    log = Path(f"{project.store.path}-wal")
    states: list[tuple[int, int, np.ndarray]] = []
    rng = np.random.default_rng(4)
    with open_store(project.store.path) as store:
        labels = Labels(store)
        states.append((0, store.revision, labels.stroke_ids(1, 0, 0, WHOLE)))
        for number in range(9):
            if number % 5 == 4:
                store.undo()
            else:
                path = Polyline(rng.uniform(0, SIDE, (3, 2)), float(rng.uniform(3, 40)))
                labels.draw(1, [cell, rest, None][number % 3], path, "ada")
            states.append((log.stat().st_size, store.revision, labels.stroke_ids(1, 0, 0, WHOLE)))
        sizes = [size for size, _, _ in states]
        assert sizes == sorted(set(sizes)), "the log was folded in too early for this test"
        cuts = [*sizes[1:], *(size - 1 for size in sizes[1:]), *rng.integers(0, sizes[-1], 6).tolist()]
        for number, cut in enumerate(cuts):
            copy = tmp_path / f"{number}" / "a.db"
            copy.parent.mkdir()
            shutil.copy(project.store.path, copy)
            Path(f"{copy}-wal").write_bytes(log.read_bytes()[:cut])
            revision, owners = max((state for state in states if state[0] <= cut), key=lambda state: state[0])[1:]
            with open_store(copy) as cut_store:
                assert cut_store.revision == revision
                assert (Labels(cut_store).stroke_ids(1, 0, 0, WHOLE) == owners).all()
                if number % 4 == 0:
                    assert cut_store.check() == []
                    Labels(cut_store).draw(1, cell, Polyline(np.array([[9.0, 9.0]]), 5), "bob")
                    cut_store.undo("bob")


def test_a_page_of_the_log_that_was_torn_keeps_what_was_before_it(project: Project, tmp_path: Path) -> None:
    project.add_image(height=SIDE, width=SIDE)
    (cell,) = project.add_classes("cell")
    project.store.close()
    log = Path(f"{project.store.path}-wal")
    with open_store(project.store.path) as store:
        labels = Labels(store)
        labels.draw(1, cell, Polyline(np.array([[100.0, 100.0]]), 30), "ada")
        size, revision, owners = log.stat().st_size, store.revision, labels.stroke_ids(1, 0, 0, WHOLE)
        labels.draw(1, cell, Polyline(np.array([[300.0, 300.0]]), 30), "ada")
        torn = bytearray(log.read_bytes())
        torn[size + 1000] ^= 255
        shutil.copy(project.store.path, tmp_path / "a.db")
        (tmp_path / "a.db-wal").write_bytes(torn)
    with open_store(tmp_path / "a.db") as store:
        assert store.revision == revision
        assert (Labels(store).stroke_ids(1, 0, 0, WHOLE) == owners).all()
        assert store.check() == []
