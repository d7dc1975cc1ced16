"""Where a project's things lie on disk."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fieldmark.core.files import write_atomic
from fieldmark.errors import BadFile, BadInput, NoProject

CONFIG = "fieldmark.toml"
SCHEMA = 1
_OF_DATABASE = ("", "-wal", "-shm", "-journal")
"""What SQLite adds to the name of a database for the files beside it."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project folder: `fieldmark.toml`, the database, runs, models, predictions."""

    folder: Path
    name: str

    @property
    def database(self) -> Path:
        return self.folder / "fieldmark.db"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions"


def plan_project(folder: Path, name: str | None = None) -> Project:
    """A project that could be made in a folder. Raises BadInput where one stands already; nothing is written."""
    if (folder / CONFIG).exists():
        raise BadInput(f"{folder} holds a project already ({CONFIG}). Choose another folder, or go on with this one.")
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file. Choose a folder for the project.")
    project = Project(folder.resolve(), name or folder.resolve().name)
    if project.database.exists():
        raise BadInput(f"{project.database} is there, but no {CONFIG}. Choose another folder, or move the file away.")
    return project


def refuse_nowhere(target: Path, instead: str) -> None:
    """Raise BadInput where a model could not be written in the end: its folder is a file, or a link that leads nowhere.

    Args:
        target: The model's folder; of those above it links are looked at too.
        instead: What else could be done.
    """
    for place in (target, *target.parents):
        if place.is_symlink() and not place.exists():
            raise BadInput(
                f"{place} is a link that leads nowhere ({place.readlink()}), so no model can be written to {target}. "
                f"Remove the link, or make the folder that it leads to. {instead}"
            )
    if target.exists() and not target.is_dir():
        raise BadInput(f"{target} is a file, where the model's folder is to be. {instead}")


@contextmanager
def beginning(project: Project) -> Iterator[None]:
    """Make the folder of a project; where the block fails, nothing is left of it, nor of folders made for it.

    A project that somebody else has made there meanwhile stays.
    """
    folder = project.folder
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        if not (folder / CONFIG).exists():
            for suffix in _OF_DATABASE:
                project.database.with_name(f"{project.database.name}{suffix}").unlink(missing_ok=True)
        for path in made:
            with suppress(OSError):  # somebody has put something there, or it never came to be
                path.rmdir()
        raise


def write_project(project: Project) -> None:
    """Make a folder a project: from now on `open_project` finds it."""
    text = f'name = {_quoted(project.name)}\nschema = {SCHEMA}\ndatabase = "fieldmark.db"\n'
    write_atomic(project.folder / CONFIG, text.encode())


def open_project(folder: Path) -> Project:
    """The project in a folder.

    Raises:
        NoProject: There is none.
        BadFile: Its `fieldmark.toml` is damaged, or of another version.
    """
    config = folder / CONFIG
    if not config.is_file():
        raise NoProject(folder)
    try:
        values = tomllib.loads(config.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFile(config, f"cannot be parsed ({error}). Correct the file.") from error
    if values.get("schema") != SCHEMA:
        raise BadFile(
            config,
            f"is project schema {values.get('schema')!r}; this version reads {SCHEMA}. "
            "Open it with the version of Fieldmark that wrote it, or a newer one.",
        )
    return Project(folder.resolve(), str(values.get("name", folder.resolve().name)))


def checked_name(kind: str, name: str) -> str:
    """A name that may become a folder's name: letters, digits, `-`, `_`, `.` and spaces inside."""
    allowed = all(part.isalnum() or part in "-_. " for part in name)
    if not name or not allowed or name.startswith((".", " ")) or name.endswith((".", " ")) or len(name) > 100:
        raise BadInput(f"{name!r} cannot name a {kind}. Use letters, digits, '-', '_' and '.', up to 100 of them.")
    return name


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(part if part.isprintable() else _escaped(part) for part in escaped) + '"'


def _escaped(part: str) -> str:
    code = ord(part) if not 0xD800 <= ord(part) < 0xE000 else 0xFFFD  # TOML has no halves of characters
    return f"\\U{code:08x}"
