"""The main job on real images that come with the installation: strokes on a few fields to masks of all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue

from fieldmark import __version__
from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.errors import BadInput
from fieldmark.images.png import encode_png
from fieldmark.recipes import PredictRecipe
from fieldmark.recipes.evaluate import EvaluateRecipe
from fieldmark.report.blocks import Page, Section, Table, Text
from fieldmark.report.page import write_page
from fieldmark.workbench.bench import Workbench
from fieldmark.workbench.cases import Asked, Evaluation
from fieldmark.workbench.demo_fields import DemoProject, demo_projects
from fieldmark.workbench.evaluating import evaluate_maps
from fieldmark.workbench.reporting import evaluation_sections

SIGN = ".fieldmark-demo"
MODEL = "demo"

Outcome = tuple[tuple[str, ...], tuple[Section, ...]]
"""A row of the summary and the sections of one project."""


@dataclass(frozen=True, slots=True)
class Demo:
    """A folder with one project for each set of demo images, and one report of all."""

    out: Path

    @property
    def report(self) -> Path:
        return self.out / "report.html"

    def run(self) -> Iterator[Event]:
        """Make the projects, learn, predict, evaluate, report. An earlier demo in the folder is replaced.

        The projects are worked on side by side: most of a small job is the start of its worker.
        """
        self._make_room()
        projects = demo_projects()
        events: SimpleQueue[Event] = SimpleQueue()
        pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
        try:
            futures = [pool.submit(self._one, project, events.put) for project in projects]
            while not events.empty() or not all(future.done() for future in futures):
                with suppress(Empty):
                    yield events.get(timeout=0.1)
            outcomes = [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)
        write_page(self.report, _page([row for row, _ in outcomes], [part for _, own in outcomes for part in own]))

    def _one(self, project: DemoProject, tell: Callable[[Event], None]) -> Outcome:
        """The whole job on one project: its row of the summary and its sections."""
        with self._project(project) as bench:
            job = self._job(bench, self.out / project.name)
            while True:
                try:
                    event = next(job)
                except StopIteration as end:
                    evaluation: Evaluation = end.value
                    break
                tell(replace(event, phase=f"{project.name}: {event.phase}"))
            return _row(project, evaluation), evaluation_sections(bench, evaluation, prefix=f"{project.name}: ")

    def _make_room(self) -> None:
        if self.out.exists() and (
            not self.out.is_dir() or (any(self.out.iterdir()) and not (self.out / SIGN).exists())
        ):
            raise BadInput(f"{self.out} holds something else than a demo. Choose another folder with --out.")
        if self.out.exists():
            shutil.rmtree(self.out)
        write_atomic(self.out / SIGN, b"Made by `fieldmark demo`, which replaces this folder when it runs again.\n")

    def _project(self, project: DemoProject) -> Workbench:
        """The demo's images, strokes and reference masks as files, and a project that has taken them in."""
        folder = self.out / project.name
        for field in project.fields:
            write_atomic(folder / "images" / f"{field.name}.png", encode_png(field.image))
            write_atomic(folder / "truth" / f"{field.name}.png", encode_png(field.mask))
            if field.markers_text is not None:
                write_atomic(folder / "markers" / f"{field.name}-seeds.txt", field.markers_text.encode())
        bench = Workbench.init(folder / "project", project.classes, project.name)
        bench.add([folder / "images"])
        bench.import_labels(folder / "markers", "markers")
        return bench

    def _job(self, bench: Workbench, folder: Path) -> Generator[Event, None, Evaluation]:
        _, events = bench.fit("flim", name=MODEL)
        yield from events
        recipe = PredictRecipe()
        yield from bench.predict(MODEL, out=folder / "masks", form="png", recipe=recipe)
        return evaluate_maps(bench, MODEL, Asked(truth=folder / "truth", recipe=EvaluateRecipe(ignore=0)))


def _row(project: DemoProject, evaluation: Evaluation) -> tuple[str, ...]:
    last = project.classes[-1]
    own = evaluation.summary["classes"][last]["dice"]
    forest = evaluation.summary["baselines"].get("forest", {}).get(last, {}).get("dice")
    shown = tuple("-" if value is None else f"{value:.3f}" for value in (own, forest))
    return (project.name, project.summary, last, str(evaluation.summary["images"]), *shown)


def _page(rows: list[tuple[str, ...]], sections: list[Section]) -> Page:
    columns = ("project", "images", "class", "test fields", "Dice", "Dice of features + forest")
    text = (
        "From strokes on a few fields to masks of all of them. The images come with scikit-image; the strokes and "
        "the reference masks are Fieldmark's own. No reference mask was learned from."
    )
    first = Section("In short", (Text(text), Table(columns, tuple(rows))))
    return Page("Fieldmark demo", (first, *sections), footer=f"Written by Fieldmark {__version__}.")
