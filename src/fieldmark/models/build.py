"""From a family's name and settings to a network, and from a model folder to one ready to use."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fieldmark.checkpoint import Header, load
from fieldmark.core.geometry import round_up
from fieldmark.core.registry import is_typed
from fieldmark.errors import BadFile, BadInput, FieldmarkError
from fieldmark.models.base import Net
from fieldmark.models.heads import build_head
from fieldmark.models.image_heads import Look, build_image_head
from fieldmark.models.own_code import blamed
from fieldmark.models.refine import build_refiner
from fieldmark.models.tensors import load_arrays
from fieldmark.prepare import prepared_channels
from fieldmark.recipes import validate
from fieldmark.recipes.registry import FAMILIES

if TYPE_CHECKING:
    import numpy as np

_MOST_PROBED = 1 << 26
"""Values of the smallest image that a model can take; a stride that asks for more is no network's."""


def build(family: str, config: dict[str, Any], channels: int, *, seed: int = 0) -> Net:
    """A network with first weights that depend on the seed alone.

    Raises NotFound for a family that is not registered and BadRecipe for unknown settings.
    """
    kind = family_class(family)
    settings = validate(FAMILIES.load_config(family), config, where="net")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with blamed(kind, f"__init__ with {channels} channel{'s' * (channels > 1)}"):
            return kind(channels, settings)


def family_class(family: str) -> Callable[[int, Any], Net]:
    """The class of a family. Raises NotFound for one that is not known, BadInput for what is no network of ours."""
    kind = FAMILIES.load(family)
    if not (isinstance(kind, type) and issubclass(kind, Net)):
        raise BadInput(
            f"{family}: is no network that can be fitted here. Derive the class from fieldmark.models.taught.TaughtNet."
        )
    return kind


def restore(header: Header, weights: dict[str, np.ndarray]) -> Net:
    """The network of a checkpoint, in evaluation mode."""
    with torch.device("meta"):  # settings that do not fit the weights are refused before anything is allocated
        load_arrays(_headed(header), weights)
    net = _headed(header)
    load_arrays(net, weights)
    return net.eval()


def _headed(header: Header) -> Net:
    config = dict(header.config)
    head, refiner, image_head = (config.pop(part, None) for part in ("head", "refiner", "image_head"))
    net = build(header.family, config, prepared_channels(header.preparation, header.channels))
    if head is not None:
        net.head = build_head(head)
    if refiner is not None:
        net.refiner = build_refiner(refiner)
    if image_head is not None:
        net.image_head = build_image_head(image_head, net)
    return net


def _probe(header: Header, net: Net) -> None:
    """One step of the smallest image through the model, so that parts that do not fit are found when it is loaded."""
    if header.tile_exact != net.tile_exact:
        raise ValueError(f"its header says tile_exact {header.tile_exact}, its network {net.tile_exact}")
    if header.stride != net.strides:
        raise ValueError(f"its header says stride {header.stride}, its network has {net.strides}")
    if header.halo != net.halo:
        raise ValueError(f"its header says halo {header.halo}, its network has {net.halo}")
    if net.channels * prod(net.least) > _MOST_PROBED:
        raise ValueError(f"the smallest image it could take is {net.least} pixels")
    with torch.inference_mode(), blamed(type(net), f"forward of the smallest image, {net.least},"):
        pixels = torch.zeros(1, net.channels, *net.least)
        told = [net.answer(pixels, "classes").shape[1]] if "classes" in header.outputs else []
        if net.image_head is not None:
            told.append(net.image_probabilities(_smallest_whole(net, net.image_head.look)).shape[1])
        if "numbers" in header.outputs:
            net.answer(pixels, "numbers")
        elif not told:
            net.features(pixels)
    if wrong := [found for found in told if found != len(header.classes)]:
        raise ValueError(f"its header names {len(header.classes)} classes, its network gives {wrong[0]}")


def _smallest_whole(net: Net, look: Look) -> torch.Tensor:
    """An image of zeros that an image head can see."""
    height, width = (round_up(n, net.image_stride) for n in look.size or net.least_whole(look.border))
    return torch.zeros(1, net.channels, height, width)


def _unregistered(family: str) -> str:
    if is_typed(family):
        return (
            f"names the family {family!r}, which is not registered: it is code of somebody's own, and nothing was "
            f"imported. If you trust it, say so: --allow-family {family}."
        )
    known = ", ".join(name for name, _ in FAMILIES)
    return (
        f"names the family {family!r}, which is not registered; nothing was imported. Known: {known}. "
        "Fit it again with one of these."
    )


def load_net(folder: Path) -> tuple[Header, Net]:
    """Read a model folder. A family that is not registered, and was not typed on this run, is refused, not imported."""
    header, weights = load(folder)
    if header.family not in FAMILIES:
        raise BadFile(folder / "model.json", _unregistered(header.family))
    try:
        net = restore(header, weights)
        _probe(header, net)
        return header, net
    except BadInput as error:
        raise BadFile(folder, str(error)) from error
    except FieldmarkError:
        raise
    except (ValueError, RuntimeError, TypeError, LookupError) as error:
        raise BadFile(folder, f"its weights do not fit its header ({error}). Copy the folder again.") from error
