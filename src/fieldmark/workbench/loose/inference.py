"""`predict --config FILE` of microDL's inference YAML: through the same path as every prediction, without a project."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.checkpoint import header_of
from fieldmark.collection.frames import Wanted, frames_in
from fieldmark.core.events import Event
from fieldmark.errors import BadInput, BadRecipe, near_miss
from fieldmark.recipes import PredictRecipe, load_recipe, validate
from fieldmark.recipes.dialects import microdl_predict
from fieldmark.recipes.dialects.keys import dialect_of, grouped
from fieldmark.recipes.dialects.microdl_channels import Channels
from fieldmark.recipes.evaluate import EvaluateRecipe
from fieldmark.workbench.loose.fit import NUMBERS, PLANES, TARGETS
from fieldmark.workbench.loose.frame_masks import MaskFolder, by_position
from fieldmark.workbench.loose.frames import add_frames, hashes_of, numbered_channels, prepared_in, require_chosen
from fieldmark.workbench.loose.images import HIDDEN, assemble
from fieldmark.workbench.loose.old import begin_folder
from fieldmark.workbench.loose.stores import is_store, store_table
from fieldmark.workbench.originals import refuse_inside
from fieldmark.workbench.predicting import output_of, stem_of

if TYPE_CHECKING:
    from fieldmark.checkpoint import Header
    from fieldmark.collection import ImageRecord
    from fieldmark.recipes.dialects.keys import ForeignPredict
    from fieldmark.workbench.bench import Workbench

PARTS = {"train": "train", "val": "validation", "test": "test"}
"""What parts of the data are called there, and in a model's header."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A prediction that is about to begin."""

    file: ForeignPredict
    model: Path
    header: Header
    recipe: PredictRecipe
    out: Path
    form: str
    allow: tuple[str, ...] = ()
    gpus: tuple[int, ...] = ()


def plan_inference(
    config: Path,
    settings: dict[str, Any],
    *,
    out: Path | None = None,
    form: str | None = None,
    allow: Sequence[str] = (),
    gpus: Sequence[int] = (),
) -> Plan:
    """Read an inference file, and refuse what could not be predicted or written.

    Args:
        config: The file, as the user typed it.
        settings: Of a PredictRecipe, typed beside it; they go before the file's.
        out: Where to write, instead of the folder that the file names.
        form: The format, instead of the file's.
        allow: Classes of the user's own that may be imported.
        gpus: Those that the worker may see; none for all.
    """
    values = load_recipe(config)
    dialect = dialect_of(values)
    if dialect != "microdl-predict":
        known = (
            f"It is one of {dialect}: fieldmark fit --config takes those."
            if dialect
            else near_miss("image_dir", values)
        )
        raise BadRecipe(f"{config}: is no inference file of microDL (`image_dir`, `model_dir`). {known}")
    file = _with_frames(microdl_predict.predict_of(values, beside=config.resolve().parent, source=config))
    target = (out or file.out).resolve()
    refuse_inside(target, [file.images])
    if target.exists() and not target.is_dir():
        raise BadInput(f"{target} is a file. Choose a folder with --out.")
    model = begin_folder(file.model, target / HIDDEN / "converted")
    recipe = validate(PredictRecipe, file.recipe | settings, source=config)
    header = header_of(model)
    if file.frames.slices and header.halo[0] > 0:
        file = _with_neighbors(file)
    file = _with_seen(file, header)
    return Plan(file, model, header, recipe, target, form or file.form, tuple(allow), tuple(gpus))


def _with_neighbors(file: ForeignPredict) -> ForeignPredict:
    """With all slices: a network that sees stacks would take those left out for slices that are not there."""
    table = store_table(file.images) if is_store(file.images) else frames_in(file.images)
    require_chosen(file.frames, file.images, table.rows)
    note = (
        "dataset.slice_ids: the network sees each slice with its neighbors, so whole stacks are predicted and measured."
    )
    return replace(file, frames=replace(file.frames, slices=()), notes=(*file.notes, note))


def _with_seen(file: ForeignPredict, header: Header) -> ForeignPredict:
    """With the channels that the model sees alone, where the frames have others beside them than those that taught.

    Nothing is compared then: a model takes the channels that it sees, or all that lay there while it was taught.
    """
    numbers = () if is_store(file.images) else numbered_channels(file.images, file.frames)
    seen, taught = _seen(header), header.details.get(NUMBERS, [])
    if numbers == tuple(taught) or not seen or not {*seen} < {*numbers}:
        return file
    note = (
        f"dataset.input_channels: the frames have channels {[*numbers]}, and those that taught had {taught}; {seen} "
        "alone are read, and nothing is compared with dataset.target_channels."
    )
    chosen = replace(file.frames, channels=tuple(seen))
    return replace(file, frames=chosen, targets=(), notes=(*file.notes, note))


