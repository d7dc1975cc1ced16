"""The phase for gradient descent: batches, schedule, validation, saving; alone or shared by several processes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from fieldmark.core.events import Event
from fieldmark.errors import BadRecipe, near_miss
from fieldmark.learn.averaging import as_arrays, average, copied, from_arrays, lent, put
from fieldmark.learn.optimizers import load_optimizer, optimizer_arrays
from fieldmark.learn.schedule import ends_cycle, rate
from fieldmark.recipes.steps import EarlyConfig

if TYPE_CHECKING:
    import numpy as np
    import torch
    from lightning_fabric import Fabric

    from fieldmark.learn.averaging import Weights
    from fieldmark.learn.engine import Engine
    from fieldmark.learn.state import FitState
    from fieldmark.models.base import Net
    from fieldmark.recipes import StepsConfig

UNHEARD = (
    "{}: {} was not finite in any epoch ({} after the last one), so none could be chosen: the last epoch's weights "
    "are the model's. Look at what validates, or go by another number: early.monitor."
)


class Task(Protocol):
    """What is minimized. A task owns its modules and optimizers, so that it may have several."""

    @property
    def tells(self) -> tuple[str, ...]:
        """The names of the numbers that `step` and `validate` may give."""

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


@runtime_checkable
class Validates(Protocol):
    """A task that looks at held-out images at the end of each epoch."""

    def look(self) -> None:
        """Find what is looked at, before the first step. Raises BadInput where images are held out in vain."""

    def validate(self, engine: Fabric) -> dict[str, float]:
        """Numbers named `val_...`; nothing where there is nothing to look at. The network is in evaluation mode."""


class Batches(Protocol):
    """The batches of an epoch. Batch `index` of `epoch` depends on nothing drawn before it."""

    per_epoch: int

    def get(self, epoch: int, index: int) -> Any:
        """What `Task.step` takes."""


@runtime_checkable
class Shared(Protocol):
    """Batches that several processes can learn from together."""

    def share(self, rank: int, world: int) -> None:
        """Give every `world`-th sample of each batch from now on, beginning with the `rank`-th."""


class Descend:
    """Gradient descent over epochs; resumes at the last finished epoch or `save_every_steps`.

    Progress is counted in steps (batches). Where the task validates, the best epoch's weights become the network's
    (`keep`), and the descent may end early; with `ema_decay` both look at the running mean of the weights.
    Several processes share each batch; all of them take the same steps, and the first one writes the files.

    Args:
        name: Of the phase.
        task: What is minimized.
        batches: What it is minimized on.
        config: How.
    """

    def __init__(self, name: str, task: Task, batches: Batches, config: StepsConfig) -> None:
        self.name = name
        self.task = task
        self.batches = batches
        self.config = config
        self.total = config.epochs * batches.per_epoch
        self.descends = True
        self.mean: Weights | None = None
        self.best: Weights | None = None

    def run(self, engine: Engine, net: Net, state: FitState) -> Iterator[Event]:
        begun = state.progress.get(self.name, 0)
        fabric = cast("Fabric", engine)
        if isinstance(self.task, Validates):
            self.task.look()
        self.share(fabric)
        self.task.set_up(fabric)
        if begun:  # not sooner: an optimizer's memory follows its weights to their device
            self._load(net, state.phase_tensors)
        note: dict[str, Any] = state.notes.setdefault(self.name, {})
        for step in range(begun, self.total):
            epoch, index = divmod(step, self.batches.per_epoch)
            if index == 0:
                note["sums"] = {}
                self.task.on_epoch(epoch)
            self._step(fabric, net, step, note["sums"])
            last = index == self.batches.per_epoch - 1
            told = self._judged(fabric, net, note, step + 1) if last else {}
            done = step + 1 == self.total or bool(last and note.get("stop"))
            if done and "unheard" in note and "best" not in note and self.config.keep == "best":
                yield Event("note", 0, 0, message=UNHEARD.format(self.name, *note["unheard"]))
            if last or self._saves(step):
                yield self._saved(fabric, net, state, step + 1, told, done=done)
            if done:
                return

    def tensors(self) -> dict[str, np.ndarray]:
        arrays = {f"task/{name}": value for name, value in self.task.state().items()}
        for place, optimizer in enumerate(self.task.optimizers()):
            arrays |= {f"optimizer{place}/{name}": value for name, value in optimizer_arrays(optimizer).items()}
        return arrays | as_arrays(self.mean, "mean/") | as_arrays(self.best, "best/")

    def require_monitor(self, section: str) -> None:
        """Raise BadRecipe where no number is called as the one that ends the fit; `section` of the recipe is ours."""
        early = self.config.early
        if early is not None and early.monitor not in self.task.tells:
            raise BadRecipe(
                f"{section}.early.monitor: {early.monitor!r} is no number of this fit, which has "
                f"{', '.join(self.task.tells)}. {near_miss(early.monitor, self.task.tells)}"
            )

    def learned(self, engine: Fabric, net: Net, step: int, rate: float) -> dict[str, float]:
        """Take one step at a rate; the numbers that the task tells, as means over all processes."""
        for optimizer in self.task.optimizers():
            for group in optimizer.param_groups:
                group["lr"] = rate
        net.train()
        return _mean(engine, self.task.step(engine, self.batches.get(*divmod(step, self.batches.per_epoch))))

    def _step(self, engine: Fabric, net: Net, step: int, sums: dict[str, float]) -> None:
        for key, value in self.learned(engine, net, step, self._rate(step)).items():
            if not math.isfinite(value):
                raise self._diverged(f"the {key} is {value}", step + 1)
            sums[key] = sums.get(key, 0.0) + value
        if self.config.ema_decay is not None:
            self.mean = copied(net) if self.mean is None else self.mean
            average(self.mean, net, self.config.ema_decay, step)

    def _diverged(self, what: str, steps: int) -> BadRecipe:
        return BadRecipe(
            f"{self.name}: {what} after {steps} steps, at a rate of {self._rate(steps - 1):.2g}. Lower lr (fieldmark "
            "lr-find looks for one), or set clip_norm."
        )

    def _judged(self, engine: Fabric, net: Net, note: dict[str, Any], steps: int) -> dict[str, float]:
        """What the task says of an epoch's weights; remembers the best ones, and whether it is time to stop."""
        early = self.config.early
        with lent(net, self.mean):
            told = self._validated(engine, net)
            numbers = self._means(note["sums"], steps) | told
            heard = told or (early is not None and early.monitor in numbers)
            better = bool(heard and self._improves(numbers, note))
            if better or self.config.keep == "last":
                note["scores"] = {key: value for key, value in told.items() if math.isfinite(value)}
            if better and self.config.keep == "best":
                self.best = copied(net)
        if early is not None and note.get("waited", 0) >= early.patience:
            note["stop"] = ends_cycle(self.config, steps, self.batches.per_epoch)
        return told

    def _validated(self, engine: Fabric, net: Net) -> dict[str, float]:
        if not isinstance(self.task, Validates):
            return {}
        net.eval()
        told = self.task.validate(engine)
        # statistics of batches may differ a little between processes, and all of them must stop at the same epoch
        return told if engine.world_size == 1 else dict(engine.broadcast(told))

    def _improves(self, told: dict[str, float], note: dict[str, Any]) -> bool:
        early = self.config.early or EarlyConfig()
        value = told[early.monitor] if early.more_is_better else -told[early.monitor]
        if not math.isfinite(value):
            note["unheard"] = [early.monitor, str(told[early.monitor])]
        better = math.isfinite(value) and ("best" not in note or value > note["best"] + early.min_delta)
        note["waited"] = 0 if better else note.get("waited", 0) + 1
        if better:
            note["best"] = value
        return better

    def _saved(
        self, engine: Fabric, net: Net, state: FitState, steps: int, told: dict[str, float], *, done: bool
    ) -> Event:
        if not all(bool(weight.isfinite().all()) for weight in net.parameters()):
            raise self._diverged("weights are NaN or infinite", steps)
        numbers = self._means(state.notes[self.name]["sums"], steps) | told | {"lr": self._rate(steps - 1)}
        numbers["epoch"] = float(-(-steps // self.batches.per_epoch))
        event = Event(self.name, self.total if done else steps, self.total, numbers)
        state.progress[self.name] = event.step
        state.remember(event)
        if engine.is_global_zero:
            self._keep(net, state, steps)
        if done:
            self._finish(net)
        if engine.is_global_zero:
            state.save(net, {} if done else self.tensors())
        return event

    def _means(self, sums: dict[str, float], steps: int) -> dict[str, float]:
        """The epoch's means so far."""
        seen = (steps - 1) % self.batches.per_epoch + 1
        return {key: value / seen for key, value in sums.items()}

    def _keep(self, net: Net, state: FitState, steps: int) -> None:
        """Every n-th epoch's model; before the state is saved, so that a crash between them keeps it again."""
        epoch, index = divmod(steps, self.batches.per_epoch)
        every = self.config.keep_every_epochs
        if state.keep is not None and every and index == 0 and epoch % every == 0:
            with lent(net, self.mean):
                state.keep(net, f"epoch-{epoch:04d}")

    def _finish(self, net: Net) -> None:
        """The weights that become the model's: the best ones, or the mean, or the last."""
        if self.best is not None and self.config.keep == "best":
            put(net, self.best)
        elif self.mean is not None:
            put(net, self.mean)

    def _saves(self, step: int) -> bool:
        every = self.config.save_every_steps
        return bool(every and (step + 1) % every == 0)

    def share(self, engine: Fabric) -> None:
        """Let each process learn from its samples of each batch. Raises BadRecipe where that cannot be."""
        world = engine.world_size
        if world == 1:
            return
        if not isinstance(self.batches, Shared):
            raise BadRecipe(f"devices: {self.name!r} learns in one process, and {world} were asked for. Set devices=1.")
        if self.config.batch_size % world:
            raise BadRecipe(
                f"batch_size {self.config.batch_size} cannot be shared by {world} processes alike. Take a multiple of "
                f"{world}."
            )
        self.batches.share(engine.global_rank, world)

    def _load(self, net: Net, arrays: dict[str, np.ndarray]) -> None:
        self.task.load_state(_part(arrays, "task/"))
        self.mean, self.best = (from_arrays(_part(arrays, f"{name}/"), net) for name in ("mean", "best"))
        for place, optimizer in enumerate(self.task.optimizers()):
            load_optimizer(optimizer, _part(arrays, f"optimizer{place}/"))

    def _rate(self, step: int) -> float:
        return rate(self.config, step, self.batches.per_epoch, self.total)


def _mean(engine: Fabric, told: dict[str, float]) -> dict[str, float]:
    """The mean of each number over all processes."""
    if engine.world_size == 1:
        return told
    import torch

    values = torch.tensor(list(told.values()), dtype=torch.float64, device=engine.device)
    return dict(zip(told, engine.all_reduce(values, reduce_op="mean").tolist(), strict=True))


def _part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
