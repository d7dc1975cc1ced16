"""Score class maps, and make the baselines beside them: from the strokes or the label maps that taught the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.checkpoint import Header
from fieldmark.checkpoint.bundle import read_json
from fieldmark.core.seeds import derive_seed
from fieldmark.errors import NothingLabelled
from fieldmark.evaluate.baselines import Baseline, forest, majority, random
from fieldmark.evaluate.summary import ImageScore, score_image
from fieldmark.evaluate.truth import Coding, coding_for, label_map, mask_values
from fieldmark.images import open_image
from fieldmark.workbench.cases import (
    Answer,
    Case,
    Watch,
    as_picture,
    mask_planes,
    mean_score,
    predicted,
    read_plane,
    truth_planes,
    values_of,
)
from fieldmark.workbench.fitting import collect_marks

if TYPE_CHECKING:
    from fieldmark.collection import ImageRecord
    from fieldmark.workbench.bench import Workbench

FOREST_PIXELS = 4_000_000
"""The forest keeps the features of whole images in memory; larger images are left to the other baselines."""
FOREST_LESSONS = 400_000
"""Labelled pixels that the baselines learn from, where label maps give more; drawn by chance."""

Lesson = tuple[np.ndarray, np.ndarray]
"""An image (y, x, c), and the place of each pixel's class counted from 1 (y, x), 0 for unknown."""


def read_coding(cases: Sequence[Case], header: Header, ignore: int | None) -> Coding:
    """How the masks of all cases are read."""
    found = {case.truth.name: _values_in(case) for case in cases}
    return coding_for(found, values_of(header), ignore=ignore)


def _values_in(case: Case) -> set[int]:
    return {value for _, _, plane in mask_planes(case) for value in mask_values(plane, case.truth.name)}


def score_classes(case: Case, header: Header, coding: Coding, answer: Answer | None = None) -> ImageScore:
    """The scores of one image; a volume is scored plane by plane and averaged over its planes.

    Args:
        case: The image.
        header: Of the model.
        coding: How masks are read.
        answer: Of a baseline; the model's where None.
    """
    answer = answer or predicted(case)
    return mean_score(
        [
            score_image(case.record.name, answer(t, z), truth.labels, values_of(header), unknown=truth.unknown)
            for t, z, truth in truth_planes(case, header, coding, coding.ignore)
        ]
    )


def answered(baseline: Baseline, case: Case, header: Header) -> Answer:
    """What a baseline says of a case, in written values."""
    values = np.array([spec.value for spec in header.classes])

    def answer(t: int, z: int) -> np.ndarray:
        with open_image(case.record.path) as source:
            picture = np.moveaxis(read_plane(source, t, z), 0, -1)
        said: np.ndarray = values[baseline.predict(picture, case.record.name).labels - 1]
        return said

    return answer


def class_baselines(header: Header, lessons: Sequence[Lesson], tested: Sequence[Case], watch: Watch) -> list[Baseline]:
    """Majority, chance, and scikit-image's features with a forest. They answer places of classes, from 1."""
    pictures, labels = [picture for picture, _ in lessons], [label for _, label in lessons]
    if not labels or not tested:
        return []
    try:
        found = [majority(labels), random(labels)]
    except NothingLabelled:
        return []
    sizes = [label.size for label in labels] + [case.record.shape[3] * case.record.shape[4] for case in tested]
    if max(sizes) > FOREST_PIXELS:
        watch(f"The forest baseline is left out: an image has {max(sizes)} pixels, more than {FOREST_PIXELS}.")
        return found
    watch("Fitting the baseline: multiscale features and a random forest.")
    return [*found, forest(pictures, labels, classes=list(range(1, len(header.classes) + 1)))]


def class_lessons(bench: Workbench, header: Header, cases: Sequence[Case], coding: Coding | None) -> list[Lesson]:
    """What taught the model: strokes; else the label maps of its run; else the reference masks of what taught it.

    Args:
        bench: The project.
        header: Of the model.
        cases: Those with truth.
        coding: How their masks are read; None where they number objects, of the last class.
    """
    hashes = {item.content_hash for item in header.taught}
    records = [record for record in bench.collection.all() if record.content_hash in hashes]
    drawn = _stroke_lessons(bench, header, records)
    if drawn:
        return drawn
    if pairs := run_targets(bench, header):
        return _thinned(_map_lessons(pairs, header))
    taught = [case for case in cases if case.taught]
    return _thinned(_object_lessons(taught, header) if coding is None else _reference_lessons(taught, header, coding))


