"""One fit from samples to a model folder, through a run folder that it can be resumed from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark import __version__
from fieldmark.checkpoint import ClassSpec, Header, Taught, save
from fieldmark.core.axes import AS_IS, PixelSize, factors_of, spelled_factors
from fieldmark.core.events import Event
from fieldmark.core.fingerprint import fingerprint
from fieldmark.core.heap import kept_memory
from fieldmark.core.seeds import derive_seed
from fieldmark.errors import BadInput, BadRecipe, some
from fieldmark.learn.descend import Descend
from fieldmark.learn.engine import fit, make_engine
from fieldmark.learn.foreground import foreground_of_fit
from fieldmark.learn.given import given_preparation, require_begin
from fieldmark.learn.loggers import logged, loggers_of
from fieldmark.learn.number_targets import NumberTargets
from fieldmark.learn.phases import plan_phases
from fieldmark.learn.preparation import (
    before_normalization,
    estimate_flat_field,
    estimate_normalization,
    estimate_preparation,
    taken_channels,
)
from fieldmark.learn.splits import split_images
from fieldmark.learn.start import start_hash, take_start
from fieldmark.learn.state import FitState
from fieldmark.learn.target_scale import scale_targets
from fieldmark.learn.targets import LabelTargets, Weighted, targets_of
from fieldmark.models.base import WHOLE_OUTPUTS
from fieldmark.models.build import build, family_class
from fieldmark.models.encoder_weights import encoder_of, take_encoder, weights_file, weights_hash
from fieldmark.models.own_code import own_code
from fieldmark.models.taught import TaughtNet, require_told
from fieldmark.models.tensors import arrays_of
from fieldmark.prepare import channels_step, prepared_channels, resize_step
from fieldmark.prepare.pipeline import measures_each
from fieldmark.recipes import validate
from fieldmark.recipes.find import section_of
from fieldmark.recipes.registry import FAMILIES

if TYPE_CHECKING:
    from fieldmark.learn.engine import Phase
    from fieldmark.learn.samples import Samples
    from fieldmark.learn.splits import Split
    from fieldmark.learn.targets import Targets
    from fieldmark.models.base import Net
    from fieldmark.recipes import FitRecipe

MODEL = "model"
STATE = "state"
CHECKPOINTS = "checkpoints"
MOST_NAMED = 8
"""Values of label maps whose classes are told by name."""
CLOSED_FORM = "accelerator: {} is not used: this fit descends no gradient, and is solved on the processor."


@dataclass(frozen=True, slots=True)
class FitJob:
    """Everything that one fit needs; `folder` is its run folder."""

    recipe: FitRecipe
    samples: Samples
    classes: tuple[ClassSpec, ...]
    folder: Path
    pixel_size: PixelSize = field(default_factory=PixelSize)

    def made_from(self) -> str:
        """The fingerprint of all that decides the weights."""
        marks = sha256()
        for name, array in sorted((self.samples.marks.arrays() | self.samples.answers.arrays()).items()):
            marks.update(name.encode() + np.ascontiguousarray(array, np.int64).tobytes())
        begin, flat = self.recipe.begin, self.recipe.prepare.flat_field
        fields = flat.fingerprint() if flat is not None else ""
        return fingerprint(
            ({"fields": fields} if fields else {})
            | {
                # as text: a fingerprint sorts keys, and the order of an architecture's layers is that of computing
                "recipe": self.recipe.model_dump(mode="json") | {"net": json.dumps(full_config(self.recipe))},
                "begin": begin.fingerprint() if begin else "",
                "start": start_hash(self.recipe.start),
                "weights": weights_hash(self.recipe.net.get("weights")),
                "images": [
                    [image.content_hash, image.target_hash, image.mask_hash, image.group, image.split, image.column]
                    for image in self.samples.images
                ],
                "marks": marks.hexdigest(),
                "classes": [[item.name, item.value] for item in self.classes],
            }
        )


def run_fit(job: FitJob) -> Iterator[Event]:
    """Fit, or go on where an earlier run of the same job stopped; the model is in `folder/model` at the end.

    The generator may be closed after any event; running the job again finishes it with
    the same weights, bit for bit.
    """
    samples, recipe = job.samples, job.recipe
    net, config, notes = prepared_net(job)
    yield from notes

    def keep(now: Net, name: str) -> None:
        save(job.folder / CHECKPOINTS / name, header_of_fit(job, now, dict(config)), arrays_of(now))

    state = FitState(job.folder / STATE, job.made_from(), keep)
    resumed = state.restore(net)
    if resumed:
        yield Event("resume", 0, 0, message=f"goes on after {_told(state.progress)}")
        yield from state.told_last()
    for said in _silences(job):
        yield Event("note", 0, 0, message=said)
    phases = plan_phases(net, samples, recipe)
    for said in _told_of_descents(phases, recipe):
        yield Event("note", 0, 0, message=said)
    if recipe.accelerator not in ("auto", "cpu") and not any(phase.descends for phase in phases):
        yield Event("note", 0, 0, message=CLOSED_FORM.format(recipe.accelerator))
    engine = make_engine(recipe, phases)
    loggers = loggers_of(phases) if engine.is_global_zero else []
    with kept_memory(net.spatial == 2 and any(phase.descends for phase in phases)):
        yield from logged(fit(engine, net, phases, state), loggers, job.folder, recipe.model_dump(mode="json"))
    if not engine.is_global_zero:
        return
    header = header_of_fit(job, net, config)
    save(job.folder / MODEL, replace(header, metrics=_scores(state)), arrays_of(net))


def _told_of_descents(phases: Sequence[Phase], recipe: FitRecipe) -> Iterator[str]:
    """A sentence where nothing is learned. Raises BadRecipe where a fit goes by a number that never comes."""
    for phase in (one for one in phases if isinstance(one, Descend)):
        section = section_of(recipe, phase.config)
        phase.require_monitor(section)
        if not phase.total:
            yield f"{section}.epochs is 0: {phase.name} learns nothing, and the weights stay as they begin."


def _scores(state: FitState) -> dict[str, float]:
    """What validation said of the weights that were kept."""
    notes = (note.get("scores") for note in state.notes.values())
    return {key: value for scores in notes if isinstance(scores, dict) for key, value in scores.items()}


def prepared_net(job: FitJob) -> tuple[Net, dict[str, Any], list[Event]]:
    """A network with its first weights, its settings in full, and what is worth telling.

    The samples know their targets, their split and their preparation afterwards.
    """
    samples, recipe = job.samples, job.recipe
    channels = check_channels(samples)
    samples.class_names = tuple(item.name for item in job.classes)
    config = full_config(recipe)
    _resize(samples, recipe, config)
    notes = list(_find_targets(job, config))
    steps = _preparation(samples, recipe, config)
    share = config.get("final_activation") == "sigmoid"
    scale_targets(samples, recipe.prepare, seed=recipe.seed, share=share, first=before_normalization(steps))
    if said := _told_of_types(samples, steps):
        notes.append(Event("note", 0, 0, message=said))
    samples.preparation = steps if samples.resize == AS_IS else [resize_step(samples.resize), *steps]
    seen = prepared_channels(samples.preparation, channels)
    net = build(recipe.family, config, seen, seed=derive_seed(recipe.seed, "init"))
    if isinstance(net, TaughtNet):
        require_told(net)
    if (file := weights_file(config.get("weights"))) is not None:
        take_encoder(net, file)
    elif config.get("weights") is not None:
        encoder_of(net)  # those that are shipped are its own
    require_begin(net, recipe)
    if recipe.start is not None and (left := take_start(net, Path(recipe.start))):
        notes.append(Event("note", 0, 0, message=left))
    notes += [Event("note", 0, 0, message=said) for said in _told_of_neighbors(samples, net)]
    return net, config, notes


def _resize(samples: Samples, recipe: FitRecipe, config: dict[str, Any]) -> None:
    """Let images be read at the size that the recipe asks for. Raises BadRecipe for families that do not go along."""
    factors = factors_of(recipe.prepare.resize)
    if factors == AS_IS:
        return
    said = f"prepare.resize is {spelled_factors(factors)}"
    if not {"task", "out_channels"} <= config.keys():
        raise BadRecipe(
            f"{said}, and {recipe.family} learns from images at their own size; unet resizes them. Resize them before "
            "they are added, or leave it out."
        )
    if factors[0] != 1 and recipe.data.split.axis == 1:
        raise BadRecipe(
            f"{said} blends neighboring slices, and data.split.by={recipe.data.split.by} parts them: what teaches "
            "would be seen in what validates. Part images by group, image or time."
        )
    samples.resize_by(factors)


def _find_targets(job: FitJob, config: dict[str, Any]) -> Iterator[Event]:
    """For a family that learns targets: find and part them, and complete the network's settings by them."""
    if not {"task", "out_channels"} <= config.keys():
        return
    samples, recipe = job.samples, job.recipe
    _require_kind(recipe)
    targets = samples.targets = targets_of(samples, recipe.data, job.classes)
    split = samples.split = split_images(
        samples.images, targets.images(), recipe.data.split, recipe.seed, planes=targets.planes
    )
    samples.taught = sorted({*split.train, *split.validation})
    config["task"] = _task(config["task"], targets)
    config["out_channels"] = config["out_channels"] or targets.channels
    if config["out_channels"] != targets.channels:
        raise BadInput(
            f"net.out_channels is {config['out_channels']}, and the targets have {targets.channels}. Leave it out."
        )
    for said in (*_told_of_labels(job), *_told_of_split(samples, split, targets, recipe)):
        yield Event("note", 0, 0, message=said)


