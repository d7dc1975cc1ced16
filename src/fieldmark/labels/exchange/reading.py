"""Import labels: read and check every file first, then write all in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.collection.naming import ENDINGS
from fieldmark.errors import BadFile, BadInput
from fieldmark.labels.drawing import LabelPlane
from fieldmark.labels.exchange.answers import import_answers
from fieldmark.labels.exchange.markers import MarkerFile, read_markers
from fieldmark.labels.exchange.masks import read_map
from fieldmark.labels.exchange.pairing import Paired, Pairing, pair
from fieldmark.labels.exchange.points import import_points
from fieldmark.labels.exchange.rules import Rule, read_legend, rule_for
from fieldmark.labels.exchange.scribbles import connected_strokes
from fieldmark.labels.records import ImportReport

if TYPE_CHECKING:
    from fieldmark.collection import Collection
    from fieldmark.labels.book import Labels

KINDS = (*ENDINGS, "answers", "points")

ValuePlane = tuple[int, int, np.ndarray, np.ndarray]
"""t, z, uint16 values (h, w), and bool (h, w): which of them the file gives."""


def import_folder(
    labels: Labels,
    path: Path,
    kind: str,
    author: str,
    collection: Collection,
    label_offset: int | None,
    ignore: int | None,
) -> ImportReport:
    """See `Labels.import_folder`."""
    check_kind(kind)
    if kind == "answers":
        return import_answers(labels, path, author, collection)
    if kind == "points":
        return import_points(labels, path, author, collection)
    found = pair(path, kind, collection.all(include_excluded=True))
    refuse_all(path, found.bad)
    _require_some(path, kind, found)
    values, notes = _survey(path, kind, found.pairs)
    if kind == "markers":
        notes += _about_pictures(path, found.pairs, values, label_offset)
    rule = _rule(labels, path, kind, set().union(*values.values()), label_offset, ignore)
    _check_values(labels, path, rule, values)
    planes = _planes(kind, found.pairs, rule)
    done = labels.import_planes(planes, author, verb=f"import {kind}")
    if done.covered:
        notes.append(
            f"{done.covered:,} pixels had labels already; the imported ones lie on top (undo takes them away)."
        )
    return ImportReport(done.images, done.strokes, [rule.words, *notes], found.left_out)


def check_kind(kind: str) -> None:
    """Refuse a kind of labels that is not known.

    Raises:
        BadInput: It is not one of `KINDS`.
    """
    if kind not in KINDS:
        raise BadInput(f"There are no labels of kind {kind!r}; use one of {', '.join(KINDS)}.")


def refuse_all(path: Path, bad: Sequence[BadFile]) -> None:
    """Raise what is wrong with some files: one error that names them all.

    Raises:
        BadFile: There is at least one.
    """
    if len(bad) == 1:
        raise bad[0]
    if bad:
        lines = "\n".join(f"  {error}" for error in bad)
        raise BadFile(path, f"{len(bad)} files cannot be imported, so nothing was:\n{lines}")


def _require_some(path: Path, kind: str, found: Pairing) -> None:
    if found.pairs:
        return
    names = ", ".join(name for name, _ in found.left_out[:3]) or "none"
    raise BadInput(
        f"{path}: no {kind} file has the name of an image of the project (found: {names}). Name each like its image."
    )


def _survey(path: Path, kind: str, pairs: Sequence[Paired]) -> tuple[dict[str, set[int]], list[str]]:
    """Read every file once: the values in each, and what is worth telling.

    Raises:
        BadFile: Files cannot be used; all of them are named.
    """
    values: dict[str, set[int]] = {}
    notes: list[str] = []
    bad: list[BadFile] = []
    for one in pairs:
        try:
            values[one.shown] = _values(kind, one, notes)
        except BadFile as error:
            bad.append(error)
    refuse_all(path, bad)
    return values, notes


def _values(kind: str, one: Paired, notes: list[str]) -> set[int]:
    """Every value in a file."""
    _check_plane(one)
    if kind != "markers" or not one.is_text:
        planes = read_map(one.path, one.image.shape, one.plane, one.shown)
        found_values = {int(value) for _, _, values in planes for value in np.unique(values)}
        return found_values - {0} if kind == "markers" else found_values
    found = read_markers(one.path, one.shown)
    _check_size(found, one)
    if found.twofold:
        notes.append(f"{one.shown}: {found.twofold} pixels carry two labels; the last in the file was taken.")
    return {int(value) for value in np.unique(found.labels)}


def _about_pictures(
    path: Path, pairs: Sequence[Paired], values: dict[str, set[int]], label_offset: int | None
) -> list[str]:
    """What to say of marker pictures; refuses them beside text files that count from 0, as theirs cannot be known."""
    pictures = [one for one in pairs if not one.is_text]
    from_zero = [one.shown for one in pairs if one.is_text and 0 in values[one.shown]]
    if pictures and from_zero and label_offset is None:
        raise BadFile(
            path,
            f"{from_zero[0]} counts labels from 0, but in a picture ({pictures[0].shown}) 0 means unmarked. "
            "Import text files and pictures one after the other.",
        )
    return [f"{len(pictures)} of the files are pictures: 0 means unmarked there."] if pictures else []


def _check_plane(one: Paired) -> None:
    times, depth = one.image.shape[0], one.image.shape[2]
    if one.plane and not (one.plane[0] < times and one.plane[1] < depth):
        raise BadFile(one.shown, f"its image has {times} times and {depth} slices; its name says t, z = {one.plane}.")


def _check_size(found: MarkerFile, one: Paired) -> None:
    times, _, depth, height, width = one.image.shape
    flat = depth == 1 or one.plane is not None
    if found.size not in ({(width, height), (width, height, 1)} if flat else {(width, height, depth)}):
        wanted = (width, height) if flat else (width, height, depth)
        raise BadFile(
            one.shown,
            f"it declares an image of {' x '.join(map(str, found.size))} pixels; {one.image.name} is "
            f"{' x '.join(map(str, wanted))}. Is it the marker file of another image?",
        )
    if times > 1 and one.plane is None:
        raise BadFile(one.shown, f"{one.image.name} has {times} times; add `_t0_z0` to the name to say which it marks.")


def _rule(
    labels: Labels, path: Path, kind: str, values: set[int], label_offset: int | None, ignore: int | None
) -> Rule:
    classes = labels.classes()
    folder = path if path.is_dir() else path.parent
    legend = read_legend(folder, kind, classes) if label_offset is None and ignore is None else None
    return legend or rule_for(kind, values, classes, label_offset=label_offset, ignore=ignore)


def _check_values(labels: Labels, path: Path, rule: Rule, values: dict[str, set[int]]) -> None:
    classes = labels.classes()
    names = ", ".join(f"{one.position} {one.name}" for one in classes) or "none"
    bad = [
        BadFile(
            shown,
            f"the label {strange[0]} is no class (classes: {names}; {rule.words}) Add the class, or --label-offset.",
        )
        for shown, found in values.items()
        if (strange := rule.strangers(found))
    ]
    refuse_all(path, bad)


def _planes(kind: str, pairs: Sequence[Paired], rule: Rule) -> Iterator[LabelPlane]:
    """Read every file again, and cut its labels into strokes."""
    cut = _one_set_a_class if kind == "masks" else connected_strokes
    for one in pairs:
        for t, z, values, given in _value_planes(kind, one):
            sets, classes = cut(np.where(given, rule.apply(values), 0))
            if classes:
                yield LabelPlane(one.image.id, t, z, sets, classes, f"import:{kind}:{one.path.name}")


def _value_planes(kind: str, one: Paired) -> Iterator[ValuePlane]:
    if kind == "markers" and one.is_text:
        yield from _marked_planes(read_markers(one.path, one.shown), one)
        return
    for t, z, values in read_map(one.path, one.image.shape, one.plane, one.shown):
        yield t, z, values, values > 0 if kind == "markers" else np.ones(values.shape, dtype=bool)


def _marked_planes(found: MarkerFile, one: Paired) -> Iterator[ValuePlane]:
    height, width = one.image.shape[3:]
    for slice_ in np.unique(found.places[:, 0]).tolist():
        here = found.places[:, 0] == slice_
        rows, columns = found.places[here, 1], found.places[here, 2]
        values, given = np.zeros((height, width), dtype=np.uint16), np.zeros((height, width), dtype=bool)
        values[rows, columns] = found.labels[here]
        given[rows, columns] = True
        yield *(one.plane or (0, slice_)), values, given


def _one_set_a_class(classes: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """One stroke for each class of a dense map."""
    found = [int(value) for value in np.unique(classes) if value]
    table = np.zeros(max(found, default=0) + 1, dtype=np.int32)
    table[found] = np.arange(1, len(found) + 1)
    return table[classes], found
