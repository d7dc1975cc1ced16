"""What a network should answer, for any box of any image: strokes, label maps or images, where known."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.infer.tiles import with_channels
from fieldmark.prepare import apply

if TYPE_CHECKING:
    from fieldmark.checkpoint import ClassSpec
    from fieldmark.images import ImageSource
    from fieldmark.learn.samples import Samples
    from fieldmark.recipes import DataConfig

OPEN_TARGETS = 64

Known = tuple[np.ndarray, np.ndarray]
"""Answers (T, z, y, x) float32, and the weight of each pixel (1, z, y, x) float32: 0 where nobody knows."""


class Targets(Protocol):
    """Answers for boxes over t, z, y, x."""

    channels: int
    """Classes, or channels of the answer."""
    classes: bool
    """Whether answers are places of classes."""

    def images(self) -> list[int]:
        """Places of the images that have an answer anywhere."""

    def read(self, index: int, box: Box) -> Known: ...

    def somewhere(self, index: int, rng: np.random.Generator) -> tuple[int, ...] | None:
        """t, z, y, x of a pixel that is known, drawn by chance; None where crops may lie anywhere."""


class MarkTargets:
    """Strokes: what nobody painted is unknown."""

    classes = True

    def __init__(self, samples: Samples) -> None:
        self.channels = samples.classes
        marks = samples.marks
        self._of = {int(i): marks.where(marks.image == i) for i in np.unique(marks.image)}

    def images(self) -> list[int]:
        return sorted(self._of)

    def read(self, index: int, box: Box) -> Known:
        marks = self._of[index]
        inside = ((marks.place >= box.start) & (marks.place < box.stop)).all(axis=1)
        at = tuple((marks.place[inside] - np.array(box.start)).T)[1:]
        found = np.zeros((1, *box.shape[1:]), np.float32)
        weight = np.zeros_like(found)
        found[0][at], weight[0][at] = marks.klass[inside], 1.0
        return found, weight

    def somewhere(self, index: int, rng: np.random.Generator) -> tuple[int, ...] | None:
        marks = self._of[index]
        klass = rng.choice(np.unique(marks.klass))  # rare classes are looked at as often as common ones
        own = np.flatnonzero(marks.klass == klass)
        return tuple(int(n) for n in marks.place[own[rng.integers(len(own))]])


class LabelTargets:
    """A label map for each image, by the values of the classes.

    Args:
        samples: Images with `target`, the file of the label map.
        classes: The value of each class.
        config: Which value is unknown, and from which number on values are class 0.
    """

    classes = True

    def __init__(self, samples: Samples, classes: tuple[ClassSpec, ...], config: DataConfig) -> None:
        self.samples = samples
        self.channels = len(classes)
        self._values = {spec.value: place for place, spec in enumerate(classes)}
        self._objects = config.target.objects
        self._ignore, self._most = config.target.ignore, config.target.classes
        self._opened = lru_cache(maxsize=OPEN_TARGETS)(self._open)

    def images(self) -> list[int]:
        return [index for index, image in enumerate(self.samples.images) if image.target]

    def read(self, index: int, box: Box) -> Known:
        labels = self._opened(index).read(with_channels(box, 1))[0]
        if self._objects:
            labels = np.where((labels != 0) & (labels != (-1 if self._ignore is None else self._ignore)), 1, labels)
        if self._most is not None:
            unknown = labels == self._ignore if self._ignore is not None else np.zeros(labels.shape, bool)
            labels = np.where((labels >= self._most) & ~unknown, 0, labels)
        found = np.full(labels.shape, -1, np.int64)
        for value, place in self._values.items():
            found[labels == value] = place
        if self._ignore is not None:
            found[labels == self._ignore] = -1
        weight = (found >= 0).astype(np.float32)
        return np.maximum(found, 0).astype(np.float32), weight

    def somewhere(self, index: int, rng: np.random.Generator) -> tuple[int, ...] | None:
        return None

    def _open(self, index: int) -> ImageSource:
        image = self.samples.images[index]
        source = open_target(image.target, image.name)
        _require_size(source, self.samples.source(index).shape, image.target, image.name)
        return source


class ImageTargets:
    """Another image, or other channels of the same one."""

    classes = False

    def __init__(self, samples: Samples, config: DataConfig) -> None:
        self.samples = samples
        self._opened = lru_cache(maxsize=OPEN_TARGETS)(self._open)
        first = self._opened(self.images()[0])
        self._take = config.target.channels or tuple(range(first.shape[1]))
        if max(self._take) >= first.shape[1]:
            raise BadInput(
                f"data.target.channels names channel {max(self._take)}; targets have 0 to {first.shape[1] - 1}."
            )
        self.channels = len(self._take)

    def images(self) -> list[int]:
        whole = [index for index, image in enumerate(self.samples.images) if image.target]
        return whole or list(range(len(self.samples.images)))

    def raw(self, index: int, box: Box) -> np.ndarray:
        """(T, z, y, x) as the file holds it."""
        source = self._opened(index)
        return source.read(with_channels(box, source.shape[1]))[0, list(self._take)]

    def read(self, index: int, box: Box) -> Known:
        found = apply(self.raw(index, box), self.samples.target_preparation)
        known = np.isfinite(found).all(axis=0, keepdims=True)
        return np.nan_to_num(found), known.astype(np.float32)

    def somewhere(self, index: int, rng: np.random.Generator) -> tuple[int, ...] | None:
        return None

    def _open(self, index: int) -> ImageSource:
        image = self.samples.images[index]
        if not image.target:
            return self.samples.source(index)
        source = open_target(image.target, image.name)
        _require_size(source, self.samples.source(index).shape, image.target, image.name)
        return source


class Weighted:
    """Targets under a mask: an image's, by its values or by `data.mask.label_weights`."""

    def __init__(self, targets: Targets, samples: Samples, config: DataConfig) -> None:
        self.targets, self.samples, self.config = targets, samples, config
        self.channels, self.classes = targets.channels, targets.classes
        self._opened = lru_cache(maxsize=OPEN_TARGETS)(self._open)

    def images(self) -> list[int]:
        return self.targets.images()

    def read(self, index: int, box: Box) -> Known:
        found, weight = self.targets.read(index, box)
        return found, weight * self._weight(index, box)

    def somewhere(self, index: int, rng: np.random.Generator) -> tuple[int, ...] | None:
        return self.targets.somewhere(index, rng)

    def _weight(self, index: int, box: Box) -> np.ndarray:
        config = self.config.mask
        source = self._opened(index)
        channel = (config.channel or 0) if config is not None else 0
        values = source.read(with_channels(box, source.shape[1]))[0, channel : channel + 1]
        table = config.label_weights if config is not None else ()
        if table:
            return np.asarray(table, np.float32)[np.minimum(values.astype(np.int64), len(table) - 1)]
        top = 255.0 if values.dtype == np.uint8 and values.max(initial=0) > 1 else 1.0
        return (values / top).astype(np.float32)

    def _open(self, index: int) -> ImageSource:
        image = self.samples.images[index]
        return open_target(image.mask, image.name) if image.mask else self.samples.source(index)


