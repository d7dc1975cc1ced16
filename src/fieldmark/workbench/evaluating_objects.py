"""Score single objects against maps that number them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from fieldmark.checkpoint import Header
from fieldmark.errors import BadInput, NotFound
from fieldmark.evaluate.instances import METRICS, objects_of, score_objects
from fieldmark.evaluate.summary import ImageScore
from fieldmark.evaluate.truth import label_map
from fieldmark.images import open_image
from fieldmark.recipes.evaluate import EvaluateRecipe
from fieldmark.workbench.cases import Answer, Case, mask_planes, mean_score, read_plane

__all__ = ["METRICS", "ObjectJudge", "object_class", "objects_path"]


def object_class(header: Header, name: str | None) -> str:
    """The class whose objects are scored.

    Args:
        header: Of the model.
        name: As the user typed it; None for the one of two classes that is not the background.
    """
    names = [spec.name for spec in header.classes]
    if name is not None:
        if name not in names:
            raise NotFound("class", name, names)
        return name
    if len(names) != 2:
        raise BadInput(
            f"The model knows the classes {', '.join(names)}: name the one whose objects count with --class."
        )
    return names[1 - int(header.config.get("head", {}).get("background", 0))]


def objects_path(prediction: Path) -> Path:
    """Where the numbered objects of a predicted class map lie."""
    stem = prediction.name.removesuffix(".ome.zarr")
    return prediction.with_name(f"{stem}-instances.ome.zarr")


@dataclass(frozen=True, slots=True)
class ObjectJudge:
    """How objects of a model are compared.

    Args:
        header: Of the model.
        klass: The class that they are of.
        recipe: How they are split; which value means unknown.
        reading: Whether the truth `numbers` the objects, is a `mask` of one value, whose connected parts they are, or
            holds the values of the model's `classes`, of which the connected parts of one class are.
        unsure: Whether numbers of objects are values of classes too.
    """

    header: Header
    klass: str
    recipe: EvaluateRecipe
    reading: Literal["numbers", "mask", "classes"] = "numbers"
    unsure: bool = False

    @classmethod
    def of(cls, header: Header, recipe: EvaluateRecipe, cases: Sequence[Case]) -> ObjectJudge:
        """The judge that fits the truth, by all its files together.

        Where these hold one value alone beside 0, they are masks. Where they hold nothing but values of the model's
        classes, in twice as many places of an image as values or more, or a class everywhere, they are maps of classes:
        an object that something unknown cuts, or a stray pixel, is no sign of that.
        """
        judge = cls(header, object_class(header, recipe.class_name), recipe)
        classes = {spec.value for spec in header.classes}
        found: set[int] = set()
        recurs = False
        for labels, unknown in (unit[2:] for case in cases for unit in judge._units(case)):
            values = set(np.unique(labels[~unknown]).tolist())
            found |= values
            recurs = recurs or (found - {0} <= classes and _in_many_places(labels, values - {0}))
        if found and found <= classes and 0 not in found:
            return replace(judge, reading="classes")
        if len(found - {0}) < 2:
            return replace(judge, reading="mask")
        if found - {0} <= classes and recurs:
            return replace(judge, reading="classes")
        return replace(judge, unsure=found - {0} <= classes)

    @property
    def value(self) -> int:
        """What the class of the objects is written as."""
        return next(spec.value for spec in self.header.classes if spec.name == self.klass)

    def notes(self) -> list[str]:
        """How the truth was read, where it is not what was asked for, or may be."""
        named = ", ".join(f"{spec.value} ({spec.name})" for spec in self.header.classes)
        if self.reading == "mask":
            return ["The truth holds masks, not numbered objects: its connected parts are the objects."]
        if self.reading == "classes":
            nothing = "; 0 is unknown" if all(spec.value for spec in self.header.classes) else ""
            return [
                f"The truth holds classes, {named}, not numbered objects: the connected parts of {self.klass!r} are "
                f"the objects, and those that touch are one{nothing}. Where these are numbers of objects, write them "
                f"from {max(spec.value for spec in self.header.classes) + 1} on."
            ]
        if self.unsure:
            return [
                f"The truth holds few numbers, which may be those of classes, {named}: each was taken for an object, "
                f"of {self.klass!r}. Where they are classes, give masks of {self.klass!r} alone (0 and 255)."
            ]
        return []

    @property
    def solid(self) -> bool:
        """Whether objects reach through slices: the network sees more than one."""
        return self.header.halo[0] > 0 or self.header.stride[0] > 1

    @property
    def split(self) -> int:
        return self.recipe.split_distance if self.recipe.split == "watershed" else 0

    def score(self, case: Case) -> ImageScore:
        """The model's score of one image: its planes' means, or its volumes'."""

        def answer(t: int, z: int) -> np.ndarray:
            with open_image(objects_path(case.prediction)) as source:
                labels: np.ndarray = read_plane(source, t, z)[0]
            return labels

        return self._score(case, answer, numbered=True)

    def score_map(self, case: Case, answer: Answer) -> ImageScore:
        """A baseline's score, whose class maps are split by the same rule."""
        return self._score(case, answer, numbered=False)

    def _score(self, case: Case, answer: Answer, *, numbered: bool) -> ImageScore:
        units = []
        for t, places, truth, unknown in self._units(case):
            said = np.stack([answer(t, z) for z in places])
            said = said[0] if len(said) == 1 else said
            objects = said if numbered else objects_of(said == self.value, self.split, self.recipe.min_area)
            right = self.objects(truth)
            units.append(ImageScore(case.record.name, {self.klass: score_objects(objects, right, unknown)}))
        return mean_score(units)

    def objects(self, labels: np.ndarray) -> np.ndarray:
        """The objects that a file of the truth shows, numbered."""
        if self.reading == "numbers":
            return labels
        return objects_of(labels > 0 if self.reading == "mask" else labels == self.value)

    def _units(self, case: Case) -> Iterator[tuple[int, tuple[int, ...], np.ndarray, np.ndarray]]:
        """(t, slices, truth, unknown) of each plane, or of each whole volume."""
        planes: dict[int, list[np.ndarray]] = {}
        for t, z, plane in mask_planes(case):
            labels = label_map(plane, case.truth_of(t, z).name)
            _require_size(case, labels, case.truth_of(t, z).name)
            if not self.solid:
                yield t, (z,), *self._known(labels)
            else:
                planes.setdefault(t, []).append(labels)
        for t, volume in planes.items():
            _require_whole(case, volume)
            # one slice of a deep network is a plane
            whole = volume[0] if len(volume) == 1 else np.stack(volume)
            yield t, tuple(range(len(volume))), *self._known(whole)

    def _known(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the truth holds, 0 where that is unknown, and where it is."""
        ignore = self.recipe.ignore
        unknown = np.zeros(labels.shape, bool) if ignore is None else labels == ignore
        if self.reading == "classes" and all(spec.value for spec in self.header.classes):
            unknown |= labels == 0  # of no class: nobody said that no object is there
        return np.where(unknown, 0, labels), unknown


def _in_many_places(labels: np.ndarray, values: set[int]) -> bool:
    """Whether values have at least twice as many connected parts as there are of them."""
    return bool(values) and sum(int(objects_of(labels == n).max()) for n in values) >= 2 * len(values)


def _require_whole(case: Case, volume: Sequence[np.ndarray]) -> None:
    if len(volume) != case.record.shape[2]:
        raise BadInput(
            f"{case.record.name}: {len(volume)} of its {case.record.shape[2]} slices have a map of objects, and "
            "objects of this model reach through slices. Give a map for each slice."
        )


def _require_size(case: Case, labels: np.ndarray, name: str) -> None:
    height, width = case.record.shape[3:]
    if labels.shape != (height, width):
        raise BadInput(
            f"{name}: is {labels.shape[1]} x {labels.shape[0]} pixels, but {case.record.name} is "
            f"{width} x {height}. Give a map of the image's size."
        )