def _told_of_types(samples: Samples, steps: Sequence[dict[str, Any]]) -> str:
    """A sentence on images of several types, where all are normalized by the same numbers; empty for none."""
    types = samples.types(taken_channels(steps))
    if measures_each(steps) or len({dtype for dtype in types if dtype.kind in "ui"}) < 2:
        return ""
    found = " and ".join(f"{name} holds {dtype}" for dtype, name in types.items())
    return f"{found}: values are compared as they are. Write all images as one type, if they show the same."


def _require_kind(recipe: FitRecipe) -> None:
    """Raise BadInput where a network of maps is given numbers, or the other way round."""
    numbers = "numbers" in getattr(family_class(recipe.family), "phases", ())
    if numbers != (recipe.data.target.kind == "numbers"):
        wanted = "answers whole images with numbers" if numbers else "answers pixels"
        raise BadInput(
            f"Family {recipe.family!r} {wanted}, and data.target.kind is {recipe.data.target.kind!r}. Numbers of "
            "images are learned with the family image-to-numbers and data.target.kind=numbers."
        )


def _told_of_labels(job: FitJob) -> Iterator[str]:
    """A sentence on what the values of label maps were taken to mean."""
    target = job.recipe.data.target
    if target.kind != "labels":
        return
    if target.objects:
        named = [f"0 is {job.classes[0].name!r}", f"every other value is {job.classes[1].name!r}"]
    else:
        named = [f"{spec.value} is {spec.name!r}" for spec in job.classes]
    unknown = f"; {target.ignore} means unknown" if target.ignore is not None else ""
    if target.ignore is None and target.classes is None and not target.objects and job.classes[0].value == 0:
        unknown = ". Where 0 means unknown: --set data.target.ignore=0"
    yield f"In label maps {some(named, MOST_NAMED)}{unknown}."
    if not target.objects and (said := _told_of_large(job.samples, target.classes)):
        yield said


