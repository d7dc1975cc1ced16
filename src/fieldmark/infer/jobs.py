"""Predictions of many images as JSON and arrays on disk, so that they run in a process of their own and again later."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.checkpoint import read_bundle
from fieldmark.checkpoint.bundle import read_json
from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.core.fingerprint import require_content
from fieldmark.core.geometry import Box
from fieldmark.infer.components import SizeRule, filter_components
from fieldmark.infer.predict import Model, predict_image, value_dtype
from fieldmark.infer.propagate import MAX_PIXELS, propagate
from fieldmark.models.build import load_net
from fieldmark.recipes import PredictRecipe, validate

if TYPE_CHECKING:
    from fieldmark.images import ImageSource
    from fieldmark.images.writers import ImageWriter

CHUNK = 512


def predict_from_job(job: dict[str, Any]) -> Iterator[Event]:
    """Predict the images of a job (see `fieldmark.workbench.predicting`), one after the other."""
    folder = Path(job["model"])
    header, net = load_net(folder)
    model = Model(job["name"], header, net)
    recipe = validate(PredictRecipe, job["recipe"])
    for number, item in enumerate(job["images"], start=1):
        if _is_there(item):
            yield Event("image", number, len(job["images"]), message=f"{item['name']}: already there")
            continue
        yield from _predict_item(model, recipe, item, job)
        yield Event("image", number, len(job["images"]), message=item["name"])


def _predict_item(model: Model, recipe: PredictRecipe, item: dict[str, Any], job: dict[str, Any]) -> Iterator[Event]:
    from fieldmark.images import open_image

    work = Path(item["work"])
    require_content(Path(item["uri"]), item["content_hash"], item["name"])
    with open_image(Path(item["uri"]), shown=item["name"], max_bytes=job.get("max_bytes")) as source:
        wants = recipe.probabilities or recipe.saliency or item["strokes"] is not None
        labels, probabilities = _writers(model, source, work, wants, item["made_from"])
        yield from predict_image(
            model,
            source,
            recipe,
            image=item["name"],
            labels=labels,
            probabilities=probabilities,
            done=work / "done.log",
            made_from=item["made_from"],
        )
        if probabilities is not None:
            probabilities.finish()
        if item["strokes"] is not None:
            yield from _propagate(model, recipe, item, source, labels, work)
        labels.finish()
    made = _filtered(model, recipe, item, work)
    _deliver(work, made, item, job["format"], background_of(model))


def _writers(
    model: Model, source: ImageSource, work: Path, wants_probabilities: bool, made_from: str
) -> tuple[ImageWriter, ImageWriter | None]:
    """Writers of the working copies; one of other makings is thrown away, and so is one that was partly delivered."""
    from fieldmark.images.writers import create_writer

    stamp = work / "made-from"
    if not stamp.is_file() or stamp.read_bytes() != made_from.encode() or not _has_arrays(work, wants_probabilities):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write_atomic(stamp, made_from.encode())
    t, _, z, y, x = source.shape
    values = np.array([spec.value for spec in model.header.classes])
    options: dict[str, Any] = {"pixel_size": source.pixel_size, "resume": True, "chunk": CHUNK}
    labels = create_writer(
        work / "labels.ome.zarr", "ome-zarr", shape=(t, 1, z, y, x), dtype=value_dtype(values), **options
    )
    if not wants_probabilities:
        return labels, None
    names = [spec.name for spec in model.header.classes]
    probabilities = create_writer(
        work / "probabilities.ome.zarr",
        "ome-zarr",
        shape=(t, len(names), z, y, x),
        dtype=np.dtype(np.float32),
        channel_names=names,
        **options,
    )
    return labels, probabilities


def _propagate(
    model: Model, recipe: PredictRecipe, item: dict[str, Any], source: ImageSource, labels: ImageWriter, work: Path
) -> Iterator[Event]:
    """Carry the strokes of an image through its planes; what was learned is the prior."""
    from fieldmark.images import open_image

    strokes = Path(item["strokes"])
    _, arrays = read_bundle(strokes.parent, strokes.name)
    places, klass = arrays["place"], arrays["klass"]
    values = np.array([spec.value for spec in model.header.classes])
    _, channels, _, height, width = source.shape
    with open_image(work / "probabilities.ome.zarr") as learned:
        for t, z in np.unique(places[:, :2], axis=0):
            box = Box((int(t), 0, int(z), 0, 0), (int(t) + 1, channels, int(z) + 1, height, width))
            if height * width > MAX_PIXELS:
                yield Event("propagate", 0, 0, message=_too_large(item["name"], height, width))
                continue
            here = (places[:, 0] == t) & (places[:, 1] == z)
            seeds = np.zeros((height, width), np.int64)
            seeds[tuple(places[here, 2:].T)] = klass[here] + 1
            prior = learned.read(Box(box.start, (int(t) + 1, len(values), int(z) + 1, height, width)))[0, :, 0]
            result = propagate(source.read(box)[0, :, 0], prior, seeds, method=recipe.propagate)
            labels.write(Box(box.start, (int(t) + 1, 1, int(z) + 1, height, width)), _as_block(values[result.classes]))
            yield Event("propagate", 1, 1, metrics=result.scores, message=f"{item['name']}: {result.method}")


def _as_block(plane: np.ndarray) -> np.ndarray:
    return plane.astype(value_dtype(plane))[None, None, None]


def _too_large(name: str, height: int, width: int) -> str:
    return (
        f"{name}: {height} x {width} pixels is more than propagation takes ({MAX_PIXELS} pixels); "
        "its strokes were not carried through space, the prediction is the model's alone."
    )


def _has_arrays(work: Path, wants_probabilities: bool) -> bool:
    """Whether the tiles that the log calls finished can be there at all."""
    wanted = ("labels", "probabilities") if wants_probabilities else ("labels",)
    return all((work / f"{name}.ome.zarr").is_dir() for name in wanted)


def background_of(model: Model) -> int:
    """The place of the class that is no object: the head's, or the first."""
    return int(model.header.config.get("head", {}).get("background", 0))


