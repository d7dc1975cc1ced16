"""The workbench: one object with the verbs of a project."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.collection import AddReport, Collection, ImageRecord
from fieldmark.core.events import Event
from fieldmark.labels import ImportReport, Labels
from fieldmark.store import JournalEntry, open_store
from fieldmark.workbench.fitting import begin_fit, follow_fit, read_fit_recipe, require_resumable, typed_families
from fieldmark.workbench.originals import refuse_originals
from fieldmark.workbench.predicting import predict
from fieldmark.workbench.project import Project, beginning, open_project, plan_project, write_project
from fieldmark.workbench.runs import Run, find_run, list_runs

if TYPE_CHECKING:
    from fieldmark.recipes import PredictRecipe
    from fieldmark.workbench.cases import Scored


class Workbench:
    """A project that is open. Use it in a `with` block, or call `close`."""

    def __init__(self, project: Project, *, create: bool = False) -> None:
        self.project = project
        self.store = open_store(project.database, create=create)
        self.collection = Collection(self.store)
        self.labels = Labels(self.store)
        self.author = _user()
        self.allow: tuple[str, ...] = ()
        """Classes of the user's own that were typed on this run, by module and name; workers may import these."""
        self.until_closed = ExitStack()
        """What is let go of when the project is closed."""

    @classmethod
    def init(cls, folder: Path, classes: Sequence[str] = (), name: str | None = None) -> Workbench:
        """Make a project with these classes, in this order; where that fails, nothing is left."""
        project = plan_project(folder, name)
        with beginning(project), ExitStack() as undone:
            bench = cls(project, create=True)
            undone.callback(bench.close)
            for klass in classes:
                bench.labels.add_class(klass)
            write_project(project)
            undone.pop_all()
        return bench

    @classmethod
    def open(cls, folder: Path) -> Workbench:
        """Open the project in a folder."""
        return cls(open_project(folder))

    def close(self) -> None:
        self.store.close()
        self.until_closed.close()

    def __enter__(self) -> Workbench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(
        self,
        paths: Sequence[Path],
        *,
        layout: str = "folder",
        max_bytes: int | None = None,
        group_by: str | None = None,
    ) -> AddReport:
        """Add images; each is decoded once. A bad one is left out and named, the rest goes on."""
        if layout == "lids":
            from fieldmark.workbench.lids import add_lids

            return add_lids(self, paths, max_bytes=max_bytes, group_by=group_by)
        if layout == "frames":
            from fieldmark.workbench.frames import add_frames

            return add_frames(self, paths, max_bytes=max_bytes)
        return self.collection.add_images(
            paths, layout=layout, max_bytes=max_bytes, group_by=group_by, author=self.author
        )

    def import_labels(self, path: Path, kind: str, *, label_offset: int | None = None) -> ImportReport:
        """Take labels from files; all of them, or none where one file is bad."""
        return self.labels.import_folder(
            path, kind, author=self.author, collection=self.collection, label_offset=label_offset
        )

    def export_labels(self, path: Path, kind: str, *, overwrite: bool = False) -> list[Path]:
        """Write labels as files, never among images: see `workbench.originals`."""
        refuse_originals(self, [path.parent if path.suffix.lower() == ".csv" else path], option="")
        return self.labels.export_folder(path, kind, self.collection, overwrite=overwrite)

    def exclude(self, names: Sequence[str], why: str = "") -> list[str]:
        """Leave images out, for a reason that is kept. Their names."""
        return self._exclude(names, why.strip() or "left out")

    def include(self, names: Sequence[str]) -> list[str]:
        """Take images in again that were left out. Their names."""
        return self._exclude(names, "")

    def _exclude(self, names: Sequence[str], why: str) -> list[str]:
        records = [self.collection.find(name) for name in names]
        self.collection.exclude([record.id for record in records], why, author=self.author)
        return [record.name for record in records]

    def undo(self, *, anybody: bool = False) -> JournalEntry:
        """Take back the user's newest change that stands, or anybody's.

        Raises BadInput where there is none, and Conflict where all of it was changed since.
        """
        return self.store.undo(None if anybody else self.author)

    def redo(self, *, anybody: bool = False) -> JournalEntry:
        """Do again what the user (or anybody) undid last, if they have changed nothing since. Raises as `undo`."""
        return self.store.redo(None if anybody else self.author)

    def status(self) -> dict[str, Any]:
        """What the project holds, as JSON values."""
        from fieldmark.workbench.status import status_of

        return status_of(self)

    def fit(
        self,
        family: str | None = None,
        *,
        config: Path | None = None,
        overrides: tuple[str, ...] = (),
        name: str | None = None,
        gpus: Sequence[int] = (),
    ) -> tuple[Run, Iterator[Event]]:
        """Begin a fit: the run, and the events of its worker; `gpus` are those that it may see, none for all."""
        recipe = read_fit_recipe(family, config, overrides, allow=self.allow)
        run = begin_fit(self, recipe, name, gpus=gpus)
        return run, follow_fit(self.project, run, allow=typed_families(family, overrides, self.allow))

    def resume(self, run: str) -> tuple[Run, Iterator[Event]]:
        """Go on with a fit that was stopped."""
        found = require_resumable(find_run(self.project, run))
        return found, follow_fit(self.project, found, allow=self.allow)

    def predict(
        self,
        model: str,
        images: Sequence[str] = (),
        *,
        out: Path,
        form: str,
        recipe: PredictRecipe,
        **beside: Any,
    ) -> Iterator[Event]:
        """Write a label map, or what else the model makes, for each image (all of the project where none is named)."""
        return predict(self, model, self.chosen(images), out, form, recipe, **beside)

    def evaluate(self, model: str, truth: Path | None, **options: Any) -> Scored:
        """Score a model on the images that taught it nothing; `options` are those of `cases.Asked`."""
        from fieldmark.workbench.cases import Asked
        from fieldmark.workbench.evaluating import evaluate

        return evaluate(self, model, Asked(truth=truth, **options))

    def chosen(self, names: Sequence[str]) -> list[ImageRecord]:
        """The images of these names, each once; all images in use where none is named."""
        found = [self.collection.find(name) for name in names] if names else self.collection.all()
        return list({record.id: record for record in found}.values())

    def models(self) -> list[Path]:
        """The folders of the project's models."""
        folder = self.project.models
        return sorted(path.parent for path in folder.glob("*/model.json")) if folder.is_dir() else []

    def runs(self) -> list[Run]:
        return list_runs(self.project)


def _user() -> str:
    """Who is at work; a number where the system has no name for them, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "user"
