"""What the project's models are, and copies of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.checkpoint import header_of, load, save
from fieldmark.errors import BadInput
from fieldmark.recipes.registry import FAMILIES

if TYPE_CHECKING:
    from fieldmark.workbench.bench import Workbench


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


def export_model(folder: Path, path: Path) -> None:
    """Copy a model folder, checked on the way. An existing path is never overwritten."""
    if path.exists():
        raise BadInput(f"{path} exists already. Choose a path that does not.")
    header, weights = load(folder)
    save(path, header, weights)
