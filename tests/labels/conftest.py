"""A project in a folder of its own, made in a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fieldmark.collection import Collection, ImageRecord
from fieldmark.core.geometry import Box
from fieldmark.labels import Labels
from fieldmark.store import Store, open_store

if TYPE_CHECKING:
    import numpy as np


@dataclass
class Project:
    """A store with its rooms; images need no file."""

    store: Store
    collection: Collection
    labels: Labels
    folder: Path

    def add_image(
        self, name: str = "a.png", *, height: int = 300, width: int = 400, times: int = 1, depth: int = 1
    ) -> int:
        record = ImageRecord(
            uri=(self.folder / "images" / name).as_posix(),
            name=name,
            content_hash=name,
            shape=(times, 1, depth, height, width),
            dtype="uint8",
            axes="tzyx",
        )
        return self.collection.add([record], author="ada")[0]

    def add_classes(self, *names: str) -> list[int]:
        return [self.labels.add_class(name, author="ada").id for name in names]

    def classes_of(self, image: int, t: int = 0, z: int = 0) -> np.ndarray:
        return self.labels.class_ids(image, t, z, Box.whole(self.collection.get(image).shape[3:]))

    def owners_of(self, image: int, t: int = 0, z: int = 0) -> np.ndarray:
        return self.labels.stroke_ids(image, t, z, Box.whole(self.collection.get(image).shape[3:]))


@pytest.fixture
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Project]]:
    """Makes projects; they are closed at the end of the test."""
    made: list[Project] = []

    def make() -> Project:
        folder = tmp_path_factory.mktemp("project")
        store = open_store(folder / "fieldmark.db", create=True)
        made.append(Project(store, Collection(store), Labels(store), folder))
        return made[-1]

    yield make
    for project in made:
        project.store.close()


@pytest.fixture
def project(make_project: Callable[[], Project]) -> Project:
    return make_project()
