"""Truth from files: what a mask's values mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fieldmark.recipes.data import TargetConfig

UNKNOWN = -1
"""The place of a pixel that is of no class."""
_SHOWN = 8
"""Values named in an error; more would hide them."""


@dataclass(frozen=True, slots=True)
class Coding:
    """How the values in mask files are read."""

    mapping: dict[int, int]
    """Value in the file to the value its class is written as; empty: as they are."""
    note: str
    """A sentence that says so, or nothing where files hold the classes' own values."""
    ignore: int | None = None
    """The value of pixels that nobody judged."""


@dataclass(frozen=True, slots=True)
class Truth:
    """One image's truth."""

    labels: np.ndarray
    """(h, w) int64, the value that each pixel's class is written as; 0 where unknown."""
    unknown: np.ndarray
    """(h, w) bool."""
    note: str
    """How the file's values were read, where they are not the classes' own."""


def mask_values(array: np.ndarray, name: str) -> set[int]:
    """The values in a mask file.

    Args:
        array: (h, w), or (h, w, channels) where all color channels are equal.
        name: The file's name, for errors.

    Raises:
        BadInput: It is a color picture, or its values are not whole numbers.
    """
    return {int(value) for value in np.unique(_flat(array, name))}


def label_map(array: np.ndarray, name: str) -> np.ndarray:
    """A picture of numbered objects or classes, as it is.

    Args:
        array: (h, w), or (h, w, channels) where all color channels are equal.
        name: The file's name, for errors.

    Returns:
        (h, w) int64.

    Raises:
        BadInput: It is a color picture, or its values are not whole numbers.
    """
    return _flat(array, name)


def coding_for(found: Mapping[str, set[int]], class_values: Mapping[str, int], *, ignore: int | None = None) -> Coding:
    """How to read a folder of masks: decided once, from all their values together.

    A single file is not enough: one that holds only 1 could be all object (0/1) or all of
    the class that is written as 1.

    Args:
        found: The values in each file (`mask_values`), by the file's name.
        class_values: Names of the classes and the value each is written as, in order.
        ignore: The value of pixels that nobody judged, if the masks have one.

    Returns:
        The classes' own values where all files keep to them; else, where all files together
        hold nothing but 0 and 1, or 0 and 255: 0 is the first class, the other the last.

    Raises:
        BadInput: A file holds a value that is neither; the message names it.
    """
    used = set().union(*found.values()) - ({ignore} if ignore is not None else set())
    if used <= set(class_values.values()):
        return Coding({}, "", ignore)
    names = list(class_values)
    for top in (255, 1):
        if used <= {0, top} and len(names) > 1:
            mapping = {0: class_values[names[0]], top: class_values[names[-1]]}
            return Coding(mapping, _note(names, {0: names[0], top: names[-1]}, used), ignore)
    raise _unknown_values(found, class_values, {*class_values.values(), ignore})


def coding_by(
    legend: Mapping[int, str], found: Mapping[str, set[int]], class_values: Mapping[str, int], *, ignore: int | None
) -> Coding:
    """How to read masks that come with a legend, in which 0 means unknown, however few values they hold.

    Args:
        legend: The names of the classes by their values in the files.
        found: The values in each file (`mask_values`), by the file's name.
        class_values: Names of the model's classes and the value each is written as.
        ignore: The value of pixels that nobody judged, where the user has named one.

    Raises:
        BadInput: A file holds a value of a class that the model does not know.
    """
    unknown = 0 if ignore is None else ignore
    mapping = {value: class_values[name] for value, name in legend.items() if name in class_values and value != unknown}
    for file, values in found.items():
        for odd in sorted(values - {*mapping, unknown}):
            said = f"its legend says is {legend[odd]!r}" if odd in legend else "its legend does not name"
            raise BadInput(
                f"{file}: holds the value {odd}, which {said}. The model knows {', '.join(map(repr, class_values))}, "
                f"and {unknown} means unknown. Export the labels of these classes alone, or correct the legend."
            )
    read = ", ".join(f"{value} is {legend[value]!r}" for value in sorted(mapping))
    return Coding(mapping, f"The legend of the masks says: {unknown} is unknown, {read}.", unknown)


