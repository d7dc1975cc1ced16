from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fieldmark.testing.projects import drawn_project
from fieldmark.testing.worker import use_fake_worker
from fieldmark.workbench import Workbench


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `images` and a `project` that holds the model `tiny`; only to be copied."""
    folder = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        use_fake_worker(patch)
        with Workbench.open(drawn_project(folder, images=3, taught=2)) as bench:
            _, events = bench.fit("flim", name="tiny")
            list(events)
    return folder


@pytest.fixture
def bench(fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An open copy of `fitted`, whose images are its own; jobs run in this process."""
    use_fake_worker(monkeypatch)
    shutil.copytree(fitted, tmp_path / "copy")
    with Workbench.open(tmp_path / "copy" / "project") as opened:
        for record in opened.collection.all():
            opened.collection.relocate(record.id, tmp_path / "copy" / "images" / record.name)
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for more images, with nothing of what is written in it."""
    (tmp_path / "more").mkdir()
    return tmp_path / "more"
