"""What decides a run: frozen settings, read from files and `--set key=value`.

Every default stands here, and only here.
"""

from fieldmark.recipes.data import DataConfig
from fieldmark.recipes.families import AutoEncoderConfig, FlimBranch, FlimConfig, FlimLayer, NetConfig, TaughtConfig
from fieldmark.recipes.fit import (
    BeginConfig,
    ClassifyConfig,
    DescendConfig,
    FitRecipe,
    HeadConfig,
    ImageHeadConfig,
)
from fieldmark.recipes.kernels import KernelConfig
from fieldmark.recipes.loading import load_recipe, parse_override, validate
from fieldmark.recipes.predict import PredictRecipe
from fieldmark.recipes.prepare import PrepareConfig
from fieldmark.recipes.steps import StepsConfig
from fieldmark.recipes.train import TrainConfig
from fieldmark.recipes.unet import UNetConfig

__all__ = [
    "AutoEncoderConfig",
    "BeginConfig",
    "ClassifyConfig",
    "DataConfig",
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
    "PrepareConfig",
    "StepsConfig",
    "TaughtConfig",
    "TrainConfig",
    "UNetConfig",
    "load_recipe",
    "parse_override",
    "validate",
]
