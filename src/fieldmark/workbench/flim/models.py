"""Find a model and the run that taught it: in a project, or as `fieldmark flim train` left it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fieldmark.checkpoint import header_of
from fieldmark.errors import BadInput, NotFound
from fieldmark.workbench.project import CONFIG, Project, open_project
from fieldmark.workbench.runs import JOB

HIDDEN = ".fieldmark"


@dataclass(frozen=True, slots=True)
class Found:
    """A model and where it comes from.

    Args:
        name: What the user typed.
        model: Its folder.
        run: The folder of the run that taught it.
        project: The project that the run belongs to.
        shelf: Where models beside this one are put, under their names.
    """

    name: str
    model: Path
    run: Path
    project: Project
    shelf: Path


def find_model(place: Path, name: str) -> Found:
    """A model by its name in the project at `place`, or by its folder, which needs no project.

    Raises:
        NotFound: Neither is there.
        BadInput: The run that taught it is gone.
    """
    folder = Path(name)
    if (folder / "model.json").is_file() and folder.resolve().parent != (place / "models").resolve():
        return _by_folder(name, folder.resolve())
    project = open_project(place)
    model = project.models / folder.name
    if not (model / "model.json").is_file():
        known = [path.parent.name for path in project.models.glob("*/model.json")] if project.models.is_dir() else []
        raise NotFound("model", name, known)
    return Found(folder.name, model, _run(project, model, name), project, project.models)


def _by_folder(name: str, model: Path) -> Found:
    homes = [model.parent.parent, *sorted((model.parent / HIDDEN).glob("flim-*"))]
    projects = [open_project(home) for home in homes if (home / CONFIG).is_file()]
    run = str(header_of(model).details.get("run", ""))
    for project in projects:
        if run and (project.runs / run / JOB).is_file():
            return Found(name, model, project.runs / run, project, model.parent)
    raise BadInput(_gone(name, run))


def _run(project: Project, model: Path, name: str) -> Path:
    run = str(header_of(model).details.get("run", ""))
    if not run or not (project.runs / run / JOB).is_file():
        raise BadInput(_gone(name, run))
    return project.runs / run


def _gone(name: str, run: str) -> str:
    return (
        f"The run {run!r} that taught {name!r} is not beside it, and with it the strokes that its filters came from. "
        "Bring the whole output folder, or fit the model again."
    )
