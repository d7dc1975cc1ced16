"""Score single objects against maps that number them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldmark.checkpoint import Header
from fieldmark.errors import BadInput, NotFound
from fieldmark.evaluate.instances import METRICS, objects_of, score_objects
from fieldmark.evaluate.summary import ImageScore
from fieldmark.evaluate.truth import label_map
from fieldmark.images import open_image
from fieldmark.recipes.evaluate import EvaluateRecipe
from fieldmark.workbench.cases import Answer, Case, mask_planes, mean_score, read_plane, truth_values

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
        binary: Whether the truth is masks of one value, whose connected parts are the objects.
    """

    header: Header
    klass: str
    recipe: EvaluateRecipe
    binary: bool

    @classmethod
    def of(cls, header: Header, recipe: EvaluateRecipe, cases: Sequence[Case]) -> ObjectJudge:
        """The judge that fits the truth: where no file holds more than one object's number, it is masks."""
        values = [_numbers(case, recipe.ignore) for case in cases]
        return cls(header, object_class(header, recipe.class_name), recipe, len(set().union(*values)) < 2)

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
        value = next(spec.value for spec in self.header.classes if spec.name == self.klass)
        units = []
        for t, places, truth, unknown in self._units(case):
            said = np.stack([answer(t, z) for z in places])
            said = said[0] if len(said) == 1 else said
            objects = said if numbered else objects_of(said == value, self.split, self.recipe.min_area)
            units.append(ImageScore(case.record.name, {self.klass: score_objects(objects, truth, unknown)}))
        return mean_score(units)

    def _units(self, case: Case) -> Iterator[tuple[int, tuple[int, ...], np.ndarray, np.ndarray]]:
        """(t, slices, truth, unknown) of each plane, or of each whole volume."""
        planes: dict[int, list[np.ndarray]] = {}
        for t, z, plane in mask_planes(case):
            labels = label_map(plane, case.truth.name)
            _require_size(case, labels)
            if not self.solid:
                yield t, (z,), *self._known(labels)
            else:
                planes.setdefault(t, []).append(labels)
        for t, volume in planes.items():
            # one slice of a deep network is a plane
            whole = volume[0] if len(volume) == 1 else np.stack(volume)
            yield t, tuple(range(len(volume))), *self._known(whole)

    def _known(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Objects of the truth, and what is unknown."""
        ignore = self.recipe.ignore
        unknown = np.zeros(labels.shape, bool) if ignore is None else labels == ignore
        labels = np.where(unknown, 0, labels)
        return (objects_of(labels > 0) if self.binary else labels), unknown


def _numbers(case: Case, ignore: int | None) -> set[int]:
    """The objects in a file."""
    return truth_values(case) - {0, ignore}


def _require_size(case: Case, labels: np.ndarray) -> None:
    height, width = case.record.shape[3:]
    if labels.shape != (height, width):
        raise BadInput(
            f"{case.truth.name}: is {labels.shape[1]} x {labels.shape[0]} pixels, but {case.record.name} is "
            f"{width} x {height}. Give a map of the image's size."
        )
