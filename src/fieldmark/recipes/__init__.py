"""What decides a run: frozen settings, read from files and `--set key=value`.

Every default stands here, and only here.
"""

from fieldmark.recipes.families import AutoEncoderConfig, FlimBranch, FlimConfig, FlimLayer, NetConfig
from fieldmark.recipes.fit import (
    BeginConfig,
    ClassifyConfig,
    DescendConfig,
    FitRecipe,
    HeadConfig,
    ImageHeadConfig,
    StepsConfig,
)
from fieldmark.recipes.kernels import KernelConfig
from fieldmark.recipes.loading import load_recipe, parse_override, validate
from fieldmark.recipes.predict import PredictRecipe

__all__ = [
    "AutoEncoderConfig",
    "BeginConfig",
    "ClassifyConfig",
    "DescendConfig",
    "FitRecipe",
    "FlimBranch",
    "FlimConfig",
    "FlimLayer",
    "HeadConfig",
    "ImageHeadConfig",
    "KernelConfig",
    "NetConfig",
    "PredictRecipe",
    "StepsConfig",
    "load_recipe",
    "parse_override",
    "validate",
]
