"""Batches of images with what they should answer; each crop is drawn from its place in the run alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch

from fieldmark.core.geometry import Box, round_up
from fieldmark.core.seeds import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from fieldmark.learn.samples import Samples
    from fieldmark.learn.targets import Targets
    from fieldmark.models.base import Net
    from fieldmark.recipes.train import TrainConfig

TRIES = 10
"""How often a crop is drawn again that shows too little."""
MOST_VALIDATION = 64
"""Crops that validate; spread over the images where there are more."""


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
    """

    x: Tensor
    target: Tensor
    weight: Tensor
    classes: bool = False
    seed: int = 0


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
        wanted = (depth, *config.crop)
        z, y, x = (round_up(n, s) for n, s in zip(wanted, net.strides, strict=True))
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
        rank: This process among `world`: it gets every `world`-th sample of a batch.
        world: Processes that share each batch.
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
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.samples, self.targets, self.shape, self.config = samples, targets, shape, config
        self.images = list(images)
        self.seed = derive_seed(seed, "lessons")
        self.rank, self.world = rank, world
        count = config.crops_per_epoch or self._cover()
        self.per_epoch = max(1, -(-count // config.batch_size))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="lessons")
        self._ahead: tuple[tuple[int, int], Future[Lesson]] | None = None

    def get(self, epoch: int, index: int) -> Lesson:
        """A batch; the next one is made meanwhile."""
        key, ahead = (epoch, index), self._ahead
        following = divmod(epoch * self.per_epoch + index + 1, self.per_epoch)
        lesson = ahead[1].result() if ahead is not None and ahead[0] == key else self._batch(*key)
        self._ahead = ((following[0], following[1]), self._pool.submit(self._batch, *following))
        return lesson

    def validation(self, images: Sequence[int]) -> Iterator[Lesson]:
        """Crops that cover images, without chance and unchanged, one a batch."""
        boxes = [(index, box) for index in images for box in self._tiles(index)]
        step = max(1, -(-len(boxes) // MOST_VALIDATION))
        for index, box in boxes[::step]:
            yield self._stacked([self._sample(index, box)], 0)

    def _batch(self, epoch: int, index: int) -> Lesson:
        size = self.config.batch_size
        numbers = range(index * size + self.rank, (index + 1) * size, self.world)
        lesson = self._stacked([self._drawn(epoch, number) for number in numbers], derive_seed(self.seed, epoch, index))
        from fieldmark.learn.augment import augmented

        return augmented(
            lesson, self.config.augment, [derive_seed(self.seed, "augment", epoch, number) for number in numbers]
        )

    def _drawn(self, epoch: int, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(derive_seed(self.seed, "crop", epoch, number))
        best = None
        for _ in range(TRIES):
            index = self.images[int(rng.integers(len(self.images)))]
            sample = self._sample(index, self._crop(index, rng))
            if best is None or sample[2].mean() > best[2].mean():
                best = sample
            if best[2].any() and (best[2] > 0).mean() >= self.config.min_fraction:
                break
        if best is None:
            raise ValueError("no crop was drawn")
        return best

    def _crop(self, index: int, rng: np.random.Generator) -> Box:
        """A box over t, z, y, x inside the image; around a known pixel where few are known."""
        t, _, z, y, x = self.samples.source(index).shape
        known = self.targets.somewhere(index, rng)
        start = [int(rng.integers(t))]
        for axis, (size, side) in enumerate(zip((z, y, x), self.shape.crop, strict=True), start=1):
            most = max(0, size - side)
            first = int(rng.integers(most + 1)) if known is None else known[axis] - int(rng.integers(side))
            start.append(min(max(0, first), most))
        if known is not None:
            start[0] = known[0]
        stop = [start[0] + 1, *(min(n, a + s) for n, a, s in zip((z, y, x), start[1:], self.shape.crop, strict=True))]
        return Box(tuple(start), tuple(stop))

    def _tiles(self, index: int) -> Iterator[Box]:
        """Boxes of a crop's size that cover an image; the last ones are flush with its border."""
        t, _, z, y, x = self.samples.source(index).shape
        axes = [_starts(n, side) for n, side in zip((z, y, x), self.shape.crop, strict=True)]
        for time in range(t):
            for at in np.ndindex(*(len(axis) for axis in axes)):
                start = tuple(axis[n] for axis, n in zip(axes, at, strict=True))
                stop = (min(n, a + s) for n, a, s in zip((z, y, x), start, self.shape.crop, strict=True))
                yield Box((time, *start), (time + 1, *stop))

    def _sample(self, index: int, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Prepared pixels, target and weight of a box, grown to the crop's size: (C | T | 1, *S)."""
        wide = self._window(index, box) if self.shape.window else box
        pixels = self.samples.read(index, wide, spatial=3)
        target, weight = self.targets.read(index, wide if self.shape.stack else box)
        if self.shape.window:
            pixels = _between(pixels, index, box, wide, self.shape.window)
            if self.shape.stack:
                target, weight = (_between(part, index, box, wide, self.shape.window) for part in (target, weight))
        grown = [_grown(part, self.shape.crop[1:], self._depth(part)) for part in (pixels, target)]
        known = _grown(weight, self.shape.crop[1:], self._depth(weight), constant=True)
        x, answer, weight = (*grown, known)
        return (x, answer, weight) if self.shape.spatial == 3 else (x[:, 0], answer[:, 0], weight[:, 0])

    def _depth(self, part: np.ndarray) -> int:
        return part.shape[1] if self.shape.window else self.shape.crop[0]

    def _window(self, index: int, box: Box) -> Box:
        """The slices around a slice, as far as the image has them."""
        half, depth = self.shape.window // 2, self.samples.source(index).shape[2]
        (t, z, *start), (t1, _, *stop) = box.start, box.stop
        return Box((t, max(0, z - half), *start), (t1, min(depth, z + half + 1), *stop))

    def _stacked(self, parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], seed: int) -> Lesson:
        x, target, weight = (torch.from_numpy(np.stack(part)) for part in zip(*parts, strict=True))
        return Lesson(x, target, weight, self.targets.classes, seed)

    def _cover(self) -> int:
        """Crops that are as large as all teaching images together."""
        sizes = (self.samples.source(index).shape for index in self.images)
        pixels = sum(
            max(1.0, t * prod(n / c for n, c in zip(size, self.shape.crop, strict=True))) for t, _, *size in sizes
        )
        return max(1, round(pixels))


def _starts(size: int, side: int) -> list[int]:
    if size <= side:
        return [0]
    return [*range(0, size - side, side), size - side]


def _between(part: np.ndarray, index: int, box: Box, wide: Box, window: int) -> np.ndarray:
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
