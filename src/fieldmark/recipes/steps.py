"""Gradient descent, whatever it descends: batches, rates, when to stop, what to keep."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator


class CycleConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Cyclic rates (Smith 2017): triangles from `lr` up to `max_lr` and back."""

    max_lr: PositiveFloat = 6e-3
    half_epochs: PositiveFloat = 2.0
    """Epochs from the bottom of a triangle to its top."""
    gamma: PositiveFloat = 1.0
    """The triangles' height falls by this factor, each cycle or each iteration."""
    gamma_by: Literal["cycle", "iterations"] = "cycle"
    end_of_cycle: bool = False
    """The fit may only stop early at the end of a cycle, where the rate is lowest."""


class EarlyConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """When to stop before the last epoch."""

    monitor: str = "val_loss"
    patience: PositiveInt = 10
    """Epochs without an improvement."""
    mode: Literal["auto", "min", "max"] = "auto"
    """Which way is better; `auto`: less of a loss, more of anything else."""
    min_delta: NonNegativeFloat = 0.0

    @property
    def more_is_better(self) -> bool:
        return self.mode == "max" or (self.mode == "auto" and not self.monitor.endswith("loss"))


class StepsConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Gradient descent over batches of anything."""

    epochs: NonNegativeInt = 10
    batch_size: PositiveInt = 8
    lr: PositiveFloat = 2e-3
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of `sgd`."""
    warmup_steps: NonNegativeInt = 10
    schedule: Literal["constant", "cosine", "step", "exponential", "decay", "one-cycle", "cyclic"] = "cosine"
    step_epochs: PositiveInt = 15
    """With `step`: every so many epochs the rate is multiplied by `gamma`."""
    gamma: PositiveFloat = 0.1
    half_life_epochs: PositiveFloat = 10.0
    """With `exponential`: epochs in which the rate halves."""
    hold_share: float = Field(default=0.5, ge=0, le=1)
    """With `decay`: the share of the fit in which the rate stays; then it falls to zero along a line."""
    cycle: CycleConfig = CycleConfig()
    """With `cyclic`; `one-cycle` takes its `max_lr`."""
    weight_decay: NonNegativeFloat = 1e-4
    clip_norm: PositiveFloat | None = 1.0
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Of the running mean of the weights, which then are the model's."""
    early: EarlyConfig | None = None
    keep: Literal["best", "last"] = "best"
    """Which epoch's weights become the model, where there is validation."""
    keep_every_epochs: NonNegativeInt = 0
    """Also keep a model of every n-th epoch, in the run's `checkpoints`."""
    save_every_steps: NonNegativeInt = 0
    loggers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Beside history.csv, which is always written."""

    @model_validator(mode="after")
    def _cycles_rise(self) -> Self:
        if self.schedule == "cyclic" and self.cycle.max_lr <= self.lr:
            raise ValueError(f"cycle.max_lr {self.cycle.max_lr:g} must be more than lr {self.lr:g}, where cycles begin")
        return self
