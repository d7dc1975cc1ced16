"""Batches of images with what they should answer; each crop is drawn from its place in the run alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch

from fieldmark.core.geometry import Box, round_up
from fieldmark.core.seeds import derive_seed
from fieldmark.errors import BadInput, some
from fieldmark.learn.targets import Weighted

if TYPE_CHECKING:
    from torch import Tensor

    from fieldmark.learn.samples import Samples
    from fieldmark.learn.target_files import Within
    from fieldmark.learn.targets import Targets
    from fieldmark.models.base import Net
    from fieldmark.recipes.train import TrainConfig

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Pixels (C, *S), target (T, *S) and weight (1, *S) of one crop."""

TRIES = 10
"""How often a crop is drawn again that shows too little."""
MOST_VALIDATION = 64
"""Crops that validate, spread over the images where there are more; fewer where they are large."""
VALIDATION_PIXELS = 1 << 24


@dataclass(frozen=True, slots=True)
class Lesson:
    """A batch of samples, B of them; S is (y, x) or (z, y, x).

    Args:
        x: (B, C, *S) float32, prepared pixels.
        target: (B, T, *S) float32: places of classes (T = 1) or values of images. Where the weight is 0 it may be
            anything, NaN too. A 2.5-D network's target may have fewer slices than x.
        weight: (B, 1, *S) float32, as large as the target; 0 where nobody knows the answer.
        classes: Whether the target holds places of classes.
        seed: Of what is drawn by chance while it is learned, such as dropout.
        epoch: That it belongs to.
    """

    x: Tensor
    target: Tensor
    weight: Tensor
    classes: bool = False
    seed: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """What a network takes while it is trained, along z, y, x.

    Args:
        crop: Pixels of a crop.
        window: Slices of a stack of which the middle one is answered (all, with `stack`); 0 for other networks.
        stack: Whether all slices of the window are answered.
        spatial: 2 where a sample has no z.
    """

    crop: tuple[int, int, int]
    window: int
    stack: bool
    spatial: int

    @classmethod
    def of(cls, net: Net, config: TrainConfig) -> Shape:
        window = int(getattr(net, "window", 0))
        depth = config.depth if net.spatial == 3 and not window else 1
        least = list((1, *net.least)[-3:])
        if config.batch_size == 1:  # batch norm takes no statistic of a single pixel, which a crop's bottom may be
            least[2] = max(least[2], 2 * net.strides[2])
        grown = map(round_up, (depth, *config.crop), net.strides)
        z, y, x = map(max, grown, least)
        return cls((z, y, x), window, bool(window) and getattr(net, "gives", "slice") == "stack", net.spatial)


