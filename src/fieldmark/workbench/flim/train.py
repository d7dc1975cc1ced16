"""`train`: a fit on folders, through the same path as every other."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fieldmark import __version__
from fieldmark.checkpoint import header_of, load, save
from fieldmark.collection.lids import LidsImage, read_dataset, read_split
from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.core.fingerprint import file_hash, fingerprint
from fieldmark.errors import BadInput, NothingLabelled
from fieldmark.recipes import FitRecipe, validate
from fieldmark.recipes.loading import with_overrides
from fieldmark.recipes.registry import FAMILIES
from fieldmark.workbench.bench import Workbench
from fieldmark.workbench.fitting import begin_fit, follow_fit, require_resumable
from fieldmark.workbench.flim.assemble import HIDDEN, Teaching, assemble
from fieldmark.workbench.flim.checks import require_file, require_folder
from fieldmark.workbench.flim.layers import require_layers, require_one_size, require_own_files, write_layers
from fieldmark.workbench.flim.options import TrainOptions
from fieldmark.workbench.flim.vectors import (
    FAMILY,
    NO_FILTERS,
    is_vectors,
    read_vectors,
    refuse_pixels,
    require_no_filters,
)
from fieldmark.workbench.originals import refuse_inside
from fieldmark.workbench.project import checked_name, refuse_nowhere
from fieldmark.workbench.runs import JOB, Run, list_runs

MODEL = "model"
HISTORY = "history.csv"
SEED = 42
"""The document's seed everywhere."""


def train(options: TrainOptions) -> Iterator[Event]:
    """Learn what the options ask for into `outputs_dir/model_filename`; stopped, the same command goes on.

    The work lies in a project below `outputs_dir/.fieldmark`, one for each set of inputs and settings.
    """
    _check(options)
    dataset, split = _data(options)
    if options.load_lids_model and options.markers_dir is not None:
        yield _note("-ld takes filters as they are: no marker is looked at, and -md is not used.")
    if options.backpropagation and is_vectors(options.dataset_dir):
        yield _note("-b trains filters too, and features come without any: the classifier alone is trained, as by -c.")
    markers = None if options.load_lids_model else options.markers_dir
    teaching = Teaching(markers, dataset, split, options.number_classes or 0, options.label_offset)
    recipe = recipe_of(options, classify=bool(split) and _classifies(options))
    if recipe.begin is not None:
        said = f"-ld: pixels are divided by {recipe.begin.scale:g} before the filters see them (--set begin.scale=N)."
        yield _note(said)
    if options.intermediate:
        require_layers(options.layers, recipe.net)
        require_own_files(split or dataset, options.format)
        require_one_size(options.format, split or dataset, recipe.net)
    if not _classifies(options) and split:
        yield _note("-i alone trains no classifier; add -c, -b or -s for one.")
    if recipe.image_head.kind == "dense" and not recipe.image_head.descend.epochs:
        yield _note(
            "-e 0 trains no classifier: the model gives features and answers no image. Give -e 1 or more for one."
        )
    target = options.outputs_dir / checked_name("model", options.model_filename)
    _refuse_strangers(target)
    inputs = _inputs(teaching, recipe)
    work = options.outputs_dir / HIDDEN / f"flim-{inputs[:16]}"
    bench, notes = assemble(work, teaching)
    with bench:
        yield from (_note(text) for text in notes)
        run = yield from _fit(bench, recipe, options)
    _deliver(run, target)
    if options.intermediate:
        yield from write_layers(options, target, split or dataset)


def _inputs(teaching: Teaching, recipe: FitRecipe) -> str:
    """The fingerprint of all that decides the model; the recipe as text, for the order of an architecture's layers."""
    begin = recipe.begin.fingerprint() if recipe.begin is not None else ""
    return fingerprint([__version__, teaching.fingerprint(), json.dumps(recipe.model_dump(mode="json")), begin])


def recipe_of(options: TrainOptions, *, classify: bool) -> FitRecipe:
    """The document's settings as a recipe, then `--set`."""
    values: dict[str, Any] = {"family": "flim", "net": {}, "head": {"kind": "none"}, "seed": SEED}
    if (architecture := _architecture_file(options)) is not None:
        values |= {"family": "flim-net", "net": {"arch": _architecture(architecture)}}
    if is_vectors(options.dataset_dir):
        values |= {"family": FAMILY, "net": values["net"] or {"arch": NO_FILTERS}}
        values["prepare"] = {"normalize": {"scheme": "none"}}  # the classifier standardizes them
    if options.lids_model_dir is not None:
        values["begin"] = {"folder": str(options.lids_model_dir.resolve())}
    values["accelerator"] = "auto" if options.gpus else "cpu"
    if classify:
        values["image_head"] = _image_head(options)
    recipe = validate(FitRecipe, with_overrides(values, options.settings))
    if options.dataset_dir is not None and is_vectors(options.dataset_dir):
        require_no_filters(recipe, options.dataset_dir)
    validate(FAMILIES.load_config(recipe.family), recipe.net, where="net", source=architecture or "")
    return recipe


def _image_head(options: TrainOptions) -> dict[str, Any]:
    descend = {
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "lr": options.learning_rate,
        "weight_decay": options.weight_decay,
        "step_epochs": options.step,
        "only_classifier": options.only_classifier or not options.backpropagation,
    }
    own = {
        "kind": "svm" if options.svm else "dense",
        "remove_border": options.remove_border,
        "svm_max_iter": options.svm_max_iter,
        "descend": descend,
    }
    if is_vectors(options.dataset_dir):
        return own | _documents_head(options) | {"vector": "flatten", "size": (1, 1)}
    return own | ({} if _architecture_file(options) is None else _documents_head(options))


