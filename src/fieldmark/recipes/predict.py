"""How a model is applied."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, NonNegativeInt, PositiveInt, model_validator

Propagate = Literal["auto", "none", "random-walker", "shortest-path"]
Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps"]
"""What computes: `auto` a GPU where there is one, `gpu` whichever there is."""
FIGURE_PLANES = 8
"""Planes on a sheet of pictures."""


class PredictRecipe(BaseModel, frozen=True, extra="forbid"):
    """Everything that decides a prediction beside the model and the pixels."""

    tile: PositiveInt = 512
    """Side of a tile in pixels, for models that any tile answers alike; others have one fixed grid."""
    max_halo: PositiveInt = 128
    blend: Literal["linear", "gaussian", "mean", "max", "any"] = "linear"
    """How overlapping tiles share a seam, for models with a fixed grid; `any` and `max` are for class maps."""
    overlap: NonNegativeInt | None = None
    """Pixels along y and x by which a tile reaches over its border there; by itself 32, in 3-D 16."""
    overlap_z: NonNegativeInt | None = None
    """The same along z, of 3-D models; by itself 4."""
    precision: Literal["fp32", "bf16"] = "fp32"
    propagate: Propagate = "auto"
    probabilities: bool = False
    probabilities_dtype: Literal["float32", "uint8", "uint16"] = "float32"
    """Whole numbers: the largest stands for certain."""
    dtype: Literal["auto", "float32", "uint8", "uint16"] = "auto"
    """Of predicted images; whole numbers are rounded and cut. By itself float32, in PNG uint16."""
    saliency: bool = False
    """Also write, in 8 bits, how little each pixel looks like background."""
    instances: str | None = None
    """A class whose objects are also written one by one, numbered from 1."""
    split: Literal["none", "watershed"] = "none"
    """Whether objects that touch are taken apart, by their distance to the border."""
    split_distance: PositiveInt = 7
    """Least distance between the middles of two such objects, in pixels."""
    figures: bool = False
    """Also draw pictures of each slice: what was seen, what is right where that is known, what was said, both."""
    min_area: NonNegativeInt = 0
    """Objects of fewer pixels become background."""
    max_area: PositiveInt | None = None
    """Objects of more pixels become background."""
    accelerator: Accelerator = "auto"
    threads: NonNegativeInt = 0

    @model_validator(mode="after")
    def _tile_divides(self) -> PredictRecipe:
        if self.tile % 64:
            raise ValueError(f"tile must be a multiple of 64; got {self.tile}")
        if self.max_area is not None and self.max_area < self.min_area:
            raise ValueError(f"max_area {self.max_area} is less than min_area {self.min_area}")
        if self.blend in ("any", "max") and (self.probabilities or self.saliency):
            raise ValueError(
                f"blend {self.blend!r} is for class maps, what it joins does not sum to one: leave probabilities and "
                "saliency out, or blend by linear, gaussian or mean"
            )
        if self.split != "none" and self.instances is None:
            raise ValueError("split takes objects apart: name their class with instances")
        return self
