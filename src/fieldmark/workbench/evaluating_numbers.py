"""Score numbers of whole images against a table of true ones: a model's, or those of a table that `predict` wrote."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.checkpoint import Header, header_of
from fieldmark.collection.importers import read_text
from fieldmark.core.files import write_atomic
from fieldmark.errors import BadFile, BadInput, near_miss, some
from fieldmark.evaluate.numbers import METRICS, require_metrics, score_numbers
from fieldmark.evaluate.regression import LinearFit
from fieldmark.images import open_image
from fieldmark.images.decode import pieces
from fieldmark.recipes.evaluate import EvaluateRecipe
from fieldmark.workbench.answering import answer_images
from fieldmark.workbench.cases import NOTHING_LEFT, Asked, Scored, Watch, predictions_of, report_of
from fieldmark.workbench.numbers import IMAGE, Row, columns_of, numbers_by_image, read_numbers
from fieldmark.workbench.originals import refuse_originals
from fieldmark.workbench.predicting import model_folder
from fieldmark.workbench.runs import job_of

if TYPE_CHECKING:
    from fieldmark.collection import ImageRecord
    from fieldmark.workbench.bench import Workbench

ANSWERS = (".csv", ".json")
"""Suffixes of tables that `predict` writes."""
_FOREIGN = ("ignore", "instances", "class_name", "split", "min_area", "target_channels", "threshold", "orientations")


@dataclass(frozen=True, slots=True)
class ImageNumbers:
    """What was said of one image and what is right; NaN for unknown, (D,) each."""

    image: str
    said: np.ndarray
    right: np.ndarray
    taught: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NumbersScored(Scored):
    """Scores of numbers, with the rows behind them."""

    names: tuple[str, ...]
    images: tuple[ImageNumbers, ...]
    header: Header | None = None
    """Of the model; None where a table was scored."""


def is_answers(model: str) -> bool:
    """Whether what was typed as a model is a table of answers."""
    return Path(model).suffix.lower() in ANSWERS and Path(model).is_file()


def evaluate_answers(file: Path, asked: Asked) -> NumbersScored:
    """Score a table of answers, `answers.csv` or `answers.json`, against a table of what is right; needs no project.

    Raises:
        BadInput: No truth, no image or number in common, or a setting that numbers have no use for.
        BadFile: A table cannot be read.
    """
    _require_fit(asked)
    truth = asked.truth
    if truth is None:
        raise BadInput("Nothing says what is right. Name a table with --truth FILE.csv.")
    names, notes = _shared(_answer_names(file), truth)
    said = _answers(file, names)
    rows = read_numbers(truth, names)
    pairs = numbers_by_image(list(said), rows, truth)
    images = [ImageNumbers(image, _array(said[image]), _array(rows[called])) for image, called in pairs.items()]
    if holes := [one.image for one in images if not np.isfinite(one.said).all()]:
        raise BadInput(
            f"{file} has no number for {some(holes, 3)} in a column of the truth. Predict these images anew."
        )
    note = f"{file.name} does not say which images taught its model: all of the truth's are counted."
    place = asked.report or file.with_name(f"{file.stem}-report.html")
    notes = [note, *notes, *_unused(rows, pairs)]
    facts = {"without_truth": [image for image in said if image not in pairs], "notes": notes}
    found = _scored(images, names, asked, model=file.name, report=place, facts=facts)
    _write(found)
    return found


def evaluate_numbers(bench: Workbench, name: str, asked: Asked) -> NumbersScored:
    """Predict the images of a project that a table has rows of, and compare.

    Without a table it is the one that the model learned from: images that taught nothing have rows there too. Raises
    as `evaluate_answers`.
    """
    _require_fit(asked)
    header, watch = header_of(model_folder(bench, name)), asked.watch
    file, notes = (asked.truth, []) if asked.truth is not None else _own_table(bench, header)
    names, missing = _shared(_names_of(header), file)
    rows = read_numbers(file, names)
    records = {record.name: record for record in bench.collection.all() if not asked.only or record.name in asked.only}
    pairs = numbers_by_image(list(records), rows, file)
    if asked.report is not None:
        refuse_originals(bench, [asked.report.parent], "--report")
    known = [records[image] for image, called in pairs.items() if any(cell is not None for cell in rows[called])]
    target = predictions_of(bench, name) / "answers.csv"
    for event in answer_images(bench, name, known, target):
        watch(f"Predicted {event.step}/{event.total} {event.message}")
    said = read_numbers(target, names)
    taught = {item.content_hash for item in header.taught}
    images = [
        ImageNumbers(one.name, _array(said[one.name]), _array(rows[pairs[one.name]]), one.content_hash in taught)
        for one in known
    ]
    if all(one.taught for one in images):
        notes = [*notes, NOTHING_LEFT.format(len(images), name)]
    facts = {
        "without_truth": [image for image in records if image not in {one.name for one in known}],
        "notes": [*notes, *missing, *_unused(rows, pairs)],
    }
    place, beside = asked.report or report_of(bench, header, name), _baselines(known, images, watch)
    found = _scored(images, names, asked, model=name, report=place, facts=facts, baselines=beside, header=header)
    _write(found, bench)
    return found


def _scored(
    images: Sequence[ImageNumbers],
    names: Sequence[str],
    asked: Asked,
    *,
    model: str,
    report: Path,
    facts: dict[str, list[str]],
    baselines: dict[str, np.ndarray] | None = None,
    header: Header | None = None,
) -> NumbersScored:
    """Scores of the images that taught nothing; `baselines` hold (N, D) guesses for these."""
    tested = [one for one in images if not one.taught]
    said, right = (_stacked([getattr(one, which) for one in tested], len(names)) for which in ("said", "right"))
    metrics = asked.recipe.metrics or METRICS
    beside, notes = baselines or {}, facts["notes"]
    if not beside and tested:
        beside, notes = {"own mean": np.broadcast_to(_means(right), right.shape)}, [*notes, _OWN_MEAN]
    summary: dict[str, Any] = {
        "images": len(tested),
        "taught": sorted(one.image for one in images if one.taught),
        "without_truth": sorted(facts["without_truth"]),
        "notes": notes,
        "numbers": score_numbers(said, right, names, metrics=metrics),
        "baselines": {key: score_numbers(guess, right, names, metrics=metrics) for key, guess in beside.items()},
    }
    return NumbersScored(
        model=model,
        summary=summary,
        report=report,
        kind="numbers",
        metrics=tuple(metrics),
        names=tuple(names),
        images=tuple(images),
        header=header,
    )


_OWN_MEAN = (
    "No image is known that taught the model and has a row in the table, so the baseline `own mean` is the mean of "
    "the truth itself, which no constant can beat."
)


def _write(result: NumbersScored, bench: Workbench | None = None) -> None:
    """The page, its numbers as JSON, and the table of images beside it."""
    from fieldmark.report.page import write_page
    from fieldmark.workbench.reporting import numbers_page

    write_page(result.report, numbers_page(result, bench))
    write_atomic(result.report.with_suffix(".json"), json.dumps(result.to_json(), indent=2).encode())
    write_atomic(result.report.with_name(f"{result.report.stem}-numbers.csv"), _table(result).encode())


def _require_fit(asked: Asked) -> None:
    """Raise BadInput where something was asked that numbers of whole images have no use for."""
    plain, recipe = EvaluateRecipe(), asked.recipe
    require_metrics(recipe.metrics)
    odd = [name for name in _FOREIGN if getattr(recipe, name) != getattr(plain, name)]
    if asked.mask is not None or odd:
        name = odd[0] if odd else "mask"
        raise BadInput(f"{name} belongs to pixels, and what is scored here are numbers of whole images. Leave it away.")


def _names_of(header: Header) -> list[str]:
    names = header.details.get("numbers")
    if not isinstance(names, list) or not names:
        raise BadInput("The model does not say what its numbers are called. Fit it again.")
    return [str(name) for name in names]


def _shared(names: Sequence[str], file: Path) -> tuple[list[str], list[str]]:
    """The numbers that a table has a column for, and a note on those that it lacks. Raises BadInput for none."""
    columns = [column for column in columns_of(file) if column != IMAGE]
    shared = [name for name in names if name in columns]
    if not shared:
        raise BadInput(
            f"{file} has no column {names[0]!r}. {near_miss(names[0], columns)} It was predicted: {some(names, 3)}."
        )
    lacking = [name for name in names if name not in columns]
    return shared, [f"{file.name} has no column {', '.join(lacking)}: not scored."] if lacking else []


def _own_table(bench: Workbench, header: Header) -> tuple[Path, list[str]]:
    told = job_of(bench.project, header).get("recipe", {}).get("data", {}).get("target", {}).get("table")
    if not told or not Path(told).is_file():
        raise BadInput("Nothing says what is right. Name a table with --truth FILE.csv.")
    return Path(told), [f"The truth is {told}, which the model learned from; only images that taught nothing count."]


def _answer_names(file: Path) -> list[str]:
    """What the numbers in a table of answers are called."""
    if file.suffix.lower() == ".csv":
        return [name for name in columns_of(file) if name != IMAGE]
    return list(dict.fromkeys(name for one in _objects(file) for name in one["numbers"]))


def _answers(file: Path, names: Sequence[str]) -> dict[str, Row]:
    """The rows of a table of answers by their image. Raises BadFile."""
    if file.suffix.lower() == ".csv":
        return read_numbers(file, names)
    return {str(one["image"]): tuple(one["numbers"].get(name) for name in names) for one in _objects(file)}


def _objects(file: Path) -> list[dict[str, Any]]:
    """What `answers.json` lists. Raises BadFile."""
    try:
        found = json.loads(read_text(file))
        rows = [(one["image"], {**one["numbers"]}) for one in found]
        sound = all(isinstance(n, int | float) for _, numbers in rows for n in numbers.values())
    except (ValueError, KeyError, TypeError) as error:
        raise BadFile(file, f"is no list of images with numbers, as fieldmark predict writes it ({error}).") from error
    if not sound:
        raise BadFile(file, "holds values that are no numbers. Predict the images anew.")
    return [{"image": image, "numbers": numbers} for image, numbers in rows]


def _unused(rows: dict[str, Any], pairs: dict[str, str]) -> list[str]:
    unused = sorted(set(rows) - set(pairs.values()))
    return [f"Rows without an image: {', '.join(unused)}."] if unused else []


def _baselines(records: Sequence[ImageRecord], images: Sequence[ImageNumbers], watch: Watch) -> dict[str, np.ndarray]:
    """What the mean of the teaching images says of each other image, and a line from its channels' mean and spread."""
    if not any(one.taught for one in images) or all(one.taught for one in images):
        return {}
    watch("Fitting the baselines: the mean of the numbers, and a line from each channel's mean and spread.")
    seen = np.stack([_statistics(record) for record in records])
    right = np.stack([one.right for one in images])
    taught = np.array([one.taught for one in images])
    made: dict[str, list[np.ndarray]] = {"mean": [], "linear": []}
    for own in right.T:
        line = LinearFit(seen.shape[1], 1)
        line.add(seen[taught].T, own[None, taught])
        made["mean"].append(line.predict_mean(seen[~taught].T)[0])
        made["linear"].append(line.predict(seen[~taught].T)[0])
    return {method: np.stack(columns, axis=1) for method, columns in made.items()}


