"""From raw pixels to what a network sees: a pipeline that is data and is saved with the model."""

from fieldmark.prepare.pipeline import (
    apply,
    check,
    color_steps,
    color_table_step,
    lab_step,
    of_image,
    prepared_channels,
    replicate_step,
    scale_per_image_step,
    scale_step,
    standardize_step,
)
from fieldmark.prepare.whole import image_maximum

__all__ = [
    "apply",
    "check",
    "color_steps",
    "color_table_step",
    "image_maximum",
    "lab_step",
    "of_image",
    "prepared_channels",
    "replicate_step",
    "scale_per_image_step",
    "scale_step",
    "standardize_step",
]
