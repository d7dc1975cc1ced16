"""Keras's callbacks in microDL's training YAML: when to stop, which epoch to keep, rates that cycle or are sought."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from fieldmark.errors import near_miss
from fieldmark.recipes.dialects.keys import Group, path_of, refuse

SHOWN = "progress is shown on a terminal."
_BEST = (
    "the best epoch is the one that EarlyStopping.monitor finds best, or without it that of the least validation loss."
)

MONITORS = {
    "val_loss": "val_loss",
    "val_dice_coef": "val_dice",
    "val_pearson_corr": "val_pearson",
    "loss": "val_loss",
}
SCORES = ("val_dice_coef", "val_pearson_corr")
"""Of labels, and of images."""


class StopEarly(Group, frozen=True, extra="forbid"):
    """When to stop before the last epoch."""

    ACCEPTED: ClassVar[dict[str, str]] = {"verbose": SHOWN}

    monitor: str = "val_loss"
    patience: PositiveInt = 10
    mode: Literal["min", "max", "auto"] = "min"
    min_delta: NonNegativeFloat = 0.0
    verbose: bool | int = False


class KeepBest(Group, frozen=True, extra="forbid"):
    """Which epoch becomes the model."""

    ACCEPTED: ClassVar[dict[str, str]] = {
        "verbose": SHOWN,
        "monitor": _BEST,
        "mode": _BEST,
        "save_weights_only": "a model folder holds the weights and all that using them takes.",
        "period": "see train.keep_every_epochs.",
    }

    monitor: str = "val_loss"
    mode: Literal["min", "max", "auto"] = "min"
    save_best_only: bool = True
    save_weights_only: bool = True
    verbose: bool | int = False
    period: PositiveInt = 1


class LogBoard(Group, frozen=True, extra="forbid"):
    """Logs for TensorBoard."""

    ACCEPTED: ClassVar[dict[str, str]] = dict.fromkeys(
        ("log_dir", "histogram_freq", "write_graph", "write_images", "write_grads", "verbose", "batch_size"),
        "the run's numbers are logged, in the run's folder.",
    )

    log_dir: str = ""
    histogram_freq: NonNegativeInt = 0
    write_graph: bool = True
    write_images: bool = False
    write_grads: bool = False
    verbose: bool | int = False
    batch_size: PositiveInt = 32


class RateScheduler(Group, frozen=True, extra="forbid"):
    """Cyclic rates, or the search for their bounds."""

    lr_find: bool = False
    base_lr: PositiveFloat = 1e-3
    max_lr: PositiveFloat = 6e-3
    step_size: PositiveFloat = 2.0
    """Epochs."""
    gamma: PositiveFloat = 1.0
    scale_mode: Literal["cycle", "iterations"] = "cycle"
    max_epochs: PositiveInt = 3
    fig_name: str = ""
    fig_fname: str = ""
    lr: PositiveFloat | None = None

    @model_validator(mode="after")
    def _rises(self) -> RateScheduler:
        if self.lr is None and {"base_lr", "max_lr"} <= self.model_fields_set and self.max_lr <= self.base_lr:
            raise ValueError(f"max_lr {self.max_lr:g} must be more than base_lr {self.base_lr:g}")
        return self


class Callbacks(Group, frozen=True, extra="forbid"):
    """Keras's helpers, by its names."""

    EarlyStopping: StopEarly | None = None
    ModelCheckpoint: KeepBest | None = None
    TensorBoard: LogBoard | None = None
    LearningRateScheduler: RateScheduler | None = None


def early_of(early: StopEarly | None, source: object, *, labels: bool) -> dict[str, Any] | None:
    """Values of an EarlyConfig; None where nothing stops the fit early. `labels`: whether classes are learned."""
    if early is None:
        return None
    if early.monitor not in MONITORS:
        raise refuse(
            source,
            "trainer.callbacks.EarlyStopping.monitor",
            f"{early.monitor!r} is not measured here. {near_miss(early.monitor, MONITORS)}",
        )
    kind, own, other = ("labels", *SCORES) if labels else ("images", *reversed(SCORES))
    if early.monitor == other:
        raise refuse(
            source,
            "trainer.callbacks.EarlyStopping.monitor",
            f"{other!r} is not measured where {kind} are learned. Use val_loss or {own}.",
        )
    return {
        "monitor": MONITORS[early.monitor],
        "patience": early.patience,
        "mode": early.mode,
        "min_delta": early.min_delta,
    }


def rates_of(rates: RateScheduler | None) -> dict[str, Any]:
    """Cyclic rates; nothing where the file has none, or asks for the finder."""
    if rates is None or rates.lr_find:
        return {}
    if rates.lr is not None:
        return {"lr": rates.lr}
    cycle = {
        "max_lr": rates.max_lr,
        "half_epochs": rates.step_size,
        "gamma": rates.gamma,
        "gamma_by": rates.scale_mode,
    }
    return {"schedule": "cyclic", "lr": rates.base_lr, "cycle": cycle}


def unused_rates(rates: RateScheduler | None, *, own: bool) -> list[str]:
    """Settings of the finder in a file that trains, of cycles in a file for the finder, and the rate beside cycles.

    Args:
        rates: Of the file.
        own: Whether the optimizer was given a rate too.
    """
    if rates is None:
        return []
    of_cycles, of_finder = ("step_size", "gamma", "scale_mode", "lr"), ("max_epochs", "fig_name", "fig_fname")
    why = "belongs to cyclic rates; the finder looks for them." if rates.lr_find else "belongs to lr_find: true."
    place = "trainer.callbacks.LearningRateScheduler"
    unused = [key for key in (of_cycles if rates.lr_find else of_finder) if key in rates.model_fields_set]
    notes = [f"{place}.{key}: {why}" for key in unused]
    if rates.lr is not None and not rates.lr_find:
        idle = [key for key in ("base_lr", "max_lr", *of_cycles[:-1]) if key in rates.model_fields_set]
        notes += [f"{place}.{key}: `lr` beside it is one rate for all steps." for key in idle]
    if own:
        notes.append(f"trainer.optimizer.lr: {place} decides the rate.")
    return notes


def finder_of(rates: RateScheduler | None, beside: Path) -> dict[str, Any] | None:
    """Values of a FindConfig, with its number of epochs and its picture; None where the file trains."""
    if rates is None or not rates.lr_find:
        return None
    given = rates.model_fields_set
    figure = rates.fig_fname or rates.fig_name
    return {
        "base_lr": rates.base_lr if "base_lr" in given else 1e-4,
        "max_lr": rates.max_lr if "max_lr" in given else 0.1,
        "epochs": rates.max_epochs,
        "scale": "linear",
        "figure": path_of(figure, beside) if figure else None,
    }