def _filtered(model: Model, recipe: PredictRecipe, item: dict[str, Any], work: Path) -> Path:
    """The working copy to deliver: of the labels, or one without objects of a wrong size.

    Written anew each time: a copy that was half filtered cannot be filtered again. What
    somebody drew on stays.
    """
    from fieldmark.images import open_image
    from fieldmark.images.writers import create_writer

    made, target = work / "labels.ome.zarr", work / "filtered.ome.zarr"
    if recipe.min_area <= 1 and recipe.max_area is None:
        return made
    shutil.rmtree(target, ignore_errors=True)
    background = model.header.classes[background_of(model)].value
    with open_image(made) as source:
        writer = create_writer(
            target, "ome-zarr", shape=source.shape, dtype=source.dtype, pixel_size=source.pixel_size, chunk=CHUNK
        )
        filter_components(source, writer, SizeRule(background, recipe.min_area, recipe.max_area), _drawn_on(item))
        writer.finish()
    return target


def _drawn_on(item: dict[str, Any]) -> np.ndarray:
    """(N, 4) t, z, y, x of the pixels that somebody drew on."""
    if item["strokes"] is None:
        return np.zeros((0, 4), np.int64)
    strokes = Path(item["strokes"])
    return read_bundle(strokes.parent, strokes.name)[1]["place"]


def _deliver(work: Path, made: Path, item: dict[str, Any], form: str, background: int) -> None:
    """Bring finished working copies to where the user wants them, in the format the user wants.

    The stamp first claims the names: what is stopped half-way is ours to replace.
    """
    target = Path(item["target"])
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(Path(item["stamp"]), stamp_text("", item))
    _place(made, target, form)
    for path in item["saliency"]:
        _write_saliency(work / "probabilities.ome.zarr", Path(path), form, background)
    _place_probabilities(work / "probabilities.ome.zarr", [Path(path) for path in item["probabilities"]], form)
    write_atomic(Path(item["stamp"]), stamp_text(item["made_from"], item))
    shutil.rmtree(work)


def outputs_of(item: dict[str, Any]) -> list[str]:
    """Every file that an image's prediction is delivered as."""
    return [item["target"], *item["probabilities"], *item["saliency"]]


def stamp_text(made_from: str, item: dict[str, Any]) -> bytes:
    """What an image's outputs were made from (nothing while they are being written), and their names."""
    files = [Path(path).name for path in outputs_of(item)]
    values = {"made_from": made_from, "files": files}
    return json.dumps(values, indent=2).encode()


def _is_there(item: dict[str, Any]) -> bool:
    stamp = Path(item["stamp"])
    if not stamp.is_file() or read_json(stamp).get("made_from") != item["made_from"]:
        return False
    return all(Path(path).exists() for path in outputs_of(item))


def _place(made: Path, target: Path, form: str) -> None:
    if form == "ome-zarr":
        if target.exists():
            shutil.rmtree(target)
        made.replace(target)
        return
    _convert(made, target, form, channels=None)


def _place_probabilities(made: Path, targets: list[Path], form: str) -> None:
    """PNG holds no fractions and few channels: one 16-bit picture a class, 65535 for certain."""
    for channel, target in enumerate(targets):
        if form == "png":
            _convert(made, target, form, channels=(channel, channel + 1))
        else:
            _place(made, target, form)


def _write_saliency(made: Path, target: Path, form: str, background: int) -> None:
    """One minus the probability of the background, 255 for certain."""
    from fieldmark.images import open_image
    from fieldmark.images.writers import create_writer

    if form == "ome-zarr" and target.exists():
        shutil.rmtree(target)
    with open_image(made) as source:
        t, _, z, y, x = source.shape
        writer = create_writer(
            target, form, shape=(t, 1, z, y, x), dtype=np.dtype(np.uint8), pixel_size=source.pixel_size, chunk=CHUNK
        )
        for box in _blocks(source.shape, background, background + 1):
            values = np.rint((1 - source.read(box)) * 255).astype(np.uint8)
            writer.write(box.shifted((0, -background, 0, 0, 0)), values)
        writer.finish()


def _convert(made: Path, target: Path, form: str, channels: tuple[int, int] | None) -> None:
    """Copy tile by tile from a working copy into another format; memory follows the tile, except for PNG."""
    from fieldmark.images import open_image
    from fieldmark.images.writers import create_writer

    with open_image(made) as source:
        t, c, z, y, x = source.shape
        first, last = channels or (0, c)
        dtype = np.dtype(np.uint16) if channels else source.dtype
        writer = create_writer(
            target, form, shape=(t, last - first, z, y, x), dtype=dtype, pixel_size=source.pixel_size, chunk=CHUNK
        )
        for box in _blocks((t, c, z, y, x), first, last):
            values = source.read(box)
            block = np.rint(values * 65535).astype(np.uint16) if channels else values
            writer.write(box.shifted((0, -first, 0, 0, 0)), block)
        writer.finish()


def _blocks(shape: tuple[int, ...], first: int, last: int) -> Iterator[Box]:
    t, _, z, y, x = shape
    for at in np.ndindex(t, z, -(-y // CHUNK), -(-x // CHUNK)):
        start = (at[0], first, at[1], at[2] * CHUNK, at[3] * CHUNK)
        yield Box(start, (at[0] + 1, last, at[1] + 1, min(y, start[3] + CHUNK), min(x, start[4] + CHUNK)))
