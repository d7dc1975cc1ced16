"""Look for the learning rate of a fit, and write it into a recipe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.checkpoint.bundle import read_json
from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.errors import BadInput, FieldmarkError
from fieldmark.recipes.editing import with_values
from fieldmark.recipes.find import FindConfig
from fieldmark.recipes.loading import load_recipe
from fieldmark.workbench.fitting import begin_fit
from fieldmark.workbench.jobs import run_job
from fieldmark.workbench.runs import JOB, Run, this_process, write_run

if TYPE_CHECKING:
    from fieldmark.recipes import FitRecipe
    from fieldmark.workbench.bench import Workbench

RESULT = "lr_find.json"


def begin_find(bench: Workbench, recipe: FitRecipe, config: FindConfig) -> Run:
    """A run folder for a sweep of the fit that a recipe describes."""
    run = begin_fit(bench, recipe, "lr-find")
    job = read_json(run.folder / JOB) | {"kind": "lr-find", "find": config.model_dump(mode="json")}
    write_atomic(run.folder / JOB, json.dumps(job, indent=2).encode())
    return run


def begin_foreign(
    config: Path, overrides: tuple[str, ...], given: dict[str, Any], allow: Sequence[str] = ()
) -> tuple[Run, FitRecipe, Path | None]:
    """The same for another system's file, without a project; and where that wants the curve drawn.

    `given` goes before what the file says.
    """
    from fieldmark.workbench.loose.fit import opened, plan_fit
    from fieldmark.workbench.originals import refuse_inside

    plan = plan_fit(config, overrides=overrides, finding=given, allow=allow)
    figure = (plan.fit.find or {}).get("figure")
    if figure is not None:
        refuse_inside(figure, plan.fit.images)
    with opened(plan) as (bench, recipe):
        return begin_find(bench, recipe, plan.sweep or FindConfig()), recipe, figure


def follow_find(run: Run, *, threads: int = 0, allow: Sequence[str] = ()) -> Iterator[Event]:
    """Sweep in a worker; the result lies in the run's folder. `allow`: classes of the user's own that were typed."""
    job = read_json(run.folder / JOB) | {"allow": list(allow)}
    run = replace(run, status="running", process=this_process())
    write_run(run)
    status = "stopped"
    try:
        with closing(run_job(job, run.folder / JOB, threads=threads)) as events:
            yield from events
        status = "done"
    except FieldmarkError:
        status = "failed"
        raise
    finally:
        write_run(replace(run, status=status))


def found(run: Run, figure: Path | None = None) -> dict[str, Any]:
    """The bounds, and where the curve was drawn; with `figure`, there."""
    drawn = run.folder / "lr_find.png"
    if figure is not None:
        figure.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(figure, drawn.read_bytes())
    return read_json(run.folder / RESULT) | {"figure": str(figure or drawn), "run": run.id}


def apply_found(values: dict[str, Any], config: Path, *, cyclic: bool) -> None:
    """Write the bounds into a recipe of ours, `lr` and `cycle.max_lr` of what was swept; all else in it stays.

    With cyclic rates `lr` is the lower bound; else the fit has one rate, the upper one.
    """
    section = str(values["section"])
    if config.suffix.lower() not in (".yaml", ".yml"):
        raise BadInput(f"{config}: only YAML recipes are written. Set {section}.lr to {values['max_lr']:.2g} by hand.")
    load_recipe(config)
    keys = section.split(".")
    rates = [
        ([*keys, "lr"], values["base_lr"] if cyclic else values["max_lr"]),
        ([*keys, "cycle", "max_lr"], values["max_lr"]),
    ]
    write_atomic(config, with_values(config.read_text(encoding="utf-8-sig"), rates).encode())
