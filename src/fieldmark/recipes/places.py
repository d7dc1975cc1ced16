"""Paths in recipes: which settings are paths, and where relative ones begin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class IsPath:
    """Says of a setting that its text is a path; `names` are words that mean something else."""

    names: tuple[str, ...] = ()


PathText = Annotated[str, IsPath()]
"""A path, as a recipe holds it."""


def placed(model: type[BaseModel], values: dict[str, Any], beside: Path) -> dict[str, Any]:
    """A copy of settings, not yet checked, in which relative paths begin at a folder, and `~` is the user's home.

    Args:
        model: The class that knows the settings, and of which of them are paths.
        values: As read; what does not fit the class stays as it is.
        beside: The folder of the file that they come from, or where the user is at work.
    """
    return {
        key: _placed(model.model_fields[key], value, beside) if key in model.model_fields else value
        for key, value in values.items()
    }


def _placed(field: Any, value: Any, beside: Path) -> Any:
    parts = [*field.metadata, *parts_of(field.annotation)]
    marks = [part for part in parts if isinstance(part, IsPath)]
    if marks and isinstance(value, str) and value and value not in marks[0].names:
        return str(beside.resolve() / Path(value).expanduser())
    inner = next((part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)), None)
    if inner is not None and isinstance(value, dict):
        return placed(inner, value, beside)
    return value


def parts_of(annotation: Any) -> Iterator[Any]:
    """What a type is made of: itself, and what its brackets hold."""
    yield annotation
    for inner in get_args(annotation):
        yield from parts_of(inner)
