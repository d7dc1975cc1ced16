"""What is scored: images with their truth, the planes of both, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fieldmark.checkpoint import Header
from fieldmark.collection.naming import Planes, pair_folder
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.evaluate.summary import ImageScore
from fieldmark.evaluate.truth import Coding, Truth, label_map, read_truth
from fieldmark.images import open_image
from fieldmark.images.decode import values_in
from fieldmark.recipes.evaluate import EvaluateRecipe
from fieldmark.workbench.predicting import HIDDEN, require_one_plane, require_within
from fieldmark.workbench.runs import run_of

if TYPE_CHECKING:
    from fieldmark.collection import ImageRecord
    from fieldmark.images import ImageSource
    from fieldmark.workbench.bench import Workbench

Watch = Callable[[str], None]
Kind = Literal["classes", "objects", "images", "numbers"]
ROWS: dict[Kind, tuple[str, str]] = {
    "classes": ("classes", "class"),
    "objects": ("classes", "class"),
    "images": ("channels", "channel"),
    "numbers": ("numbers", "number"),
}
"""What the numbers of a summary stand beside, and what one of these is."""


NOTHING_LEFT = (
    "Nothing was scored: all images that have truth ({}) taught {!r}, and what taught a model never scores it. Give "
    "the truth of other images, or fit with the labels of fewer."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be scored, and how.

    Args:
        truth: A folder of reference masks, numbered objects or true images, paired with the images by stem, or a table
            of true numbers; None where channels of the images themselves are what a model of images should answer, or
            the table that a model of numbers learned from has rows of others too.
        recipe: What is measured.
        mask: A folder of masks within which predicted images are compared too.
        report: Where the report goes; beside the model's run where None.
        watch: Called with sentences about the progress.
        only: Names of the images that are looked at; empty for all.
        made: What the model predicted of them, by name, where that is there already; nothing is predicted then.
    """

    truth: Path | None
    recipe: EvaluateRecipe = field(default_factory=EvaluateRecipe)
    mask: Path | None = None
    report: Path | None = None
    watch: Watch = lambda _line: None
    only: frozenset[str] = frozenset()
    made: Mapping[str, Path] | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One image with truth: what was said of it, and what is right."""

    record: ImageRecord
    truth: Path
    prediction: Path
    taught: bool
    mask: Path | None = None
    """Where predicted images are compared; None for everywhere."""
    planes: Planes = field(default_factory=dict)
    """The truth of each plane (t, z), where these have files of their own; of others nothing is known then."""

    @property
    def first(self) -> tuple[int, int]:
        """The first plane (t, z) that has truth."""
        return min(self.planes, default=(0, 0))

    def truth_of(self, t: int, z: int) -> Path:
        """The file that says what is right in a plane."""
        return self.planes.get((t, z), self.truth)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Scores with baselines."""

    model: str
    summary: dict[str, Any]
    report: Path
    kind: Kind = "classes"
    metrics: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        return list(self.summary["notes"])

    @property
    def scored(self) -> bool:
        """Whether any image was."""
        return bool(self.summary["images"])

    @property
    def rows(self) -> str:
        """What the summary's numbers stand beside: classes, channels of images, or numbers."""
        return ROWS[self.kind][0]

    @property
    def row_word(self) -> str:
        """One of these."""
        return ROWS[self.kind][1]

    def to_json(self) -> dict[str, Any]:
        return self.summary | {"model": self.model, "report": str(self.report)}

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows for a terminal."""
        methods = {self.model: self.summary[self.rows], **self.summary["baselines"]}
        rows = [
            [method, name, *("-" if values[m] is None else f"{values[m]:.3f}" for m in self.metrics)]
            for method, named in methods.items()
            for name, values in named.items()
        ]
        return ["method", self.row_word, *self.metrics], rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation(Scored):
    """Scores of what was drawn, and what was looked at."""

    header: Header
    cases: tuple[Case, ...]
    coding: Coding | None = None
    """How masks of classes are read; None where the truth is something else."""
    objects: Callable[[np.ndarray], np.ndarray] | None = None
    """From a file of the truth to numbered objects, where these were scored."""


def report_of(bench: Workbench, header: Header, name: str) -> Path:
    """Where a report goes by itself: beside the run that made the model, where it is one of the project's."""
    return (run_of(bench.project, header) or predictions_of(bench, name) / HIDDEN) / "report.html"


def predictions_of(bench: Workbench, name: str) -> Path:
    """Where what is scored is predicted."""
    return bench.project.predictions / (Path(name).resolve().name or "model")


@dataclass(frozen=True, slots=True)
class Found:
    """Images with what is right, images without, and files without an image."""

    pairs: list[tuple[ImageRecord, Path]]
    without: list[ImageRecord] = field(default_factory=list)
    unused: tuple[str, ...] = ()
    planes: dict[str, Planes] = field(default_factory=dict)
    """Files of planes, by the name of the image."""


