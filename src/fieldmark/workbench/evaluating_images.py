"""Score predicted images against true ones, in planes of any orientation, within masks; lines and means beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.checkpoint import Header
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.evaluate.images import METRICS
from fieldmark.evaluate.orientations import Measure, Row, mean_row, score_volume
from fieldmark.evaluate.regression import LinearFit
from fieldmark.evaluate.summary import ImageScore
from fieldmark.images import open_image
from fieldmark.images.source import plane_numbers
from fieldmark.workbench.cases import Case, Watch
from fieldmark.workbench.evaluating_classes import run_targets
from fieldmark.workbench.predicting import stem_of

if TYPE_CHECKING:
    from fieldmark.images import ImageSource
    from fieldmark.recipes.evaluate import EvaluateRecipe
    from fieldmark.workbench.bench import Workbench

Guess = Callable[[np.ndarray], np.ndarray]
"""From the input (C, z, y, x) to a baseline's answer (T, z, y, x)."""


@dataclass(slots=True)
class Judged:
    """Rows of one method, by orientation, and the score of each image in each."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    scores: dict[str, list[ImageScore]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageJudge:
    """How predicted images are compared.

    Args:
        recipe: What is measured, where, and which channels of the truth are meant.
        inputs: Channels of the images that the model sees.
        names: Of the channels of its answer.
        masked: Whether each metric is also taken within masks.
    """

    recipe: EvaluateRecipe
    inputs: tuple[int, ...]
    names: tuple[str, ...]
    masked: bool

    @classmethod
    def of(cls, header: Header, recipe: EvaluateRecipe, cases: Sequence[Case]) -> ImageJudge:
        """The judge of a model's answers; it looks at the first case for the number of channels."""
        case = cases[0]
        with open_image(case.record.path) as source:
            inputs = _inputs(header, recipe, source.shape[1], own=case.truth == case.record.path)
        with open_image(case.truth) as truth:
            count = len(recipe.target_channels) or truth.shape[1]
        told = header.details.get("target_channels")
        known = isinstance(told, list) and len(told) == count
        names = tuple(map(str, told)) if known else tuple(f"channel {n}" for n in range(count))  # type: ignore[arg-type]
        return cls(recipe, inputs, names, any(case.mask for case in cases))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Columns of a table."""
        plain = self.recipe.metrics or METRICS
        return (*plain, "vol_frac", *(f"{metric}_masked" for metric in plain)) if self.masked else plain

    def notes(self, cases: Sequence[Case]) -> list[str]:
        """What a reader must know of how slices were paired."""
        middle = [case for case in cases if len(slices := _answered_slices(case)) < case.record.shape[2] and slices]
        if not middle:
            return []
        names = ", ".join(case.record.name for case in middle[:3])
        return [f"The truth has one slice where the image has several ({names}): the middle one is compared."]

    def judge(self, cases: Sequence[Case], guesses: Sequence[Guess] = ()) -> Judged:
        """Compare what the model said, or what a baseline guesses: of all pixels, and of those within masks."""
        found = Judged()
        for orientation in self.recipe.orientations:
            rows, scores = found.rows.setdefault(orientation, []), found.scores.setdefault(orientation, [])
            for case in cases:
                own = [self._guessed(case, channel, orientation, guesses) for channel in range(len(self.names))]
                rows.extend(row for channel in own for row in channel)
                means = {name: mean_row(channel) for name, channel in zip(self.names, own, strict=True)}
                scores.append(ImageScore(case.record.name, means))
        return found

    def _guessed(self, case: Case, channel: int, orientation: str, guesses: Sequence[Guess]) -> list[Row]:
        """Rows of the answer, or of guesses; what is within masks is told of the last, which knew no other pixels."""
        asked = [*guesses] if guesses else [None]
        found, *inner = (list(self._rows(case, channel, orientation, guess)) for guess in asked)
        for rows in inner:
            for own, row in zip(found, rows, strict=True):
                own |= {column: value for column, value in row.items() if column.endswith("_masked")}
        return found

    def _rows(self, case: Case, channel: int, orientation: str, guess: Guess | None) -> Iterator[Row]:
        measure = Measure(self.recipe.metrics or METRICS, self.recipe.threshold)
        with open_image(case.record.path) as source:
            times, slices = plane_numbers(source)
        for view in self._views(case, whole=orientation != "xy"):
            said = view.guessed(guess, self.inputs) if guess else view.said()
            name = stem_of(case.record.name)
            name += f"_t{times[view.t]}" if case.record.shape[0] > 1 else ""
            name += f"_{self.names[channel]}" if len(self.names) > 1 else ""
            yield from score_volume(
                name,
                said[channel],
                view.right(self.recipe.target_channels)[channel],
                orientation,
                mask=view.inside(),
                measure=measure,
                first=slices[view.slices[0]],
            )

    def _views(self, case: Case, *, whole: bool) -> Iterator[View]:
        """Volumes, or planes where nothing more is needed: memory follows what is compared."""
        t = case.record.shape[0]
        slices = _answered_slices(case)
        for time in range(t):
            if whole:
                yield View(case, time, slices)
            else:
                yield from (View(case, time, (place,)) for place in slices)

    def fit(self, cases: Sequence[Case], *, masked: bool) -> LinearFit:
        """A line from the input to the target over some cases, or over what lies inside their masks."""
        line = LinearFit(len(self.inputs), len(self.names))
        for case in cases:
            for view in self._views(case, whole=False):
                inside = view.inside() if masked else None
                line.add(view.seen(self.inputs), view.right(self.recipe.target_channels), inside)
        return line


@dataclass(frozen=True, slots=True)
class View:
    """Slices of a case at one time."""

    case: Case
    t: int
    slices: tuple[int, ...]

    def said(self) -> np.ndarray:
        """(T, z, y, x) as the model predicted."""
        with open_image(self.case.prediction) as source:
            return _read(source, self.t, self.slices)

    def guessed(self, guess: Guess, inputs: tuple[int, ...]) -> np.ndarray:
        """(T, z, y, x) as a baseline guesses from the input."""
        return guess(self.seen(inputs))

    def seen(self, inputs: tuple[int, ...]) -> np.ndarray:
        """(C, z, y, x) of the input."""
        with open_image(self.case.record.path) as source:
            return _read(source, self.t, self.slices)[list(inputs)]

    def right(self, channels: tuple[int, ...]) -> np.ndarray:
        """(T, z, y, x) of the truth."""
        with open_image(self.case.truth) as source:
            slices = self.slices if source.shape[2] > 1 else (0,)
            pixels = _read(source, self.t, slices)
        return pixels[list(channels)] if channels else pixels

    def inside(self) -> np.ndarray | None:
        """(z, y, x) bool of the mask; None where there is none."""
        if self.case.mask is None:
            return None
        with open_image(self.case.mask) as source:
            shape = self.case.record.shape
            if (source.shape[0], *source.shape[2:]) != (shape[0], *_truth_size(self.case)):
                raise BadInput(
                    f"{self.case.mask.name}: its shape {source.shape} along t, c, z, y, x does not fit the truth of "
                    f"{self.case.record.name}. Give a mask of the truth's size."
                )
            slices = self.slices if source.shape[2] > 1 else (0,)
            inside: np.ndarray = _read(source, self.t, slices)[0] > 0
        return inside


def _read(source: ImageSource, t: int, slices: tuple[int, ...]) -> np.ndarray:
    """(c, z, y, x) of neighboring slices."""
    _, c, _, y, x = source.shape
    pixels: np.ndarray = source.read(Box((t, 0, slices[0], 0, 0), (t + 1, c, slices[-1] + 1, y, x)))[0]
    return pixels


def _inputs(header: Header, recipe: EvaluateRecipe, channels: int, *, own: bool) -> tuple[int, ...]:
    """Channels that the model sees: those that it takes; else all that are not its target, if any is left."""
    everything = tuple(range(channels))
    for step in header.preparation:
        if step.get("step") == "channels":
            taken = tuple(step["take"])
            return taken if len(taken) < channels else everything
    others = tuple(place for place in everything if not own or place not in recipe.target_channels)
    return others or everything


def _truth_size(case: Case) -> tuple[int, int, int]:
    with open_image(case.truth) as source:
        return source.shape[2:]


def _answered_slices(case: Case) -> tuple[int, ...]:
    """The slices that have a truth: all of them, or the middle one where the truth is a single plane."""
    t, _, z, y, x = case.record.shape
    with open_image(case.truth) as source:
        size = source.shape
    if (size[0], *size[3:]) != (t, y, x) or size[2] not in (1, z):
        raise BadInput(
            f"{case.truth.name}: its shape {size} along t, c, z, y, x does not fit that of {case.record.name}, "
            f"{case.record.shape}. Give a true image of the same size, or of one slice for the middle one."
        )
    return tuple(range(z)) if size[2] == z else (z // 2,)


def require_channels(case: Case, channels: tuple[int, ...]) -> None:
    """Refuse a truth whose channels are not those of the model's answer."""
    with open_image(case.prediction) as made, open_image(case.truth) as truth:
        wanted, there = made.shape[1], truth.shape[1]
    if any(channel >= there for channel in channels) or (len(channels) or there) != wanted:
        named = f", of which {', '.join(map(str, channels))} are named" if channels else ""
        raise BadInput(
            f"{case.truth.name}: has {there} channels{named}, but the model answers {wanted}. "
            "Name as many channels of it, counted from 0, with --target-channels."
        )


