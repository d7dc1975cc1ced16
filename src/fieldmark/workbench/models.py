"""What the project's models are, and copies of them."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.checkpoint import Header, header_of, load, save
from fieldmark.errors import BadInput
from fieldmark.recipes.registry import FAMILIES

if TYPE_CHECKING:
    from fieldmark.workbench.bench import Workbench

MOST_SHOWN = 36
"""Numbers of a surface that are shown one by one, such as those of a polynomial."""


def model_rows(bench: Workbench) -> list[dict[str, Any]]:
    """One row a model: name, family, classes, and how many images taught it."""
    rows = []
    for folder in bench.models():
        header = header_of(folder)
        classes = ", ".join(spec.name for spec in header.classes)
        rows.append(
            {"model": folder.name, "family": header.family, "classes": classes, "taught_by": len(header.taught)}
        )
    return rows


def family_rows() -> list[dict[str, Any]]:
    """One row a family that can be fitted; none of them is imported."""
    return [{"family": name, "summary": entry.summary, "needs": entry.needs} for name, entry in FAMILIES]


def shown(header: Header) -> dict[str, Any]:
    """All that a header says; of light that is known by a grid, its shape and its least and largest value."""
    values = header.to_json()
    return values | {"preparation": [_shown_step(step) for step in values["preparation"]]}


def _shown_step(step: Any) -> Any:
    if not isinstance(step, dict) or step.get("step") != "flat-field" or not isinstance(step.get("surfaces"), list):
        return step
    surfaces = [
        {name: _in_short(value) for name, value in one.items()} if isinstance(one, dict) else one
        for one in step["surfaces"]
    ]
    return step | {"surfaces": surfaces}


def _in_short(value: Any) -> Any:
    """Many numbers by their shape and range; anything else as it is."""
    shape = _shape(value)
    if shape is None or prod(shape) <= MOST_SHOWN:
        return value
    numbers = value
    for _ in shape[1:]:
        numbers = [number for row in numbers for number in row]
    return {"shape": [*shape], "least": min(numbers), "largest": max(numbers)}


def _shape(value: Any) -> tuple[int, ...] | None:
    """Of lists of numbers that are all alike; None for anything else."""
    if isinstance(value, int | float):
        return ()
    shapes = {_shape(item) for item in value} if isinstance(value, list) else set()
    inner = shapes.pop() if len(shapes) == 1 else None
    return None if inner is None else (len(value), *inner)


def export_model(folder: Path, path: Path) -> None:
    """Copy a model folder, checked on the way. An existing path is never overwritten."""
    if path.exists():
        raise BadInput(f"{path} exists already. Choose a path that does not.")
    header, weights = load(folder)
    save(path, header, weights)
