"""Score a model against what is right: only images that taught it nothing count, and a baseline stands beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from fieldmark.checkpoint import Header, header_of
from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.errors import BadInput, some
from fieldmark.evaluate import instances, summary
from fieldmark.evaluate.orientations import write_rows
from fieldmark.evaluate.summary import summarize
from fieldmark.evaluate.truth import Coding
from fieldmark.recipes import PredictRecipe
from fieldmark.recipes.evaluate import EvaluateRecipe, Orientation
from fieldmark.workbench.cases import (
    NOTHING_LEFT,
    Asked,
    Case,
    Evaluation,
    Found,
    Kind,
    Scored,
    Watch,
    paired,
    predictions_of,
    report_of,
)
from fieldmark.workbench.evaluating_classes import (
    answered,
    class_baselines,
    class_lessons,
    read_coding,
    score_classes,
)
from fieldmark.workbench.evaluating_images import ImageJudge, Judged, image_baselines, require_channels, teaching_cases
from fieldmark.workbench.evaluating_objects import ObjectJudge, object_class
from fieldmark.workbench.legends import refuse_classes
from fieldmark.workbench.originals import refuse_inside, refuse_originals
from fieldmark.workbench.predicting import (
    model_folder,
    output_of,
    predict,
    stem_of,
)

if TYPE_CHECKING:
    from fieldmark.collection import ImageRecord
    from fieldmark.workbench.bench import Workbench

__all__ = ["Case", "Evaluation", "evaluate"]


@dataclass(frozen=True, slots=True)
class _Task:
    """One evaluation under way."""

    bench: Workbench
    name: str
    header: Header
    recipe: EvaluateRecipe
    cases: tuple[Case, ...]
    without_truth: tuple[str, ...]
    notes: tuple[str, ...]
    truth: Path | None
    report: Path
    watch: Watch

    @property
    def tested(self) -> list[Case]:
        """Those that taught nothing."""
        return [case for case in self.cases if not case.taught]

    def summary(self, scores: Sequence[Any], **more: Any) -> dict[str, Any]:
        notes = [*more.pop("notes", []), *self.notes]
        return summarize(
            scores,
            taught=[case.record.name for case in self.cases if case.taught],
            without_truth=self.without_truth,
            notes=notes,
            **more,
        )


def evaluate(bench: Workbench, name: str, asked: Asked) -> Scored:
    """Predict the images that have truth, compare, and write a report.

    Strokes are not carried through space here, nor do pixels that somebody drew on keep their class: a score is about
    what the model learned.

    Args:
        bench: The project.
        name: A model of the project, or a model folder.
        asked: What is right, and what is measured.
    """
    if output_of(header_of(model_folder(bench, name)), name) == "numbers":
        from fieldmark.workbench.evaluating_numbers import evaluate_numbers

        return evaluate_numbers(bench, name, asked)
    return evaluate_maps(bench, name, asked)


def evaluate_maps(bench: Workbench, name: str, asked: Asked) -> Evaluation:
    """The same for a model that answers pixels."""
    header, recipe = header_of(model_folder(bench, name)), asked.recipe
    kind = _kind(header, name, recipe)
    found, notes = _pairs(bench, kind, asked.truth, recipe)
    pairs = [(record, right) for record, right in found.pairs if not asked.only or record.name in asked.only]
    if kind == "objects":
        refuse_classes(asked.truth)
    masks = _masks(bench, kind, asked.mask, [record for record, _ in pairs])
    out, made = predictions_of(bench, name), asked.made
    if asked.report is not None:
        refuse_originals(bench, [asked.report.parent], "--report")
        refuse_inside(asked.report, [folder for folder in (asked.truth, asked.mask) if folder is not None])
    if made is None:
        records = [record for record, _ in pairs]
        how = _how(kind, header, recipe)
        _watched(predict(bench, name, records, out, "ome-zarr", how, drawn=False), asked.watch)
        made = {record.name: out / f"{stem_of(record.name)}.ome.zarr" for record in records}
    taught = {item.content_hash for item in header.taught}
    cases = tuple(
        Case(
            record,
            right,
            made[record.name],
            record.content_hash in taught,
            masks.get(record.id),
            found.planes.get(record.name, {}),
        )
        for record, right in pairs
    )
    if all(case.taught for case in cases):
        notes = (*notes, NOTHING_LEFT.format(len(cases), name))
    place = asked.report or report_of(bench, header, name)
    alone = tuple(record.name for record in found.without)
    task = _Task(bench, name, header, recipe, cases, alone, notes, asked.truth, place, asked.watch)
    earlier = _tables_of(place)
    result = {"classes": _classes, "objects": _objects, "images": _images}[kind](task)
    _write(bench, result)
    for table in earlier - _tables_of(place):
        table.unlink(missing_ok=True)  # beside a report of other numbers it would be taken for a part of it
    return result


def evaluate_typed(
    project: Path, model: str, truth: Path | None, *, allow: tuple[str, ...] = (), **options: Any
) -> Scored:
    """Score what was typed as a model: one of a project, a model folder, or a table of answers, without a project."""
    from fieldmark.workbench.bench import Workbench
    from fieldmark.workbench.evaluating_numbers import evaluate_answers, is_answers

    asked = Asked(truth=truth, **options)
    if is_answers(model):
        return evaluate_answers(Path(model), asked)
    with Workbench.open(project) as bench:
        bench.allow = allow
        return evaluate(bench, model, asked)


def _kind(header: Header, name: str, recipe: EvaluateRecipe) -> Kind:
    """What a model's answer is scored as."""
    output = output_of(header, name)
    if output not in ("classes", "image"):
        raise BadInput(f"Model {name!r} answers whole images and draws no masks. Mark pixels and fit it with a head.")
    if output == "image" and recipe.instances:
        raise BadInput(f"Model {name!r} makes images, which hold no objects. Leave --instances away.")
    if output == "image":
        return "images"
    return "objects" if recipe.instances else "classes"