def _seen(header: Header) -> list[int]:
    """The numbers of the frames' channels that a model sees; none where it does not know them."""
    taught = header.details.get(NUMBERS, [])
    takes = [step["take"] for step in header.preparation if step["step"] == "channels"]
    return [taught[place] for place in takes[0]] if taught and takes else []


def _with_frames(file: ForeignPredict) -> ForeignPredict:
    """With the frames that were prepared, where `image_dir` is the `output_dir` of a preparation."""
    before = prepared_in(file.images)
    if before is None or before.images == file.images:
        return file
    note = f"image_dir: was prepared; its frames are those of {before.images}."
    return replace(file, images=before.images, notes=(*file.notes, note))


def follow_inference(plan: Plan) -> Iterator[Event]:
    """Predict the frames that the file asks for, and compare them with the target channels where asked."""
    yield from (_note(text) for text in grouped(plan.file.notes))
    names_of_part(plan.header, plan.file.split)
    place = plan.out / HIDDEN / "project"
    bench = assemble(place, lambda bench: _fill(bench, plan), again=True)
    with bench:
        bench.allow = plan.allow
        records = _of_part(plan, bench.collection.all())
        told = len(plan.file.notes)
        plan = replace(plan, file=_placed(plan))
        yield from (_note(text) for text in plan.file.notes[told:])
        names = [record.name for record in records]
        taught = _taught(plan, bench, records) if plan.file.metrics else frozenset()
        kept = yield from _to_compare(plan, [name for name in names if name not in taught])
        beside: dict[str, Any] = {"targets": _targets(plan), "kept": kept, "gpus": plan.gpus}
        yield from bench.predict(str(plan.model), names, out=plan.out, form=plan.form, recipe=plan.recipe, **beside)
        if kept:
            yield from _compared(plan, bench, kept)
        elif plan.file.metrics and _is_judged(plan) and (untaught := frozenset(names) - taught):
            yield from _judged(plan, bench, untaught)


def _fill(bench: Workbench, plan: Plan) -> None:
    chosen = plan.file.frames
    add_frames(bench, [plan.file.images], chosen, channels=chosen.channels)


def names_of_part(header: Header, split: str) -> frozenset[str] | None:
    """The images of a part of the data that a model was made of; None for all.

    Raises BadInput where the model does not know its parts, or they are planes of every image.
    """
    if split == "all":
        return None
    parts = header.details.get("split")
    if not isinstance(parts, dict):
        raise BadInput(f"data_split: {split}: the model does not say how its images were parted. Set data_split: all.")
    if parts.get("along"):
        planes = parts["planes"][PARTS[split]]
        key = "slice_ids" if parts["along"] == "slice" else "time_ids"
        if not planes:
            raise BadInput(
                f"data_split: {split}: the model's images were parted along {parts['along']}, and that part is empty. "
                "Set data_split: all, or train with more of them, or with a larger share (split_ratio)."
            )
        own = header.details.get(PLANES, {}).get("numbers", {}).get(parts["along"])
        named = f": {[own[place] for place in planes]}" if own else f" (of each position those at {planes}, from 0)"
        raise BadInput(
            f"data_split: {split}: the model's images were parted along {parts['along']}. Name the planes instead: "
            f"data_split: all with dataset.{key}{named}."
        )
    return frozenset(parts.get(PARTS[split], []))


def _of_part(plan: Plan, records: list[ImageRecord]) -> list[ImageRecord]:
    wanted = names_of_part(plan.header, plan.file.split)
    found = [record for record in records if wanted is None or record.name in wanted]
    if not found:
        raise BadInput(
            f"{plan.file.images}: none of its {len(records)} positions is in the part {plan.file.split!r} of the "
            "model's data. Set data_split: all, or give it a part of its own when it is trained (split_ratio)."
        )
    return found


def _placed(plan: Plan) -> ForeignPredict:
    """With target channels by their places in the images, not by their frames' numbers.

    Where nothing is measured, frames need no targets.

    Raises:
        BadRecipe: No frame has such a number.
        BadInput: At the places of the channels that the model sees are others than it was taught with.
    """
    file = plan.file
    if is_store(file.images) or file.frames.channels:
        return file
    numbers = numbered_channels(file.images, file.frames)
    taught = plan.header.details.get(NUMBERS, [])
    for step in plan.header.preparation:
        seen = [taught[place] for place in step["take"]] if step["step"] == "channels" and taught else []
        here = [numbers[place] for place in step["take"] if place < len(numbers)] if seen else []
        if len(numbers) > len(seen) and seen != here:
            raise BadInput(
                f"{file.images}: the model sees channels {seen} of frames with {taught}, and these have "
                f"{[*numbers]}. Give it frames with the same channels, or with just those that it sees."
            )
    if output_of(plan.header, plan.model.name) != "image":
        return file  # masks have a channel of their own, that no frame has
    _require_targets(plan)
    if not (file.metrics or set(file.targets) <= set(numbers)):
        note = f"dataset.target_channels: {[*file.targets]} are not all there, and nothing is compared with them."
        return replace(file, targets=(), notes=(*file.notes, note))
    return replace(file, targets=tuple(Channels(numbers).places(file.targets, "dataset.target_channels")))


