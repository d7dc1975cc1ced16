"""From raw pixels to what a network sees: a pipeline that is data and is saved with the model."""

from fieldmark.prepare.pipeline import (
    apply,
    channels_step,
    check,
    clip_step,
    color_steps,
    color_table_step,
    flat_field_step,
    inverse,
    lab_step,
    prepared_channels,
    replicate_step,
    scale_per_image_step,
    scale_step,
    standardize_each_step,
    standardize_step,
)
from fieldmark.prepare.whole import Whole, image_maximum, whole_of

__all__ = [
    "Whole",
    "apply",
    "channels_step",
    "check",
    "clip_step",
    "color_steps",
    "color_table_step",
    "flat_field_step",
    "image_maximum",
    "inverse",
    "lab_step",
    "prepared_channels",
    "replicate_step",
    "scale_per_image_step",
    "scale_step",
    "standardize_each_step",
    "standardize_step",
    "whole_of",
]
