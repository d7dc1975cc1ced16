"""Predict one image to files, restartable tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.core.events import Event
from fieldmark.errors import BadInput, InputMismatch
from fieldmark.infer.forward import NetForward
from fieldmark.infer.sinks import ClassSink, DoneLog
from fieldmark.infer.tiles import plan_tiles, predict_tiles
from fieldmark.prepare import image_maximum, of_image

if TYPE_CHECKING:
    from fieldmark.checkpoint import Header
    from fieldmark.core.geometry import TilePlan
    from fieldmark.images import ImageSource
    from fieldmark.images.writers import ImageWriter
    from fieldmark.models.base import Net
    from fieldmark.recipes import PredictRecipe

FIXED_TILE = 512
"""Tile of models that are not tile-exact or look farther than `max_halo`: always one grid, anchored at the image."""


@dataclass(frozen=True, slots=True)
class Model:
    """A network ready to predict, with its header and the name the user gave it."""

    name: str
    header: Header
    net: Net


def forward_of(
    model: Model,
    recipe: PredictRecipe,
    output: str = "classes",
    device: str = "cpu",
    image: str = "The image",
    source: ImageSource | None = None,
) -> NetForward:
    """The model as a function of raw pixels.

    `image` is named in errors; models that divide by an image's maximum read it from `source`.
    """
    if output not in model.header.outputs:
        raise BadInput(
            f"Model {model.name!r} gives {', '.join(model.header.outputs)}, not {output!r}. "
            "Label some pixels and fit it again to get classes."
        )
    preparation = model.header.preparation
    if source is not None:
        preparation = of_image(preparation, partial(image_maximum, source))
    return NetForward(model.net, preparation, output, precision=recipe.precision, device=device, image=image)


def plan_for(model: Model, source: ImageSource, recipe: PredictRecipe, image: str) -> TilePlan:
    """How an image is cut for a model. Raises InputMismatch for a wrong number of channels."""
    header = model.header
    if source.shape[1] != header.channels:
        raise InputMismatch(model=model.name, expected=header.channels, found=source.shape[1], image=image)
    exact = header.tile_exact and max(header.halo) <= recipe.max_halo
    halo_z, halo_y, halo_x = (min(halo, recipe.max_halo) for halo in header.halo)
    tile = recipe.tile if exact else FIXED_TILE
    return plan_tiles(source.shape, tile=tile, stride=header.stride, halo=(halo_z, halo_y, halo_x))


def value_dtype(values: np.ndarray) -> np.dtype:
    """The smallest unsigned integer that holds every written value."""
    return np.min_scalar_type(int(values.max(initial=0)))


def predict_image(
    model: Model,
    source: ImageSource,
    recipe: PredictRecipe,
    *,
    image: str,
    labels: ImageWriter,
    probabilities: ImageWriter | None,
    done: Path,
    made_from: str,
    device: str = "cpu",
) -> Iterator[Event]:
    """Write the class of every pixel, tile by tile; one event a tile.

    Args:
        model: What predicts.
        source: The image.
        recipe: How.
        image: Its name, for events and errors.
        labels: Writer of one channel, of the model's written values.
        probabilities: Writer of one channel a class, or None.
        done: The log of finished tiles.
        made_from: Fingerprint of model, image and recipe: another one starts anew.
        device: A torch device.
    """
    plan = plan_for(model, source, recipe, image)
    forward = forward_of(model, recipe, device=device, image=image, source=source)
    values = np.array([item.value for item in model.header.classes])
    log = DoneLog(done, made_from)
    try:
        sink = ClassSink(labels, values.astype(value_dtype(values)), log, probabilities)
        for tile in predict_tiles(forward, source, plan, sink):
            yield Event("predict", tile.index + 1, len(plan), message=image)
    finally:
        log.close()
