"""What a network should answer, for any box of any image: strokes, label maps or images, where known."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.evaluate.truth import UNKNOWN, place_table
from fieldmark.learn.number_targets import NumberTargets
from fieldmark.learn.target_files import Files
from fieldmark.prepare import apply
from fieldmark.prepare.whole import LARGEST_VOLUME, require_seen_at_once
from fieldmark.recipes.data import MANY_CHANNELS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from fieldmark.checkpoint import ClassSpec
    from fieldmark.learn.samples import Marks, Samples
    from fieldmark.learn.target_files import Known, Planes, Within
    from fieldmark.recipes import DataConfig
    from fieldmark.recipes.data import MaskConfig

STRIP = 512
"""Rows of a label map that are read at once when it is looked for known pixels."""


class Targets(Protocol):
    """Answers for boxes over t, z, y, x."""

    channels: int
    """Classes, or channels of the answer."""
    classes: bool
    """Whether answers are places of classes."""

    @property
    def span(self) -> float | None:
        """Of prepared values of images; None for classes, and where nobody has looked."""

    def images(self) -> list[int]:
        """Places of the images that have an answer anywhere."""

    def check(self) -> None:
        """Raise BadInput where the answer for an image does not fit it, before anything is learned."""

    def read(self, index: int, box: Box) -> Known: ...

    def somewhere(self, index: int, rng: np.random.Generator, within: Within | None = None) -> tuple[int, ...] | None:
        """t, z, y, x of a pixel that is known, drawn by chance; None where crops may lie anywhere."""

    def knows(self, index: int, box: Box) -> bool:
        """Whether anything may be known in a box; found out without decoding pixels."""

    def planes(self, index: int) -> Planes:
        """Places along t and z at which something is known."""

    def share(self, known: Known) -> float:
        """How much of a crop counts when crops are chosen (`train.min_fraction`), 0..1."""


class MarkTargets:
    """Strokes: what nobody painted is unknown."""

    classes = True
    span: float | None = None

    def __init__(self, samples: Samples) -> None:
        self.channels = samples.classes
        self._of = {int(image): _Planes(samples.marks, int(image)) for image in np.unique(samples.marks.image)}

    def images(self) -> list[int]:
        return sorted(self._of)

    def check(self) -> None:
        pass

    def read(self, index: int, box: Box) -> Known:
        rows = self._of[index].inside(box)
        place, klass = self._of[index].place[rows], self._of[index].klass[rows]
        at = tuple((place - np.array(box.start)).T)[1:]
        found = np.zeros((1, *box.shape[1:]), np.float32)
        weight = np.zeros_like(found)
        found[0][at], weight[0][at] = klass, 1.0
        return found, weight

    def somewhere(self, index: int, rng: np.random.Generator, within: Within | None = None) -> tuple[int, ...] | None:
        own = self._of[index]
        groups = own.of_class if within is None else own.of_class_within(*within)
        rows = groups[int(rng.integers(len(groups)))]  # rare classes are looked at as often as common ones
        return tuple(int(n) for n in own.place[rows[rng.integers(len(rows))]])

    def knows(self, index: int, box: Box) -> bool:
        return len(self._of[index].inside(box)) > 0

    def planes(self, index: int) -> Planes:
        t, z = (np.unique(self._of[index].place[:, axis]).tolist() for axis in (0, 1))
        return t, z

    def share(self, known: Known) -> float:
        return float((known[1] > 0).mean())


class _Planes:
    """The marks of one image in reading order, so that a box finds its own without looking at all."""

    def __init__(self, marks: Marks, image: int) -> None:
        own = np.flatnonzero(marks.image == image)
        own = own[np.lexsort(marks.place[own].T[::-1])]
        self.place, self.klass = marks.place[own], marks.klass[own]
        self.of_class = [np.flatnonzero(self.klass == klass) for klass in np.unique(self.klass)]
        self._most = self.place.max(axis=0) + 1
        self._row = np.ravel_multi_index(tuple(self.place[:, :3].T), tuple(self._most[:3]))

    def of_class_within(self, axis: int, places: frozenset[int]) -> list[np.ndarray]:
        """The marks of each class that lie at some places along t or z."""
        meant = np.isin(self.place[:, axis], list(places))
        groups = [rows[meant[rows]] for rows in self.of_class]
        return [rows for rows in groups if len(rows)]

    def inside(self, box: Box) -> np.ndarray:
        """Rows of the marks in a box over t, z, y, x."""
        t, z, y = (range(box.start[n], min(box.stop[n], int(self._most[n]))) for n in range(3))
        parts = [np.zeros(0, np.int64)]
        if len(y):
            for plane in ((a, b) for a in t for b in z):
                first, last = (np.ravel_multi_index((*plane, n), tuple(self._most[:3])) for n in (y[0], y[-1]))
                low, high = np.searchsorted(self._row, [first, last + 1])
                x = self.place[low:high, 3]
                parts.append(low + np.flatnonzero((x >= box.start[3]) & (x < box.stop[3])))
        return np.concatenate(parts)


class _Filed:
    """What targets in files share."""

    files: Files

    def check(self) -> None:
        for index in self.images():
            self.files.check(index)

    def images(self) -> list[int]:
        """Those with a file; all, where the images' own channels are meant."""
        samples = self.files.samples
        beside = [index for index, image in enumerate(samples.images) if image.target]
        return beside or list(range(len(samples.images)))

    def somewhere(self, index: int, rng: np.random.Generator, within: Within | None = None) -> tuple[int, ...] | None:
        return self.files.somewhere(index, rng, within)

    def knows(self, index: int, box: Box) -> bool:
        return self.files.knows(index, box)

    def planes(self, index: int) -> Planes:
        return range(self.files.shape(index)[0]), self.files.slices(index)


