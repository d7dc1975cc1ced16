"""From a project's labels to a fit: choose, snapshot, run, keep the model under its name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.checkpoint import ClassSpec, load, save, write_bundle
from fieldmark.checkpoint.bundle import read_json
from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.core.registry import is_typed
from fieldmark.errors import BadInput, BadRecipe, Cancelled, FieldmarkError, WorkerFailed, some
from fieldmark.recipes import FitRecipe, load_recipe, parse_override, validate
from fieldmark.recipes.find import with_bounds
from fieldmark.recipes.loading import with_overrides
from fieldmark.recipes.places import placed
from fieldmark.recipes.registry import FAMILIES
from fieldmark.workbench.jobs import run_job
from fieldmark.workbench.numbers import completed
from fieldmark.workbench.project import Project, checked_name, refuse_nowhere
from fieldmark.workbench.runs import JOB, Run, is_fit, new_run, recorded, this_process, write_run
from fieldmark.workbench.targets import by_legend, classes_for, facts_of

if TYPE_CHECKING:
    from fieldmark.collection import ImageRecord
    from fieldmark.labels import Labels
    from fieldmark.recipes.find import FindConfig
    from fieldmark.workbench.bench import Workbench

MARKS = "marks.json"
LOCK = "worker.lock"
OTHER_NAME = "Or choose another --name."


def read_fit_recipe(
    family: str | None,
    config: Path | None,
    overrides: tuple[str, ...],
    *,
    allow: Sequence[str] = (),
    finding: FindConfig | None = None,
) -> FitRecipe:
    """The recipe of a fit: the file, then the family that was typed, then `--set`. Its network's part is checked.

    Relative paths of the file begin where it lies, those that were typed where the user is; the recipe's are absolute.
    With `finding`, the fit is only swept for its rates, whose bounds are those.

    Raises BadRecipe where only the file names a class of somebody's own: that name has to be typed, or be in `allow`.
    """
    values = load_recipe(config) if config is not None else {}
    if family is not None:
        values["family"] = family
    chosen = with_overrides(values, overrides).get("family")
    if config is not None:
        values = with_paths(values, config.resolve().parent, chosen)
    values = with_paths(with_overrides(values, overrides), Path(), chosen)
    values = values if finding is None else with_bounds(values, finding)
    recipe = validate(FitRecipe, values, source=config or "")
    check_net(recipe, typed_families(family, overrides, allow), source=config or "")
    return recipe


def with_paths(values: dict[str, Any], beside: Path, family: object) -> dict[str, Any]:
    """Settings of a fit, not yet checked, whose relative paths begin at a folder, those of its family's network too."""
    made = placed(FitRecipe, values, beside)
    net = made.get("net")
    if isinstance(family, str) and family in FAMILIES and isinstance(net, dict):
        made["net"] = placed(FAMILIES.load_config(family), net, beside)
    return made


def typed_families(family: str | None, overrides: Sequence[str] = (), allow: Sequence[str] = ()) -> tuple[str, ...]:
    """Classes of the user's own that were typed on this run, `package.module:Class`: these may be imported.

    Args:
        family: The family that was typed.
        overrides: `KEY=VALUE`, of which one may set the family.
        allow: Those that were allowed by name.
    """
    parsed = [parse_override(text) for text in overrides]
    named = [str(value) for path, value in parsed if path == ["family"]]
    return tuple(name for name in (family, *named, *allow) if name is not None and is_typed(name))


def check_net(recipe: FitRecipe, typed: Sequence[str], *, source: object = "") -> None:
    """Check the network's settings; those of a user's own class are checked by the worker, which may import it.

    Raises BadRecipe where they are wrong, or where a class of somebody's own was not typed.
    """
    if not is_typed(recipe.family):
        validate(FAMILIES.load_config(recipe.family), recipe.net, where="net", source=source)
    elif recipe.family not in typed:
        raise BadRecipe(
            f"{source or 'The recipe'}: names the family {recipe.family!r}, code of somebody's own; nothing was "
            f"imported. If you trust it, say so: --allow-family {recipe.family}."
        )


def begin_fit(bench: Workbench, recipe: FitRecipe, name: str | None, *, gpus: Sequence[int] = ()) -> Run:
    """Snapshot what the fit learns from into a new run folder; `gpus` are those that it may see, none for all."""
    model = checked_name("model", name or recipe.family.rpartition(":")[2])
    recipe = completed(recipe)
    images = bench.collection.all()
    if not images:
        raise BadInput(f"Project {bench.project.name!r} has no images. Add some: fieldmark add FOLDER.")
    own = class_specs(bench.labels)
    data, legend = by_legend(recipe.data, bench.labels.classes())
    recipe = recipe.model_copy(update={"data": data})
    facts = facts_of(images, data)
    classes = classes_for(facts, data, own, legend)
    refuse_nowhere(bench.project.models / model, OTHER_NAME)
    run = new_run(bench.project, recipe.family, model)
    places = {spec.id: place for place, spec in enumerate(own)}
    answers = collect_answers(bench.labels, images, own) if recipe.image_head.kind != "none" else {}
    write_bundle(run.folder, MARKS, {}, collect_marks(bench.labels, images, places) | answers)
    settings = recipe.model_dump(mode="json")
    job = {
        "kind": "fit",
        "folder": str(run.folder),
        "recipe": settings,
        "images": facts,
        "classes": [asdict(spec) for spec in classes],
        "pixel_size": asdict(images[0].pixel_size),
        "gpus": list(gpus),
    }
    write_atomic(run.folder / "recipe.yaml", _as_yaml(settings).encode())
    write_atomic(run.folder / JOB, json.dumps(job, indent=2).encode())
    return run


