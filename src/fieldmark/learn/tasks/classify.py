"""Learn the class of whole images by gradient descent, on fixed features or through the whole network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fieldmark.core.seeds import derive_seed
from fieldmark.learn.descend import Descend
from fieldmark.learn.images import image_maps, look_for, require_answers, whole_image
from fieldmark.learn.optimizers import descend, make_optimizer
from fieldmark.learn.svm import standardization
from fieldmark.learn.within import shrink_within
from fieldmark.models.image_heads import DenseHead, ImageHead, Look, OwnHead, PooledVector, trimmed

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net
    from fieldmark.recipes import FitRecipe, ImageHeadConfig

RIGHT = "accuracy on these images"
MOST_KEPT = 1 << 30
"""Bytes of fixed features that are kept in memory; those of further images are computed each time."""


def classify(net: Net, samples: Samples, recipe: FitRecipe) -> Descend | None:
    """The phase that fits a dense head on the answered images; None where the recipe asks for none."""
    config = recipe.image_head
    if config.kind != "dense":
        return None
    require_answers(samples)
    look = look_for(samples, config, fixed=net.brings_classifier)
    batches = AnswerBatches(len(samples.answers), config.descend.batch_size, derive_seed(recipe.seed, "classify"))
    return Descend("classify", Classify(net, samples, config, look, recipe.seed), batches, config.descend)


@dataclass(frozen=True, slots=True)
class AnswerBatch:
    """Rows of the answers, and the seed of what is drawn while they are learned (dropout)."""

    rows: np.ndarray
    seed: int


class AnswerBatches:
    """All answers once an epoch, in an order drawn from the epoch alone; the last batch may be smaller."""

    def __init__(self, count: int, size: int, seed: int) -> None:
        self.count = count
        self.size = size
        self.seed = seed
        self.per_epoch = -(-count // size)

    def get(self, epoch: int, index: int) -> AnswerBatch:
        order = np.random.default_rng(derive_seed(self.seed, "order", epoch)).permutation(self.count)
        seed = derive_seed(self.seed, "step", epoch, index)
        return AnswerBatch(order[index * self.size : (index + 1) * self.size], seed)


class Classify:
    """Cross entropy of an image head's scores, with Adam.

    The head is made when the phase begins: its size follows from the features, which
    earlier phases learn.

    Args:
        net: The network; its features are learned already.
        samples: Images and answers.
        config: Of the head and its descent.
        look: How images become vectors.
        seed: Of the run.
    """

    tells = ("loss", RIGHT)

    def __init__(self, net: Net, samples: Samples, config: ImageHeadConfig, look: Look, seed: int) -> None:
        self.net = net
        self.samples = samples
        self.config = config
        self.look = look
        self.seed = derive_seed(seed, "image-head")
        self.epoch = 0
        self._optimizer: torch.optim.Optimizer | None = None
        self._kept: dict[int, Tensor] = {}
        self._room = MOST_KEPT
        self._module: Any = None
        self._stepper: Any = None

    def optimizers(self) -> list[torch.optim.Optimizer]:
        if self._optimizer is None:
            self._optimizer = self._begun()
        return [self._optimizer]

    def set_up(self, engine: Fabric) -> None:
        (optimizer,) = self.optimizers()
        fixed = self.config.descend.only_classifier
        for weight in [] if fixed else self.net.tunable():
            weight.data = weight.data.to(engine.device)  # in place: the optimizer holds these tensors
        judge = _Judge(self.net, self._head, fixed=fixed)
        self._module, self._stepper = engine.setup(judge, optimizer)

    def on_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def step(self, engine: Fabric, batch: AnswerBatch) -> dict[str, float]:
        klass = engine.to_device(torch.from_numpy(self.samples.answers.klass[batch.rows]))
        inputs = [engine.to_device(self._input(int(row))) for row in batch.rows]
        devices = [torch.cuda.current_device()] if engine.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(batch.seed)
            scores = self._scores(inputs)
        loss = cross_entropy(scores, klass)
        descend(engine, self._module, self._stepper, loss, self._clip())
        right = (scores.argmax(dim=1) == klass).float().mean()
        return {"loss": float(loss.detach()), RIGHT: float(right)}

    def state(self) -> dict[str, np.ndarray]:
        return {"epoch": np.array([self.epoch], np.int64)}

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        self.epoch = int(arrays["epoch"][0])

    @property
    def _head(self) -> ImageHead:
        if self.net.image_head is None:
            raise RuntimeError("the head is made when the phase begins")
        return self.net.image_head

    def _begun(self) -> torch.optim.Optimizer:
        """The optimizer over what is learned; makes the head unless a resumed run has brought it."""
        if self.net.image_head is None:
            self.net.image_head = self._new_head()
        weights: list[Tensor] = list(self._head.trained())
        if not self.config.descend.only_classifier:
            known = {id(weight) for weight in weights}
            weights += [weight for weight in self.net.tunable() if id(weight) not in known]
        for weight in weights:
            weight.requires_grad_(True)
        config = self.config.descend
        return make_optimizer(weights, config)

    def _new_head(self) -> ImageHead:
        classes, first = self.samples.classes, int(self.samples.answers.image[0])
        if self.net.brings_classifier:
            maps = image_maps(self.net, self.samples, first, self.look)
            shape = tuple(trimmed(maps[-1], self.look.border).shape[1:])
            with _seeded(self.seed):
                answered = int(self.samples.answers.klass.max()) + 1
                return OwnHead(self.look, self.net.own_classifier(shape), shape, classes, answered)
        pooled = PooledVector(self.look)
        rows = [pooled(image_maps(self.net, self.samples, int(i), self.look)) for i in self.samples.answers.image]
        vectors = torch.cat(rows).cpu().numpy()
        mean, std = standardization(vectors, unit=self.config.unit_length)
        shrinking = shrink_within((vectors - mean) / std, self.samples.answers.klass, self.config.within)
        with _seeded(self.seed):
            head = DenseHead(self.look, len(mean), self.config.hidden, classes, len(shrinking.gains))
        head.mean, head.std = torch.from_numpy(mean), torch.from_numpy(std)
        if len(shrinking.gains):
            head.axes, head.gains = torch.from_numpy(shrinking.axes), torch.from_numpy(shrinking.gains)
        return head

    def _input(self, row: int) -> Tensor:
        """(1, ...) what the trained part sees of an answered image."""
        index = int(self.samples.answers.image[row])
        if not self.config.descend.only_classifier:
            return whole_image(self.net, self.samples, index, self.look)
        if index in self._kept:
            return self._kept[index]
        seen = self._head.view(image_maps(self.net, self.samples, index, self.look))
        self.net.train()
        if (size := seen.numel() * seen.element_size()) <= self._room:
            self._room -= size
            self._kept[index] = seen
        return seen

    def _scores(self, inputs: Sequence[Tensor]) -> Tensor:
        """(B, K); images of different sizes go through one by one."""
        if len({tuple(one.shape) for one in inputs}) == 1:
            scores: Tensor = self._module(torch.cat(list(inputs)))
            return scores
        return torch.cat([self._module(one) for one in inputs])

    def _clip(self) -> float | None:
        config = self.config.descend
        return config.first_clip_norm if self.epoch < config.first_epochs else config.clip_norm


class _Judge(nn.Module):
    """The part of a network that is trained, as one module for the engine."""

    def __init__(self, net: Net, head: ImageHead, *, fixed: bool) -> None:
        super().__init__()
        self.head = head
        self.whole = None if fixed and not isinstance(head, OwnHead) else net
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        if self.whole is None or self.fixed:
            return self.head.scores(x)
        return self.head.scores(self.head.view(self.whole.looked_at(x, self.head.look)))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """First weights, inside, that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
