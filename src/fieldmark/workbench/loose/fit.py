"""`fit --config FILE` of another system's file: through the same path as every fit, without a project."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fieldmark import __version__
from fieldmark.checkpoint import header_of, load, save
from fieldmark.collection.catalog import uri_of
from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.core.fingerprint import fingerprint
from fieldmark.core.geometry import round_up
from fieldmark.core.registry import is_typed
from fieldmark.errors import BadRecipe, near_miss
from fieldmark.images import open_image
from fieldmark.images.source import plane_numbers
from fieldmark.recipes import FitRecipe, load_recipe, validate
from fieldmark.recipes.dialects import microdl, openfibsem
from fieldmark.recipes.dialects.keys import ForeignFit, dialect_of, grouped
from fieldmark.recipes.find import FindConfig, with_bounds
from fieldmark.recipes.loading import with_overrides
from fieldmark.workbench.bench import Workbench
from fieldmark.workbench.fitting import begin_fit, check_net, follow_fit, typed_families, with_paths
from fieldmark.workbench.loose.frame_masks import MaskFolder, by_place, by_position, fields_in, files_below, masks_of
from fieldmark.workbench.loose.images import HIDDEN, add_whole, alone_with, assemble, nothing_begun
from fieldmark.workbench.loose.naming import ASKED, BESIDE, Place, refuse_strangers
from fieldmark.workbench.loose.old import begin_folder
from fieldmark.workbench.loose.pairs import Pairs, gather, pairs_below, pairs_in, stands_alone
from fieldmark.workbench.originals import refuse_inside
from fieldmark.workbench.project import checked_name
from fieldmark.workbench.runs import Run, is_fit, list_runs

LARGEST_WHOLE = 512
"""Whole images of at most this side teach as they are; of larger ones, crops of this side."""
STRIDE = 32
GATHERED = "labels"
MASKS = "masks"
FLAT = "flat-fields"
NUMBERS = "frame_channels"
"""In a model's details: the numbers of its frames' channels."""
TARGETS = "frame_targets"
"""There: the numbers of those that it answers, in the order of its answers."""
PLANES = "frame_planes"
"""There: the slices and times of the frames that were chosen, nothing for all; and the numbers of those there are."""
SET_HINT = (
    "Beside another system's file --set takes keys of Fieldmark's recipe, such as train.epochs, train.lr or "
    "net.encoder (recipe.yaml beside a model holds them all); the keys of {0} are changed in the file."
)
VERBS = {"microdl-prepare": "prepare", "microdl-predict": "predict"}


@dataclass(frozen=True, slots=True)
class Plan:
    """A fit that is about to begin: what is learned from what, and where the model is put."""

    fit: ForeignFit
    recipe: dict[str, Any]
    place: Place
    notes: tuple[str, ...]
    gpus: tuple[int, ...] = ()
    allow: tuple[str, ...] = ()
    """Classes of the user's own that were typed."""
    sweep: FindConfig | None = None
    """Of the rates, where these are looked for."""


def is_foreign(config: Path | None) -> bool:
    """Whether a file is another system's, which needs no project."""
    return config is not None and dialect_of(load_recipe(config)) is not None


def read_foreign(config: Path) -> ForeignFit:
    """The fit that another system's file describes. Raises BadRecipe."""
    values = load_recipe(config)
    dialect = dialect_of(values)
    beside = config.resolve().parent
    if dialect == "openfibsem":
        return openfibsem.fit_of(values, beside=beside, source=config)
    if dialect == "microdl-fit":
        from fieldmark.workbench.loose.frames import channels_before, prepared_before

        data = values.get("dataset")
        prepared = prepared_before(data, beside)
        channels = channels_before(data, beside, prepared)
        return microdl.fit_of(values, beside=beside, source=config, prepared=prepared, channels=channels)
    if dialect in VERBS:
        raise BadRecipe(f"{config}: is no file for fit. Give it to: fieldmark {VERBS[dialect]} --config {config}.")
    if "train" in values:
        raise BadRecipe(f"{config}: `train` names no data_dir, and no data_paths. Say where the images lie.")
    raise BadRecipe(f"{config}: holds none of `train`, `dataset`, `trainer`, `network`. {near_miss('train', values)}")


