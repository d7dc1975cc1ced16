"""What the layers of a model give for each image, as files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fieldmark.collection.lids import LidsImage
from fieldmark.core.events import Event
from fieldmark.errors import BadInput, NotFound, NothingLabelled
from fieldmark.images import open_image
from fieldmark.workbench.flim.options import TrainOptions, computing
from fieldmark.workbench.flim.validate import image_items
from fieldmark.workbench.jobs import run_job

FOLDER = "intermediate-outputs"
ADAPTIVE = "adap_avg_pool"
"""What the operations are called that give maps of one size."""


def require_one_size(form: str, images: Sequence[LidsImage], net: dict[str, Any]) -> None:
    """Raise BadInput where a zip, whose rows are all of one length, would hold maps of images of different sizes.

    Args:
        form: The format that was asked for.
        images: Of the data set; their sizes alone are looked at.
        net: The recipe's settings of the network. With an adaptive pool, maps may be of one size whatever the images
            are; what does not fit then is told when it is written.
    """
    if form != "zip" or ADAPTIVE in json.dumps(net):
        return
    first = None
    for one in images:
        with open_image(one.path, shown=one.name) as source:
            size = source.shape[2:]
        first = first or (one.name, size)
        if size != first[1]:
            raise BadInput(
                f"-f zip: {first[0]} has {_size(first[1])} pixels and {one.name} {_size(size)}; a zip holds maps of "
                "images of one size. Write npy or mimg (-f), resize the images, or name images of one size (-ts)."
            )


def require_layers(typed: Sequence[str], net: dict[str, Any]) -> None:
    """Raise NotFound for a layer that the architecture does not have; networks without one know their own names.

    Args:
        typed: Names, of which the last parts are enough.
        net: The recipe's settings of the network.
    """
    match net:
        case {"arch": {"features": dict(features)}}:
            known = list(_names(features))
        case _:
            return
    for name in typed:
        wanted = name.replace(".", "/").removeprefix("graph/")
        inside = "after_it" in wanted  # the inline operations of a convolution
        if not inside and not any(f"/{one}".endswith(f"/{wanted}") for one in known):
            raise NotFound("layer", name, known)


def _names(module: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Modules and operations below a module, outer names first, joined by "/"."""
    for name, node in module.get("layers", {}).items():
        yield f"{prefix}{name}"
        yield from _names(node, f"{prefix}{name}/")


def require_own_files(images: Sequence[LidsImage], form: str) -> None:
    """Raise BadInput where two images would be written into one file: `1_1.png` and `1_1.jpg`."""
    stems: dict[str, str] = {}
    for one in images:
        other = stems.setdefault(Path(one.name).stem, one.name)
        if form != "zip" and other != one.name:
            raise BadInput(
                f"{other} and {one.name} would be written into one file. Give them different names, write a zip (-f), "
                "or name one of them alone (-ts)."
            )


def _size(shape: tuple[int, ...]) -> str:
    """Of z, y, x: `y x x`, or all three of a volume."""
    return " x ".join(str(side) for axis, side in enumerate(shape) if axis or side > 1)


def write_layers(options: TrainOptions, model: Path, images: Sequence[LidsImage]) -> Iterator[Event]:
    """Write `OUT/intermediate-outputs/LAYER/` for each layer: a file for each image, or one zip.

    Args:
        options: The format and the names of the layers; all layers where none is named.
        model: The model's folder.
        images: The images, with their classes for the zip.
    """
    if not images:
        raise NothingLabelled("-i writes what layers give for the images of a data set. Say which: -d FOLDER.")
    items = [item | {"class": one.klass} for item, one in zip(image_items(images), images, strict=True)]
    job = {
        "kind": "layers",
        "model": str(model),
        "name": model.name,
        "images": items,
        "layers": list(options.layers),
        "format": options.format,
        "out": str(options.outputs_dir / FOLDER),
        **computing(options.gpus),
    }
    yield from run_job(job, options.outputs_dir / ".fieldmark" / "layers.json")