def teaching_cases(bench: Workbench, header: Header, cases: Sequence[Case]) -> list[Case]:
    """What taught the model: cases with truth, else the images of its run with the targets that they had there."""
    found = [case for case in cases if case.taught]
    if found:
        return found
    records = {record.path.resolve(): record for record in bench.collection.all()}
    pairs = [(records.get(image.resolve()), target) for image, target in run_targets(bench, header)]
    return [Case(record, target, target, taught=True) for record, target in pairs if record is not None]


def image_baselines(
    judge: ImageJudge, taught: Sequence[Case], tested: Sequence[Case], watch: Watch
) -> tuple[dict[str, Judged], str]:
    """A constant and a straight line, from images that taught the model; a sentence where there are none.

    Without a teaching image, the constant is the mean of the truth that is scored: no constant does better.
    """
    if not tested:
        return {}, ""
    watch("Fitting the baselines: the mean of the targets, and a line from the input to the target.")
    lines = [judge.fit(taught, masked=masked) for masked in ((False, True) if judge.masked else (False,))]
    if all(line.count for line in lines):
        return {
            "mean": judge.judge(tested, [line.predict_mean for line in lines]),
            "linear": judge.judge(tested, [line.predict for line in lines]),
        }, ""
    lines = [judge.fit(tested, masked=masked) for masked in ((False, True) if judge.masked else (False,))]
    note = (
        "No target that taught the model was found, so the baseline `own mean` is the mean of the truth itself, "
        "which no constant can beat. Put the targets of the teaching images into the folder of the truth for more."
    )
    return {"own mean": judge.judge(tested, [line.predict_mean for line in lines])}, note