def plan_fit(
    config: Path,
    *,
    overrides: tuple[str, ...] = (),
    name: str | None = None,
    gpus: Sequence[int] = (),
    begin: Path | None = None,
    finding: dict[str, Any] | None = None,
    allow: Sequence[str] = (),
) -> Plan:
    """Read another system's file, and refuse what could not be fitted or written.

    Args:
        config: The file, as the user typed it.
        overrides: `KEY=VALUE` for the recipe that the file becomes.
        name: The model's name below the folder that models are saved in; the file's own where none is given.
        gpus: Those that the fit may see; none for all.
        begin: A model whose weights to begin with, instead of the file's own.
        finding: What was typed of the sweep, before what the file says of it, where the fit is only swept.
        allow: Classes of the user's own that may be imported, beside one that `overrides` names.
    """
    fit = read_foreign(config)
    if begin is not None:
        random = [note for note in fit.notes if note.partition(": ")[0].endswith("encoder")]
        fit = replace(fit, checkpoint=begin, notes=tuple(note for note in fit.notes if note not in random))
    if fit.find is not None and finding is None:
        raise BadRecipe(
            f"{config}: looks for a learning rate (lr_find: true). Give it to: fieldmark lr-find --config {config}."
        )
    sweep = None if finding is None else _sweep(fit, finding)
    begun = _bounded(_begun(fit), sweep)
    fit = _other_encoder(fit, begun)
    _checked(begun, typed_families(None, (), allow), config)
    values = _bounded(with_overrides(begun, overrides), sweep)
    values, notes = _possible(with_paths(values, Path(), values.get("family")))
    typed = typed_families(None, overrides, allow)
    recipe = _checked(values, typed, config, typed_beside=bool(overrides))
    fit = _own_weights(_own_network(fit, recipe.family), recipe.net)
    called = name or fit.name
    wanted = fit.save / checked_name("model", called) if called else fit.save
    place = Place(wanted, _asked(fit, values), typed=name is not None or not fit.name)
    refuse_inside(wanted, (*fit.images, *fit.labels))
    if finding is None:
        refuse_strangers(place.now())
    return Plan(fit, values, place, (*grouped(fit.notes), *notes), tuple(gpus), typed, sweep)


def _sweep(fit: ForeignFit, given: dict[str, Any]) -> FindConfig:
    """Of a file's rates; what was typed goes before what the file says."""
    own = {key: value for key, value in (fit.find or {}).items() if key != "figure"}
    if "steps" in given:
        own.pop("epochs", None)
    return validate(FindConfig, own | given)


def _bounded(values: dict[str, Any], sweep: FindConfig | None) -> dict[str, Any]:
    return values if sweep is None else with_bounds(values, sweep)


def _checked(values: dict[str, Any], typed: Sequence[str], config: Path, *, typed_beside: bool = False) -> FitRecipe:
    """The recipe; `typed_beside` where what may be wrong in it was typed behind `--set`."""
    source: object = "--set" if typed_beside else config
    try:
        recipe = validate(FitRecipe, values, source=source)
        check_net(recipe, typed, source=source)
    except BadRecipe as error:
        raise BadRecipe(f"{error} {SET_HINT.format(config)}" if typed_beside else str(error)) from None
    return recipe


def follow_plan(plan: Plan) -> Iterator[Event]:
    """Fit into `plan.place`; stopped, the same command goes on.

    The work lies in a project beside the model, in `.fieldmark`, one for each set of inputs and settings.
    """
    target = plan.place.now()
    yield from (_note(text) for text in (*plan.place.told(target), *plan.notes))
    with opened(plan) as (bench, recipe):
        run = yield from _fit(bench, recipe, plan)
        planes = _plane_numbers(bench) if plan.fit.layout == "frames" else {}
    if (found := plan.place.now()) != target:  # another fit of this name has ended meanwhile
        yield from (_note(text) for text in plan.place.told(found))
    _deliver(run, found, plan, planes)


@contextmanager
def opened(plan: Plan) -> Iterator[tuple[Workbench, FitRecipe]]:
    """The project that holds what is learned from, and the recipe in full; see `nothing_begun`.

    Raises:
        InUse: The same is at work already.
    """
    pairs = _pairs(plan.fit)
    work = plan.fit.save / HIDDEN / f"fit-{_inputs(plan, pairs)[:16]}"
    with alone_with(work), nothing_begun(work), assemble(work, lambda bench: _fill(bench, plan, pairs)) as bench:
        yield bench, validate(FitRecipe, _completed(plan, pairs, bench))


