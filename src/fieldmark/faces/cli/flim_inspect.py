"""`fieldmark flim inspect`: where each filter came from and what it is for; drop some."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("inspect")
@click.argument("model")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write; beside the run where none is given.")
@click.option("--drop", multiple=True, metavar="LAYER:NUMBER", help="Learn again without this filter; repeatable.")
@click.option("--name", default="", help="Of the new model; MODEL-dropped where none is given.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def inspect(project: Path, model: str, out: Path | None, drop: tuple[str, ...], name: str, as_json: bool) -> None:
    """Show every filter of MODEL: its kernel, its stroke and pixel, its answers, its use for each class.

    MODEL is a model of the project, or the folder that `fieldmark flim train` wrote. With
    --drop, what comes after the filters is learned anew, as a new model, which is shown.
    """
    from fieldmark.faces.cli.show import errors_as_json, follow, note, say, say_json
    from fieldmark.workbench.flim.drop import begin_without, parse_drops
    from fieldmark.workbench.flim.inspect import PAGE, inspect_model, place_for
    from fieldmark.workbench.flim.models import find_model

    if name and not drop:
        raise click.UsageError("--name names the model that --drop makes.")
    with errors_as_json(as_json):
        found = find_model(project, model)
        if drop:
            run, events = begin_without(found, parse_drops(drop), name)
            note(f"Run {run.id}.")
            follow(events)
            found = find_model(project, str(found.shelf / run.model))
        folder = place_for(found, out)
        follow(inspect_model(found, folder))
    if as_json:
        say_json({"model": str(found.model), "page": str(folder / PAGE)})
    else:
        say(f"Model {found.model.name}. Page: {folder / PAGE}")