def _pairs(bench: Workbench, kind: Kind, truth: Path | None, recipe: EvaluateRecipe) -> tuple[Found, tuple[str, ...]]:
    """Images with and without truth, and what there is to say of it."""
    if truth is not None:
        what = "true images" if kind == "images" else "reference masks"
        found = paired(bench, truth, what, by_plane=kind != "images")
        return found, (f"Masks without an image: {', '.join(found.unused)}.",) if found.unused else ()
    if kind != "images" or not recipe.target_channels:
        raise BadInput(
            "Nothing says what is right. Name a folder with --truth, or, for a model that makes images, the channels "
            "of the project's own images with --target-channels."
        )
    return Found([(record, record.path) for record in bench.collection.all()]), ()


def _masks(bench: Workbench, kind: Kind, folder: Path | None, records: Sequence[ImageRecord]) -> dict[int, Path]:
    """Image id to its mask."""
    if folder is None:
        return {}
    if kind != "images":
        raise BadInput("--mask is for models that make images; name the value that means unknown with --ignore.")
    found = {record.id: path for record, path in paired(bench, folder, "masks").pairs}
    if missing := [record.name for record in records if record.id not in found]:
        raise BadInput(f"{folder} holds no mask for {some(missing, 3)}. Give one for each image that has truth.")
    return found


def _how(kind: Kind, header: Header, recipe: EvaluateRecipe) -> PredictRecipe:
    if kind != "objects":
        return PredictRecipe(propagate="none")
    klass = object_class(header, recipe.class_name)
    return PredictRecipe(
        propagate="none",
        instances=klass,
        split=recipe.split,
        split_distance=recipe.split_distance,
        min_area=recipe.min_area,
    )


