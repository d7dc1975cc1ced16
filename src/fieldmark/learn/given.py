"""Filters that libIFT has learned, in the place of those that strokes would teach."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fieldmark.errors import BadInput
from fieldmark.learn.estimate import Estimate
from fieldmark.models.flim_ops import Conv
from fieldmark.models.foreign import take_layers
from fieldmark.models.libift import read_layers
from fieldmark.prepare import color_steps

if TYPE_CHECKING:
    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net
    from fieldmark.models.flim_graph import FlimGraphNet
    from fieldmark.recipes import BeginConfig, FitRecipe


def require_begin(net: Net, recipe: FitRecipe) -> None:
    """Raise BadInput where a recipe begins with given filters, and its network takes none."""
    if recipe.begin is None:
        return
    if "flim-graph" not in net.phases:
        raise BadInput(
            f"begin: family {recipe.family!r} takes no filters of libIFT. Use `flim-net` with their architecture."
        )
    if recipe.net.get("dropped"):
        raise BadInput("begin: given filters cannot be dropped. Leave out net.dropped.")


def given_preparation(begin: BeginConfig, samples: Samples, color: str) -> list[dict[str, Any]]:
    """Steps that estimate nothing: the filters bring the statistics that they were learned with."""
    source = samples.source(0)
    return color_steps(color, source.shape[1], by=begin.scale, integers=source.dtype.kind == "u")


def given_layers(begin: BeginConfig) -> Estimate:
    """The phase that takes a folder's kernels, all in one step; no stroke is looked at."""
    return Estimate("flim-graph", [_solver(begin)])


def _solver(begin: BeginConfig) -> Callable[[Net], dict[str, float]]:
    return lambda net: _take(cast("FlimGraphNet", net), begin)


def _take(net: FlimGraphNet, begin: BeginConfig) -> dict[str, float]:
    folder = Path(begin.folder)
    convs = [op for op in map(net.op, net.learnable()) if isinstance(op, Conv)]
    shapes = [op.size for op in convs]
    take_layers(net, read_layers(folder, net.channels, dims=net.spatial, shapes=shapes, order=begin.order), folder)
    return {"kernels": float(sum(len(op.weight) for op in convs))}
