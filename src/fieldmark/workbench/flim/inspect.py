"""`inspect`: where each filter of a model came from and what it is for, as a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.checkpoint import Header, header_of, read_bundle
from fieldmark.checkpoint.bundle import read_json
from fieldmark.core.colors import RGB, class_color
from fieldmark.core.events import Event
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.images import encode_png, open_image
from fieldmark.report.blocks import Block, Cell, Figure, Gallery, Legend, Page, Section, Table, Text
from fieldmark.report.page import write_page
from fieldmark.report.pictures import displayable, enlarged, filter_picture, side_by_side
from fieldmark.workbench.bench import Workbench
from fieldmark.workbench.fitting import MARKS
from fieldmark.workbench.flim.models import Found
from fieldmark.workbench.jobs import run_job
from fieldmark.workbench.originals import refuse_originals
from fieldmark.workbench.runs import JOB

RESULT = "inspect.json"
PAGE = "inspect.html"
SIDE = 128
"""Pictures on the page have about this many pixels a side."""
MOST_FILTERS = 64
"""A page shows pictures of so many filters of a layer; its table has all of them."""


def inspect_model(found: Found, out: Path) -> Iterator[Event]:
    """Write `out/inspect.html`, and the numbers beside it.

    Args:
        found: The model and the run that taught it.
        out: A folder; an earlier inspection in it is replaced.

    Raises:
        BadInput: The model has no filters from markers.
    """
    header = header_of(found.model)
    if not header.details.get("kernels"):
        raise BadInput(f"Model {found.name!r} (family {header.family}) has no filters that came from markers.")
    fit = read_json(found.run / JOB)
    folder = out.resolve()
    job = {"kind": "inspect", "model": str(found.model), "fit": fit | {"folder": str(found.run)}, "out": str(folder)}
    yield from run_job(job, folder / ".fieldmark" / "inspect-job.json", threads=int(fit["recipe"].get("threads", 0)))
    values, tensors = read_bundle(folder, RESULT)
    write_page(folder / PAGE, _page(found, header, _Inspection(fit, _marks(found), values, tensors)))


def place_for(found: Found, out: Path | None) -> Path:
    """Where an inspection is written: where the user says, or into the run's folder.

    Raises BadInput for a folder that holds images of the project: originals are only read.
    """
    if out is None:
        return found.run / "inspect"
    with Workbench.open(found.project.folder) as bench:
        refuse_originals(bench, [out])
    return out


def _marks(found: Found) -> dict[str, np.ndarray]:
    return read_bundle(found.run, MARKS)[1]


@dataclass(frozen=True, slots=True)
class _Inspection:
    """What the page is made from: the fit's job and marks, and what the worker found."""

    fit: dict[str, Any]
    marks: dict[str, np.ndarray]
    values: dict[str, Any]
    tensors: dict[str, np.ndarray]

    @property
    def classes(self) -> list[str]:
        return [item["name"] for item in self.fit["classes"]]

    def tensor(self, layer: int, name: str) -> np.ndarray:
        return self.tensors[f"{layer}.{name}"]

    def class_of(self, stroke: int) -> int:
        """The place of the class that a stroke has."""
        return int(self.marks["klass"][np.argmax(self.marks["stroke"] == stroke)])


def _page(found: Found, header: Header, inspection: _Inspection) -> Page:
    layers = inspection.values["layers"]
    sections = [Section(one["name"], _layer_blocks(inspection, number)) for number, one in enumerate(layers)]
    return Page(
        title=f"{found.name}: its filters",
        subtitle=f"Family {header.family}, taught by {len(header.taught)} images",
        sections=(Section("How to read this", _legend(found, inspection)), *sections),
        footer=f"Written by Fieldmark {header.code_version}.",
    )


def _legend(found: Found, inspection: _Inspection) -> tuple[Block, ...]:
    pictures = (
        "Each picture shows three things: the filter's kernel; the image that it came from, with the pixels of its "
        "stroke and a square around its pixel; and how strongly the filter answers on that image, dark to bright. A "
        "kernel of three channels is in color with middle gray for zero; of others, each channel is a panel, blue "
        "negative and red positive. Images larger than 512 pixels are shown by the part around the pixel."
    )
    numbers = (
        "Contrast says how much stronger a filter answers under the strokes of a class than under all others (-1 to 1, "
        "each stroke with the same voice). Use says how much probability the right class loses under its strokes when "
        "the head is denied the filter (in -1 to 1); it is missing where the head does not see the layer itself, or "
        "judges the image as a whole. Both are measured on the strokes that taught the model: they explain it, and "
        "are no score."
    )
    drop = (
        f"A filter that is of no use is dropped with: fieldmark flim inspect {found.name} --drop LAYER:NUMBER. "
        "What comes after it is learned anew, as a new model."
    )
    colors = tuple((name, class_color(place)) for place, name in enumerate(inspection.classes))
    return Text(pictures), Text(numbers), Text(drop), Legend(colors)


def _layer_blocks(inspection: _Inspection, layer: int) -> tuple[Block, ...]:
    weight = inspection.tensor(layer, "weight")
    size = " x ".join(map(str, weight.shape[2:]))
    shown = range(min(len(weight), MOST_FILTERS))
    text = f"{len(weight)} filters of {size} over {weight.shape[1]} channels."
    if len(weight) > MOST_FILTERS:
        text += f" The first {MOST_FILTERS} are shown, the table has all."
    pictures = _Pictures(inspection)
    figures = tuple(pictures.figure(layer, number) for number in shown)
    return Text(text), Gallery(figures, columns=3), _table(inspection, layer)


