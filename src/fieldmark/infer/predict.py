"""Predict one image to files, restartable tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.core.axes import AS_IS
from fieldmark.core.events import Event
from fieldmark.core.fingerprint import fingerprint
from fieldmark.core.heap import kept_memory
from fieldmark.errors import BadInput, InputMismatch
from fieldmark.infer.deliver import CHUNK
from fieldmark.infer.device import device_for
from fieldmark.infer.forward import NetForward
from fieldmark.infer.resized import ResizedForward
from fieldmark.infer.sinks import ClassSink, DoneLog, ImageSink, LoggedSink
from fieldmark.infer.tiles import AnyPlan, plan_blend, plan_tiles, predict_tiles
from fieldmark.prepare import Whole, resize_of

if TYPE_CHECKING:
    from fieldmark.checkpoint import Header
    from fieldmark.core.axes import Factors
    from fieldmark.core.geometry import TilePlan
    from fieldmark.images import ImageSource
    from fieldmark.images.writers import ImageWriter
    from fieldmark.infer.blend import BlendPlan
    from fieldmark.models.base import Net
    from fieldmark.recipes import PredictRecipe

FIXED_TILE = 512
"""Tile of models that are not tile-exact or look farther than `max_halo`: always one grid, anchored at the image."""
FIXED_OVERLAP = 32
"""Pixels along y and x by which such tiles reach over their borders."""
FIXED_VOLUME = (32, 128)
"""The same of 3-D models, and their largest for an image that is seen at another size: slices, and pixels of a side."""
VOLUME_OVERLAP = (4, 16)
"""And by how much it reaches over its borders, along z, and along y and x."""
VOLUME_HALO = 32
"""3-D models that see farther than this are predicted on that grid."""
LARGEST_SIDE = 2048
"""Of tiles of images that are seen smaller: their answers are as large as the image's own grid."""
STACK_TILE = 8
"""Slices of a tile of models that see a window of slices for each; along z their halo makes them exact."""


Sighted = NetForward | ResizedForward
"""A network that looks at an image as it is, or at another size."""


@dataclass(frozen=True, slots=True)
class Model:
    """A network ready to predict, with its header and the name the user gave it. It computes where its weights are."""

    name: str
    header: Header
    net: Net


def model_of(job: dict[str, Any]) -> Model:
    """The model that a job names, on the device that its `accelerator` means; on the processor where it names none."""
    from fieldmark.models.build import load_net

    device = device_for(job.get("accelerator", "cpu"))
    header, net = load_net(Path(job["model"]))
    return Model(job["name"], header, net.to(device))


def forward_of(
    model: Model,
    recipe: PredictRecipe,
    output: str = "classes",
    image: str = "The image",
    source: ImageSource | None = None,
) -> Sighted:
    """The model as a function of raw pixels.

    `image` is named in errors; models that look at whole images, or see them at another size, read them from `source`.
    """
    if output not in model.header.outputs:
        raise BadInput(
            f"Model {model.name!r} gives {', '.join(model.header.outputs)}, not {output!r}. "
            "For classes, fit it again with labelled pixels and a head that is not none."
        )
    made = NetForward(
        model.net,
        model.header.preparation,
        output,
        precision=recipe.precision,
        image=image,
        whole=Whole(lambda: source) if source is not None else None,
    )
    factors = resize_of(model.header.preparation)
    if factors == AS_IS or source is None:
        return made
    deep, high, wide = model.header.halo
    if not _is_exact(model, recipe):
        deep, high, wide = (deep if window_of(model.net) else 0), 0, 0
    return ResizedForward(made, source, factors, (deep, high, wide))


def plan_for(model: Model, source: ImageSource, recipe: PredictRecipe, image: str) -> AnyPlan:
    """How an image is cut for a model. Raises InputMismatch for a wrong number of channels."""
    header = model.header
    if source.shape[1] not in (header.channels, *inputs_of(header)):
        raise InputMismatch(model=model.name, expected=header.channels, found=source.shape[1], image=image)
    exact, factors = _is_exact(model, recipe), resize_of(header.preparation)
    if not exact and not _jumps(model):
        return _blended(model, source, recipe)
    if factors != AS_IS:
        return _resized_plan(model, source, recipe, factors)
    halo_z, halo_y, halo_x = (min(halo, recipe.max_halo) for halo in header.halo)
    return plan_tiles(
        source.shape,
        tile=recipe.tile if exact else FIXED_TILE,
        stride=header.stride,
        halo=(halo_z, halo_y, halo_x),
        depth=STACK_TILE if window_of(model.net) else 0,
    )


def _resized_plan(model: Model, source: ImageSource, recipe: PredictRecipe, factors: Factors) -> TilePlan:
    """Cores in the image's own grid; what surrounds them is read at the other size (`infer.resized`)."""
    window, side = window_of(model.net), own_side(recipe.tile, sqrt(factors[1] * factors[2]))
    if model.net.spatial == 3 and not window:
        side = own_side(min(recipe.tile, FIXED_VOLUME[1]), sqrt(factors[1] * factors[2]))
        depth = own_depth(FIXED_VOLUME[0], factors[0])
    elif window or factors[0] != 1:
        side, depth = min(side, FIXED_TILE), own_depth(STACK_TILE, factors[0])
    else:
        depth = 1
    return plan_tiles(source.shape, tile=side, stride=(1, 1, 1), halo=(0, 0, 0), depth=depth)


def own_side(side: int, factor: float) -> int:
    """A tile's side in the image's own grid for one at another size; large ones fill chunks of files, up to a limit."""
    own = max(1, round(side / factor))
    return own if own <= CHUNK else min(LARGEST_SIDE, round(own / CHUNK) * CHUNK)


