"""Look for a learning rate: raise it step by step, watch the loss, give the weights back.

Smith, Cyclical learning rates (2017), with the loss on the y axis as fast.ai draws it.
"""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.errors import BadInput
from fieldmark.learn.averaging import copied, put
from fieldmark.learn.descend import Descend
from fieldmark.learn.engine import fit as solve
from fieldmark.learn.engine import make_engine
from fieldmark.learn.jobs import fit_job
from fieldmark.learn.phases import plan_phases
from fieldmark.learn.run import STATE, prepared_net
from fieldmark.learn.state import FitState
from fieldmark.recipes import validate
from fieldmark.recipes.find import FindConfig, section_of

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from fieldmark.models.base import Net

FALLEN = 0.1
"""The share of its whole fall after which the loss is said to fall."""
NARROWEST = 3.0
"""The upper bound is at least so many times the lower one, as Smith has it: rates cycle between them."""
BEFORE = 2.0
"""How far the upper bound stays below the rate of the least loss, where the next step may be unstable."""

FURTHER = (
    "The loss still falls at the last rate, {:g}: the best may lie above. Sweep further with --max-lr, or longer with "
    "--steps."
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a sweep suggests.

    Args:
        base_lr: Where the loss begins to fall: the lower bound of cyclic rates.
        max_lr: A bit below the rate of the least loss: the upper bound, and the rate for a fit with one rate.
        rates: Of each step.
        losses: Of each step.
        smoothed: Their running mean.
        notes: What is to be said of them.
    """

    base_lr: float
    max_lr: float
    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    notes: tuple[str, ...] = ()


def find_from_job(job: dict[str, Any]) -> Iterator[Event]:
    """Sweep the rates of the fit that a job describes; `lr_find.json`, `.csv` and `.png` are left in its folder."""
    fit = fit_job(job)
    config = validate(FindConfig, job["find"], where="find")
    net, _, notes = prepared_net(fit)
    yield from notes
    phases = plan_phases(net, fit.samples, fit.recipe)
    phase = next((one for one in phases if isinstance(one, Descend)), None)
    if phase is None:
        raise BadInput(f"Family {fit.recipe.family!r} is not fitted by gradient descent, and has no rate to look for.")
    engine = cast("Fabric", make_engine(fit.recipe, phases))
    # what is solved before the descent is what it descends on, such as the features below a head
    yield from solve(engine, net, phases[: phases.index(phase)], FitState(fit.folder / STATE, fit.made_from()))
    if config.epochs is not None:
        config = config.model_copy(update={"steps": max(10, config.epochs * phase.batches.per_epoch)})
    sweep = Sweep(phase, net, config)
    yield from sweep.run(engine)
    found = sweep.found()
    yield from (Event("note", 0, 0, message=said) for said in found.notes)
    if engine.is_global_zero:
        write_found(fit.folder, found, section_of(fit.recipe, phase.config))


class Sweep:
    """One pass over the rates; several processes share each batch and see the same losses, their means.

    Args:
        phase: The descent whose steps are taken, each at a rate of the sweep's own.
        net: Its weights are as before when the sweep ends, whatever ends it.
        config: Which rates.
    """

    def __init__(self, phase: Descend, net: Net, config: FindConfig) -> None:
        self.phase, self.net, self.config = phase, net, config
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.smoothed: list[float] = []

    def run(self, engine: Fabric) -> Iterator[Event]:
        """One event a step."""
        self.phase.share(engine)
        self.phase.task.set_up(engine)
        before = copied(self.net)  # not sooner: a head may be made only now
        try:
            for step in range(self.config.steps):
                yield self._step(engine, step)
                if self._diverged():
                    break
        finally:
            put(self.net, before)

    def found(self) -> Found:
        """What the losses say. Raises BadInput where they never fell."""
        return suggest(self.rates, self.losses, self.config.smooth)

    def _step(self, engine: Fabric, step: int) -> Event:
        rate = rate_of(self.config, step)
        self._remember(rate, self.phase.learned(engine, self.net, step, rate)["loss"])
        return Event("lr-find", step + 1, self.config.steps, {"lr": rate, "loss": self.smoothed[-1]})

    def _remember(self, rate: float, loss: float) -> None:
        self.rates.append(rate)
        self.losses.append(loss)
        self.smoothed = smoothed(self.losses, self.config.smooth)

    def _diverged(self) -> bool:
        means = steadied(self.losses, self.config.smooth)
        last, least = means[-1], min(means)
        return not math.isfinite(last) or (len(means) > 5 and last > self.config.diverged * abs(least) + 1e-12)


def rate_of(config: FindConfig, step: int) -> float:
    """From `base_lr` at the first step to `max_lr` at the last."""
    done = step / (config.steps - 1)
    if config.scale == "linear":
        return config.base_lr + (config.max_lr - config.base_lr) * done
    return float(config.base_lr * (config.max_lr / config.base_lr) ** done)


def smoothed(losses: list[float], share: float) -> list[float]:
    """The exponential running mean, without its bias towards zero at the start."""
    mean, found = 0.0, []
    for number, loss in enumerate(losses, start=1):
        mean = share * mean + (1 - share) * loss
        found.append(mean / (1 - share**number))
    return found


def steadied(losses: list[float], share: float) -> list[float]:
    """The running mean of losses whose first ones are their median: a batch easy by chance is no level to fall from.

    These are as many as the running mean looks back, and a third of all at most.
    """
    first = max(1, min(round(1 / (1 - share)), len(losses) // 3))
    level = statistics.median(losses[:first])
    return smoothed([level] * first + losses[first:], share)


def suggest(rates: list[float], losses: list[float], share: float) -> Found:
    """Bounds of good rates.

    The upper one lies a factor of two below the rate of the least mean loss; the lower one where a tenth of the way
    down was gone, and at most at a third of the upper one.

    Args:
        rates: Of each step.
        losses: Of each step.
        share: Of the running mean: what was before.

    Raises:
        BadInput: The loss never fell.
    """
    means = smoothed(losses, share)
    curve = _finite(steadied(losses, share))
    if not _fell(curve):
        curve = _finite(means)  # only among the first rates
    lowest = int(curve.argmin())
    if not _fell(curve):
        raise BadInput(
            f"The loss never fell between the rates {rates[0]:g} and {rates[-1]:g}. Begin lower: --base-lr, or look at "
            "the targets."
        )
    most = max(rates[lowest] / BEFORE, rates[0])
    fallen = curve[0] - FALLEN * (curve[0] - curve[lowest])
    begins = next(place for place, value in enumerate(curve) if value <= fallen)
    notes = (FURTHER.format(rates[-1]),) if lowest == len(rates) - 1 else ()
    return Found(min(rates[begins], most / NARROWEST), most, rates, losses, means, notes)


def _finite(means: list[float]) -> np.ndarray:
    return np.array([value if math.isfinite(value) else np.inf for value in means])


def _fell(curve: np.ndarray) -> bool:
    return bool(curve.min() < curve[0] - 1e-9 * abs(curve[0]))


def write_found(folder: Path, found: Found, section: str = "train") -> None:
    """The suggestion for a section of the recipe as JSON, the curve as CSV and as a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(("lr", "loss", "smoothed"))
    rows.writerows(zip(found.rates, found.losses, found.smoothed, strict=True))
    write_atomic(folder / "lr_find.csv", text.getvalue().encode())
    write_atomic(folder / "lr_find.png", _picture(found))
    values = {
        "base_lr": _short(found.base_lr),
        "max_lr": _short(found.max_lr),
        "section": section,
        "notes": [*found.notes],
    }
    write_atomic(folder / "lr_find.json", json.dumps(values, indent=2).encode())


def _short(rate: float) -> float:
    """As people write it: no more digits than a sweep can tell."""
    return float(f"{rate:.4g}")


def _heights(found: Found) -> tuple[float, float]:
    """What the picture shows: all that lies below the first loss, and of a sweep that diverges its beginning."""
    first = next(value for value in found.smoothed if math.isfinite(value))
    least = min(value for value in (*found.smoothed, *found.losses) if math.isfinite(value))
    return least - 0.1 * abs(least), first + 0.5 * abs(first)


def _picture(found: Found) -> bytes:
    """PNG: loss against rate, the suggested bounds as lines."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="tight")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(found.rates, found.losses, color="0.8", label="loss")
    axes.plot(found.rates, found.smoothed, color="C0", label="running mean")
    for name, rate, color in (("base_lr", found.base_lr, "C2"), ("max_lr", found.max_lr, "C3")):
        axes.axvline(rate, color=color, linestyle="--", label=f"{name} {rate:.2g}")
    axes.set_ylim(*_heights(found))
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.legend()
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    return data.getvalue()
