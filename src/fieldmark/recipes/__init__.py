"""What decides a run: frozen settings, read from files and `--set key=value`.

Every default stands here, and only here.
"""

from fieldmark.recipes.families import AutoEncoderConfig, FlimBranch, FlimConfig, FlimLayer, NetConfig
from fieldmark.recipes.fit import DescendConfig, FitRecipe, HeadConfig
from fieldmark.recipes.loading import load_recipe, parse_override, validate
from fieldmark.recipes.predict import PredictRecipe

__all__ = [
    "AutoEncoderConfig",
    "DescendConfig",
    "FitRecipe",
    "FlimBranch",
    "FlimConfig",
    "FlimLayer",
    "HeadConfig",
    "NetConfig",
    "PredictRecipe",
    "load_recipe",
    "parse_override",
    "validate",
]