class LabelTargets(_Filed):
    """A label map for each image, by the values of the classes.

    Args:
        samples: Images with `target`, the file of the label map.
        classes: The value of each class.
        config: Which value is unknown, and from which number on values are class 0.
    """

    classes = True
    span: float | None = None

    def __init__(self, samples: Samples, classes: tuple[ClassSpec, ...], config: DataConfig) -> None:
        self.files = Files(samples, "target", indices=True)
        self.channels = len(classes)
        self._channel = config.target.channels[:1] or (0,)
        values = {spec.value: place for place, spec in enumerate(classes)}
        self._named = bool(config.target.channels)
        self._most = config.target.classes
        self._ground = values.get(0)
        self._table = place_table(values, config.target)
        ignore = config.target.ignore
        self._unknown = "of no class" if ignore is None else f"{ignore}, which data.target.ignore says is unknown"

    def check(self) -> None:
        super().check()
        for index in self.images():
            count = self.files.shape(index)[1]
            if self._channel[0] >= count:
                raise BadInput(
                    f"{self.files.shown(index)}: data.target.channels names channel {self._channel[0]}, and it has "
                    f"{count}. Correct the channel, which is counted from 0."
                )
            if count > 1 and not self._named:
                raise BadInput(f"{self.files.shown(index)}: {MANY_CHANNELS.format(count)}")
            dtype = self.files.channel_dtype(index, self._channel[0])
            if dtype.kind not in "ui":
                raise BadInput(
                    f"{self.files.shown(index)}: holds {dtype} values; label maps hold whole numbers, one for each "
                    "class. For images as targets: --set data.target.kind=image."
                )
        if not any(self._is_known(index) for index in self.images()):
            raise BadInput(
                f"No pixel of the {len(self.images())} label maps is known: each value is {self._unknown}. Correct "
                "data.target.ignore, or give a map in which something is labelled."
            )
        self._require_foreground()

    def _require_foreground(self) -> None:
        """Raise BadInput where larger values count as background, and nothing else is left."""
        most, largest = self._most, 0
        if most is None:
            return
        for index, box in ((image, box) for image in self.images() for box in self._strips(image)):
            known = self.read(index, box)
            if self.share(known) > 0:
                return
            largest = max(largest, int(self.labels(index, box)[known[1] > 0].max(initial=0)))
        held = f"values up to {largest}, and those from {most} on count as background" if largest else "0 alone"
        raise BadInput(
            f"The {len(self.images())} label maps hold background alone: {held} (num_classes, or data.target.classes, "
            f"is {most}). Number the classes from 1 on in the label maps, or give a larger number of classes."
        )

    def too_large(self) -> tuple[list[int], list[int]]:
        """Places of images whose maps hold values from `data.target.classes` on, the background's; and those values.

        Each map is read once, in strips; what is unknown does not count.
        """
        if self._most is None:
            return [], []
        found = {index: self._large_in(index, self._most) for index in self.images()}
        return [index for index, values in found.items() if values], sorted(set().union(*found.values()))

    def _large_in(self, index: int, most: int) -> set[int]:
        values: set[int] = set()
        for box in self._strips(index):
            labels, known = self.labels(index, box), self.read(index, box)[1] > 0
            values.update(np.unique(labels[(labels >= most) & known]).tolist())
        return values

    def _strips(self, index: int) -> Iterator[Box]:
        """Boxes over t, z, y, x that cover a label map."""
        height, width = self.files.shape(index)[3:]
        for a, b, y in product(*self.planes(index), range(0, height, STRIP)):
            yield Box((a, b, y, 0), (a + 1, b + 1, min(y + STRIP, height), width))

    def _is_known(self, index: int) -> bool:
        """Whether a label map tells of any pixel; it is read in strips, until one does."""
        return any(bool(self.read(index, box)[1].any()) for box in self._strips(index))

    def labels(self, index: int, box: Box) -> np.ndarray:
        """(1, z, y, x) values as the file holds them; 0 in slices that it lacks."""
        return self.files.read(index, box, self._channel)[0]

    def objects(self, index: int, box: Box) -> np.ndarray:
        """The same where an object is known, else 0: what is unknown is none, nor is what counts as background."""
        target, known = self.read(index, box)
        return np.where((known > 0) & (target != self._ground), self.labels(index, box), 0)

    def read(self, index: int, box: Box) -> Known:
        labels, known = self.files.read(index, box, self._channel)
        values, last = labels.astype(np.int64), len(self._table) - 1
        places = np.where(values < 0, UNKNOWN, self._table[np.clip(values, 0, last)])
        return np.maximum(places, 0).astype(np.float32), (places != UNKNOWN) * known

    def share(self, known: Known) -> float:
        """Of what is no background."""
        target, weight = known
        seen = weight > 0 if self._ground is None else (weight > 0) & (target != self._ground)
        return float(seen.mean())


