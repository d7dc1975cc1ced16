"""Score a model against reference masks: only images that taught it nothing count."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.checkpoint import Header, header_of
from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput, NothingLabelled
from fieldmark.evaluate.baselines import Baseline, forest, majority, random
from fieldmark.evaluate.summary import METRICS, ImageScore, score_image, summarize
from fieldmark.evaluate.truth import Coding, Truth, coding_for, mask_values, pair_by_stem, read_truth
from fieldmark.images import find_images, open_image
from fieldmark.recipes import PredictRecipe
from fieldmark.workbench.fitting import collect_marks
from fieldmark.workbench.predicting import HIDDEN, model_folder, predict, refuse_originals, stem_of

if TYPE_CHECKING:
    from fieldmark.collection import ImageRecord
    from fieldmark.images import ImageSource
    from fieldmark.workbench.bench import Workbench

FOREST_PIXELS = 4_000_000
"""The forest keeps the features of whole images in memory; larger images are left to the other baselines."""

Watch = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Case:
    """One image with truth: what was said of it, and what is right."""

    record: ImageRecord
    truth: Path
    prediction: Path
    taught: bool


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores with baselines, and what was looked at."""

    model: str
    header: Header
    summary: dict[str, Any]
    cases: tuple[Case, ...]
    coding: Coding
    report: Path

    @property
    def notes(self) -> list[str]:
        return list(self.summary["notes"])

    def to_json(self) -> dict[str, Any]:
        return self.summary | {"model": self.model, "report": str(self.report)}

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows for a terminal."""
        methods = {self.model: self.summary["classes"], **self.summary["baselines"]}
        rows = [
            [method, klass, *("-" if values[m] is None else f"{values[m]:.3f}" for m in METRICS)]
            for method, classes in methods.items()
            for klass, values in classes.items()
        ]
        return ["method", "class", *METRICS], rows


def evaluate(
    bench: Workbench,
    name: str,
    truth: Path,
    *,
    ignore: int | None = None,
    report: Path | None = None,
    watch: Watch = lambda _line: None,
) -> Evaluation:
    """Predict the images that have truth, compare, and write a report.

    Strokes are not carried through space here: a score is about what the model learned.

    Args:
        bench: The project.
        name: A model of the project, or a model folder.
        truth: A folder of reference masks, paired with the images by stem.
        ignore: Pixel value of the masks that means unknown.
        report: Where the report goes; beside the model's run where None.
        watch: Called with sentences about the progress.
    """
    header = header_of(model_folder(bench, name))
    if header.classes and "classes" not in header.outputs:
        raise BadInput(f"Model {name!r} answers whole images and draws no masks. Mark pixels and fit it with a head.")
    pairs, alone, unused = _paired(bench, truth)
    taught = {item.content_hash for item in header.taught}
    out = _predictions(bench, name)
    if report is not None:
        refuse_originals(bench, [report.parent])
    recipe = PredictRecipe(propagate="none")
    _watched(predict(bench, name, [record for record, _ in pairs], out, "ome-zarr", recipe), watch)
    cases = tuple(
        Case(record, mask, out / f"{stem_of(record.name)}.ome.zarr", record.content_hash in taught)
        for record, mask in pairs
    )
    coding = coding_for(_values_of(cases), _values(header), ignore=ignore)
    tested = [case for case in cases if not case.taught]
    watch(f"Scoring {len(tested)} images that taught nothing.")
    scores = [score for case in tested for score in _score(case, header, coding, ignore, _predicted(case))]
    baselines = {
        baseline.name: [
            score for case in tested for score in _score(case, header, coding, ignore, _answered(baseline, case))
        ]
        for baseline in _baselines(bench, header, tested, watch)
    }
    notes = [coding.note] if coding.note else []
    notes += [f"Masks without an image: {', '.join(unused)}."] if unused else []
    notes += ["No image with truth is left that did not teach the model."] if not tested else []
    summary = summarize(
        scores,
        taught=[case.record.name for case in cases if case.taught],
        baselines=baselines,
        without_truth=[record.name for record in alone],
        notes=notes,
    )
    result = Evaluation(name, header, summary, cases, coding, report or _report_path(bench, header, name))
    _write(bench, result)
    return result


def _paired(bench: Workbench, truth: Path) -> tuple[list[tuple[ImageRecord, Path]], list[ImageRecord], tuple[str, ...]]:
    """Images with their masks, images without, and masks without an image."""
    if not truth.is_dir():
        raise BadInput(f"{truth} is no folder. Name a folder of reference masks with --truth.")
    records = {record.name: record for record in bench.collection.all()}
    root = truth.resolve()
    files = {path.resolve().relative_to(root).as_posix(): path for path, _ in find_images(truth).images}
    pairing = pair_by_stem(records, files)
    if not pairing.pairs:
        raise BadInput(
            f"No file in {truth} has the stem of an image of the project. "
            f"Images: {_some(records)}; masks: {_some(files)}. Name the masks as their images."
        )
    pairs = [(records[image], files[mask]) for image, mask in pairing.pairs]
    return pairs, [records[image] for image in pairing.without_truth], pairing.unused_truth


def _values_of(cases: Sequence[Case]) -> dict[str, set[int]]:
    return {case.truth.name: mask_values(_picture(case.truth), case.truth.name) for case in cases}


def _values(header: Header) -> dict[str, int]:
    return {spec.name: spec.value for spec in header.classes}


def _picture(path: Path) -> np.ndarray:
    """(y, x) or (y, x, c): the first plane of a file."""
    with open_image(path) as source:
        plane = read_plane(source, 0, 0)
    return plane[0] if len(plane) == 1 else np.moveaxis(plane, 0, -1)


def read_plane(source: ImageSource, t: int, z: int) -> np.ndarray:
    """(c, y, x) of one plane."""
    _, c, _, y, x = source.shape
    return source.read(Box((t, 0, z, 0, 0), (t + 1, c, z + 1, y, x)))[0, :, 0]


def truth_planes(
    case: Case, header: Header, coding: Coding, ignore: int | None = None
) -> Iterator[tuple[int, int, Truth]]:
    """The reference of each plane: (t, z, truth). A mask must have the planes of its image."""
    with open_image(case.truth) as mask:
        shape = case.record.shape
        if (mask.shape[0], mask.shape[2]) != (shape[0], shape[2]):
            raise BadInput(
                f"{case.truth.name}: has {mask.shape[0]} times and {mask.shape[2]} slices, but {case.record.name} has "
                f"{shape[0]} and {shape[2]}. Give one mask plane for each plane of the image."
            )
        for t, z in np.ndindex(mask.shape[0], mask.shape[2]):
            plane = read_plane(mask, t, z)
            flat = plane[0] if len(plane) == 1 else np.moveaxis(plane, 0, -1)
            yield (
                t,
                z,
                read_truth(flat, _values(header), name=case.truth.name, shape=shape[3:], ignore=ignore, coding=coding),
            )


Answer = Callable[[int, int], np.ndarray]
"""(t, z) to the (y, x) label map of that plane."""


def _score(case: Case, header: Header, coding: Coding, ignore: int | None, answer: Answer) -> list[ImageScore]:
    """The scores of one image; a volume is scored plane by plane and averaged over its planes."""
    planes = [
        score_image(case.record.name, answer(t, z), truth.labels, _values(header), unknown=truth.unknown)
        for t, z, truth in truth_planes(case, header, coding, ignore)
    ]
    return [planes[0] if len(planes) == 1 else _mean(planes)]


def _mean(planes: list[ImageScore]) -> ImageScore:
    classes: dict[str, dict[str, float | None]] = {}
    for name, metrics in planes[0].classes.items():
        classes[name] = {}
        for metric in metrics:
            known = [value for plane in planes if (value := plane.classes[name][metric]) is not None]
            classes[name][metric] = float(np.mean(known)) if known else None
    return ImageScore(planes[0].image, classes)


def _predicted(case: Case) -> Answer:
    def answer(t: int, z: int) -> np.ndarray:
        with open_image(case.prediction) as source:
            labels: np.ndarray = read_plane(source, t, z)[0]
        return labels

    return answer


def _answered(baseline: Baseline, case: Case) -> Answer:
    def answer(t: int, z: int) -> np.ndarray:
        with open_image(case.record.path) as source:
            return baseline.predict(np.moveaxis(read_plane(source, t, z), 0, -1), case.record.name).labels

    return answer


def _baselines(bench: Workbench, header: Header, tested: Sequence[Case], watch: Watch) -> list[Baseline]:
    """Majority, chance, and scikit-image's features with a forest, taught by the strokes of the model's images."""
    hashes = {item.content_hash for item in header.taught}
    pictures, labels = _lessons(bench, header, [r for r in bench.collection.all() if r.content_hash in hashes])
    if not labels or not tested:
        return []
    try:
        found = [majority(labels), random(labels)]
    except NothingLabelled:
        return []
    sizes = [picture.shape[0] * picture.shape[1] for picture in pictures]
    sizes += [case.record.shape[3] * case.record.shape[4] for case in tested]
    if max(sizes) > FOREST_PIXELS:
        watch(f"The forest baseline is left out: an image has {max(sizes)} pixels, more than {FOREST_PIXELS}.")
        return found
    watch("Fitting the baseline: multiscale features and a random forest.")
    return [*found, forest(pictures, labels, classes=list(_values(header).values()))]


def _lessons(bench: Workbench, header: Header, records: list[ImageRecord]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The marked planes of images, (y, x, c), and their labels (y, x) by written value, 0 unknown."""
    places = {spec.id: place for place, spec in enumerate(header.classes)}
    values = np.array([spec.value for spec in header.classes])
    pictures, labels = [], []
    for record in records:
        marks = collect_marks(bench.labels, [record], places)
        for t, z in np.unique(marks["place"][:, :2], axis=0):
            here = (marks["place"][:, :2] == (t, z)).all(axis=1)
            plane = np.zeros(record.shape[3:], np.int64)
            plane[tuple(marks["place"][here, 2:].T)] = values[marks["klass"][here]]
            with open_image(record.path) as source:
                pictures.append(np.moveaxis(read_plane(source, int(t), int(z)), 0, -1))
            labels.append(plane)
    return pictures, labels


def _watched(events: Iterator[Event], watch: Watch) -> None:
    for event in events:
        if event.phase == "image":
            watch(f"Predicted {event.step}/{event.total} {event.message}")


def _report_path(bench: Workbench, header: Header, name: str) -> Path:
    """Beside the run that made the model, where it is one of the project's."""
    runs = {run.id: run.folder for run in bench.runs()}
    folder = runs.get(str(header.details.get("run", "")))
    return (folder or _predictions(bench, name) / HIDDEN) / "report.html"


def _predictions(bench: Workbench, name: str) -> Path:
    return bench.project.predictions / (Path(name).resolve().name or "model")


def _write(bench: Workbench, result: Evaluation) -> None:
    from fieldmark.report.page import write_page
    from fieldmark.workbench.reporting import evaluation_page

    write_page(result.report, evaluation_page(bench, result))
    write_atomic(result.report.with_suffix(".json"), json.dumps(result.to_json(), indent=2).encode())


def _some(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")
