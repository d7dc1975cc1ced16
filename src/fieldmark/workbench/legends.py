"""What the values of true masks mean: as the legend of an export says, else as the values tell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fieldmark.errors import BadInput
from fieldmark.evaluate.truth import Coding, coding_by, coding_for
from fieldmark.labels.exchange.rules import LEGEND, legend_names


def legend_of(folder: Path | None) -> dict[int, str] | None:
    """The names of classes by their values, of a folder that `labels export` wrote; None for any other."""
    if folder is None:
        return None
    found = (legend_names(folder, kind) for kind in ("masks", "scribbles"))
    return next((names for names in found if names is not None), None)


def truth_coding(
    folder: Path | None, found: Mapping[str, set[int]], class_values: Mapping[str, int], ignore: int | None = None
) -> Coding:
    """How the masks of a folder are read.

    Args:
        folder: Where they lie.
        found: The values in each file, by the file's name.
        class_values: Names of the model's classes and the value each is written as, in order.
        ignore: The value that means unknown, where the user has named one.
    """
    legend = legend_of(folder)
    if legend is None:
        return coding_for(found, class_values, ignore=ignore)
    return coding_by(legend, found, class_values, ignore=ignore)


def refuse_classes(folder: Path | None) -> None:
    """Raise BadInput for exported masks of classes where numbered objects are wanted."""
    if legend_of(folder) is not None:
        raise BadInput(
            f"{folder} holds masks of classes that a project has exported ({LEGEND} says so), not numbered objects: "
            "their numbers would be taken for objects. Give a folder of maps that number the objects, or leave "
            "--instances away."
        )