def _require_targets(plan: Plan) -> None:
    """Raise BadInput where the target channels are not as many as the model answers, or in another order."""
    named, known = plan.file.targets, tuple(plan.header.details.get(TARGETS, []))
    count = plan.header.config.get("out_channels")
    if named and count and len(named) != count:
        raise BadInput(
            f"dataset.target_channels: names {len(named)}, and the model answers {count}"
            f"{f': channels {[*known]}' if known else ''}. Name one for each."
        )
    if named != known and sorted(named) == sorted(known):
        raise BadInput(f"dataset.target_channels: {[*named]}; the model answers {[*known]}. Keep that order.")


def _targets(plan: Plan) -> tuple[int, ...]:
    """The channels of the images that a model of images should answer."""
    return plan.file.targets if output_of(plan.header, plan.model.name) == "image" else ()


def _to_compare(plan: Plan, names: Sequence[str]) -> Generator[Event, None, dict[str, Path]]:
    """Where predictions are kept of images that taught nothing and are compared with their target channels."""
    if not plan.file.metrics:
        return {}
    if _is_judged(plan):
        return {}
    if not _targets(plan):
        yield _note(
            "metrics: compare predicted images with dataset.target_channels, and classes with the masks of "
            "masks.mask_dir (mask_type: target). Of numbers: fieldmark evaluate."
        )
        return {}
    if not names:
        yield _note("metrics: all of these images taught the model, and what taught it never scores it.")
    return {name: plan.out / HIDDEN / "compared" / f"{stem_of(name)}.ome.zarr" for name in names}


def _compared(plan: Plan, bench: Workbench, made: Mapping[str, Path]) -> Iterator[Event]:
    """Numbers of what taught nothing, as `metrics_xy.csv` and a report beside the predictions."""
    file = plan.file
    recipe = EvaluateRecipe(
        target_channels=file.targets,
        orientations=file.orientations,  # type: ignore[arg-type]
        metrics=file.metrics,
    )
    said: list[str] = []
    report = plan.out / "report.html"
    place: dict[str, Any] = {"report": report, "only": frozenset(made), "made": made}
    mask = None if file.masks_are_right else _masks(plan, bench, frozenset(made))
    if file.masks is not None and file.masks_are_right:
        yield _note("masks.mask_type: a model of images answers target_channels; of `metrics`, masks say where.")
    bench.evaluate(str(plan.model), None, recipe=recipe, mask=mask, watch=said.append, **place)
    yield from (_note(line) for line in said)
    yield _note(f"metrics: {report}")


def _is_judged(plan: Plan) -> bool:
    """Whether masks are what a model of classes should answer."""
    is_right = plan.file.masks is not None and plan.file.masks_are_right
    return is_right and output_of(plan.header, plan.model.name) == "classes"


def _judged(plan: Plan, bench: Workbench, names: frozenset[str]) -> Iterator[Event]:
    """Classes beside the masks that are right, as a report beside the predictions."""
    said: list[str] = []
    report = plan.out / "report.html"
    right = _masks(plan, bench, names)
    bench.evaluate(str(plan.model), right, recipe=EvaluateRecipe(), watch=said.append, report=report, only=names)
    yield from (_note(line) for line in said)
    yield _note(f"metrics: {report}")


def _masks(plan: Plan, bench: Workbench, names: frozenset[str]) -> Path | None:
    """A folder with one image of masks for each of these images; None where nothing is masked."""
    file = plan.file
    if file.masks is None:
        return None
    channels = () if file.mask_channel is None else (file.mask_channel,)
    masks = MaskFolder(folder=file.masks, images=file.images, chosen=file.frames, channels=channels, names=names)
    return by_position(masks, bench.project.folder / "masks")


def _taught(plan: Plan, bench: Workbench, records: Sequence[ImageRecord]) -> frozenset[str]:
    """The images that taught the model, wholly or by some of their planes.

    They are known by their content, as they are and by the planes that were chosen when the model was taught; where a
    part of their planes is looked at, by their names too.
    """
    chosen, fit = plan.file.frames, plan.header.details.get(PLANES, {})
    hashes = {item.content_hash for item in plan.header.taught}
    taught = {record.name for record in records if record.content_hash in hashes}
    if chosen.slices or chosen.times:
        taught |= {item.image for item in plan.header.taught}
    slices, times = (tuple(fit.get(key, ())) for key in ("slices", "times"))
    if (slices, times) != (chosen.slices, chosen.times):
        wanted = Wanted(positions=chosen.positions, slices=slices, times=times)
        then = hashes_of(plan.file.images, wanted, bench.project.folder / "taught")
        taught |= {name for name, digest in then.items() if digest in hashes}
    return frozenset(taught)


def _note(text: str) -> Event:
    return Event("note", 0, 0, message=text)
