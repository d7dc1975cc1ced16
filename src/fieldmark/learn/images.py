"""Whole images as an image head sees them while it is learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput, NothingLabelled
from fieldmark.infer.answers import require_whole, whole_tensor
from fieldmark.models.image_heads import Look

if TYPE_CHECKING:
    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net
    from fieldmark.recipes import ImageHeadConfig


def require_answers(samples: Samples) -> None:
    """Raise NothingLabelled where nobody answered, BadInput where all answers are of one class."""
    if len(samples.answers) == 0:
        raise NothingLabelled(
            "A classifier of images learns from answers, and no image has one. Give some "
            "(`fieldmark labels import --kind answers`), or fit without it: image_head.kind=none."
        )
    if len(np.unique(samples.answers.klass)) < 2:
        raise BadInput("All answered images are of one class. A classifier needs images of two classes or more.")


def look_for(samples: Samples, config: ImageHeadConfig, *, fixed: bool) -> Look:
    """How images become vectors; without a `size`, the one that all answered images share, where one is needed.

    Args:
        samples: The images and answers.
        config: What the recipe says.
        fixed: Whether the head needs images of one size whatever the vector is.

    Raises:
        BadInput: One size is needed, none is given, and two images differ; or an image cannot be judged whole.
    """
    for index in samples.answers.image:
        require_whole(samples.shape(int(index)), samples.images[index].name)
    size = config.size
    if size is None and (fixed or config.vector == "flatten"):
        size = _common_size(samples)
    levels = "last" if fixed else config.levels  # a classifier that the family brings goes on where its features end
    return Look(config.vector, config.grid, config.remove_border, size, levels)


def _common_size(samples: Samples) -> tuple[int, int]:
    first = int(samples.answers.image[0])
    height, width = samples.shape(first)[-2:]
    for index in samples.answers.image:
        found = tuple(samples.shape(int(index))[-2:])
        if found != (height, width):
            raise BadInput(
                f"{samples.images[first].name} has {height} x {width} pixels and {samples.images[index].name} has "
                f"{found[0]} x {found[1]}; flattened features need one size. Set image_head.size=[{height}, {width}] "
                "to resize all images, or image_head.vector=pooled."
            )
    return height, width


def whole_image(net: Net, samples: Samples, index: int, look: Look) -> Tensor:
    """(1, C, Y, X) prepared pixels of an image of the fit."""
    height, width = samples.shape(index)[-2:]
    pixels = samples.raw(index, Box((0, 0, 0, 0), (1, 1, height, width)), steps=samples.preparation)
    return whole_tensor(pixels, samples.preparation, size=look.size, stride=net.image_stride)


def image_maps(net: Net, samples: Samples, index: int, look: Look) -> list[Tensor]:
    """The maps of an image, one image at a time as in prediction, without gradients."""
    net.eval()
    with torch.no_grad():
        device = next((weight.device for weight in net.tunable()), torch.device("cpu"))
        return net.looked_at(whole_image(net, samples, index, look).to(device), look)