def paired(bench: Workbench, truth: Path, what: str = "reference masks", *, by_plane: bool = False) -> Found:
    """Images and their files of a folder.

    Args:
        bench: The project.
        truth: The folder.
        what: What the files are, for errors.
        by_plane: The planes of an image may have files of their own (`NAME_t0_z3.png`).
    """
    records = {record.name: record for record in bench.collection.all()}
    places = {name: record.path for name, record in records.items()}
    pairing = pair_folder(places, truth, what, by_plane=by_plane)
    for image, planes in pairing.planes.items():
        require_within(records[image], planes)
    pairs = [(records[image], file) for image, file in pairing.files.items()]
    without = [record for name, record in records.items() if name not in pairing.files]
    return Found(pairs, without, pairing.unused, pairing.planes)


def values_of(header: Header) -> dict[str, int]:
    """Names of a model's classes and what each is written as."""
    return {spec.name: spec.value for spec in header.classes}


def read_plane(source: ImageSource, t: int, z: int) -> np.ndarray:
    """(c, y, x) of one plane."""
    _, c, _, y, x = source.shape
    return source.read(Box((t, 0, z, 0, 0), (t + 1, c, z + 1, y, x)))[0, :, 0]


def as_picture(plane: np.ndarray) -> np.ndarray:
    """(c, y, x) as (y, x), or (y, x, c) where there are several channels."""
    return plane[0] if len(plane) == 1 else np.moveaxis(plane, 0, -1)


def mask_planes(case: Case) -> Iterator[tuple[int, int, np.ndarray]]:
    """(t, z, picture) of the truth; it must have the planes of its image, or a file for each that is known."""
    for file, place in _truth_files(case):
        with _opened(case, file, place) as mask:
            for t, z in np.ndindex(mask.shape[0], mask.shape[2]):
                at = place or (t, z)
                yield at[0], at[1], as_picture(read_plane(mask, t, z))


def truth_values(case: Case) -> dict[str, set[int]]:
    """The values in each file of the truth, by its name; none is wholly in memory. It must have planes as above."""
    found = {}
    for file, place in _truth_files(case):
        with _opened(case, file, place) as mask:
            found[file.name] = values_in(mask, range(mask.shape[1]), partial(label_map, name=file.name))
    return found


def _truth_files(case: Case) -> list[tuple[Path, tuple[int, int] | None]]:
    """Each file of the truth, and the time and slice that it shows where it is a plane's own."""
    return [(file, place) for place, file in case.planes.items()] or [(case.truth, None)]


@contextmanager
def _opened(case: Case, file: Path, place: tuple[int, int] | None) -> Iterator[ImageSource]:
    with open_image(file, expand_palette=False) as mask:
        if place is None:
            _require_planes(mask, case)
        else:
            require_one_plane(mask, file)
        yield mask


def _require_planes(mask: ImageSource, case: Case) -> None:
    shape = case.record.shape
    if (mask.shape[0], mask.shape[2]) != (shape[0], shape[2]):
        raise BadInput(
            f"{case.truth.name}: has {mask.shape[0]} times and {mask.shape[2]} slices, but {case.record.name} has "
            f"{shape[0]} and {shape[2]}. Give one mask plane for each plane of the image."
        )


def truth_planes(
    case: Case, header: Header, coding: Coding, ignore: int | None = None
) -> Iterator[tuple[int, int, Truth]]:
    """The reference classes of each plane: (t, z, truth)."""
    values, shape = values_of(header), case.record.shape[3:]
    for t, z, plane in mask_planes(case):
        name = case.truth_of(t, z).name
        yield t, z, read_truth(plane, values, name=name, shape=shape, ignore=ignore, coding=coding)


def mean_score(planes: Sequence[ImageScore]) -> ImageScore:
    """The score of an image from those of its planes: means over the planes that have a number."""
    if len(planes) == 1:
        return planes[0]
    classes: dict[str, dict[str, float | None]] = {}
    for name, metrics in planes[0].classes.items():
        classes[name] = {}
        for metric in metrics:
            known = [value for plane in planes if (value := plane.classes[name][metric]) is not None]
            classes[name][metric] = float(np.mean(known)) if known else None
    return ImageScore(planes[0].image, classes)


Answer = Callable[[int, int], np.ndarray]
"""(t, z) to the (y, x) label map of that plane, as values that are written."""


def predicted(case: Case) -> Answer:
    """What was predicted of a case."""

    def answer(t: int, z: int) -> np.ndarray:
        with open_image(case.prediction) as source:
            labels: np.ndarray = read_plane(source, t, z)[0]
        return labels

    return answer