def _documents_head(options: TrainOptions) -> dict[str, Any]:
    """With an architecture: the document's machine on flattened features, or a dense head on the last maps."""
    machine = {"svm_c": 100.0, "svm_ties": "first"}
    plain = {"levels": "last", "unit_length": False, "within": None, "hidden": (64,)}
    return {"vector": "flatten" if options.svm else "pooled", **plain, **machine}


def _architecture_file(options: TrainOptions) -> Path | None:
    """-ad, or the `arch.json` that lies beside given filters."""
    beside = (options.lids_model_dir or Path()) / "arch.json"
    if options.architecture_dir is not None or not options.load_lids_model:
        return options.architecture_dir
    if not beside.is_file():
        raise BadInput(f"{beside.parent} does not say its architecture. Say where it is: -ad ARCH.json.")
    return beside


def _architecture(path: Path) -> dict[str, Any]:
    from fieldmark.recipes.dialects.flim_arch import arch_values, load_arch

    return arch_values(load_arch(require_file(path, "-ad")))


def _check(options: TrainOptions) -> None:
    if is_vectors(options.dataset_dir):
        refuse_pixels(options)
    _check_given(options)
    if options.markers_dir is None and not options.load_lids_model and not is_vectors(options.dataset_dir):
        raise NothingLabelled("Filters are learned from markers. Say where they are: -md FOLDER.")
    folders = (("-md", options.markers_dir), ("-d", options.dataset_dir), ("-ldd", options.lids_model_dir))
    for flag, folder in folders:
        if folder is not None and not is_vectors(folder):
            refuse_inside(options.outputs_dir, [require_folder(folder, flag)], flag)
    asked = options.svm or options.backpropagation or options.only_classifier
    if asked and (options.dataset_dir is None or options.train_split is None):
        raise NothingLabelled("A classifier learns from a data set. Say which: -d FOLDER -ts SPLIT.txt.")
    if options.svm and options.backpropagation:
        raise BadInput("-s and -b are two classifiers; one model has one. Train two models.")
    if options.layers and not options.intermediate:
        raise BadInput("-l names layers to write, and -i asks for writing. Add -i, or leave -l out.")


def _check_given(options: TrainOptions) -> None:
    if options.load_lids_model != (options.lids_model_dir is not None):
        raise BadInput("-ld and -ldd FOLDER belong together: take filters that libIFT has learned, from there.")
    if options.load_lids_model and (options.dataset_dir is None or options.train_split is None):
        raise NothingLabelled(
            "-ld takes filters as they are, for a classifier or for layers of a data set. Say which: -d FOLDER "
            "-ts SPLIT.txt. For the filters alone: fieldmark models import."
        )


def _data(options: TrainOptions) -> tuple[list[LidsImage], list[LidsImage]]:
    """The data set's images, and those of the training split."""
    if options.dataset_dir is None:
        if options.train_split is not None:
            raise BadInput("-ts names images of a data set. Say which: -d FOLDER.")
        return [], []
    if is_vectors(options.dataset_dir):
        return [], _unpacked(options, options.dataset_dir)
    dataset = read_dataset(options.dataset_dir)
    if options.train_split is None:
        return dataset, []
    return dataset, read_split(require_file(options.train_split, "-ts"), dataset, options.dataset_dir)


def _unpacked(options: TrainOptions, archive: Path) -> list[LidsImage]:
    """The samples of the training split as images; the folder is named by the archive's content."""
    vectors = read_vectors(archive)
    places = vectors.places(require_file(options.train_split or Path(), "-ts"))
    return vectors.unpack(places, options.outputs_dir / HIDDEN / f"vectors-{file_hash(archive)[:16]}")


def _classifies(options: TrainOptions) -> bool:
    """Whether a classifier is wanted: asked for by name, or implied where no layers are to be written instead."""
    return options.svm or options.backpropagation or options.only_classifier or not options.intermediate


def _fit(bench: Workbench, recipe: FitRecipe, options: TrainOptions) -> Generator[Event, None, Run]:
    """Begin, go on with, or find finished the one fit of this project; returns its run.

    Later runs are those without some of its filters (`inspect --drop`). A run without a job was stopped before it
    knew what to learn.
    """
    runs = [run for run in list_runs(bench.project) if (run.folder / JOB).is_file()]
    if runs and runs[0].status == "done":
        yield _note("The same was learned before; it is taken as it is.")
        return runs[0]
    run = require_resumable(runs[0]) if runs else begin_fit(bench, recipe, MODEL, gpus=options.gpus)
    yield from follow_fit(bench.project, run)
    return run


def _refuse_strangers(target: Path) -> None:
    """A file or folder that is no model is never overwritten."""
    refuse_nowhere(target, "Choose another -mn or -od.")
    if not target.exists():
        return
    if not (target / "model.json").is_file():
        raise BadInput(f"{target} is there already and is no model folder of Fieldmark. Choose another -mn or -od.")
    header_of(target)


def _deliver(run: Run, target: Path) -> None:
    """The model under its name, and in its folder the numbers of its own training."""
    header, weights = load(run.folder / "model")
    save(target, replace(header, details={**header.details, "run": run.id}), weights)
    write_atomic(target / HISTORY, (run.folder / HISTORY).read_bytes())


def _note(text: str) -> Event:
    return Event("note", 0, 0, message=text)
