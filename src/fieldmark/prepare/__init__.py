"""From raw pixels to what a network sees: a pipeline that is data and is saved with the model."""

from fieldmark.prepare.pipeline import apply, check, lab_step, scale_step, standardize_step

__all__ = ["apply", "check", "lab_step", "scale_step", "standardize_step"]
