"""How a model is fitted, whatever its family."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


class Member(BaseModel, frozen=True, extra="forbid"):
    """One forest of a pool: what it looks at, and whether each tree sees only a small random share of the pixels."""

    view: Literal["near", "all"]
    bagged: bool = False


class HeadConfig(BaseModel, frozen=True, extra="forbid"):
    """The classifier that turns features into class probabilities, learned on labelled pixels only."""

    kind: Literal["logistic", "forest", "none"] = "forest"
    max_pixels_per_stroke: PositiveInt = 1000
    l2: PositiveFloat = 1.0
    trees: PositiveInt = 50
    max_depth: int = Field(default=12, ge=1, le=16)
    min_pixels_per_leaf: PositiveInt = 5
    members: tuple[Member, ...] = Field(
        default=(Member(view="near", bagged=True), Member(view="near"), Member(view="all")), min_length=1
    )
    """Heads that are pooled where a family has several views of an image."""
    folds: PositiveInt = 4
    """Parts of the strokes that are held out in turn, to weigh the members against each other."""


class DescendConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Gradient descent over batches of crops."""

    epochs: NonNegativeInt = 10
    crops_per_epoch: PositiveInt = 128
    batch_size: PositiveInt = 8
    crop: PositiveInt = 64
    lr: PositiveFloat = 2e-3
    warmup_steps: NonNegativeInt = 10
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: NonNegativeFloat = 1e-4
    clip_norm: PositiveFloat | None = 1.0
    save_every_steps: NonNegativeInt = 0


class FitRecipe(BaseModel, frozen=True, extra="forbid"):
    """Everything that decides a run's result; saved beside its weights."""

    family: str = "flim"
    net: dict[str, Any] = Field(default_factory=dict)
    head: HeadConfig = HeadConfig()
    descend: DescendConfig = DescendConfig()
    seed: NonNegativeInt = 0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    accelerator: str = "auto"
    devices: PositiveInt = 1
    num_nodes: PositiveInt = 1
    strategy: str = "auto"
    threads: NonNegativeInt = 0
