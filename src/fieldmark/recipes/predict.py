"""How a model is applied."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, NonNegativeInt, PositiveInt, model_validator

Propagate = Literal["auto", "none", "random-walker", "shortest-path"]


class PredictRecipe(BaseModel, frozen=True, extra="forbid"):
    """Everything that decides a prediction beside the model and the pixels."""

    tile: PositiveInt = 512
    max_halo: PositiveInt = 128
    precision: Literal["fp32", "bf16"] = "fp32"
    propagate: Propagate = "auto"
    probabilities: bool = False
    saliency: bool = False
    """Also write, in 8 bits, how little each pixel looks like background."""
    min_area: NonNegativeInt = 0
    """Objects of fewer pixels become background."""
    max_area: PositiveInt | None = None
    """Objects of more pixels become background."""
    threads: NonNegativeInt = 0

    @model_validator(mode="after")
    def _tile_divides(self) -> PredictRecipe:
        if self.tile % 64:
            raise ValueError(f"tile must be a multiple of 64; got {self.tile}")
        if self.max_area is not None and self.max_area < self.min_area:
            raise ValueError(f"max_area {self.max_area} is less than min_area {self.min_area}")
        return self
