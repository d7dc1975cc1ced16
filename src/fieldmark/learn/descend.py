"""The phase for gradient descent: batches, schedule, clipping, saving."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, cast

from fieldmark.core.events import Event
from fieldmark.learn.optimizers import load_optimizer, optimizer_arrays

if TYPE_CHECKING:
    import numpy as np
    import torch
    from lightning_fabric import Fabric

    from fieldmark.learn.engine import Engine
    from fieldmark.learn.state import FitState
    from fieldmark.models.base import Net
    from fieldmark.recipes import StepsConfig


class Task(Protocol):
    """What is minimized. A task owns its modules and optimizers, so that it may have several."""

    def optimizers(self) -> list[torch.optim.Optimizer]: ...

    def set_up(self, engine: Fabric) -> None:
        """Wrap modules and optimizers for the engine."""

    def on_epoch(self, epoch: int) -> None:
        """What happens between epochs: re-cluster, rebuild a head."""

    def step(self, engine: Fabric, batch: Any) -> dict[str, float]:
        """Backward and all optimizer steps of one batch; numbers to report."""

    def state(self) -> dict[str, np.ndarray]:
        """What a resumed run needs beside networks and optimizers."""

    def load_state(self, arrays: dict[str, np.ndarray]) -> None: ...


class Batches(Protocol):
    """The batches of an epoch. Batch `index` of `epoch` depends on nothing drawn before it."""

    per_epoch: int

    def get(self, epoch: int, index: int) -> Any:
        """What `Task.step` takes."""


class Descend:
    """Gradient descent over epochs; resumes at the last finished epoch or `save_every_steps`.

    Progress is counted in steps (batches).
    """

    def __init__(self, name: str, task: Task, batches: Batches, config: StepsConfig) -> None:
        self.name = name
        self.task = task
        self.batches = batches
        self.config = config
        self.total = config.epochs * batches.per_epoch
        self.descends = True

    def run(self, engine: Engine, net: Net, state: FitState) -> Iterator[Event]:
        begun = state.progress.get(self.name, 0)
        if begun:
            self._load(state.phase_tensors)
        fabric = cast("Fabric", engine)
        self.task.set_up(fabric)
        sums: dict[str, float] = dict(state.notes.get(self.name, {}))
        for step in range(begun, self.total):
            epoch, index = divmod(step, self.batches.per_epoch)
            if index == 0:
                sums = {}
                self.task.on_epoch(epoch)
            self._set_rate(step)
            net.train()
            for key, value in self.task.step(fabric, self.batches.get(epoch, index)).items():
                sums[key] = sums.get(key, 0.0) + value
            if self._saves(step, index):
                yield self._saved(fabric, net, state, step + 1, sums)

    def tensors(self) -> dict[str, np.ndarray]:
        arrays = {f"task/{name}": value for name, value in self.task.state().items()}
        for place, optimizer in enumerate(self.task.optimizers()):
            arrays |= {f"optimizer{place}/{name}": value for name, value in optimizer_arrays(optimizer).items()}
        return arrays

    def _saved(self, engine: Fabric, net: Net, state: FitState, steps: int, sums: dict[str, float]) -> Event:
        state.progress[self.name] = steps
        state.notes[self.name] = sums
        if engine.is_global_zero:
            state.save(net, self.tensors())
        seen = (steps - 1) % self.batches.per_epoch + 1
        metrics = {key: value / seen for key, value in sums.items()} | {"lr": self._rate(steps - 1)}
        epoch = -(-steps // self.batches.per_epoch)
        return Event(self.name, steps, self.total, metrics | {"epoch": float(epoch)})

    def _saves(self, step: int, index: int) -> bool:
        every = self.config.save_every_steps
        return index == self.batches.per_epoch - 1 or bool(every and (step + 1) % every == 0)

    def _load(self, arrays: dict[str, np.ndarray]) -> None:
        self.task.load_state(_part(arrays, "task/"))
        for place, optimizer in enumerate(self.task.optimizers()):
            load_optimizer(optimizer, _part(arrays, f"optimizer{place}/"))

    def _set_rate(self, step: int) -> None:
        for optimizer in self.task.optimizers():
            for group in optimizer.param_groups:
                group["lr"] = self._rate(step)

    def _rate(self, step: int) -> float:
        """The learning rate of a step: linear warm-up, then constant, in steps, or half a cosine."""
        config = self.config
        if step < config.warmup_steps:
            return config.lr * (step + 1) / config.warmup_steps
        if config.schedule == "constant":
            return config.lr
        if config.schedule == "step":
            return float(config.lr * config.gamma ** (step // self.batches.per_epoch // config.step_epochs))
        done = (step - config.warmup_steps) / max(1, self.total - config.warmup_steps)
        return config.lr * 0.5 * (1 + math.cos(math.pi * done))


def _part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
