"""Whole images as vectors, by what a model sees in them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.infer.answers import read_whole, see_image
from fieldmark.infer.predict import Model, model_of
from fieldmark.models.image_heads import Look, PooledVector

if TYPE_CHECKING:
    from fieldmark.images import ImageSource


def image_vector(model: Model, source: ImageSource, image: str) -> np.ndarray:
    """(D,) float32: means, then maxima, of the maps that image heads look at, whichever head the model has, if any."""
    pixels = read_whole(model, source, image)
    seen = see_image(model.net.eval(), pixels, model.header.preparation)
    with torch.inference_mode():
        vector: np.ndarray = PooledVector(Look())(model.net.image_maps(seen))[0].float().cpu().numpy()
    return vector


def vectors_from_job(job: dict[str, Any]) -> Iterator[Event]:
    """Write the vectors of a job's images as one table (N, D), a row an image, or nothing.

    The job names `model` (folder), `name`, `accelerator`, `images` (each `name`, `uri`) and `target`, a file ending
    in .npy.
    """
    from fieldmark.images import open_image

    model = model_of(job)
    rows = []
    for number, item in enumerate(job["images"], start=1):
        with open_image(Path(item["uri"]), shown=item["name"]) as source:
            rows.append(image_vector(model, source, item["name"]))
        yield Event("look", number, len(job["images"]), message=item["name"])
    data = io.BytesIO()
    np.save(data, np.stack(rows), allow_pickle=False)
    write_atomic(Path(job["target"]), data.getvalue())