def _classes(task: _Task) -> Evaluation:
    coding = read_coding(task.cases, task.header, task.recipe.ignore, task.truth)
    task.watch(f"Scoring {len(task.tested)} images that taught nothing.")
    lessons = class_lessons(task.bench, task.header, task.cases, coding)
    baselines = {
        one.name: [score_classes(case, task.header, coding, answered(one, case, task.header)) for case in task.tested]
        for one in class_baselines(task.header, lessons, task.tested, task.watch)
    }
    scores = [score_classes(case, task.header, coding) for case in task.tested]
    found = task.summary(scores, baselines=baselines, notes=[coding.note] if coding.note else [])
    return _result(task, found, "classes", summary.METRICS, coding)


def _objects(task: _Task) -> Evaluation:
    judge = ObjectJudge.of(task.header, task.recipe, task.cases)
    task.watch(f"Scoring objects of {len(task.tested)} images that taught nothing.")
    coding = Coding({}, "", task.recipe.ignore) if judge.reading == "classes" else None
    lessons = class_lessons(task.bench, task.header, task.cases, coding)
    baselines = {
        one.name: [judge.score_map(case, answered(one, case, task.header)) for case in task.tested]
        for one in class_baselines(task.header, lessons, task.tested, task.watch)
    }
    scores = [judge.score(case) for case in task.tested]
    found = task.summary(scores, baselines=baselines, notes=judge.notes(), metrics=instances.METRICS)
    return _result(task, found, "objects", instances.METRICS, objects=judge.objects)


def _images(task: _Task) -> Evaluation:
    for case in task.cases:
        require_channels(case, task.recipe.target_channels)
    judge = ImageJudge.of(task.header, task.recipe, task.cases)
    task.watch(f"Scoring {len(task.tested)} images that taught nothing.")
    judged = judge.judge(task.tested)
    taught = teaching_cases(task.bench, task.header, task.cases)
    baselines, note = image_baselines(judge, taught, task.tested, task.watch)
    found = _by_orientation(task, judge, judged, baselines, [*judge.notes(task.tested), *([note] if note else [])])
    for orientation, rows in judged.rows.items():
        write_rows(_table_of(task.report, orientation), rows)
    return _result(task, found, "images", judge.metrics)


def _by_orientation(
    task: _Task, judge: ImageJudge, judged: Judged, baselines: dict[str, Judged], notes: list[str]
) -> dict[str, Any]:
    """The summary of the first orientation, and below `orientations` that of each."""
    each = {}
    for orientation, scores in judged.scores.items():
        beside = {method: other.scores[orientation] for method, other in baselines.items()}
        found = task.summary(scores, baselines=beside, notes=notes, metrics=judge.metrics)
        each[orientation] = found | {"channels": found.pop("classes")}
    first = next(iter(each.values()))
    kept = {name: {key: one[key] for key in ("channels", "baselines")} for name, one in each.items()}
    return first | {"orientation": next(iter(each)), "orientations": kept}


def _result(
    task: _Task, found: dict[str, Any], kind: Kind, metrics: tuple[str, ...], coding: Any = None, objects: Any = None
) -> Evaluation:
    return Evaluation(
        model=task.name,
        summary=found,
        report=task.report,
        kind=kind,
        metrics=metrics,
        header=task.header,
        cases=task.cases,
        coding=coding,
        objects=objects,
    )


def _watched(events: Iterator[Event], watch: Watch) -> None:
    for event in events:
        if event.phase == "image":
            watch(f"Predicted {event.step}/{event.total} {event.message}")


def _table_of(report: Path, orientation: str) -> Path:
    return report.parent / f"metrics_{orientation}.csv"


def _tables_of(report: Path) -> set[Path]:
    """The tables that the report which lies there names; none where it names none."""
    try:
        said = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is none, or it is no report of ours
        return set()
    named = said.get("orientations") if isinstance(said, dict) else None
    return {_table_of(report, name) for name in get_args(Orientation) if name in named} if named else set()


def _write(bench: Workbench, result: Evaluation) -> None:
    from fieldmark.report.page import write_page
    from fieldmark.workbench.reporting import evaluation_page

    write_page(result.report, evaluation_page(bench, result))
    write_atomic(result.report.with_suffix(".json"), json.dumps(result.to_json(), indent=2).encode())
