"""Assemble reports: what was learned from what, pictures side by side, numbers with baselines, kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark import __version__
from fieldmark.checkpoint import Header, load
from fieldmark.core.colors import class_color
from fieldmark.errors import BadInput
from fieldmark.images import open_image
from fieldmark.recipes.layers import layer_name
from fieldmark.report.blocks import (
    Block,
    Cell,
    Chart,
    Figure,
    Gallery,
    Legend,
    Measured,
    Page,
    Section,
    Series,
    Table,
    Text,
)
from fieldmark.report.pictures import filter_picture, overlay
from fieldmark.workbench.cases import read_plane, truth_planes
from fieldmark.workbench.evaluating_classes import taught_by
from fieldmark.workbench.evaluating_pictures import object_figures, picture_figure, shown_image, value_figures
from fieldmark.workbench.fitting import collect_marks
from fieldmark.workbench.predicting import model_folder
from fieldmark.workbench.runs import job_of, read_history

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fieldmark.collection import ImageRecord
    from fieldmark.workbench.bench import Workbench
    from fieldmark.workbench.cases import Case, Evaluation, Scored
    from fieldmark.workbench.evaluating_numbers import NumbersScored

PARTS = {"train": "Learned from", "validation": "Chose the epoch by", "test": "Held out for a test"}
FROM = {
    "marks": " The table counts the strokes as they are now.",
    "labels": " It learned from label maps.",
    "image": " It learned from images.",
}
"""What a fit learned from, by the kind of its targets."""
MOST_PICTURES = 12
MOST_KERNELS = 48
MOST_CURVES = 8
MOST_ROWS = 200
KERNEL_SIDE = 48
"""Pictures of kernels have about this many pixels a side."""


def evaluation_page(bench: Workbench, result: Evaluation) -> Page:
    """The whole report of one evaluation."""
    return Page(
        title=f"{result.model}: what it learned and how well it does",
        subtitle=f"Project {bench.project.name}",
        sections=evaluation_sections(bench, result),
        footer=f"Written by Fieldmark {result.header.code_version}.",
    )


def evaluation_sections(bench: Workbench, result: Evaluation, prefix: str = "") -> tuple[Section, ...]:
    """Sections on one model, their titles beginning with `prefix`."""
    found = [
        Section(f"{prefix}What was learned from what", _lessons(bench, result.header)),
        Section(f"{prefix}How well it does", _scores(result)),
        Section(f"{prefix}Side by side", _pictures(bench, result)),
        Section(f"{prefix}What it looks for", _kernels(bench, result)),
        Section(f"{prefix}How the fit went", _history(bench, result.header)),
    ]
    return tuple(section for section in found if section.blocks)


def _lessons(bench: Workbench, header: Header) -> tuple[Block, ...]:
    kind = taught_by(job_of(bench.project, header)).kind
    of = f"{len(header.taught)} of {len(bench.collection.all())} images"
    text = f"A model of the family {header.family}, taught by {of}."
    blocks: list[Block] = [Text(text + FROM.get(kind, "")), *(Text(part) for part in _parts(header))]
    if kind == "marks":
        blocks.append(Table(("image", "class", "strokes", "pixels"), _strokes_now(bench, header)))
    return tuple(blocks)


def _strokes_now(bench: Workbench, header: Header) -> tuple[tuple[Cell, ...], ...]:
    """A row for each class of each image that taught."""
    hashes = {item.content_hash for item in header.taught}
    names = {spec.id: spec.name for spec in header.classes}
    rows: list[tuple[Cell, ...]] = []
    for record in bench.collection.all():
        if record.content_hash not in hashes:
            continue
        strokes = [stroke for stroke in bench.labels.strokes(record.id) if stroke.class_id in names]
        for klass, name in names.items():
            own = [stroke.pixels for stroke in strokes if stroke.class_id == klass]
            rows.append((record.name, name, len(own), sum(own)))
    return tuple(rows)


def _parts(header: Header) -> Iterator[str]:
    """A sentence for each part that the images, or their planes, were given in the fit."""
    split = header.details.get("split") or {}
    for part, said in PARTS.items():
        planes = split.get("planes", {}).get(part)
        places = ", ".join(map(str, planes or ()))
        if split.get("along") and planes:
            yield f"{said}: {split['along']} {places} of each image."
        elif not split.get("along") and split.get(part):
            yield f"{said}: {', '.join(split[part])}."


def numbers_page(result: NumbersScored, bench: Workbench | None = None) -> Page:
    """The report on numbers of whole images; without a project, of a table alone."""
    sections = [Section("How well it does", _scores(result)), Section("Image by image", _said_and_right(result))]
    if bench is not None and result.header is not None:
        text = f"A model of the family {result.header.family}, taught by {len(result.header.taught)} images."
        sections = [
            Section("What was learned from what", (Text(text),)),
            *sections,
            Section("How the fit went", _history(bench, result.header)),
        ]
    return Page(
        title=f"{result.model}: how well its numbers do",
        subtitle=f"Project {bench.project.name}" if bench is not None else "",
        sections=tuple(section for section in sections if section.blocks),
        footer=f"Written by Fieldmark {__version__}.",
    )


def _said_and_right(result: NumbersScored) -> tuple[Block, ...]:
    """A curve of each number over the true one, and a table of images that taught nothing."""
    tested = [one for one in result.images if not one.taught]
    blocks: list[Block] = []
    for place, name in enumerate(result.names[:MOST_CURVES]):
        pairs = sorted((float(one.right[place]), float(one.said[place])) for one in tested)
        known = tuple(pair for pair in pairs if np.isfinite(pair).all())
        if known:
            right = tuple((true, true) for true, _ in known)
            blocks.append(Chart((Series("predicted", known), Series("right", right)), f"true {name}", name, name))
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (one.image, *(_cell(n) for pair in zip(one.said, one.right, strict=True) for n in pair))
        for one in tested[:MOST_ROWS]
    )
    note = f"{len(tested) - MOST_ROWS} more images stand in the table beside." if len(tested) > MOST_ROWS else ""
    columns = ("image", *(name for own in result.names for name in (own, f"true {own}")))
    return (*blocks, Table(columns, rows, note=note)) if rows else ()


def _cell(value: float) -> Cell:
    return None if np.isnan(value) else float(value)


def _scores(result: Scored) -> tuple[Block, ...]:
    summary = result.summary
    methods = {result.model: summary[result.rows], **summary["baselines"]}
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (f"{method}: {klass}", *(_measured(values, metric) for metric in result.metrics))
        for method, classes in methods.items()
        for klass, values in classes.items()
    )
    note = f"Means over {summary['images']} images that taught nothing"
    note += "; 95 % bootstrap intervals over images." if summary["images"] >= 5 else " (too few for intervals)."
    blocks: list[Block] = [Table((f"method and {result.row_word}", *result.metrics), rows, note=note)]
    if summary["taught"]:
        blocks.append(Text(f"Taught the model, so not counted: {', '.join(summary['taught'])}."))
    if summary["without_truth"]:
        blocks.append(Text(f"Without truth: {', '.join(summary['without_truth'])}."))
    return (*blocks, *(Text(note) for note in summary["notes"]))


def _measured(values: dict[str, Any], metric: str) -> Measured:
    low, high = values[f"{metric}_interval"] or (None, None)
    return Measured(values[metric], low, high)


def _pictures(bench: Workbench, result: Evaluation) -> tuple[Block, ...]:
    shown = sorted(result.cases, key=lambda case: case.taught)[:MOST_PICTURES]
    figures = tuple(figure for case in shown for figure in _row(bench, result, case))
    more = len(result.cases) - len(shown)
    seen = "the image" if result.kind == "images" else "the image, its strokes"
    text = f"Each row: {seen}, the prediction, the reference." + (f" {more} more images are not shown." if more else "")
    if result.kind != "classes":
        return Text(text), Gallery(figures, columns=3 if result.kind == "images" else 4)
    legend = Legend(tuple((spec.name, class_color(n)) for n, spec in enumerate(result.header.classes)))
    return Text(text), legend, Gallery(figures, columns=4)


def _row(bench: Workbench, result: Evaluation, case: Case) -> tuple[Figure, ...]:
    kind = "taught the model" if case.taught else "taught nothing"
    if result.kind == "images":
        return value_figures(case, kind)
    image, step = shown_image(case.record, case.first)
    colors = {spec.value: class_color(place) for place, spec in enumerate(result.header.classes)}
    strokes = _stroke_map(bench, result.header, case.record, case.first)[::step, ::step]
    said, right = (
        object_figures(case, image, step, result.objects)
        if result.objects is not None
        else _maps(result, case, image, step)
    )
    return (
        picture_figure(image, f"{case.record.name} ({kind})"),
        picture_figure(
            overlay(image, strokes, colors, alpha=1.0, outline=False), "strokes" if strokes.any() else "no strokes"
        ),
        said,
        right,
    )


def _maps(result: Evaluation, case: Case, image: np.ndarray, step: int) -> tuple[Figure, Figure]:
    """The predicted classes and the right ones over a picture of the first plane."""
    if result.coding is None:
        raise BadInput(f"{case.truth.name}: nothing says how its values are read. Evaluate the classes anew.")
    colors = {spec.value: class_color(place) for place, spec in enumerate(result.header.classes)}
    t, z, truth = next(truth_planes(case, result.header, result.coding, result.coding.ignore))
    with open_image(case.prediction) as source:
        predicted = read_plane(source, t, z)[0][::step, ::step]
    right = np.where(truth.unknown, -1, truth.labels)[::step, ::step]
    return (
        picture_figure(overlay(image, predicted, colors), "prediction"),
        picture_figure(overlay(image, right, colors), "reference"),
    )


def _stroke_map(bench: Workbench, header: Header, record: ImageRecord, plane: tuple[int, int] = (0, 0)) -> np.ndarray:
    marks = collect_marks(bench.labels, [record], {spec.id: place for place, spec in enumerate(header.classes)})
    values = np.array([spec.value for spec in header.classes])
    painted = np.zeros(record.shape[3:], np.int64)
    here = (marks["place"][:, :2] == plane).all(axis=1)
    painted[tuple(marks["place"][here, 2:].T)] = values[marks["klass"][here]]
    return painted


def _kernels(bench: Workbench, result: Evaluation) -> tuple[Block, ...]:
    """The kernels of every layer, each with the patch and the stroke that it came from."""
    kernels = result.header.details.get("kernels", [])
    if not kernels:
        return ()
    _, weights = load(model_folder(bench, result.model))
    text = (
        "The kernels of every layer. Each was learned from the patches under one stroke; its caption names the "
        "stroke's class, the image, and the pixel of the nearest real patch. Kernels of three channels are in color, "
        "with middle gray for zero; of others each channel is a panel, blue negative, red positive. What each filter "
        f"answers, and what it is for: fieldmark flim inspect {result.model}."
    )
    blocks: list[Block] = [Text(text)]
    for item in kernels:
        weight = weights[item["weight"]]
        more = f", of which {MOST_KERNELS} are shown" if len(weight) > MOST_KERNELS else ""
        blocks += [
            Text(f"{layer_name(item['weight'].removesuffix('.weight'))}: {len(weight)} kernels{more}."),
            _kernel_gallery(bench, result.header, item, weight),
        ]
    return tuple(blocks)


def _kernel_gallery(bench: Workbench, header: Header, item: dict[str, Any], weight: np.ndarray) -> Gallery:
    classes = {spec.id: spec.name for spec in header.classes}
    strokes = {stroke.id: stroke for stroke in bench.labels.strokes()}
    figures = []
    for kernel, stroke_id, place in list(zip(weight, item["stroke"], item["place"], strict=True))[:MOST_KERNELS]:
        stroke = strokes.get(stroke_id)
        said = classes.get(stroke.class_id or 0, "a deleted class") if stroke else "a stroke that is gone"
        index, _, _, y, x = place
        figures.append(
            picture_figure(
                filter_picture(kernel, KERNEL_SIDE), f"{said}: {header.details['images'][index]} at x {x}, y {y}"
            )
        )
    return Gallery(tuple(figures), columns=8)


def _history(bench: Workbench, header: Header) -> tuple[Block, ...]:
    """Curves of the loss, and of that of the images that validate."""
    history = list(read_history(bench.project.runs / str(header.details.get("run", ""))))
    curves = tuple(
        Series(shown, tuple((float(row["step"]), float(row["value"])) for row in history if row["metric"] == metric))
        for metric, shown in (("loss", "loss"), ("val_loss", "validation"))
    )
    drawn = tuple(curve for curve in curves if curve.points)
    return (Chart(drawn, "step", "loss", "The loss at the end of each epoch."),) if drawn else ()