def _note(names: Sequence[str], reading: Mapping[int, str], used: set[int]) -> str:
    only = "" if len(used) > 1 else "only "
    read = " and ".join(f"{value}, read as {reading[value]!r}" for value in sorted(used))
    between = ", ".join(repr(name) for name in names[1:-1])
    return f"Masks hold {only}{read}." + (f" They cannot show {between}." if between else "")


def _unknown_values(
    found: Mapping[str, set[int]], class_values: Mapping[str, int], allowed: set[int | None]
) -> BadInput:
    file, odd = max(((name, sorted(values - allowed)) for name, values in found.items()), key=lambda item: len(item[1]))
    shown = ", ".join(map(str, odd[:_SHOWN])) + (f" and {len(odd) - _SHOWN} more" if len(odd) > _SHOWN else "")
    wanted = ", ".join(f"{value} ({name})" for name, value in class_values.items())
    return BadInput(
        f"{file}: holds the values {shown}, which no class is written as. Wanted: {wanted}, or masks of "
        f"only 0 and 255 or only 0 and 1. Correct the mask, or name the value of pixels that nobody judged "
        "(evaluate --ignore)."
    )


def read_truth(
    array: np.ndarray,
    class_values: Mapping[str, int],
    *,
    name: str,
    shape: tuple[int, int] | None = None,
    ignore: int | None = None,
    coding: Coding | None = None,
) -> Truth:
    """One mask file as labels.

    Args:
        array: (h, w), or (h, w, channels) where all color channels are equal.
        class_values: Names of the classes and the value each is written as, in order.
        name: The file's name, for errors.
        shape: Height and width of its image in pixels.
        ignore: The value of pixels that nobody judged, where no `coding` says it.
        coding: From `coding_for` over all files; from this file alone where None.

    Raises:
        BadInput: Another size than the image's, or values that no class is written as.
    """
    flat = _flat(array, name)
    if shape is not None and flat.shape != shape:
        raise BadInput(
            f"{name}: is {flat.shape[1]} x {flat.shape[0]} pixels, but its image is {shape[1]} x {shape[0]}. "
            f"Give a mask of the image's size."
        )
    found = {name: mask_values(flat, name)}
    coding = coding or coding_for(found, class_values, ignore=ignore)
    ignore = coding.ignore
    mapping = coding.mapping or {value: value for value in class_values.values()}
    if not found[name] <= {*mapping, ignore}:
        raise _unknown_values(found, class_values, {*mapping, ignore})
    unknown = np.zeros(flat.shape, bool) if ignore is None else flat == ignore
    labels = np.zeros(flat.shape, np.int64)
    for value, written in mapping.items():
        labels[flat == value] = written
    labels[unknown] = 0
    return Truth(labels, unknown, coding.note)


def _flat(array: np.ndarray, name: str) -> np.ndarray:
    """A mask as one channel of integers."""
    color = array[..., :3] if array.ndim == 3 and array.shape[2] > 2 else array[..., :1] if array.ndim == 3 else None
    if array.ndim not in (2, 3) or (color is not None and not bool((color == color[..., :1]).all())):
        raise BadInput(f"{name}: is no mask: {_many_axes(array)}. Give a picture with one value for each pixel.")
    flat = array if color is None else color[..., 0]
    whole: np.ndarray = flat.astype(np.int64)
    if not bool((whole == flat).all()):
        raise BadInput(f"{name}: holds fractions, but a mask holds whole numbers. Give labels, not probabilities.")
    return whole


def _many_axes(array: np.ndarray) -> str:
    return f"it has {array.shape[2]} channels, and they differ" if array.ndim == 3 else f"its shape is {array.shape}"


def place_table(values: Mapping[int, int], target: TargetConfig) -> np.ndarray:
    """The place of the class for each value of a label map that teaches, the last one for all larger values.

    Args:
        values: The place of each class, by its value.
        target: Which value is unknown, whether maps number objects, and from which number on values are class 0.

    Returns:
        (V,) int64; `UNKNOWN` for values of no class.
    """
    most = max([*values, target.ignore or 0, (target.classes or 1) - 1])
    table = np.full(most + 2, UNKNOWN, np.int64)
    if target.objects:
        table[:] = values[1]
        table[0] = values[0]
    else:
        for value, place in values.items():
            table[value] = place
        if target.classes is not None:
            table[target.classes :] = values[0]
    if target.ignore is not None:
        table[target.ignore] = UNKNOWN
    return table