def _told_of_large(samples: Samples, classes: int | None) -> str:
    """A sentence on values that count as background for being too large; empty for none."""
    targets = samples.targets.targets if isinstance(samples.targets, Weighted) else samples.targets
    places, values = targets.too_large() if isinstance(targets, LabelTargets) else ([], [])
    if not places:
        return ""
    return (
        f"Values from {classes} on count as background: {some(map(str, values), 3)} in the label maps of "
        f"{some([samples.images[place].name for place in places], 3)}. Where one means unlabelled: --set "
        f"data.target.ignore={values[-1]}. Where they are classes, give a larger number of classes (num_classes, or "
        "data.target.classes)."
    )


def _told_of_split(samples: Samples, split: Split, targets: Targets, recipe: FitRecipe) -> Iterator[str]:
    """Sentences on images that teach nothing, and on validation that there is none."""
    usable = set(targets.images())
    if recipe.data.target.kind != "marks" and len(usable) < len(samples.images):
        without = [image.name for place, image in enumerate(samples.images) if place not in usable]
        yield f"No target for {some(without, 3)}: they teach nothing."
    if not split.validation and recipe.data.split.validation > 0:
        parted = "images" if split.axis is None else ("times", "slices")[split.axis]
        yield f"Too few {parted} to hold any out: the last epoch's weights are the model's."
    early = recipe.train.early
    if not split.validation and early is not None and early.monitor.startswith("val_"):
        yield f"Nothing validates, so {early.monitor} never ends the fit. Or: --set train.early.monitor=loss."


