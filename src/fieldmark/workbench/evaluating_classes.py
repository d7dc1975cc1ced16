"""Score class maps, and make the baselines beside them: from the strokes or the label maps that taught the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.checkpoint import Header
from fieldmark.checkpoint.bundle import read_bundle
from fieldmark.core.seeds import derive_seed
from fieldmark.errors import NothingLabelled
from fieldmark.evaluate.baselines import Baseline, forest, majority, random
from fieldmark.evaluate.summary import ImageScore, score_image
from fieldmark.evaluate.truth import Coding, label_map, place_table
from fieldmark.images import open_image
from fieldmark.recipes.data import TargetConfig
from fieldmark.workbench.cases import (
    Answer,
    Case,
    Watch,
    mask_planes,
    mean_score,
    predicted,
    read_plane,
    truth_planes,
    truth_values,
    values_of,
)
from fieldmark.workbench.fitting import MARKS, collect_marks
from fieldmark.workbench.legends import truth_coding
from fieldmark.workbench.runs import job_of, run_of

if TYPE_CHECKING:
    from fieldmark.collection import ImageRecord
    from fieldmark.workbench.bench import Workbench

FOREST_PIXELS = 4_000_000
"""The forest keeps the features of whole images in memory; larger images are left to the other baselines."""
FOREST_LESSONS = 400_000
"""Labelled pixels that the baselines learn from, where label maps give more; drawn by chance."""

Lesson = tuple[np.ndarray, np.ndarray]
"""An image (y, x, c), and the place of each pixel's class counted from 1 (y, x), 0 for unknown."""


def read_coding(cases: Sequence[Case], header: Header, ignore: int | None, folder: Path | None = None) -> Coding:
    """How the masks of all cases are read, which lie in a folder that may hold the legend of an export."""
    found: dict[str, set[int]] = {}
    for name, values in (item for case in cases for item in truth_values(case).items()):
        found.setdefault(name, set()).update(values)
    return truth_coding(folder, found, values_of(header), ignore)


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
    """What taught the model: strokes, as they were then, or the label maps of its run; else references of what taught.

    Args:
        bench: The project.
        header: Of the model.
        cases: Those with truth.
        coding: How their masks are read; None where they number objects, of the last class.
    """
    target = taught_by(job_of(bench.project, header))
    drawn = _stroke_lessons(bench, header) if target.kind == "marks" else []
    if drawn:
        return drawn
    if found := _thinned(_map_lessons(run_targets(bench, header), header, target)):
        return found
    taught = [case for case in cases if case.taught]
    return _thinned(_object_lessons(taught, header) if coding is None else _reference_lessons(taught, header, coding))


def _stroke_lessons(bench: Workbench, header: Header) -> list[Lesson]:
    hashes = {item.content_hash for item in header.taught}
    records = [record for record in bench.collection.all() if record.content_hash in hashes]
    marks = _strokes_then(bench, header, records)
    found = []
    for index, t, z in np.unique(np.column_stack([marks["image"], marks["place"][:, :2]]), axis=0):
        here = (marks["image"] == index) & (marks["place"][:, :2] == (t, z)).all(axis=1)
        plane = np.zeros(records[index].shape[3:], np.int64)
        plane[tuple(marks["place"][here, 2:].T)] = marks["klass"][here] + 1
        with open_image(records[index].path) as source:
            found.append((np.moveaxis(read_plane(source, int(t), int(z)), 0, -1), plane))
    return found


def _strokes_then(bench: Workbench, header: Header, records: list[ImageRecord]) -> dict[str, np.ndarray]:
    """The painted pixels that the run learned from, whatever was painted since; those of now where no run tells."""
    folder = run_of(bench.project, header)
    if folder is None or not (folder / MARKS).is_file():
        return collect_marks(bench.labels, records, {spec.id: place for place, spec in enumerate(header.classes)})
    now = {record.name: place for place, record in enumerate(records)}
    names = [item["name"] for item in job_of(bench.project, header).get("images", [])]
    _, then = read_bundle(folder, MARKS)
    image = np.array([now.get(name, -1) for name in names], np.int64)[then["image"]]
    kept = image >= 0
    return {"image": image[kept], "place": then["place"][kept], "klass": then["klass"][kept]}


def taught_by(job: dict[str, Any]) -> TargetConfig:
    """What a run learned from."""
    return TargetConfig(**job.get("recipe", {}).get("data", {}).get("target", {}))


def run_targets(bench: Workbench, header: Header) -> list[tuple[Path, Path]]:
    """Images of the run that made a model with the files that taught it; those that are gone are left out.

    Where channels of the images themselves taught, the files are the images.
    """
    job = job_of(bench.project, header)
    target = taught_by(job)
    own = target.kind == "labels" and target.folder is None
    hashes = {item.content_hash for item in header.taught}
    taught = [item for item in job.get("images", []) if item.get("content_hash") in hashes]
    named = [(item["uri"], item["uri"] if own else item.get("target")) for item in taught]
    pairs = [(Path(image), Path(file)) for image, file in named if file]
    return [pair for pair in pairs if all(path.exists() for path in pair)]


def _map_lessons(pairs: Sequence[tuple[Path, Path]], header: Header, target: TargetConfig) -> Iterator[Lesson]:
    """Planes of the images with the label maps that taught; a map of one slice is of the middle one."""
    table = place_table({spec.value: place for place, spec in enumerate(header.classes, start=1)}, target)
    channel = (*target.channels, 0)[0]
    for image, file in pairs:
        with open_image(image) as source, open_image(file, expand_palette=False) as right:
            depth = source.shape[2]
            first = depth // 2 if right.shape[2] == 1 else 0
            if right.shape[3:] != source.shape[3:] or right.shape[2] not in (1, depth):
                continue
            for t, z in np.ndindex(min(source.shape[0], right.shape[0]), right.shape[2]):
                values = label_map(read_plane(right, t, z)[channel], file.name)
                places = np.where(values < 0, 0, table[np.clip(values, 0, len(table) - 1)])
                yield np.moveaxis(read_plane(source, t, first + z), 0, -1), np.maximum(places, 0)


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
            yield picture, np.where(label_map(plane, case.truth_of(t, z).name) > 0, len(header.classes), 1)


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