def follow_fit(project: Project, run: Run, *, allow: Sequence[str] = ()) -> Iterator[Event]:
    """Run, or go on with, a fit in its worker; at the end the model has its name in the project.

    `allow` names the classes of the user's own that were typed on this run; what the run's file says never counts.
    """
    job = read_json(run.folder / JOB) | {"allow": list(allow), "lock": str(run.folder / LOCK)}
    recipe = validate(FitRecipe, job.get("recipe", {}), source=run.folder / JOB)
    check_net(recipe, allow, source=f"Run {run.id}")
    refuse_nowhere(project.models / run.model, OTHER_NAME)
    run = replace(run, status="running", process=this_process())
    write_run(run)
    status = "stopped"
    try:
        with closing(run_job(job, run.folder / JOB, threads=recipe.threads)) as events:
            yield from recorded(events, run.folder)
        _keep_model(project, run)
        status = "done"
    except FieldmarkError as error:
        status = "stopped" if isinstance(error, (Cancelled, WorkerFailed)) else "failed"
        raise
    finally:
        write_run(replace(run, status=status))


def require_resumable(run: Run) -> Run:
    """The run, if there is something to go on with. Raises BadInput where it is done or at work, or is no fit."""
    if not is_fit(run):
        raise BadInput(f"Run {run.id} is no fit that can go on. Begin another: fieldmark fit, or fieldmark lr-find.")
    if run.status == "done":
        raise BadInput(f"Run {run.id} is done; its model is {run.model!r}. Begin another: fieldmark fit.")
    if run.status == "running":
        process = run.process.partition(" ")[0]
        raise BadInput(f"Run {run.id} is at work in process {process}. Wait for it, or stop it there.")
    return run


def class_specs(labels: Labels) -> tuple[ClassSpec, ...]:
    """The living classes in order; each is written as its place, from 1."""
    return tuple(
        ClassSpec(id=record.id, name=record.name, value=place) for place, record in enumerate(labels.classes(), start=1)
    )


def collect_marks(labels: Labels, images: list[ImageRecord], places: dict[int, int]) -> dict[str, np.ndarray]:
    """Every painted pixel of the images: arrays `image`, `place` (t, z, y, x), `stroke`, `klass`.

    Pixels whose class is unknown (erased, or of a deleted class) are left out.

    Args:
        labels: Of the project.
        images: The images in the order that `image` counts.
        places: Class id to its place in the model.
    """
    found: dict[str, list[np.ndarray]] = {
        "image": [np.zeros(0, np.int64)],
        "place": [np.zeros((0, 4), np.int64)],
        "stroke": [np.zeros(0, np.int64)],
        "klass": [np.zeros(0, np.int64)],
    }
    for index, record in enumerate(images):
        owners, at = labels.owned_pixels(record.id)
        known = [(one.id, places[one.class_id]) for one in labels.strokes(record.id) if one.class_id in places]
        ids, classes = np.array(known, dtype=np.int64).reshape(-1, 2).T
        kept = np.isin(owners, ids)
        found["image"].append(np.full(int(kept.sum()), index))
        found["place"].append(at[kept])
        found["stroke"].append(owners[kept])
        found["klass"].append(classes[np.searchsorted(ids, owners[kept])])
    return {name: np.concatenate(parts, dtype=np.int64) for name, parts in found.items()}


def collect_answers(labels: Labels, images: list[ImageRecord], classes: tuple[ClassSpec, ...]) -> dict[str, np.ndarray]:
    """The class of every image that was answered `yes` for it: arrays `answer_image`, `answer_klass`.

    An image without a `yes` is left out: what it is stays unknown, whatever it is not.

    Args:
        labels: Of the project.
        images: The images in the order that `answer_image` counts.
        classes: The model's classes.

    Raises:
        BadInput: An image is of several classes; the message names the first few.
    """
    yes = labels.answer_matrix([record.id for record in images], [spec.id for spec in classes]) == 1
    if several := [record.name for record, row in zip(images, yes, strict=True) if row.sum() > 1]:
        raise BadInput(
            f"{some(several, 5)}: answered `yes` for more than one class. A classifier of images learns one class an "
            "image; take the other answers back."
        )
    image, klass = np.nonzero(yes)
    return {"answer_image": image.astype(np.int64), "answer_klass": klass.astype(np.int64)}


def _keep_model(project: Project, run: Run) -> None:
    header, weights = load(run.folder / "model")
    save(project.models / run.model, replace(header, details={**header.details, "run": run.id}), weights)


def _as_yaml(values: dict[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(values, sort_keys=False))
