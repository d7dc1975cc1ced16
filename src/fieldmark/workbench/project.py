"""Where a project's things lie on disk."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from fieldmark.core.files import write_atomic
from fieldmark.errors import BadFile, BadInput, NotFound

CONFIG = "fieldmark.toml"
SCHEMA = 1


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


def create_project(folder: Path, name: str | None = None) -> Project:
    """Make an empty project. Raises BadInput where one stands already; nothing is overwritten."""
    if (folder / CONFIG).exists():
        raise BadInput(f"{folder} holds a project already ({CONFIG}). Choose another folder, or go on with this one.")
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file. Choose a folder for the project.")
    folder.mkdir(parents=True, exist_ok=True)
    project = Project(folder.resolve(), name or folder.resolve().name)
    text = f'name = {_quoted(project.name)}\nschema = {SCHEMA}\ndatabase = "fieldmark.db"\n'
    write_atomic(folder / CONFIG, text.encode())
    return project


def open_project(folder: Path) -> Project:
    """The project in a folder. Raises NotFound where there is none."""
    config = folder / CONFIG
    if not config.is_file():
        raise NotFound("project", str(folder), ()) from None
    try:
        values = tomllib.loads(config.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadFile(config, f"cannot be parsed ({error}). Correct the file.") from error
    if values.get("schema") != SCHEMA:
        raise BadFile(config, f"is project schema {values.get('schema')!r}; this version reads {SCHEMA}. Upgrade.")
    return Project(folder.resolve(), str(values.get("name", folder.resolve().name)))


def checked_name(kind: str, name: str) -> str:
    """A name that may become a folder's name: letters, digits, `-`, `_`, `.` and spaces inside."""
    allowed = all(part.isalnum() or part in "-_. " for part in name)
    if not name or not allowed or name.startswith((".", " ")) or name.endswith((".", " ")) or len(name) > 100:
        raise BadInput(f"{name!r} cannot name a {kind}. Use letters, digits, '-', '_' and '.', up to 100 of them.")
    return name


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(part if part.isprintable() else f"\\u{ord(part):04x}" for part in escaped) + '"'