def _begun(fit: ForeignFit) -> dict[str, Any]:
    """The recipe; where it begins with another model, the network is that model's."""
    if fit.checkpoint is None:
        return fit.recipe
    folder = begin_folder(fit.checkpoint, fit.save / HIDDEN / "begin")
    header = header_of(folder)
    net = {
        key: value
        for key, value in header.config.items()
        if key not in ("task", "out_channels", "head", "refiner", "image_head")
    }
    return fit.recipe | {"family": header.family, "net": net, "start": str(folder)}


def _other_encoder(fit: ForeignFit, begun: dict[str, Any]) -> ForeignFit:
    """The same with a note where the model to begin with has another encoder than the file, which names the model."""
    asked, own = (values.get("net", {}).get("encoder", "unet") for values in (fit.recipe, begun))
    if asked == own:
        return fit
    said = f"encoder: the network is that of the model to begin with, {own!r}, and not {asked!r}, as the file has it."
    return replace(fit, notes=(*fit.notes, said))


def _own_network(fit: ForeignFit, family: str) -> ForeignFit:
    """The same for a network of the user's own: it does not take the name of the one that the file describes."""
    if not is_typed(family):
        return fit
    notes = [note for note in fit.notes if not note.partition(": ")[0].endswith("encoder")]
    name = family.partition(":")[2] if fit.name else fit.name
    return replace(fit, name=name, notes=(*notes, f"encoder, network: the network is {family}."))


def _own_weights(fit: ForeignFit, net: dict[str, Any]) -> ForeignFit:
    """The same where the encoder's weights are chosen: no note says that they are random."""
    if not net.get("weights"):
        return fit
    return replace(fit, notes=tuple(note for note in fit.notes if not note.partition(": ")[0].endswith("encoder")))