def _statistics(record: ImageRecord) -> np.ndarray:
    """(2 C,) mean and standard deviation of each channel of an image, read in pieces."""
    count, total, square = 0, np.zeros(record.shape[1]), np.zeros(record.shape[1])
    with open_image(record.path, shown=record.name) as source:
        for box in pieces(source):
            values = source.read(box).astype(np.float64)
            channels = slice(box.start[1], box.stop[1])
            total[channels] += values.sum(axis=(0, 2, 3, 4))
            square[channels] += (values**2).sum(axis=(0, 2, 3, 4))
        count = int(np.prod(source.shape)) // source.shape[1]
    mean = total / count
    return np.concatenate([mean, np.sqrt(np.maximum(square / count - mean**2, 0))])


def _array(row: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in row], np.float64)


def _stacked(rows: Sequence[np.ndarray], width: int) -> np.ndarray:
    return np.stack(rows) if rows else np.zeros((0, width))


def _means(right: np.ndarray) -> np.ndarray:
    """(D,) of what is known; 0 where nothing is."""
    known = np.isfinite(right)
    means: np.ndarray = np.where(known, right, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return means


def _table(result: NumbersScored) -> str:
    """A line for each image: what was said and what is right."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([IMAGE, *(name for own in result.names for name in (own, f"{own}_true")), "taught"])
    for one in result.images:
        cells = ("" if np.isnan(n) else f"{n:.7g}" for pair in zip(one.said, one.right, strict=True) for n in pair)
        lines.writerow([one.image, *cells, "yes" if one.taught else "no"])
    return text.getvalue()
