"""How a learning rate is looked for."""

from __future__ import annotations

import copy
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, TypeAdapter, ValidationError, model_validator

if TYPE_CHECKING:
    from fieldmark.recipes.fit import FitRecipe
    from fieldmark.recipes.steps import StepsConfig

SECTIONS = ("train", "descend", "image_head.descend")
"""Where a recipe says how a network descends; which of them a fit goes by depends on its family."""


def steps_of(recipe: FitRecipe, section: str) -> StepsConfig:
    """The settings of a section of `SECTIONS`."""
    found: StepsConfig = reduce(getattr, section.split("."), recipe)  # type: ignore[assignment]
    return found


def section_of(recipe: FitRecipe, config: StepsConfig) -> str:
    """The section that a recipe's settings are of."""
    return next(section for section in SECTIONS if steps_of(recipe, section) is config)


class FindConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A sweep of rates from small to large (Smith 2017), with the loss beside each."""

    base_lr: PositiveFloat = 1e-5
    max_lr: PositiveFloat = 1.0
    steps: int = Field(default=100, ge=10, le=100_000)
    epochs: PositiveInt | None = None
    """Instead of `steps`: as many batches as these epochs have, at least 10."""
    scale: Literal["exponential", "linear"] = "exponential"
    smooth: float = Field(default=0.9, ge=0, lt=1)
    """Of the running mean of the loss: the share of what was before."""
    diverged: PositiveFloat = 4.0
    """The sweep stops where the running mean is so many times the least so far."""

    @model_validator(mode="after")
    def _rises(self) -> FindConfig:
        if self.max_lr <= self.base_lr:
            raise ValueError(f"max_lr {self.max_lr:g} must be more than base_lr {self.base_lr:g}")
        return self


def with_bounds(values: dict[str, Any], config: FindConfig) -> dict[str, Any]:
    """A copy of a fit's settings, not yet checked, whose cyclic rates are those of the sweep that takes their place.

    What is no rate stays as it is, to be refused.
    """
    made = copy.deepcopy(values)
    for section in SECTIONS:
        group = _group(made, section)
        if group.get("schedule") != "cyclic":
            continue
        if not group.get("cycle"):
            group["cycle"] = {}
        for place, key, value in ((group, "lr", config.base_lr), (group["cycle"], "max_lr", config.max_lr)):
            if isinstance(place, dict) and _is_rate(place.get(key, value)):
                place[key] = value
    return made


def _group(values: dict[str, Any], section: str) -> dict[str, Any]:
    """The settings of a section; empty where there are none."""
    found: Any = values
    for key in section.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _is_rate(value: object) -> bool:
    try:
        _RATE.validate_python(value)
    except ValidationError:
        return False
    return True


_RATE = TypeAdapter(PositiveFloat)