def _told_of_neighbors(samples: Samples, net: Net) -> Iterator[str]:
    """A sentence on slices that are held out and seen all the same, beside those that teach."""
    split, window = samples.split, int(getattr(net, "window", 0))
    if window > 1 and split is not None and split.axis == 1 and (split.planes[1] or split.planes[2]):
        yield (
            f"Slices are parted, and this network sees {window} of them at once: it sees slices that are held out "
            "beside those that teach, but never what is right for them. To hold out what it has not seen, part images: "
            "--set data.split.by=image."
        )


def _task(asked: str, targets: Targets) -> str:
    found = "segment" if targets.classes else "regress"
    if asked not in ("auto", found):
        kind = "classes" if targets.classes else "images"
        raise BadInput(f"net.task is {asked!r}, and the targets are {kind}. Leave it out, or change data.target.kind.")
    return found


def _preparation(samples: Samples, recipe: FitRecipe, config: dict[str, Any]) -> list[dict[str, Any]]:
    color = str(config.get("color", "auto"))
    if recipe.begin is not None:
        return given_preparation(recipe.begin, samples, color)
    asked, inputs = recipe.prepare.normalize, recipe.data.inputs
    first = [channels_step(inputs)] if inputs else []
    if recipe.prepare.flat_field is not None:
        first += estimate_flat_field(samples, recipe.prepare.flat_field, first, recipe.seed)
    samples.foreground = foreground_of_fit(samples, recipe, first)
    standardize = bool(config.get("standardize", True))
    # channels that were chosen are no colors by themselves
    plain = bool(inputs) and color in ("auto", "raw") and standardize
    if asked is not None or plain:
        return estimate_normalization(samples, recipe.prepare, first, recipe.seed)
    return estimate_preparation(samples, color=color, seed=recipe.seed, first=first, standardize=standardize)


def _silences(job: FitJob) -> Iterator[str]:
    """A sentence for each kind of label that some classes have and others lack."""
    samples, kind = job.samples, job.recipe.image_head.kind
    answered = samples.answers.klass if kind != "none" else np.zeros(0, np.int64)
    # where images are judged, strokes may teach the features alone; where label maps teach, they teach nothing
    drawn = kind == "none" and job.recipe.data.target.kind == "marks"
    marked = samples.marks.klass if drawn else np.zeros(0, np.int64)
    for what, places in (("No stroke is of", marked), ("No image is answered as", answered)):
        present = set(places.tolist())
        silent = [item.name for place, item in enumerate(job.classes) if present and place not in present]
        if silent:
            yield f"{what} class {' or '.join(silent)}: the model will never answer that."


