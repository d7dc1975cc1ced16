"""What the layers of a model give for each image, as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fieldmark.collection.lids import LidsImage
from fieldmark.core.events import Event
from fieldmark.errors import NothingLabelled
from fieldmark.workbench.flim.options import TrainOptions
from fieldmark.workbench.flim.validate import image_items
from fieldmark.workbench.jobs import run_job

FOLDER = "intermediate-outputs"


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
        "gpus": list(options.gpus),
        "accelerator": "auto" if options.gpus else "cpu",
    }
    yield from run_job(job, options.outputs_dir / ".fieldmark" / "layers.json")
