"""Predictions of many images as JSON and arrays on disk, so that they run in a process of their own and again later."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.checkpoint import read_bundle
from fieldmark.core.axes import AXES
from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.core.fingerprint import fingerprint, require_content
from fieldmark.core.geometry import Box
from fieldmark.core.heap import kept_memory
from fieldmark.images.source import channel_dtypes
from fieldmark.infer import deliver, stamps
from fieldmark.infer.components import SizeRule, filter_components, filter_volumes
from fieldmark.infer.deliver import CHUNK, place, place_probabilities
from fieldmark.infer.device import device_of
from fieldmark.infer.predict import (
    Model,
    background_of,
    model_of,
    plan_for,
    predict_image,
    predict_values,
    value_dtype,
)
from fieldmark.infer.propagate import MAX_PIXELS, propagate
from fieldmark.models.own_code import own_code
from fieldmark.prepare.normalize import largest
from fieldmark.prepare.pipeline import measures_each
from fieldmark.recipes import PredictRecipe, validate

if TYPE_CHECKING:
    from fieldmark.images import ImageSource
    from fieldmark.images.writers import ImageWriter
    from fieldmark.infer.tiles import AnyPlan


def predict_from_job(job: dict[str, Any]) -> Iterator[Event]:
    """Predict the images of a job (see `fieldmark.workbench.predicting`), one after the other."""
    recipe = validate(PredictRecipe, job["recipe"])
    model = model_of({**job, "accelerator": recipe.accelerator})
    kind, code = device_of(model.net).type, own_code(model.net)
    if model.header.details.get("code", code) != code:
        yield Event("note", 0, 0, message=_other_code(model))
    items = [_known(item, code) for item in job["images"]]
    stamps.require_unchanged([item for item in items if not stamps.is_there(item)])
    with kept_memory(model.net.spatial == 2):
        yield from _predicted(model, recipe, items, kind, job)


def _predicted(
    model: Model, recipe: PredictRecipe, items: list[dict[str, Any]], kind: str, job: dict[str, Any]
) -> Iterator[Event]:
    """Every item that is not there yet, on this `kind` of device."""
    told: list[str] = []
    for number, item in enumerate(items, start=1):
        if stamps.is_there(item):
            yield Event("image", number, len(items), message=f"{item['name']}: already there")
            if changed := stamps.changed_since(item):
                yield Event("note", 0, 0, message=_changed(item["name"], changed))
            continue
        # a working copy of another device would be half of its bits, one that is not kept of another type
        begun = " ".join([item["made_from"], kind, *(["kept"] if item.get("kept") else [])])
        yield from _predict_item(model, recipe, item | {"begun_from": begun}, job, told)
        yield Event("image", number, len(items), message=item["name"])


def _known(item: dict[str, Any], code: str) -> dict[str, Any]:
    """An item of a job with the code of a network of the user's, and with the traces of what is there of it."""
    made_from = fingerprint([item["made_from"], code]) if code else item["made_from"]
    return item | {"made_from": made_from, "traces": stamps.traces_of(item)}


def _other_code(model: Model) -> str:
    return (
        f"Model {model.name!r}: the code of {model.header.family} has changed since it was fitted, and its weights may "
        "mean something else now. Fit it again, or go back to the code that it was fitted with."
    )


def _other_type(model: Model, source: ImageSource, image: str) -> str:
    """A sentence on values of a type that taught nothing, where they are taken as they are; empty for none."""
    taught, own = model.header.details.get("types", []), set(channel_dtypes(source))
    known = {largest(np.dtype(name)) for name in taught} & {largest(dtype) for dtype in own}
    if not taught or known or measures_each(model.header.preparation):
        return ""
    return (
        f"{image} holds {', '.join(sorted(map(str, own)))}, and {model.name!r} was taught by {', '.join(taught)}: its "
        "values are taken as they are. Bring them into the range of the images that taught."
    )


def _changed(image: str, paths: list[str]) -> str:
    named = ", ".join(Path(path).name for path in paths)
    return (
        f"{image}: {named} has been changed since it was predicted, and stays as it is. "
        "Delete it to have it predicted again."
    )


def _predict_item(
    model: Model, recipe: PredictRecipe, item: dict[str, Any], job: dict[str, Any], told: list[str]
) -> Iterator[Event]:
    """`told` holds what was said of a type already: it is said once."""
    from fieldmark.images import open_image

    work = Path(item["work"])
    require_content(Path(item["uri"]), item["content_hash"], item["name"])
    with open_image(Path(item["uri"]), shown=item["name"], max_bytes=job.get("max_bytes")) as source:
        if not told and (said := _other_type(model, source, item["name"])):
            told.append(said)
            yield Event("note", 0, 0, message=said)
        if job.get("output", "classes") == "image":
            yield from _image(model, recipe, item, job["format"], source)
            made, count = work / "image.ome.zarr", 0
        else:
            yield from _classes(model, recipe, item, source)
            made = _filtered(model, recipe, item, work)
            count = _instances(model, recipe, item, made, work)
        _claim(item)
        _draw(model, item, source, made)
    _deliver(model, recipe, item, made, job["format"], count)


