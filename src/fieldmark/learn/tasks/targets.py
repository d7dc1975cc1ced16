"""Learn to answer with targets: classes of pixels (segment) or other images (regress)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fieldmark.errors import BadInput, BadRecipe
from fieldmark.learn.descend import Descend
from fieldmark.learn.lessons import LessonBatches, Shape
from fieldmark.learn.losses import build_loss
from fieldmark.learn.optimizers import descend, make_optimizer
from fieldmark.models.layout import lay_channels_last
from fieldmark.models.own_code import blamed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning_fabric import Fabric

    from fieldmark.learn.lessons import Lesson
    from fieldmark.learn.samples import Samples
    from fieldmark.learn.splits import Split
    from fieldmark.learn.targets import Targets
    from fieldmark.models.base import Net
    from fieldmark.recipes import FitRecipe, TrainConfig

TEACH = "Label some of it, correct the mask, or let other images teach (data.split)."
VALIDATE = (
    "So no epoch could be chosen, and nothing ends the fit early. Label some of it, correct the mask, hold out other "
    "images (data.split.seed, data.split.by), or none: --set data.split.validation=0, and data.split.train that much "
    "more."
)
BALANCE_CROPS = 32
"""Crops that are looked at to balance the classes."""
LEAST_SPREAD = 1e-12
"""The share of the mean square that is a variance; what is less is rounding."""


def learn_targets(net: Net, samples: Samples, recipe: FitRecipe) -> Descend:
    """The phase that fits a network on the samples' targets (see `learn.run`, which parts and prepares them)."""
    if samples.targets is None or samples.split is None:
        raise RuntimeError("the targets are found before the phases are planned")
    config = recipe.train
    shape = Shape.of(net, config)
    split, targets = samples.split, samples.targets
    batches = LessonBatches(samples, targets, shape, config, split.train, recipe.seed, within=split.within(0))
    batches.require_known(split.train, split.within(0), "teaches", TEACH)
    return Descend("targets", OnTargets(net, targets, batches, config, split), batches, config)


