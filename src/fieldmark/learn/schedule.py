"""The learning rate of a step: pure functions of the settings and of the step's number."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fieldmark.recipes import StepsConfig
    from fieldmark.recipes.steps import CycleConfig

RISE = 0.3
"""The share of a `one-cycle` fit in which the rate rises (Smith and Topin 2018)."""
LEAST = 25.0
"""`one-cycle` begins at `max_lr` divided by this."""


def rate(config: StepsConfig, step: int, per_epoch: int, total: int) -> float:
    """The rate of a step: what the schedule says, after a linear warm-up to the rate that it begins with.

    `step` and `exponential` go by epochs of the whole fit; the others begin where the warm-up ends.

    Args:
        config: Of the descent.
        step: From 0.
        per_epoch: Steps of an epoch.
        total: Steps of the whole fit.
    """
    if step < config.warmup_steps:
        return _planned(config, config.warmup_steps, per_epoch, total) * (step + 1) / config.warmup_steps
    return _planned(config, step, per_epoch, total)


def _planned(config: StepsConfig, step: int, per_epoch: int, total: int) -> float:
    since = step - config.warmup_steps
    done = min(1.0, since / max(1, total - config.warmup_steps))
    match config.schedule:
        case "constant":
            return config.lr
        case "step":
            return float(config.lr * config.gamma ** (step // per_epoch // config.step_epochs))
        case "exponential":
            return float(config.lr * 0.5 ** (step / per_epoch / config.half_life_epochs))
        case "decay":
            return config.lr * min(1.0, (1 - done) / max(1e-9, 1 - config.hold_share))
        case "one-cycle":
            return one_cycle(config.cycle.max_lr, done)
        case "cyclic":
            return cyclic(config.lr, config.cycle, since, per_epoch)
        case _:
            return config.lr * 0.5 * (1 + math.cos(math.pi * done))


def cyclic(base: float, cycle: CycleConfig, iteration: int, per_epoch: int) -> float:
    """A triangle from `base` to `max_lr` and back, each cycle or iteration lower by `gamma` (Smith 2017).

    With s the iterations of half a cycle: cycle = floor(1 + it / 2s), x = |it / s - 2 cycle + 1|,
    lr = base + (max - base) max(0, 1 - x) gamma^(cycle or it).
    """
    half = half_steps(cycle, per_epoch)
    number = math.floor(1 + iteration / (2 * half))
    x = abs(iteration / half - 2 * number + 1)
    power = number if cycle.gamma_by == "cycle" else iteration
    return float(base + (cycle.max_lr - base) * max(0.0, 1 - x) * cycle.gamma**power)


def half_steps(cycle: CycleConfig, per_epoch: int) -> int:
    """Iterations from the bottom of a triangle to its top."""
    return max(1, round(cycle.half_epochs * per_epoch))


def ends_cycle(config: StepsConfig, steps: int, per_epoch: int) -> bool:
    """Whether the fit may stop after so many steps: anywhere, or at the end of a cycle where that is asked for."""
    if config.schedule != "cyclic" or not config.cycle.end_of_cycle:
        return True
    since = steps - config.warmup_steps
    whole = 2 * half_steps(config.cycle, per_epoch)
    return since >= whole and since % whole < per_epoch


def one_cycle(most: float, done: float) -> float:
    """Half a cosine up to `most`, then one down to nearly nothing."""
    low, least = most / LEAST, most / 1e4
    if done < RISE:
        return low + (most - low) * 0.5 * (1 - math.cos(math.pi * done / RISE))
    return least + (most - least) * 0.5 * (1 + math.cos(math.pi * (done - RISE) / (1 - RISE)))