class LessonBatches:
    """Crops of images with targets.

    Args:
        samples: Images, with their preparation.
        targets: What should be answered.
        shape: Of a crop.
        config: Sizes and counts.
        images: Places of the images that teach.
        seed: Of the run.
        within: The planes of these that teach; None for all.
    """

    def __init__(
        self,
        samples: Samples,
        targets: Targets,
        shape: Shape,
        config: TrainConfig,
        images: Sequence[int],
        seed: int,
        *,
        within: Within | None = None,
    ) -> None:
        self.samples, self.targets, self.shape, self.config = samples, targets, shape, config
        self.images, self.within = list(images), within
        self._require_possible()
        self.seed = derive_seed(seed, "lessons")
        self.rank, self.world = 0, 1
        count = config.crops_per_epoch or self._cover()
        self.per_epoch = max(1, -(-count // config.batch_size))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="lessons")
        self._reading = Lock()  # validation may read while the next batch is made
        self._ahead: tuple[tuple[int, int], Future[Lesson]] | None = None

    def share(self, rank: int, world: int) -> None:
        """Make this process one of `world` that share each batch: it gets every `world`-th sample."""
        if world > self.config.batch_size:
            raise BadInput(
                f"{world} processes cannot share batches of {self.config.batch_size}. Raise train.batch_size, or lower "
                "devices or num_nodes."
            )
        if (rank, world) != (self.rank, self.world):
            self.rank, self.world, self._ahead = rank, world, None

    def get(self, epoch: int, index: int) -> Lesson:
        """A batch; the next one is made meanwhile."""
        key, ahead = (epoch, index), self._ahead
        following = divmod(epoch * self.per_epoch + index + 1, self.per_epoch)
        lesson = ahead[1].result() if ahead is not None and ahead[0] == key else self._batch(*key)
        self._ahead = ((following[0], following[1]), self._pool.submit(self._batch, *following))
        return lesson

    def validation(self, images: Sequence[int], within: Within | None = None) -> Iterator[Lesson]:
        """Crops that cover images, or planes of them, without chance and unchanged, one a batch.

        Of many, some that are spread over them: the first of each stretch in which a pixel is known.
        """
        boxes = [(index, box) for index in images for box in self._tiles(index, within)]
        most = min(MOST_VALIDATION, max(4, VALIDATION_PIXELS // prod(self.shape.crop)))
        step = max(1, -(-len(boxes) // most))
        for first in range(0, len(boxes), step):
            known = (at for at in boxes[first : first + step] if self._is_known(self.targets, *at))
            if (at := next(known, None)) is not None:
                yield self._stacked([self._sample(*at)], 0, 0)

    def require_known(self, images: Sequence[int], within: Within | None, what: str, advice: str) -> None:
        """Raise BadInput, which names images, where no pixel of them is known, or a mask leaves none.

        Args:
            images: Places of them.
            within: Their planes that are meant; None for all.
            what: The images are for, such as `teaches`.
            advice: A sentence on what to do.
        """
        if self._any_known(self.targets, images, within):
            return
        inner = self.targets.targets if isinstance(self.targets, Weighted) else None
        hidden = inner is not None and self._any_known(inner, images, within)
        why = "the mask of the loss (data.mask) hides all that is known there" if hidden else "nothing is known there"
        names = [self.samples.images[index].name for index in images]
        raise BadInput(f"No pixel counts in what {what} ({some(names, 3)}): {why}. {advice}")

    def _any_known(self, targets: Targets, images: Sequence[int], within: Within | None) -> bool:
        boxes = ((index, box) for index in images for box in self._tiles(index, within))
        return any(self._is_known(targets, *at) for at in boxes)

    def _is_known(self, targets: Targets, index: int, box: Box) -> bool:
        """Whether any pixel of a crop's answer counts."""
        wide = self._window(index, box) if self.shape.stack else box
        with self._reading:
            return bool(targets.read(index, wide)[1].any())

    def _require_possible(self) -> None:
        if (
            self.within is not None
            and self.within[0] == 1
            and (self.shape.stack or (self.shape.spatial == 3 and not self.shape.window))
        ):
            raise BadInput(
                "data.split.by=slice parts the slices of an image, and this network answers whole stacks. Split by "
                "image, group or time, or take one that answers slices."
            )

    def _batch(self, epoch: int, index: int) -> Lesson:
        size = self.config.batch_size
        numbers = range(index * size + self.rank, (index + 1) * size, self.world)
        drawn = [self._drawn(epoch, number) for number in numbers]
        lesson = self._stacked(drawn, derive_seed(self.seed, epoch, index), epoch)
        from fieldmark.learn.augment import augmented

        return augmented(
            lesson, self.config.augment, [derive_seed(self.seed, "augment", epoch, number) for number in numbers]
        )

    def _drawn(self, epoch: int, number: int) -> Sample:
        """The first of a few crops that shows enough, or the best of them."""
        rng = np.random.default_rng(derive_seed(self.seed, "crop", epoch, number))
        best, most = None, -1.0
        for _ in range(TRIES):
            index = self.images[int(rng.integers(len(self.images)))]
            box = self._crop(index, rng)
            sample = self._sample(index, box)
            share = self._share(index, box, sample) if sample[2].any() else -0.5
            if share > most:
                best, most = sample, share
            if most >= self.config.min_fraction:
                break
        if best is None:
            raise ValueError("no crop was drawn")
        return best

    def _share(self, index: int, box: Box, sample: Sample) -> float:
        """How much of a crop shows something, 0..1."""
        if self.samples.foreground is None:
            return self.targets.share(sample[1:])
        with self._reading:
            return self.samples.foreground.share(index, box)

    def _crop(self, index: int, rng: np.random.Generator) -> Box:
        """A box over t, z, y, x inside the image; around a known pixel where few are known."""
        t, _, z, y, x = self.samples.shape(index)
        known = self.targets.somewhere(index, rng, self.within)
        start = [int(rng.integers(t))]
        for axis, (size, side) in enumerate(zip((z, y, x), self.shape.crop, strict=True), start=1):
            most = max(0, size - side)
            first = int(rng.integers(most + 1)) if known is None else known[axis] - int(rng.integers(side))
            start.append(min(max(0, first), most))
        if known is not None:
            start[0] = known[0]
        stop = [start[0] + 1, *(min(n, a + s) for n, a, s in zip((z, y, x), start[1:], self.shape.crop, strict=True))]
        return Box(tuple(start), tuple(stop))

    def _tiles(self, index: int, within: Within | None) -> Iterator[Box]:
        """Boxes of a crop's size that cover an image where it has answers; the last ones are flush with its border."""
        t, _, z, y, x = self.samples.shape(index)
        axes = [_starts(n, side) for n, side in zip((z, y, x), self.shape.crop, strict=True)]
        for time in range(t):
            for at in np.ndindex(*(len(axis) for axis in axes)):
                start = tuple(axis[n] for axis, n in zip(axes, at, strict=True))
                stop = (min(n, a + s) for n, a, s in zip((z, y, x), start, self.shape.crop, strict=True))
                box = Box((time, *start), (time + 1, *stop))
                meant = within is None or box.start[within[0]] in within[1]
                if meant and self.targets.knows(index, box):
                    yield box

    def _sample(self, index: int, box: Box) -> Sample:
        """Prepared pixels, target and weight of a box, grown to the crop's size: (C | T | 1, *S)."""
        wide = self._window(index, box) if self.shape.window else box
        with self._reading:
            pixels = self.samples.read(index, wide, spatial=3)
            target, weight = self.targets.read(index, wide if self.shape.stack else box)
        if self.shape.window:
            pixels = _between(pixels, box, wide, self.shape.window)
            if self.shape.stack:
                target, weight = (_between(part, box, wide, self.shape.window) for part in (target, weight))
        x, answer = (_grown(part, self.shape.crop[1:], self._depth(part)) for part in (pixels, target))
        weight = _grown(weight, self.shape.crop[1:], self._depth(weight), constant=True)
        return (x, answer, weight) if self.shape.spatial == 3 else (x[:, 0], answer[:, 0], weight[:, 0])

    def _depth(self, part: np.ndarray) -> int:
        return part.shape[1] if self.shape.window else self.shape.crop[0]

    def _window(self, index: int, box: Box) -> Box:
        """The slices around a slice, as far as the image has them."""
        half, depth = self.shape.window // 2, self.samples.shape(index)[2]
        (t, z, *start), (t1, _, *stop) = box.start, box.stop
        return Box((t, max(0, z - half), *start), (t1, min(depth, z + half + 1), *stop))

    def _stacked(self, parts: Sequence[Sample], seed: int, epoch: int) -> Lesson:
        x, target, weight = (torch.from_numpy(np.stack(part)) for part in zip(*parts, strict=True))
        return Lesson(x, target, weight, self.targets.classes, seed, epoch)

    def _cover(self) -> int:
        """Crops that are as large as all that teaches, or as the share of it that makes an epoch."""
        return max(1, round(self.config.crops_share * sum(self._crops_of(index) for index in self.images)))

    def _crops_of(self, index: int) -> float:
        planes = [
            len(along) if self.within is None or self.within[0] != axis else len(self.within[1] & {*along})
            for axis, along in enumerate(self.targets.planes(index))
        ]
        size = (planes[1], *self.samples.shape(index)[3:])
        return planes[0] * max(1.0, prod(n / c for n, c in zip(size, self.shape.crop, strict=True)))


def _starts(size: int, side: int) -> list[int]:
    if size <= side:
        return [0]
    return [*range(0, size - side, side), size - side]


def _between(part: np.ndarray, box: Box, wide: Box, window: int) -> np.ndarray:
    """A window of slices: those that the image lacks repeat its first and last one."""
    half = window // 2
    before = half - (box.start[1] - wide.start[1])
    after = half - (wide.stop[1] - box.stop[1])
    return np.pad(part, ((0, 0), (before, after), (0, 0), (0, 0)), mode="edge")


def _grown(part: np.ndarray, size: tuple[int, ...], depth: int, *, constant: bool = False) -> np.ndarray:
    """(C, z, y, x) grown at the far ends: by reflection, or by 0."""
    beyond = [max(0, new - old) for new, old in zip((depth, *size), part.shape[1:], strict=True)]
    if not any(beyond):
        return part
    width = ((0, 0), *((0, n) for n in beyond))
    return np.pad(part, width) if constant else np.pad(part, width, mode="symmetric")