def own_depth(depth: int, factor: float) -> int:
    """A tile's slices in the image's own grid for one at another size; never more than those, for memory's sake."""
    return min(depth, max(1, round(depth / factor)))


def _is_exact(model: Model, recipe: PredictRecipe) -> bool:
    return model.header.tile_exact and max(model.header.halo) <= _most_halo(model, recipe)


def _most_halo(model: Model, recipe: PredictRecipe) -> int:
    """The halo with which tiles are still read: in volumes a wide one would be many times the tile."""
    solid = model.net.spatial == 3 and not window_of(model.net)
    return min(recipe.max_halo, VOLUME_HALO) if solid else recipe.max_halo


def _jumps(model: Model) -> bool:
    """Whether a head sees the whole plane first: its tiles then agree but where a value jumps, and are cut hard."""
    return model.net.head is not None and not model.net.head.continuous


def _blended(model: Model, source: ImageSource, recipe: PredictRecipe) -> BlendPlan:
    """One grid for all images, anchored at their first pixel. Networks of windows need no overlap along z."""
    window, spatial = window_of(model.net), model.net.spatial
    flat = FIXED_OVERLAP if recipe.overlap is None else recipe.overlap
    deep, side, depth, margin = 0, FIXED_TILE, 1, 0
    if window:
        depth, margin = STACK_TILE, model.header.halo[0]
    elif spatial == 3:
        depth, side = FIXED_VOLUME
        deep, flat = (given if own is None else own for given, own in zip(VOLUME_OVERLAP, _own(recipe), strict=True))
    stride, sides, overlap = model.header.stride, (side, side), (flat, flat)
    factors = resize_of(model.header.preparation)
    if factors != AS_IS:
        stride, margin, depth, deep = (1, 1, 1), 0, own_depth(depth, factors[0]), round(deep / factors[0])
        sides = (own_side(side, factors[1]), own_side(side, factors[2]))
        overlap = (round(flat / factors[1]), round(flat / factors[2]))
    return plan_blend(
        source.shape,
        tile=(depth, *sides),
        overlap=(deep, *overlap),
        margin=(margin, 0, 0),
        stride=stride,
        blend=recipe.blend,
        background=background_of(model),
    )


def _own(recipe: PredictRecipe) -> tuple[int | None, int | None]:
    return recipe.overlap_z, recipe.overlap


def inputs_of(header: Header) -> list[int]:
    """How many channels an image may have instead of those of the teaching images: just the ones that are seen."""
    first = [step for step in header.preparation[:2] if step.get("step") != "resize"][:1]
    return [len(step["take"]) for step in first if step.get("step") == "channels"]


def seen_channels(header: Header, channels: int) -> tuple[int, ...]:
    """Those of an image's channels that a model looks at; empty for all."""
    for step in header.preparation[:2]:
        if step.get("step") == "channels" and len(step["take"]) < channels:
            return tuple(step["take"])
    return ()


def window_of(net: Net) -> int:
    """Slices that a network of planes sees at once; 0 where it sees one plane, or a volume."""
    return int(getattr(net, "window", 0))


def background_of(model: Model) -> int:
    """The place of the class that is no object: the head's, or the first."""
    return int(model.header.config.get("head", {}).get("background", 0))


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
    shares: np.dtype | None = None,
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
        shares: Type of the probabilities; float32 by itself.
    """
    forward = forward_of(model, recipe, image=image, source=source)
    values = np.array([item.value for item in model.header.classes])
    plan = plan_for(model, source, recipe, image)
    with closing(_done_log(done, made_from, plan)) as log:
        sink = ClassSink(labels, values.astype(value_dtype(values)), log, probabilities, shares)
        yield from _written(model, forward, source, plan, sink, image)


def predict_values(
    model: Model,
    source: ImageSource,
    recipe: PredictRecipe,
    *,
    image: str,
    writer: ImageWriter,
    dtype: np.dtype,
    done: Path,
    made_from: str,
) -> Iterator[Event]:
    """Write the image that a model makes of another, in the units of its targets; one event a tile.

    Args:
        model: One that gives `image`.
        source: The image.
        recipe: How.
        image: Its name, for events and errors.
        writer: Of as many channels as the model's answers have.
        dtype: Type that is written.
        done: The log of finished tiles.
        made_from: Fingerprint of model, image and recipe: another one starts anew.
    """
    forward = forward_of(model, recipe, "image", image=image, source=source)
    plan = plan_for(model, source, recipe, image)
    with closing(_done_log(done, made_from, plan)) as log:
        sink = ImageSink(writer, partial(in_target_units, model.header), dtype, log)
        yield from _written(model, forward, source, plan, sink, image)


def _done_log(path: Path, made_from: str, plan: AnyPlan) -> DoneLog:
    """The log of the tiles of one plan: those of another one, as another version may cut, are not finished here."""
    return DoneLog(path, f"{made_from} {fingerprint(repr(plan))}")


def _written(
    model: Model, forward: Sighted, source: ImageSource, plan: AnyPlan, sink: LoggedSink, image: str
) -> Iterator[Event]:
    with kept_memory(model.net.spatial == 2):
        for tile in predict_tiles(forward, source, plan, sink, sink.done.path.parent):
            yield Event("predict", tile.index + 1, len(plan), message=image)


def in_target_units(header: Header, answers: np.ndarray) -> np.ndarray:
    """Answers (t, k, z, y, x) of a network that was taught normalized targets, in the targets' own units."""
    steps = getattr(header, "target_preparation", None)
    if not steps:
        return answers
    from fieldmark import prepare

    back = prepare.inverse(steps)
    return np.stack([prepare.apply(values, back) for values in answers])