class ImageTargets(_Filed):
    """Another image, or other channels of the same one."""

    classes = False

    def __init__(self, samples: Samples, config: DataConfig) -> None:
        self.files = Files(samples, "target")
        count = self.files.shape(self.images()[0])[1]
        self.take = config.target.channels or tuple(range(count))
        self.channels = len(self.take)
        self.span: float | None = None

    def check(self) -> None:
        super().check()
        for index in self.images():
            count = self.files.shape(index)[1]
            if max(self.take) >= count:
                raise BadInput(
                    f"{self.files.shown(index)}: data.target.channels names channel {max(self.take)}, and it has 0 to "
                    f"{count - 1}. Correct the channels."
                )

    def raw(self, index: int, box: Box) -> np.ndarray:
        """(T, z, y, x) as the file holds it; 0 in slices that it lacks."""
        return self.files.read(index, box, self.take)[0]

    def read(self, index: int, box: Box) -> Known:
        values, there = self.files.read(index, box, self.take)
        found = apply(values, self.files.samples.target_preparation)
        known = np.isfinite(found).all(axis=0, keepdims=True) * there
        return np.nan_to_num(found, posinf=0.0, neginf=0.0), known.astype(np.float32)

    def share(self, known: Known) -> float:
        return float((known[1] > 0).mean())