def _table(inspection: _Inspection, layer: int) -> Table:
    classes = inspection.classes
    use = f"{layer}.use" in inspection.tensors
    columns = ("filter", "class", "image", "x", "y", *(f"contrast: {name}" for name in classes))
    columns += tuple(f"use: {name}" for name in classes) if use else ()
    rows = []
    for number in range(len(inspection.tensor(layer, "weight"))):
        said, image, x, y = _origin(inspection, layer, number)
        numbers = _cells(inspection.tensor(layer, "contrast")[number])
        numbers += _cells(inspection.tensor(layer, "use")[number]) if use else ()
        rows.append((f"{inspection.values['layers'][layer]['name']}:{number}", said, image, x, y, *numbers))
    return Table(columns, tuple(rows))


def _cells(values: np.ndarray) -> tuple[Cell, ...]:
    return tuple(round(float(value), 3) + 0.0 if np.isfinite(value) else None for value in values)


def _origin(inspection: _Inspection, layer: int, number: int) -> tuple[str, str, int, int]:
    """Class, image, x and y of a filter's pixel."""
    index, _, _, y, x = inspection.tensor(layer, "place")[number].tolist()
    klass = inspection.class_of(int(inspection.tensor(layer, "stroke")[number]))
    return inspection.classes[klass], inspection.fit["images"][index]["name"], x, y


class _Pictures:
    """The pictures of filters; each part of an image is read once."""

    def __init__(self, inspection: _Inspection) -> None:
        self.inspection = inspection
        self.part = lru_cache(maxsize=8)(self._part)

    def figure(self, layer: int, number: int) -> Figure:
        inspection = self.inspection
        name = f"{inspection.values['layers'][layer]['name']}:{number}"
        said, image, x, y = _origin(inspection, layer, number)
        contrast = inspection.tensor(layer, "contrast")[number]
        told = ", ".join(
            f"{klass} {value:+.2f}" for klass, value in zip(inspection.classes, contrast, strict=True) if value == value
        )
        source, answers = self._source(layer, number), _answers(inspection.tensor(layer, f"picture.{number}"))
        panels = [_at_least(source), _at_least(answers)]
        panels.insert(0, filter_picture(inspection.tensor(layer, "weight")[number], len(panels[0])))
        caption = f"{name} from {said}: {image} at x {x}, y {y}. Contrast: {told or 'not known'}"
        return Figure(encode_png(side_by_side(panels)), caption)

    def _source(self, layer: int, number: int) -> np.ndarray:
        """The part of the image around the pixel, with the stroke and a square."""
        inspection = self.inspection
        index, t, z, y, x = inspection.tensor(layer, "place")[number].tolist()
        stroke = int(inspection.tensor(layer, "stroke")[number])
        top, left, bottom, right = inspection.values["layers"][layer]["boxes"][number]
        step = _step(bottom - top, right - left)
        picture = self.part(index, t, z, (top, left, bottom, right)).copy()
        own = inspection.marks["place"][(inspection.marks["stroke"] == stroke) & (inspection.marks["image"] == index)]
        own = own[(own[:, :2] == (t, z)).all(axis=1)][:, 2:] - (top, left)
        own = own[((own >= 0) & (own < (bottom - top, right - left))).all(axis=1)] // step
        color = class_color(inspection.class_of(stroke))
        picture[tuple(own.T)] = color
        return _squared(picture, (y - top) // step, (x - left) // step, color)

    def _part(self, index: int, t: int, z: int, box: tuple[int, int, int, int]) -> np.ndarray:
        """Every `step`-th pixel of a part of a plane: (y, x, 3) uint8."""
        image = self.inspection.fit["images"][index]
        top, left, bottom, right = box
        step = _step(bottom - top, right - left)
        with open_image(Path(image["uri"]), shown=image["name"]) as source:
            channels = source.shape[1]
            block = source.read(Box((t, 0, z, top, left), (t + 1, channels, z + 1, bottom, right)))
        plane = block[0, :, 0, ::step, ::step]
        return displayable(np.moveaxis(plane[:3], 0, -1) if channels >= 3 else plane[0])


def _step(height: int, width: int) -> int:
    return max(1, -(-max(height, width) // SIDE))


def _answers(picture: np.ndarray) -> np.ndarray:
    """(y, x) answers, none negative, from dark to bright: (y, x, 3) uint8."""
    unit = picture / max(float(picture.max(initial=0)), 1e-12)
    return np.repeat((unit * 255).round().astype(np.uint8)[..., None], 3, axis=2)


def _squared(picture: np.ndarray, y: int, x: int, color: RGB, reach: int = 4) -> np.ndarray:
    """A square around a pixel, cut at the borders: white, lined by the color."""
    for size, tint in ((reach + 1, (255, 255, 255)), (reach, color)):
        for at, middle, lines in ((y, x, picture), (x, y, picture.swapaxes(0, 1))):
            for end in (at - size, at + size):
                if 0 <= end < len(lines):
                    lines[end, max(middle - size, 0) : middle + size + 1] = tint
    return picture


def _at_least(picture: np.ndarray) -> np.ndarray:
    """Small pictures as large as the others, pixel by pixel."""
    scale = SIDE // max(picture.shape[:2])
    return enlarged(picture, scale) if scale > 1 else picture