def _classes(model: Model, recipe: PredictRecipe, item: dict[str, Any], source: ImageSource) -> Iterator[Event]:
    """Working copies of the class map and, where they are wanted, of the probabilities."""
    work = Path(item["work"])
    shares = _working_shares(recipe, item)
    chunk = chunk_for(plan_for(model, source, recipe, item["name"]))
    labels, probabilities = _writers(model, source, work, shares, item["begun_from"], chunk)
    yield from predict_image(
        model,
        source,
        recipe,
        image=item["name"],
        labels=labels,
        probabilities=probabilities,
        done=work / "done.log",
        made_from=item["begun_from"],
        shares=shares,
    )
    if probabilities is not None:
        probabilities.finish()
    if item["strokes"] is not None:
        yield from _propagate(model, recipe, item, source, labels, work)
    labels.finish()


def _working_shares(recipe: PredictRecipe, item: dict[str, Any]) -> np.dtype | None:
    """The type of the working copy of probabilities; None where nothing needs them.

    Strokes are carried through exact ones, whatever is delivered.
    """
    exact = np.dtype(np.float32)
    if item["strokes"] is not None:
        return exact
    if recipe.probabilities:
        return np.dtype(recipe.probabilities_dtype)
    return exact if recipe.saliency else None


def _image(
    model: Model, recipe: PredictRecipe, item: dict[str, Any], form: str, source: ImageSource
) -> Iterator[Event]:
    """The working copy of a predicted image, with the axes and the scale of the one that it was made of.

    It is in the type that is delivered, but float32 where it is kept.
    """
    from fieldmark.images.writers import create_writer

    work = Path(item["work"])
    _begin(work, item["begun_from"], ["image"])
    t, _, z, y, x = source.shape
    dtype = np.dtype(np.float32) if item.get("kept") else image_dtype(recipe, form)
    writer = create_writer(
        work / "image.ome.zarr",
        "ome-zarr",
        shape=(t, answer_channels(model), z, y, x),
        dtype=dtype,
        pixel_size=source.pixel_size,
        axes=kept_axes(source, channels=True),
        channel_names=target_names(model),
        resume=True,
        chunk=chunk_for(plan_for(model, source, recipe, item["name"])),
    )
    options: dict[str, Any] = {"image": item["name"], "done": work / "done.log", "made_from": item["begun_from"]}
    yield from predict_values(model, source, recipe, writer=writer, dtype=dtype, **options)
    writer.finish()


def kept_axes(source: ImageSource, *, channels: bool) -> str:
    """Those of `tczyx` that the file of an image has, with or without `c` whatever channels it has itself."""
    return "".join(axis for axis in AXES if (channels if axis == "c" else axis in source.axes))


def chunk_for(plan: AnyPlan) -> tuple[int, ...]:
    """Chunks of working copies (t, c, z, y, x) that one tile fills, so that none is written many times over."""
    _, z, y, x = plan.tile
    return 1, 1, z if y < CHUNK else 1, min(y, CHUNK), min(x, CHUNK)


def image_dtype(recipe: PredictRecipe, form: str) -> np.dtype:
    """The type of predicted images: as asked for, or what the format holds best."""
    own = "uint16" if form == "png" else "float32"
    return np.dtype(own if recipe.dtype == "auto" else recipe.dtype)


def answer_channels(model: Model) -> int:
    """Channels of the image that a model makes; those of what it sees where its network does not say."""
    return int(getattr(model.net, "out_channels", model.net.channels))


def target_names(model: Model) -> list[str] | None:
    """The names of the channels of the targets that taught a model, where it knows them."""
    names = model.header.details.get("target_channels")
    if not isinstance(names, list) or len(names) != answer_channels(model):
        return None
    return [str(name) for name in names]


def _begin(work: Path, made_from: str, names: list[str]) -> None:
    """Throw away working copies of other makings, and those of which a part was delivered."""
    stamp = work / "made-from"
    all_there = all((work / f"{name}.ome.zarr").is_dir() for name in names)
    if not stamp.is_file() or stamp.read_bytes() != made_from.encode() or not all_there:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write_atomic(stamp, made_from.encode())


