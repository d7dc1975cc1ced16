"""How a model is scored."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt, model_validator

Orientation = Literal["xy", "xz", "yz", "xyz"]


class EvaluateRecipe(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What is measured, beside the model and the truth."""

    ignore: int | None = None
    """The value of reference masks that means unknown."""
    instances: bool = False
    """Whether the truth numbers single objects (0 for none), and objects are what is scored."""
    class_name: str | None = None
    """The class whose objects they are; of two classes the one that is not the background."""
    split: Literal["none", "watershed"] = "none"
    """Whether predicted objects that touch are taken apart, by their distance to the border."""
    split_distance: PositiveInt = 7
    """Least distance between the middles of two such objects, in pixels."""
    min_area: NonNegativeInt = 0
    """Predicted objects of fewer pixels are background."""
    target_channels: tuple[NonNegativeInt, ...] = ()
    """Channels of the true images; empty for all of them."""
    orientations: tuple[Orientation, ...] = Field(default=("xy",), min_length=1)
    """Planes that predicted images are compared in; `xyz` for whole volumes."""
    metrics: tuple[str, ...] = ()
    """Of predicted images; empty for all of them."""
    threshold: float | None = None
    """What lies above it overlaps, for `dice`, `iou` and `acc`; by itself half way between the truth's extremes."""

    @model_validator(mode="after")
    def _objects(self) -> EvaluateRecipe:
        if not self.instances and (self.split != "none" or self.class_name is not None or self.min_area):
            raise ValueError("split, min_area and class_name belong to objects: ask for instances")
        return self