class Weighted:
    """Targets times the weights of a mask: a file's or a channel's values, or what is computed of them.

    Args:
        targets: What is answered.
        samples: The images, with `mask` where masks are files.
        config: Which mask, and what its values weigh.
    """

    def __init__(self, targets: Targets, samples: Samples, config: MaskConfig) -> None:
        self.targets, self.samples, self.config = targets, samples, config
        self.channels, self.classes = targets.channels, targets.classes
        self.files = Files(samples, "mask", indices=config.method == "none")
        self.channel = config.channel or 0
        self._table = np.asarray(config.label_weights, np.float32)

    @property
    def span(self) -> float | None:
        return self.targets.span

    def images(self) -> list[int]:
        return self.targets.images()

    def check(self) -> None:
        self.targets.check()
        if self.config.method == "borders" and not isinstance(self.targets, LabelTargets):
            raise BadInput(
                "data.mask.method=borders weighs what lies between objects, and there are no label maps. Give some "
                "(data.target.kind=labels), or take another mask."
            )
        if self.config.method == "none" and self.config.folder is None and self.config.channel is None:
            raise BadInput("data.mask names no mask. Set data.mask.folder, data.mask.channel or data.mask.method.")
        for index in self.images():
            self.files.check(index)
            if self.channel >= self.files.shape(index)[1]:
                raise BadInput(
                    f"{self.files.shown(index)}: data.mask.channel names channel {self.channel}, and it has 0 to "
                    f"{self.files.shape(index)[1] - 1}. Correct the channel."
                )

    def read(self, index: int, box: Box) -> Known:
        found, weight = self.targets.read(index, box)
        return found, (weight * self.weights(index, box)).astype(np.float32)

    def somewhere(self, index: int, rng: np.random.Generator, within: Within | None = None) -> tuple[int, ...] | None:
        return self.targets.somewhere(index, rng, within)

    def knows(self, index: int, box: Box) -> bool:
        return self.targets.knows(index, box)

    def planes(self, index: int) -> Planes:
        return self.targets.planes(index)

    def share(self, known: Known) -> float:
        return float((known[1] > 0).mean())

    def weights(self, index: int, box: Box) -> np.ndarray:
        """(1, z, y, x) float32 weights in a box over t, z, y, x; 0 where the mask is silent."""
        if self.config.method != "none":
            return self._computed(index, box)
        values, there = self.files.read(index, box, (self.channel,))
        return self._weighed(values, index) * there

    def _weighed(self, values: np.ndarray, index: int) -> np.ndarray:
        if not len(self._table):
            whole = (
                255
                if self.files.channel_dtype(index, self.channel) == np.uint8 and self.files.maximum(index) > 1
                else 1
            )
            return np.maximum(np.nan_to_num(values.astype(np.float32)), 0) / whole
        places = values.astype(np.int64)
        if places.size and not 0 <= places.min() <= places.max() < len(self._table):
            raise BadInput(
                f"{self.files.shown(index)}: holds the value {int(places.max())}, and data.mask.label_weights has "
                f"weights for 0 to {len(self._table) - 1}. Give one for each value."
            )
        return self._table[places]

    def _computed(self, index: int, box: Box) -> np.ndarray:
        """Plane by plane, from whole planes: what a crop weighs does not depend on where the crop lies."""
        (t, z0, y0, x0), (_, z1, y1, x1) = box.start, box.stop
        planes = [self._plane(index, t, z)[y0:y1, x0:x1] for z in range(z0, z1)]
        return np.stack(planes)[None]

    def _plane(self, index: int, t: int, z: int) -> np.ndarray:
        name = (self.config.method, index, t, z)
        return self.samples.blocks.get(name, lambda: self._made(index, t, z))

    def _made(self, index: int, t: int, z: int) -> np.ndarray:
        y, x = self.samples.shape(index)[3:]
        if y * x > LARGEST_VOLUME:
            raise BadInput(
                f"data.mask.method={self.config.method}: a plane of {self.samples.images[index].name} ({x} x {y} "
                f"pixels) cannot be masked at once; at most {LARGEST_VOLUME:,} pixels are. Cut the image, or give "
                "masks as files: data.mask.folder."
            )
        box = Box((t, z, 0, 0), (t + 1, z + 1, y, x))
        if self.config.method == "borders":
            return _borders(self.targets, index, box)
        mask: np.ndarray
        if self.config.by == "volume":
            unseen = self.samples.unseen(z)
            name = ("mask", index, t, *sorted(unseen))
            mask = self.samples.blocks.get(name, lambda: self._volume(index, t, unseen))[z]
        else:
            mask = self._mask(self.files.read(index, box, (self.channel,))[0][0, 0])
        if not len(self._table):
            return mask.astype(np.float32)
        return self._weighed(mask.astype(np.uint8), index)

    def _volume(self, index: int, t: int, unseen: Collection[int]) -> np.ndarray:
        """(z, y, x) bool: the foreground of the slices that the file has, found in all of them together.

        But for those that must not be seen, where there is none.
        """
        _, _, depth, y, x = self.samples.shape(index)
        require_seen_at_once(depth, y, x, "data.mask.by")
        own, mask = self.files.slices(index), np.zeros((depth, y, x), bool)
        values, _ = self.files.read(index, Box((t, own.start, 0, 0), (t + 1, own.stop, y, x)), (self.channel,))
        slices = [z for z in own if z not in unseen]
        mask[slices] = self._mask(values[0][np.array(slices, int) - own.start])
        return mask

    def _mask(self, values: np.ndarray) -> np.ndarray:
        """The foreground of a plane or volume, bool."""
        from fieldmark.prepare import masks

        made = masks.otsu_mask if self.config.method == "otsu" else masks.unimodal_mask
        mask: np.ndarray = made(values, radius=self.config.radius)
        return mask


def _borders(targets: Targets, index: int, box: Box) -> np.ndarray:
    from fieldmark.prepare.weights import border_weights

    if not isinstance(targets, LabelTargets):
        raise TypeError("borders are those of label maps")
    return border_weights(targets.objects(index, box)[0, 0]).astype(np.float32)


def targets_of(samples: Samples, config: DataConfig, classes: tuple[ClassSpec, ...]) -> Targets:
    """The targets that a recipe asks for, each checked against its image. Raises BadInput where there are none."""
    made: Targets
    match config.target.kind:
        case "labels":
            made = LabelTargets(samples, classes, config)
        case "image":
            made = ImageTargets(samples, config)
        case "numbers":
            made = NumberTargets(samples, config)
        case _:
            made = MarkTargets(samples)
    if not made.images():
        raise BadInput(
            "There is nothing to learn from: no image has strokes or a target. Paint some (`fieldmark labels import`), "
            "or name a folder of label maps or images: --set data.target.kind=labels --set data.target.folder=FOLDER."
        )
    if config.mask is not None and config.target.kind != "numbers":
        made = Weighted(made, samples, config.mask)
    made.check()
    return made