def _possible(values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Without loggers that are not installed, and a sentence for each that says how to get it."""
    train = dict(values.get("train", {}))
    wanted = list(train.get("loggers", []))
    missing = [name for name in wanted if find_spec(name) is None]
    train["loggers"] = [name for name in wanted if name not in missing]
    notes = [
        f"{name}: is not installed, so numbers go into history.csv alone. To have it: pip install 'fieldmark[{name}]'."
        for name in missing
    ]
    return values | {"train": train}, notes


def _pairs(fit: ForeignFit) -> list[Pairs]:
    if fit.layout != "pairs":
        return []
    if not fit.labels:
        return [pairs_below(folder) for folder in fit.images]
    return [pairs_in(images, labels) for images, labels in zip(fit.images, fit.labels, strict=True)]


def _inputs(plan: Plan, pairs: Sequence[Pairs]) -> str:
    """The fingerprint of all that decides the model: settings, names, sizes and times of files."""
    files = [path for one in pairs for path in (*one.images, *one.labels)]
    if plan.fit.layout == "frames":
        files = [path for folder in plan.fit.images for path in files_below(folder)]
    files += _beside(plan.recipe)
    facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    if fields := _flat_folder(plan.recipe):
        facts.append((str(fields), 0, 0))
        facts += [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in fields_in(fields)]
    return fingerprint([__version__, facts, json.dumps(plan.recipe), str(plan.fit.checkpoint), repr(plan.fit.frames)])


def _asked(fit: ForeignFit, recipe: dict[str, Any]) -> str:
    """The fingerprint of the settings and of the folders that are learned from, whatever files these hold by now."""
    return fingerprint([json.dumps(recipe), str(fit.checkpoint), *(str(path) for path in (*fit.images, *fit.labels))])


def _beside(recipe: dict[str, Any]) -> list[Path]:
    """The files that a recipe names: masks, targets, a table of numbers."""
    target = (recipe.get("data") or {}).get("target") or {}
    folders = [recipe[group][key]["folder"] for group, key in masks_of(recipe)] + [target.get("folder")]
    table = [Path(target["table"])] if target.get("table") else []
    return [path for folder in folders if folder for path in files_below(Path(folder))] + table


def _flat_folder(recipe: dict[str, Any]) -> Path | None:
    """Where flat fields are read from."""
    flat = recipe.get("prepare", {}).get("flat_field") or {}
    return Path(flat["folder"]) if flat.get("method") == "file" and flat.get("folder") else None


def _fill(bench: Workbench, plan: Plan, pairs: Sequence[Pairs]) -> None:
    if plan.fit.layout == "frames":
        from fieldmark.workbench.loose.frames import add_frames

        add_frames(bench, plan.fit.images, plan.fit.frames)
        return
    add_whole(bench, [path for one in pairs for path in one.images])
    if not stands_alone(pairs):
        by_place = {record.uri: record.name for record in bench.collection.all()}
        names = [by_place[uri_of(path)] for one in pairs for path in one.images]
        gather(pairs, names, bench.project.folder / GATHERED)


def _completed(plan: Plan, pairs: Sequence[Pairs], bench: Workbench) -> dict[str, Any]:
    """The recipe with what only the images say: where label maps lie, and how large crops are."""
    values = dict(plan.recipe)
    if pairs:
        data = dict(values["data"])
        folder = pairs[0].folder if stands_alone(pairs) else bench.project.folder / GATHERED
        data["target"] = data["target"] | {"folder": str(folder)}
        values["data"] = data
    for group, key in masks_of(values) if plan.fit.layout == "frames" else ():
        found = by_position(_masks(plan, Path(values[group][key]["folder"])), bench.project.folder / MASKS)
        values[group] = values[group] | {key: values[group][key] | {"folder": str(found)}}
    if fields := _flat_folder(values):
        found = by_place(fields, plan.fit.channels, bench.project.folder / FLAT)
        flat = values["prepare"]["flat_field"] | {"folder": str(found)}
        values["prepare"] = values["prepare"] | {"flat_field": flat}
    shapes = [record.shape for record in bench.collection.all()]
    train = dict(values["train"])
    if plan.fit.whole and "crop" not in train:
        sides = [max(shape[axis] for shape in shapes) for axis in (-2, -1)]
        train["crop"] = [min(LARGEST_WHOLE, round_up(side, STRIDE)) for side in sides]
    return values | {"train": train}


def _masks(plan: Plan, folder: Path) -> MaskFolder:
    fit = plan.fit
    return MaskFolder(folder=folder, images=fit.images[0], chosen=fit.frames, channels=fit.masks)


def _fit(bench: Workbench, recipe: FitRecipe, plan: Plan) -> Generator[Event, None, Run]:
    """Begin, go on with, or find finished the one fit of this project; returns its run."""
    runs = [run for run in list_runs(bench.project) if is_fit(run)]
    run = runs[-1] if runs else begin_fit(bench, recipe, "model", gpus=plan.gpus)
    if run.status == "done":
        yield _note("The same was learned before; it is taken as it is.")
        return run
    yield from follow_fit(bench.project, run, allow=plan.allow)
    return run


def _plane_numbers(bench: Workbench) -> dict[str, list[int]]:
    """The numbers that times and slices have in the names of the frames; none where they differ from one to another."""
    found = set()
    for record in bench.collection.all():
        with open_image(record.path, shown=record.name) as source:
            found.add(plane_numbers(source))
    return dict(zip(("time", "slice"), map(list, found.pop()), strict=True)) if len(found) == 1 else {}


def _deliver(run: Run, target: Path, plan: Plan, planes: dict[str, list[int]]) -> None:
    """The model under its name, and beside its weights what the run says of it."""
    header, weights = load(run.folder / "model")
    fit = plan.fit
    numbers: dict[str, Any] = {NUMBERS: list(fit.channels), TARGETS: list(fit.targets)} if fit.channels else {}
    if fit.channels and "image" in header.outputs:
        numbers["target_channels"] = [f"channel {number}" for number in fit.targets]
    if fit.layout == "frames":
        chosen = {"slices": list(fit.frames.slices), "times": list(fit.frames.times)}
        numbers[PLANES] = chosen | ({"numbers": planes} if planes else {})
    told = {"run": run.id, ASKED: plan.place.asked}
    save(target, replace(header, details={**header.details, **numbers, **told}), weights)
    for name in BESIDE:
        if (run.folder / name).is_file():
            write_atomic(target / name, (run.folder / name).read_bytes())


def _note(text: str) -> Event:
    return Event("note", 0, 0, message=text)