def _writers(
    model: Model, source: ImageSource, work: Path, shares: np.dtype | None, made_from: str, chunk: tuple[int, ...]
) -> tuple[ImageWriter, ImageWriter | None]:
    """Writers of the working copies."""
    from fieldmark.images.writers import create_writer

    _begin(work, made_from, ["labels"] if shares is None else ["labels", "probabilities"])
    t, _, z, y, x = source.shape
    values = np.array([spec.value for spec in model.header.classes])
    options: dict[str, Any] = {"pixel_size": source.pixel_size, "resume": True, "chunk": chunk}
    labels = create_writer(
        work / "labels.ome.zarr",
        "ome-zarr",
        shape=(t, 1, z, y, x),
        dtype=value_dtype(values),
        axes=kept_axes(source, channels=False),
        **options,
    )
    if shares is None:
        return labels, None
    names = _class_names(model)
    probabilities = create_writer(
        work / "probabilities.ome.zarr",
        "ome-zarr",
        shape=(t, len(names), z, y, x),
        dtype=shares,
        axes=kept_axes(source, channels=True),
        channel_names=names,
        **options,
    )
    return labels, probabilities


def _class_names(model: Model) -> list[str]:
    return [spec.name for spec in model.header.classes]


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
        options: dict[str, Any] = {"pixel_size": source.pixel_size, "axes": source.axes, "chunk": CHUNK}
        writer = create_writer(target, "ome-zarr", shape=source.shape, dtype=source.dtype, **options)
        rule, held = SizeRule(background, recipe.min_area, recipe.max_area), _drawn_on(item)
        if model.net.spatial == 3:
            filter_volumes(made, writer, rule, [spec.value for spec in model.header.classes], held)
        else:
            filter_components(source, writer, rule, held)
        writer.finish()
    return target


def _drawn_on(item: dict[str, Any]) -> np.ndarray:
    """(N, 4) t, z, y, x of the pixels that somebody drew on."""
    if item["strokes"] is None:
        return np.zeros((0, 4), np.int64)
    strokes = Path(item["strokes"])
    return read_bundle(strokes.parent, strokes.name)[1]["place"]


def _instances(model: Model, recipe: PredictRecipe, item: dict[str, Any], made: Path, work: Path) -> int:
    """The working copy of the objects of a class, numbered; how many there are."""
    from fieldmark.infer.instances import ObjectRule, write_objects

    if not item.get("instances"):
        return 0
    value = next(spec.value for spec in model.header.classes if spec.name == recipe.instances)
    split = recipe.split_distance if recipe.split == "watershed" else 0
    return write_objects(made, work / "instances.ome.zarr", ObjectRule(value, model.net.spatial == 3, split))


def _claim(item: dict[str, Any]) -> None:
    """The stamp first claims the names: what is stopped half-way is ours to replace, what somebody changed is not."""
    stamps.require_unchanged([item])
    Path(item["target"]).parent.mkdir(parents=True, exist_ok=True)
    write_atomic(Path(item["stamp"]), stamps.stamp_text("", item))
    for stamp in item.get("stamps_beside", []):
        stamps.give_up_figures(Path(stamp), item)


def _draw(model: Model, item: dict[str, Any], source: ImageSource, made: Path) -> None:
    if item.get("figures"):
        from fieldmark.infer.figures import draw_figures

        truth = item.get("truth")
        sheets = [Path(path) for path in item["figures"]]
        right = Path(truth) if truth else None
        codes = dict(item.get("truth_codes", ()))
        planes = {(t, z): Path(file) for t, z, file in item.get("truth_planes", ())}
        draw_figures(model, source, made, sheets, right, item.get("truth_channels", ()), codes, planes)


def _deliver(model: Model, recipe: PredictRecipe, item: dict[str, Any], made: Path, form: str, count: int) -> None:
    """Bring finished working copies to where the user wants them, in the format the user wants."""
    work = Path(item["work"])
    shares, names = work / "probabilities.ome.zarr", _class_names(model)
    numbers = item.get("numbers", deliver.COUNTED)
    if item.get("kept"):
        dtype = image_dtype(recipe, form)
        deliver.place_copy(made, Path(item["target"]), form, dtype, _image_names(model, made), numbers)
        place(made, Path(item["kept"]), "ome-zarr")
    else:
        place(made, Path(item["target"]), form, _image_names(model, made), numbers)
    for path in item["saliency"]:
        deliver.write_saliency(shares, Path(path), form, background_of(model), numbers)
    targets = [Path(path) for path in item["probabilities"]]
    place_probabilities(shares, targets, form, np.dtype(recipe.probabilities_dtype), names, numbers)
    for path in item.get("instances", []):
        deliver.place_instances(work / "instances.ome.zarr", Path(path), form, count, numbers)
    write_atomic(Path(item["stamp"]), stamps.stamp_text(item["made_from"], item))
    shutil.rmtree(work)


def _image_names(model: Model, made: Path) -> list[str] | None:
    """Of the channels of a predicted image; a class map has none."""
    return target_names(model) if made.name == "image.ome.zarr" else None