def targets_of(samples: Samples, config: DataConfig, classes: tuple[ClassSpec, ...]) -> Targets:
    """The targets that a recipe asks for. Raises BadInput where there are none."""
    made: Targets
    match config.target.kind:
        case "labels":
            made = LabelTargets(samples, classes, config)
        case "image":
            made = ImageTargets(samples, config)
        case _:
            made = MarkTargets(samples)
    if not made.images():
        raise BadInput(
            "There is nothing to learn from: no image has strokes or a target. Paint some (`fieldmark labels import`), "
            "or name a folder of label maps or images: --set data.target.kind=labels --set data.target.folder=FOLDER."
        )
    return Weighted(made, samples, config) if config.mask is not None and config.mask.method == "none" else made


def open_target(file: str, image: str) -> ImageSource:
    """The target or mask of an image."""
    from fieldmark.images import open_image

    return open_image(Path(file), shown=f"{Path(file).name} (target of {image})")


def _require_size(source: ImageSource, shape: tuple[int, ...], file: str, image: str) -> None:
    found, wanted = (source.shape[0], *source.shape[2:]), (shape[0], *shape[2:])
    if found != wanted:
        raise BadInput(
            f"{Path(file).name}: is {_size(found)} (t, z, y, x), and its image {image} is {_size(wanted)}. "
            "Give a target of the same size."
        )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
