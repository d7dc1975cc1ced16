"""Where in an image the evidence for its class lies (Grad-CAM).

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017 (arXiv 1610.02391).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fieldmark.errors import BadInput, NotFound
from fieldmark.infer.answers import read_whole, see_image
from fieldmark.models.heads import enlarge
from fieldmark.models.image_heads import SvmHead

if TYPE_CHECKING:
    import numpy as np

    from fieldmark.images import ImageSource
    from fieldmark.infer.predict import Model
    from fieldmark.models.base import Net

MOST_PIXELS = 1 << 22
"""Gradients keep every map of the network in memory; larger images are refused."""


@dataclass(frozen=True, slots=True)
class Cam:
    """Evidence for a class.

    Args:
        heat: (y, x) float32 of the image's size, in 0..1; all 0 where nothing speaks for the class.
        klass: Place of the class that was explained.
        probability: Of that class.
    """

    heat: np.ndarray
    klass: int
    probability: float


def explain_image(model: Model, source: ImageSource, image: str, *, layer: str, klass: int | None = None) -> Cam:
    """Grad-CAM of an image of a model with a dense image head, up to `MOST_PIXELS` pixels.

    Args:
        model: What answers.
        source: The image.
        image: Its name, for errors.
        layer: Name of the layer whose maps are weighed (see `layer_names`).
        klass: Place of the class to explain; None for the one that is answered.
    """
    height, width = source.shape[-2:]
    if height * width > MOST_PIXELS:
        raise BadInput(
            f"{image} has {height} x {width} pixels; gradients are computed up to {MOST_PIXELS} pixels. "
            "Explain a smaller copy or a part of it."
        )
    x = see_image(model.net, read_whole(model, source, image), model.header.preparation)
    seen, probabilities, klass = weighed_maps(model.net, x, layer, klass)
    size = model.net.image_head.look.size if model.net.image_head is not None else None
    inner = enlarge(seen, x.shape[-2:])[..., : size[0] if size else height, : size[1] if size else width]
    heat = enlarge(inner, (height, width))[0, 0]
    top = float(heat.max())
    return Cam((heat / top if top > 0 else heat).cpu().numpy(), klass, float(probabilities[klass]))


def weighed_maps(net: Net, x: Tensor, layer: str, klass: int | None = None) -> tuple[Tensor, Tensor, int]:
    """The positive part of a layer's maps, each weighed by the mean gradient of the class's score.

    Args:
        net: With a dense image head.
        x: (1, C, Y, X) prepared pixels.
        layer: Name of the layer.
        klass: Place of the class; None for the one with the highest score.

    Returns:
        (1, 1, y, x) on the layer's grid, (K,) probabilities, and the class.
    """
    head = net.image_head
    if head is None or isinstance(head, SvmHead):
        raise BadInput(
            "Grad-CAM follows the gradient of a dense image head, and this model has none. "
            "Fit it with image_head.kind=dense."
        )
    net.eval()
    x = x.detach().clone().requires_grad_(True)  # so that maps of fixed kernels have gradients too
    with torch.enable_grad(), _outputs_of(_layer(net, layer), layer) as outputs:
        scores = head.scores(net.image_view(x))[0]
        if not outputs:
            raise BadInput(f"Layer {layer!r} plays no part in the answer. Name another: {_named(layer_names(net))}.")
        maps = outputs[-1]
        klass = int(scores.argmax()) if klass is None else klass
        if not 0 <= klass < len(scores):
            raise BadInput(f"Class {klass} is none of the {len(scores)} classes; count from 0.")
        (gradient,) = torch.autograd.grad(scores[klass], maps, allow_unused=True)
    if gradient is None:
        raise BadInput(f"Layer {layer!r} plays no part in the answer. Name another: {_named(layer_names(net))}.")
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * maps.detach()).sum(dim=1, keepdim=True).relu(), scores.detach().softmax(dim=0), klass


def layer_names(net: Net) -> list[str]:
    """The names of the network's parts that may be layers, outermost first."""
    return [name for name, _ in net.named_modules() if name and name.split(".")[0] not in ("head", "image_head")]


def maps_in(output: object) -> Tensor | None:
    """The maps (B, F, (z,) y, x) in what a layer gives: a tensor, or one with where it lies; None for others."""
    maps = output[0] if isinstance(output, tuple) and output else output
    return maps if isinstance(maps, Tensor) and maps.ndim in (4, 5) else None


def _layer(net: Net, name: str) -> nn.Module:
    if name not in (names := layer_names(net)):
        raise NotFound("layer", name, names)
    return net.get_submodule(name)


@contextmanager
def _outputs_of(module: nn.Module, name: str) -> Iterator[list[Tensor]]:
    """What a module gives while the block runs, in order."""
    outputs: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: object) -> None:
        maps = maps_in(output)
        if maps is None:
            raise BadInput(f"Layer {name!r} gives no maps. Name a convolution, an activation or a pooling.")
        outputs.append(maps)

    handle = module.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()


def _named(names: list[str]) -> str:
    return ", ".join(names[:20])