def _stroke_lessons(bench: Workbench, header: Header, records: list[ImageRecord]) -> list[Lesson]:
    places = {spec.id: place for place, spec in enumerate(header.classes)}
    found = []
    for record in records:
        marks = collect_marks(bench.labels, [record], places)
        for t, z in np.unique(marks["place"][:, :2], axis=0):
            here = (marks["place"][:, :2] == (t, z)).all(axis=1)
            plane = np.zeros(record.shape[3:], np.int64)
            plane[tuple(marks["place"][here, 2:].T)] = marks["klass"][here] + 1
            with open_image(record.path) as source:
                found.append((np.moveaxis(read_plane(source, int(t), int(z)), 0, -1), plane))
    return found


def run_targets(bench: Workbench, header: Header) -> list[tuple[Path, Path]]:
    """Images of the run that made a model with the files that taught it; those that are gone are left out."""
    runs = {run.id: run.folder for run in bench.runs()}
    folder = runs.get(str(header.details.get("run", "")))
    job = read_json(folder / "job.json") if folder is not None and (folder / "job.json").is_file() else {}
    items: list[dict[str, Any]] = job.get("images", [])
    hashes = {item.content_hash for item in header.taught}
    pairs = [(Path(item["uri"]), Path(item["target"])) for item in items if _teaches(item, hashes)]
    return [pair for pair in pairs if all(path.exists() for path in pair)]


def _teaches(item: dict[str, Any], hashes: set[str]) -> bool:
    return bool(item.get("target")) and item.get("content_hash") in hashes


def _map_lessons(pairs: Sequence[tuple[Path, Path]], header: Header) -> Iterator[Lesson]:
    for image, target in pairs:
        with open_image(image) as source, open_image(target) as right:
            if right.shape[2:] != source.shape[2:]:
                continue
            for t, z in np.ndindex(min(source.shape[0], right.shape[0]), source.shape[2]):
                labels = label_map(as_picture(read_plane(right, t, z)), target.name)
                yield np.moveaxis(read_plane(source, t, z), 0, -1), _places(labels, header)


def _places(labels: np.ndarray, header: Header) -> np.ndarray:
    """Written values to places from 1; others are unknown."""
    places = np.zeros(labels.shape, np.int64)
    for place, spec in enumerate(header.classes, start=1):
        places[labels == spec.value] = place
    return places


def _reference_lessons(cases: Sequence[Case], header: Header, coding: Coding) -> Iterator[Lesson]:
    for case in cases:
        for t, z, truth in truth_planes(case, header, coding, coding.ignore):
            with open_image(case.record.path) as source:
                picture = np.moveaxis(read_plane(source, t, z), 0, -1)
            yield picture, np.where(truth.unknown, 0, _places(truth.labels, header))


def _object_lessons(cases: Sequence[Case], header: Header) -> Iterator[Lesson]:
    for case in cases:
        for t, z, plane in mask_planes(case):
            with open_image(case.record.path) as source:
                picture = np.moveaxis(read_plane(source, t, z), 0, -1)
            yield picture, np.where(label_map(plane, case.truth.name) > 0, len(header.classes), 1)


def _thinned(lessons: Iterator[Lesson]) -> list[Lesson]:
    """As many whole planes as the forest takes, with a share of their pixels."""
    kept: list[Lesson] = []
    for lesson in lessons:
        if kept and sum(label.size for _, label in kept) + lesson[1].size > FOREST_PIXELS:
            break
        kept.append(lesson)
    share = FOREST_LESSONS / max(1, sum(int((label > 0).sum()) for _, label in kept))
    rng = np.random.default_rng(derive_seed(0, "baseline lessons"))
    return [(picture, np.where(rng.random(label.shape) < share, label, 0)) for picture, label in kept]
