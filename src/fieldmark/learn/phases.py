"""The training phases that a family may name, each built from the network, the samples and the recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldmark.core.registry import Entry, Registry

if TYPE_CHECKING:
    from fieldmark.learn.engine import Phase
    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net
    from fieldmark.recipes import FitRecipe

PHASES = Registry(
    "training phase",
    {
        "flim-layers": Entry("fieldmark.learn.flim:flim_layers", "Kernels of each layer from the marked patches"),
        "flim-graph": Entry("fieldmark.learn.flim_graph:flim_graph", "Layers of a FLIM architecture, in order"),
        "pixel-head": Entry("fieldmark.learn.pixel_head:pixel_head", "Classifier of pixels from the marks"),
        "classify": Entry("fieldmark.learn.tasks.classify:classify", "Dense classifier of images from the answers"),
        "svm": Entry("fieldmark.learn.svm:svm", "Linear support vector machine on images' features, from the answers"),
        "targets": Entry("fieldmark.learn.tasks.targets:learn_targets", "Classes or images from targets, by descent"),
        "numbers": Entry("fieldmark.learn.tasks.numbers:learn_numbers", "Numbers of whole images, by descent"),
        "reconstruct": Entry("fieldmark.learn.tasks.reconstruct:reconstruct", "Paint the image from its embedding"),
    },
)


def plan_phases(net: Net, samples: Samples, recipe: FitRecipe) -> list[Phase]:
    """The phases of a fit, in order; a phase that has nothing to learn from leaves itself out."""
    built = [PHASES.load(name)(net, samples, recipe) for name in net.phases]
    return [phase for phase in built if phase is not None]
