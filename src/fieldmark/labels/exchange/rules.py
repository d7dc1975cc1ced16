"""Which class a value in a file means: detected over all files of an import, and stated in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.errors import BadFile, NotFound
from fieldmark.labels.records import ClassRecord

LEGEND = "fieldmark-labels.json"
"""Beside exported labels: which value is which class, by name."""

_VALUES = 1 << 16


@dataclass(frozen=True, slots=True)
class Rule:
    """What values mean.

    Args:
        class_of: From value to class id; other values are no labels.
        unknown: Values that mean that nobody knows.
        words: How this was found out.
    """

    class_of: dict[int, int]
    unknown: frozenset[int]
    words: str

    def strangers(self, values: set[int]) -> list[int]:
        """The values that this rule has no meaning for."""
        return sorted(values - set(self.class_of) - self.unknown)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """From uint16 values to int32 class ids, 0 where unknown."""
        table = np.zeros(_VALUES, dtype=np.int32)
        for value, class_id in self.class_of.items():
            table[value] = class_id
        classes: np.ndarray = table[values]
        return classes


def rule_for(
    kind: str,
    values: set[int],
    classes: Sequence[ClassRecord],
    *,
    label_offset: int | None = None,
    ignore: int | None = None,
) -> Rule:
    """What the values of all files together mean.

    Args:
        kind: `markers`, `masks` or `scribbles`.
        values: Every value that occurs.
        classes: The project's classes, in order.
        label_offset: Added to each value to give the place of its class, from 1; None to find it out.
        ignore: The value that means unknown; None for 0.
    """
    if label_offset is None and kind == "masks" and (binary := _binary(values - {ignore}, classes)):
        return Rule(binary, _set_of(ignore), _binary_words(binary, classes))
    offset, why = _offset(kind, values, label_offset, ignore)
    unknown = frozenset({0}) if ignore is None and offset == 0 else _set_of(ignore)
    class_of = {one.position - offset: one.id for one in classes if one.position >= offset}
    class_of = {value: class_id for value, class_id in class_of.items() if value not in unknown}
    said = _stated(why, class_of, classes, values) if values - unknown else "The files hold no label."
    return Rule(class_of, unknown, said)


def legend_names(folder: Path, kind: str) -> dict[int, str] | None:
    """The names of the classes by their values, as an export wrote them beside its files; None where it wrote none.

    The value 0 is not among them: in exported files it means unknown.

    Raises:
        BadFile: The legend is damaged.
    """
    path = folder / LEGEND
    if not path.is_file():
        return None
    try:
        legend = json.loads(path.read_text(encoding="utf-8"))
        names = {int(value): str(name) for value, name in legend["values"].items()}
        its_kind, version = legend["kind"], legend["format"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFile(path, f"it is no legend of labels ({error}). Delete it, or export again.") from error
    if its_kind != kind:
        return None
    if version != 1 or not all(0 < value < _VALUES for value in names):
        said = f"it is a legend of format {version!r} with values that are no labels; this version reads 1."
        raise BadFile(path, said)
    return names


def read_legend(folder: Path, kind: str, classes: Sequence[ClassRecord]) -> Rule | None:
    """The rule that an export wrote beside its files; None where there is none for this kind.

    Raises:
        BadFile: The legend is damaged, or names a class that the project does not have.
    """
    names = legend_names(folder, kind)
    if names is None:
        return None
    path = folder / LEGEND
    ids = {one.name: one.id for one in classes}
    missing = [name for name in names.values() if name not in ids]
    if missing:
        raise BadFile(path, f"{NotFound('class', missing[0], ids)} Add the class, or delete the legend.")
    class_of = {value: ids[name] for value, name in names.items()}
    words = _stated(f"{path.name} says", class_of, classes, set(class_of)) if names else f"{path.name} names no class."
    return Rule(class_of, frozenset({0}), words)


def write_legend(kind: str, classes: Sequence[ClassRecord]) -> bytes:
    """The legend of an export: each class is written as its place."""
    values = {str(one.position): one.name for one in classes}
    legend: dict[str, Any] = {"format": 1, "kind": kind, "unknown": 0, "values": values}
    return (json.dumps(legend, indent=2, ensure_ascii=False) + "\n").encode()


def _binary(values: set[int], classes: Sequence[ClassRecord]) -> dict[int, int]:
    """The meaning of a map of two values for two classes; empty for any other."""
    if len(classes) != 2 or values - {0} not in ({1}, {255}):
        return {}
    return {0: classes[0].id, max(values): classes[1].id}


def _binary_words(binary: dict[int, int], classes: Sequence[ClassRecord]) -> str:
    return (
        f"The maps hold 0 and {max(binary)} alone and there are two classes, so 0 is {classes[0].name!r} and "
        f"{max(binary)} is {classes[1].name!r}. If 0 means unknown, import with --label-offset 0."
    )


def _offset(kind: str, values: set[int], forced: int | None, ignore: int | None) -> tuple[int, str]:
    """What is added to a value to give its class's place, and why."""
    if forced is not None:
        return forced, f"As asked, {forced} was added to every value" + (" (0 means unknown)" if forced == 0 else "")
    if kind == "markers" and 0 in values:
        return 1, "Label 0 occurs, so 1 was added to every label (--label-offset 0 takes them as they are)"
    if kind != "markers" and ignore is not None and 0 in values and ignore != 0:
        return 1, f"{ignore} means unknown and 0 occurs, so 1 was added to every value"
    if kind == "markers":
        return 0, "No label 0 occurs, so labels are the places of classes (--label-offset 1 adds one)"
    return 0, "0 means unknown, other values are the places of classes"


def _stated(why: str, class_of: dict[int, int], classes: Sequence[ClassRecord], values: set[int]) -> str:
    """A sentence: why values mean what they mean, and which class each that occurs is; none may be one."""
    names = {one.id: one.name for one in classes}
    listed = ", ".join(f"{value} is {names[class_of[value]]!r}" for value in sorted(class_of) if value in values)
    return f"{why}: {listed}." if listed else f"{why}."


def _set_of(value: int | None) -> frozenset[int]:
    return frozenset() if value is None else frozenset({value})