def check_channels(samples: Samples) -> int:
    """The channels that all images share.

    Raises:
        BadInput: There is no image, or images differ: the error names those of each kind.
        BadFile: An image has changed.
    """
    if not samples.images:
        raise BadInput("There is no image to learn from. Add some (`fieldmark add`).")
    samples.require_unchanged()
    kinds: dict[int, list[str]] = {}
    for index, image in enumerate(samples.images):
        kinds.setdefault(samples.shape(index)[1], []).append(image.name)
    if len(kinds) > 1:
        raise BadInput(_told_of_kinds(kinds))
    (channels,) = kinds
    return channels


def _told_of_kinds(kinds: dict[int, list[str]]) -> str:
    """Images by their numbers of channels; that one channel is gray, and three are colors, no file says for sure."""
    listed = "; ".join(f"{count} channel{'s' * (count > 1)}: {some(names, 5)}" for count, names in kinds.items())
    gray = " (a gray image as RGB holds its values three times)" if {1, 3} <= set(kinds) else ""
    return (
        f"A fit sees images with the same channels, and these differ. {listed}. Leave one kind out, or write all "
        f"images alike{gray}."
    )


def header_of_fit(job: FitJob, net: Net, config: dict[str, Any]) -> Header:
    """What inference must know of a fitted network; `config` holds its settings."""
    samples = job.samples
    taught = _teachers(samples)
    outputs = list(net.outputs)
    if net.head is not None:
        config["head"] = net.head.config()
    if net.refiner is not None:
        config["refiner"] = net.refiner.config()
    if net.gives_classes:
        outputs.insert(0, "classes")
    if net.image_head is not None:
        config["image_head"] = net.image_head.config()
        outputs += WHOLE_OUTPUTS
    return Header(
        family=job.recipe.family,
        config=config,
        preparation=samples.preparation,
        target_preparation=samples.target_preparation,
        outputs=tuple(outputs),
        channels=samples.shape(0)[1],
        stride=net.strides,
        halo=net.halo,
        tile_exact=net.tile_exact,
        pixel_size=job.pixel_size,
        classes=job.classes if net.gives_classes or net.image_head is not None else (),
        taught=tuple(Taught(image=samples.images[i].name, content_hash=samples.images[i].content_hash) for i in taught),
        fingerprint=job.made_from(),
        details=net.details() | _told_of_images(samples) | _told_of_code(net),
        code_version=__version__,
    )


def _told_of_code(net: Net) -> dict[str, str]:
    """What a network of the user's own was when it was fitted."""
    code = own_code(net)
    return {"code": code} if code else {}


def _told_of_images(samples: Samples) -> dict[str, Any]:
    told: dict[str, Any] = {
        "images": [image.name for image in samples.images],
        "types": sorted(map(str, samples.types(taken_channels(samples.preparation)))),
    }
    if samples.split is not None:
        told["split"] = samples.split.told(told["images"])
    if isinstance(samples.targets, NumberTargets):
        told["numbers"] = list(samples.targets.names)
    return told


def _teachers(samples: Samples) -> list[int]:
    """Places of the images that taught: the labelled ones, or all where nothing is labelled."""
    if samples.taught is not None:
        return samples.taught
    labelled = np.union1d(samples.marks.image, samples.answers.image)
    return [int(index) for index in labelled] if len(labelled) else list(range(len(samples.images)))


def full_config(recipe: FitRecipe) -> dict[str, Any]:
    """The network's settings with every default written out, so that a later default changes no model."""
    family_class(recipe.family)
    settings = validate(FAMILIES.load_config(recipe.family), recipe.net, where="net")
    return dict(settings.model_dump(mode="json"))


def _told(progress: dict[str, int]) -> str:
    return ", ".join(f"{name} {step}" for name, step in progress.items()) or "nothing"
