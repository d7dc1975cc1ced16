"""The class of whole images: one row an image, never tiles."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.core.geometry import Box
from fieldmark.core.written import write_ours
from fieldmark.errors import BadInput, InputMismatch
from fieldmark.infer.device import device_of
from fieldmark.infer.forward import pad_to_stride, require_numbers
from fieldmark.models.layout import channels_last, lay_channels_last
from fieldmark.prepare import apply, whole_of

if TYPE_CHECKING:
    from fieldmark.images import ImageSource
    from fieldmark.infer.predict import Model
    from fieldmark.models.base import Net

MOST_PIXELS = 1 << 24
"""An image head looks at a whole image at once; larger ones are refused."""


def require_whole(shape: Sequence[int], image: str) -> None:
    """Raise BadInput where an image (t, c, z, y, x) has several planes or too many pixels for an answer."""
    t, _, z, y, x = shape
    if t * z > 1:
        raise BadInput(f"{image} has {t * z} planes; an answer is for an image of one. Write the planes as images.")
    if y * x > MOST_PIXELS:
        raise BadInput(
            f"{image} has {y} x {x} pixels; whole images are judged up to {MOST_PIXELS} pixels. Make it smaller."
        )


def whole_tensor(
    pixels: np.ndarray, preparation: list[dict[str, Any]], *, size: tuple[int, int] | None, stride: int
) -> Tensor:
    """What a network sees of a whole image.

    Raw pixels are resized first, if at all: bilinear, with an area filter where the image
    shrinks; the proportions are not kept. Then they are prepared, and grown to the stride
    by reflection.

    Args:
        pixels: (c, y, x) raw pixels.
        preparation: The model's steps.
        size: Height and width in pixels, or None for the image's own.
        stride: Height and width are grown to multiples of it.

    Returns:
        (1, c, Y, X) float32.
    """
    whole = whole_of(pixels)
    if size is not None and pixels.shape[1:] != tuple(size):
        raw = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))[None]
        pixels = interpolate(raw, size=tuple(size), mode="bilinear", align_corners=False, antialias=True)[0].numpy()
    y, x = pixels.shape[1:]
    steps = whole.at(preparation, Box((0,) * 4, (1, 1, y, x)), size=(y, x))
    return torch.from_numpy(pad_to_stride(apply(pixels, steps), stride))[None]


def see_image(net: Net, pixels: np.ndarray, preparation: list[dict[str, Any]]) -> Tensor:
    """The same, at the size that the network's image head wants, and where the network computes."""
    size = net.image_head.look.size if net.image_head is not None else None
    return whole_tensor(pixels, preparation, size=size, stride=net.image_stride).to(device_of(net))


def read_whole(model: Model, source: ImageSource, image: str) -> np.ndarray:
    """(c, y, x) raw pixels. Raises InputMismatch for a wrong number of channels, BadInput for what cannot be judged."""
    if source.shape[1] != model.header.channels:
        raise InputMismatch(model=model.name, expected=model.header.channels, found=source.shape[1], image=image)
    require_whole(source.shape, image)
    pixels: np.ndarray = source.read(Box.whole(source.shape))[0, :, 0]
    require_numbers(pixels, image)
    return pixels


def answer_image(model: Model, source: ImageSource, image: str, output: str = "image-classes") -> np.ndarray:
    """The probabilities (K,) of an image's classes, or its `vector` (D,), float32.

    Images are judged one by one: an answer does not depend on what else is asked.
    """
    if model.net.image_head is None:
        raise BadInput(
            f"Model {model.name!r} gives {', '.join(model.header.outputs)}, but no answer for whole images. "
            "Answer some images and fit it with image_head.kind=dense or svm."
        )
    pixels = read_whole(model, source, image)
    # one layout of the weights, whatever the network was used for before: another one rounds differently
    net = model.net.eval()
    lay_channels_last(net)
    seen = channels_last(see_image(net, pixels, model.header.preparation))
    with torch.inference_mode():
        row: np.ndarray = net.answer(seen, output)[0].cpu().numpy()
    return row


def answers_from_job(job: dict[str, Any]) -> Iterator[Event]:
    """Answer the images of a job and write them as rows, all of them or none.

    The job names `model` (folder), `name`, `accelerator`, `images` (each `name`, `uri`, and `content_hash` where it
    must be as it was), `target`: a file ending in .csv or .json, and, where what a person made of it is not to be
    replaced, a `stamp`.
    """
    from fieldmark.core.fingerprint import require_content
    from fieldmark.images import open_image
    from fieldmark.infer.numbers import names_of, number_row
    from fieldmark.infer.predict import model_of

    model = model_of(job)
    header = model.header
    numbers = "numbers" in header.outputs
    rows = []
    for number, item in enumerate(job["images"], start=1):
        if item.get("content_hash"):
            require_content(Path(item["uri"]), item["content_hash"], item["name"])
        with open_image(Path(item["uri"]), shown=item["name"], max_bytes=job.get("max_bytes")) as source:
            answer = number_row if numbers else answer_image
            rows.append((item["name"], answer(model, source, item["name"])))
        yield Event("answer", number, len(job["images"]), message=item["name"])
    form = Path(job["target"]).suffix.lower()
    if numbers:
        text = numbers_text(rows, names_of(model), form)
    else:
        text = rows_text(rows, [spec.name for spec in header.classes], form)
    _write_table(job, text.encode())


def _write_table(job: dict[str, Any], data: bytes) -> None:
    target = Path(job["target"])
    if "stamp" in job:
        write_ours(target, data, Path(job["stamp"]))
    else:
        write_atomic(target, data)


def numbers_text(rows: Sequence[tuple[str, np.ndarray]], names: Sequence[str], form: str) -> str:
    """Numbers as a table.

    Args:
        rows: Name and (D,) numbers of each image.
        names: Of the D numbers.
        form: `.csv` (columns image, then the numbers) or `.json` (a list of objects).
    """
    table = [(image, [float(f"{value:.7g}") for value in row.tolist()]) for image, row in rows]
    if form == ".json":
        objects = [{"image": image, "numbers": dict(zip(names, row, strict=True))} for image, row in table]
        return json.dumps(objects, indent=2) + "\n"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", *names])
    writer.writerows([image, *row] for image, row in table)
    return text.getvalue()


def rows_text(rows: Sequence[tuple[str, np.ndarray]], classes: Sequence[str], form: str) -> str:
    """Answers as a table.

    Args:
        rows: Name and (K,) probabilities of each image.
        classes: The names of the K classes.
        form: `.csv` (columns image, class, then the probability of each class) or `.json` (a list of objects).
    """
    table = [(image, classes[int(row.argmax())], [round(float(p), 6) for p in row]) for image, row in rows]
    if form == ".json":
        objects = [
            {"image": image, "class": said, "probabilities": dict(zip(classes, row, strict=True))}
            for image, said, row in table
        ]
        return json.dumps(objects, indent=2) + "\n"
    if form != ".csv":
        raise BadInput(f"Answers are written as .csv or .json, not as {form or 'a file without a suffix'!r}.")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "class", *classes])
    writer.writerows([image, said, *row] for image, said, row in table)
    return text.getvalue()
