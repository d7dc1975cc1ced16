"""`fieldmark fit`."""

from __future__ import annotations

from pathlib import Path

import click

from fieldmark.faces.cli.options import recipe_options


@click.command()
@recipe_options
@click.option("--name", help="The model's name; the family's where none is given.")
@click.option("--resume", metavar="RUN", help="Go on with a fit that was stopped.")
@click.option("--gpu", type=click.IntRange(0), help="The one GPU to use; by itself all that are there.")
@click.option(
    "--allow-family", "allow", multiple=True, metavar="MODULE:CLASS", help="Code of your own that may be imported."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def fit(
    project: Path,
    family: str | None,
    config: Path | None,
    overrides: tuple[str, ...],
    name: str | None,
    resume: str | None,
    gpu: int | None,
    allow: tuple[str, ...],
    as_json: bool,
) -> None:
    """Fit a model of FAMILY (flim, unet, autoencoder) on the project's images and labels.

    FAMILY may be a class of your own, as package.module:Class.

    With the config of OpenFIBSEM or microDL, a model folder is written where the config says; that needs no project.
    """
    from fieldmark.core.registry import is_typed
    from fieldmark.faces.cli.show import errors_as_json, follow, note, say, say_json
    from fieldmark.workbench import Workbench
    from fieldmark.workbench.loose.fit import is_foreign

    if resume is not None and (family is not None or config is not None or overrides or name is not None):
        raise click.UsageError("--resume goes on with a fit as it was begun; give it no other options.")
    gpus = () if gpu is None else (gpu,)
    with errors_as_json(as_json):
        foreign = is_foreign(config)
    if foreign and config is not None and (family is None or is_typed(family)):
        if family is not None:  # the file's data and training, and a network of the user's own
            overrides = (f"family={family}", "net={}", *overrides)
        fit_config(config, overrides, name, gpus, allow=allow, as_json=as_json)
        return
    with errors_as_json(as_json), Workbench.open(project) as bench:
        bench.allow = allow
        if resume is not None:
            run, events = bench.resume(resume)
        else:
            run, events = bench.fit(family, config=config, overrides=overrides, name=name, gpus=gpus)
        note(f"Run {run.id}. Stop it with Ctrl-C; go on with: fieldmark -C {project} fit --resume {run.id}")
        follow(events)
    if as_json:
        say_json({"run": run.id, "model": run.model, "folder": str(bench.project.models / run.model)})
    else:
        say(f"Model {run.model}. Next: fieldmark -C {project} predict {run.model} --out FOLDER")


def fit_config(
    config: Path,
    overrides: tuple[str, ...],
    name: str | None,
    gpus: tuple[int, ...],
    *,
    begin: Path | None = None,
    allow: tuple[str, ...] = (),
    as_json: bool,
) -> None:
    """Fit what another system's file says, where it says; `begin` is a model whose weights to begin with."""
    from fieldmark.faces.cli.show import errors_as_json, follow, note, say, say_json
    from fieldmark.workbench.loose.fit import follow_plan, plan_fit

    with errors_as_json(as_json):
        plan = plan_fit(config, overrides=overrides, name=name, gpus=gpus, begin=begin, allow=allow)
        note(f"Stop it with Ctrl-C; the same command goes on. Its model will be {plan.place.now()}.")
        follow(follow_plan(plan))
        folder = plan.place.now()
    if as_json:
        say_json({"model": folder.name, "folder": str(folder)})
    else:
        say(f"Model {folder}. Next: fieldmark predict {folder} IMAGES --out FOLDER")
