"""Learn to answer whole images with numbers."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fieldmark.core.seeds import derive_seed
from fieldmark.errors import BadInput, BadRecipe
from fieldmark.infer.numbers import require_seen, whole_input
from fieldmark.learn.augment import augmented
from fieldmark.learn.descend import Descend
from fieldmark.learn.lessons import Lesson
from fieldmark.learn.losses import build_loss
from fieldmark.learn.number_targets import NumberTargets
from fieldmark.learn.optimizers import descend, make_optimizer
from fieldmark.learn.tasks.targets import let_encoder_rest, voice
from fieldmark.prepare import apply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning_fabric import Fabric

    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net
    from fieldmark.recipes import FitRecipe, TrainConfig

KEPT = 256
"""Prepared images of at most `KEPT_VALUES` values that stay in memory; others are read each time."""
KEPT_VALUES = 1 << 20
LOSSES = ("mae", "mse")


def learn_numbers(net: Net, samples: Samples, recipe: FitRecipe) -> Descend:
    """The phase that fits a network on the numbers of images (see `learn.run`, which parts and scales them)."""
    targets, split = samples.targets, samples.split
    if not isinstance(targets, NumberTargets) or split is None:
        raise RuntimeError("the targets are found before the phases are planned")
    if split.axis is not None:
        raise BadInput("data.split.by: numbers belong to whole images, and planes are no part of that. Split by group.")
    if unknown := sorted(set(recipe.train.loss.terms) - set(LOSSES)):
        raise BadRecipe(f"train.loss.terms: {unknown[0]!r} is no loss of numbers. Use {' or '.join(LOSSES)}.")
    images = RowBatches(net, samples, targets, recipe.train, split.train, recipe.seed)
    return Descend("numbers", OnNumbers(net, images, recipe.train, split.validation), images, recipe.train)


class RowBatches:
    """Whole images with their numbers: all that teach, once an epoch, in an order drawn from the epoch alone.

    Args:
        net: Whose input is made.
        samples: Images, with their preparation.
        targets: Their numbers.
        config: Sizes and counts.
        images: Places of the images that teach.
        seed: Of the run.
    """

    def __init__(
        self,
        net: Net,
        samples: Samples,
        targets: NumberTargets,
        config: TrainConfig,
        images: Sequence[int],
        seed: int,
    ) -> None:
        self.net, self.samples, self.targets, self.config = net, samples, targets, config
        self.images = list(images)
        self.seed = derive_seed(seed, "rows")
        self.rank, self.world = 0, 1
        self.per_epoch = -(-len(self.images) // config.batch_size)
        self._kept = lru_cache(maxsize=KEPT)(self._input)
        self._require_one_size()

    def share(self, rank: int, world: int) -> None:
        """Make this process one of `world` that share each batch: it gets every `world`-th sample."""
        self.rank, self.world = rank, world

    def get(self, epoch: int, index: int) -> Lesson:
        """A batch; the last one of an epoch is filled up with images of its beginning."""
        order = np.random.default_rng(derive_seed(self.seed, "order", epoch)).permutation(len(self.images))
        size = self.config.batch_size
        numbers = range(index * size + self.rank, (index + 1) * size, self.world)
        drawn = [self.images[int(order[number % len(order)])] for number in numbers]
        lesson = self.lesson(drawn, seed=derive_seed(self.seed, epoch, index), epoch=epoch)
        seeds = [derive_seed(self.seed, "augment", epoch, number) for number in numbers]
        return augmented(lesson, self.config.augment, seeds)

    def lesson(self, images: Sequence[int], *, seed: int = 0, epoch: int = 0) -> Lesson:
        """Images and rows: target (B, D) in prepared units, weight (B, D) of 1 where a number is known."""
        x = torch.cat([self._seen(index) for index in images])
        raw = self.targets.values[list(images)].astype(np.float32)
        rows = apply(raw.T[:, :, None], self.samples.target_preparation)[:, :, 0].T
        known = np.isfinite(rows).astype(np.float32)
        target, weight = torch.from_numpy(np.nan_to_num(rows)), torch.from_numpy(known)
        return Lesson(x, target, weight, seed=seed, epoch=epoch)

    def _seen(self, index: int) -> Tensor:
        return self._kept(index) if self._held(index) <= KEPT_VALUES else self._input(index)

    def _held(self, index: int) -> int:
        """Values of a prepared image, at the size that the network sees."""
        *_, z, y, x = self.samples.shape(index)
        return int(np.prod((self.net.channels, z, *(getattr(self.net, "size", None) or (y, x)))))

    def _input(self, index: int) -> Tensor:
        source, name = self.samples.source(index), self.samples.images[index].name
        return whole_input(self.net, source, self.samples.preparation, name)

    def _require_one_size(self) -> None:
        """Raise BadInput where images cannot stand in one batch, or one cannot be seen whole."""
        first = self.images[0]
        for index in self.targets.images():
            require_seen(self.net, self.samples.shape(index), self.samples.images[index].name)
            sizes = [self.samples.shape(place)[2:] for place in (first, index)]
            if sizes[0] != sizes[1] and getattr(self.net, "size", None) is None:
                names = [self.samples.images[place].name for place in (first, index)]
                raise BadInput(
                    f"{names[0]} has {sizes[0]} pixels (z, y, x) and {names[1]} has {sizes[1]}. Numbers are learned "
                    f"from images of one size: --set 'net.size=[{sizes[0][1]}, {sizes[0][2]}]' resizes all of them."
                )


class OnNumbers:
    """A loss over known numbers; the mean correlation over columns of the images that validate.

    Args:
        net: Gives rows (B, D).
        batches: Of the images that teach.
        config: Of the training.
        held: Places of the images that validate.
    """

    tells = ("loss", "val_loss", "val_pearson")

    def __init__(self, net: Net, batches: RowBatches, config: TrainConfig, held: Sequence[int]) -> None:
        self.net, self.batches, self.config, self.held = net, batches, config, list(held)
        self.optimizer = make_optimizer(net.parameters(), config)
        self.loss = build_loss(config.loss, classes=False)
        self._module: Any = net
        self._stepper: Any = self.optimizer

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.optimizer]

    def set_up(self, engine: Fabric) -> None:
        module = torch.compile(self.net) if self.config.compile else self.net
        self._module, self._stepper = engine.setup(module, self.optimizer)
        self.batches.share(engine.global_rank, engine.world_size)

    def on_epoch(self, epoch: int) -> None:
        pass

    def step(self, engine: Fabric, batch: Lesson) -> dict[str, float]:
        let_encoder_rest(self.net, self.config, batch.epoch)
        devices = [torch.cuda.current_device()] if engine.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(batch.seed)
            loss = self._loss(engine, batch) * voice(engine, batch.weight)
        descend(engine, self._module, self._stepper, loss, self.config.clip_norm)
        return {"loss": float(loss.detach())}

    def look(self) -> None:
        pass  # every image that is held out has a number

    def validate(self, engine: Fabric) -> dict[str, float]:
        """`val_loss`, and `val_pearson` (mean over columns that vary; NaN without any); nothing without images."""
        if not self.held:
            return {}
        losses, found, true = [], [], []
        with torch.inference_mode():
            for index in self.held:
                lesson = self.batches.lesson([index])
                losses.append(float(self._loss(engine, lesson)))
                found.append(self._answer(engine, lesson)[0].cpu().numpy())
                true.append(np.where(lesson.weight[0].numpy() > 0, lesson.target[0].numpy(), np.nan))
        return {"val_loss": float(np.mean(losses)), "val_pearson": _correlation(np.array(found), np.array(true))}

    def state(self) -> dict[str, np.ndarray]:
        return {}

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        pass

    def _answer(self, engine: Fabric, batch: Lesson) -> Tensor:
        rows: Tensor = self._module(engine.to_device(batch.x)).float()
        return rows

    def _loss(self, engine: Fabric, batch: Lesson) -> Tensor:
        """A row is to the losses what a line of pixels is."""
        target, weight = engine.to_device(batch.target), engine.to_device(batch.weight)
        return self.loss(self._answer(engine, batch)[:, None], target[:, None], weight[:, None])


def _correlation(found: np.ndarray, true: np.ndarray) -> float:
    """The mean over columns of (N, D) whose truth varies, 0 for an answer that does not; NaN where no truth does."""
    each = []
    for own, right in zip(found.T, true.T, strict=True):
        known = np.isfinite(right)
        if known.sum() > 1 and np.ptp(right[known]) > 0:
            flat = np.ptp(own[known]) == 0
            each.append(0.0 if flat else float(np.corrcoef(own[known], right[known])[0, 1]))
    return float(np.mean(each)) if each else float("nan")