class OnTargets:
    """A loss over known pixels; Dice or correlation of the images that validate.

    Args:
        net: Gives raw scores (B, K, *S).
        targets: What is answered.
        batches: Of the images that teach.
        config: Of the training.
        split: Which images, or planes of them, validate.
    """

    def __init__(self, net: Net, targets: Targets, batches: LessonBatches, config: TrainConfig, split: Split) -> None:
        self.net, self.targets, self.batches, self.config, self.split = net, targets, batches, config, split
        self.optimizer = make_optimizer(net.parameters(), config)
        self.loss = build_loss(
            config.loss, classes=targets.classes, class_weights=self._class_weights(), span=targets.span
        )
        bounded = getattr(getattr(net, "config", None), "final_activation", "linear") == "sigmoid"
        self._sigmoid = bounded and not targets.classes
        self._module: Any = net
        self._stepper: Any = self.optimizer
        self._kept: list[Lesson] = []
        self._scoring = _Overlap if targets.classes else _Correlation
        self.tells = ("loss", "val_loss", self._scoring.name)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.optimizer]

    def set_up(self, engine: Fabric) -> None:
        lay_channels_last(self.net)
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
        held = self.split.validation, self.split.within(1)
        self._kept = list(self.batches.validation(*held))
        if self.split.validation and not self._kept:
            self.batches.require_known(*held, "validates", VALIDATE)

    def validate(self, engine: Fabric) -> dict[str, float]:
        """`val_loss`, and `val_dice` (mean over classes) or `val_pearson`, of fixed crops; nothing without images."""
        scoring = self._scoring(self.targets.channels)
        losses = []
        with torch.inference_mode():
            for lesson in self._kept:
                target, weight = engine.to_device(lesson.target), engine.to_device(lesson.weight)
                scores = self._answer(engine, lesson)
                losses.append(float(self.loss(scores, target, weight)))
                scoring.add(scores, target, weight > 0)
        return {"val_loss": float(np.mean(losses)), scoring.name: scoring.value()} if losses else {}

    def state(self) -> dict[str, np.ndarray]:
        return {}

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        pass

    def _loss(self, engine: Fabric, batch: Lesson) -> Tensor:
        scores = self._answer(engine, batch)
        return self.loss(scores, engine.to_device(batch.target), engine.to_device(batch.weight))

    def _answer(self, engine: Fabric, batch: Lesson) -> Tensor:
        with blamed(type(self.net), f"forward of {tuple(batch.x.shape)}, a batch of crops,"):
            scores: Tensor = self._module(engine.to_device(batch.x))
        if not isinstance(scores, Tensor):
            raise BadInput(
                f"{type(self.net).__name__}: forward gives a {type(scores).__name__}, and one tensor of scores is "
                "wanted. Correct it."
            )
        scores = scores.float()
        wanted = (len(batch.x), self.targets.channels, *batch.target.shape[2:])
        if scores.shape != wanted:  # else a loss could stretch the one to the other, silently
            raise BadInput(
                f"{type(self.net).__name__}: forward gives {tuple(scores.shape)} for {tuple(batch.x.shape)}, and "
                f"{wanted} is wanted: out_channels maps of the size of what is learned. Correct it."
            )
        return scores.sigmoid() if self._sigmoid else scores

    def _class_weights(self) -> Tensor | None:
        """(K,) as the recipe says; `balanced` gives every class the same voice, by the first crops of the fit.

        A class that these do not show weighs as the rarest that they do: by its own share of nothing it would silence
        all others.
        """
        asked = self.config.loss.class_weights
        if asked is None or not self.targets.classes:
            return None
        if asked != "balanced":
            return _checked_weights(asked, self.targets.channels)
        counts = np.zeros(self.targets.channels)
        for index in range(-(-BALANCE_CROPS // self.config.batch_size)):
            lesson = self.batches.get(0, index)
            known = lesson.weight > 0
            places = lesson.target[known].long().numpy()
            counts += np.bincount(places, weights=lesson.weight[known].numpy(), minlength=len(counts))[: len(counts)]
        if not counts.any():
            return None
        voices = 1 / np.where(counts > 0, counts, counts[counts > 0].min())
        return torch.from_numpy((voices / voices.mean()).astype(np.float32))


def _checked_weights(asked: Sequence[float], classes: int) -> Tensor:
    """(K,) weights. Raises BadRecipe where they are not one for each class, or none counts."""
    if len(asked) != classes:
        raise BadRecipe(
            f"train.loss.class_weights: found {len(asked)} of them for {classes} classes. Give one for each, in the "
            "order of the classes."
        )
    if not any(asked):
        raise BadRecipe("train.loss.class_weights: all of them are 0, so nothing is learned. Raise one.")
    return torch.tensor(asked, dtype=torch.float32)


def let_encoder_rest(net: Net, config: TrainConfig, epoch: int) -> None:
    """A published encoder's weights stay in the first epochs; asked at each step, since a fit may begin at any."""
    encoder = getattr(net, "encoder", None)
    if encoder is not None and config.only_decoder_epochs:
        for weight in encoder.parameters():
            weight.requires_grad_(epoch >= config.only_decoder_epochs)


def voice(engine: Fabric, weight: Tensor) -> float:
    """What this process's loss, a mean over its samples with any known pixel, counts in the mean over processes.

    So that several processes take the step that one would take with the whole batch.
    """
    if engine.world_size == 1:
        return 1.0
    own = weight.flatten(1).any(dim=1).sum().to(engine.device, torch.float64)
    total = float(engine.all_reduce(own.clone(), reduce_op="sum"))
    return float(own) * engine.world_size / total if total else 1.0


class _Overlap:
    """Dice of each class over all known pixels together; the mean over classes that are there."""

    name = "val_dice"

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.counts = np.zeros((3, classes))  # both, found, true

    def add(self, scores: Tensor, target: Tensor, known: Tensor) -> None:
        found = scores.argmax(dim=1, keepdim=True)[known].cpu().numpy()
        truth = target[known].long().cpu().numpy()
        for row, places in enumerate((found[found == truth], found, truth)):
            self.counts[row] += np.bincount(places, minlength=self.classes)[: self.classes]

    def value(self) -> float:
        both, found, true = self.counts
        there = found + true > 0
        return float((2 * both[there] / (found + true)[there]).mean()) if there.any() else 0.0


class _Correlation:
    """Pearson's correlation over all known pixels together; NaN where the truth does not vary."""

    name = "val_pearson"

    def __init__(self, channels: int) -> None:
        self.sums = np.zeros(6)

    def add(self, scores: Tensor, target: Tensor, known: Tensor) -> None:
        wide = known.expand_as(target)
        x, y = (part[wide].double().cpu().numpy() for part in (scores, target))
        self.sums += [len(x), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()]

    def value(self) -> float:
        n, x, y, xx, yy, xy = self.sums
        own, true = n * xx - x * x, n * yy - y * y
        if not true > LEAST_SPREAD * n * yy or not np.isfinite(own):
            return float("nan")
        return float((n * xy - x * y) / np.sqrt(own * true)) if own > LEAST_SPREAD * n * xx else 0.0
