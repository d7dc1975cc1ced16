"""`fieldmark prepare`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="A preprocessing YAML of microDL, or a recipe.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one setting of the file; may be repeated."
)
@click.option("--preview", is_flag=True, help="Only draw each step on some images: one page, preview.html.")
@click.option("--write-tiles", is_flag=True, help="Copy the chosen tiles to disk too, as microDL does.")
@click.option("--out", type=click.Path(path_type=Path), help="With --preview of a project: the page's file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def prepare(
    project: Path,
    config: Path | None,
    overrides: tuple[str, ...],
    preview: bool,
    write_tiles: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure flat fields, masks, statistics and tiles as a preprocessing file of microDL says; needs no project.

    With --preview and a recipe, or none: pictures of what the recipe does to the project's images.
    """
    from fieldmark.faces.cli.show import errors_as_json
    from fieldmark.workbench.loose.prepare import is_foreign

    with errors_as_json(as_json):
        foreign = is_foreign(config)
    if foreign and config is not None:
        if out is not None:
            raise click.UsageError("--out is for projects; microDL's file names its output_dir.")
        if preview and write_tiles:
            raise click.UsageError("--preview only draws. Leave out one of --preview and --write-tiles.")
        _prepare_config(config, overrides, preview, write_tiles, as_json)
        return
    if not preview:
        raise click.UsageError(
            "A recipe's preparation is measured when it is fitted; look at it with --preview. "
            "To prepare without a project, name a preprocessing file of microDL: --config FILE."
        )
    _preview_project(project, config, overrides, out, as_json)


def _prepare_config(config: Path, overrides: tuple[str, ...], preview: bool, write_tiles: bool, as_json: bool) -> None:
    from fieldmark.faces.cli.show import errors_as_json, follow, note, say, say_json
    from fieldmark.workbench.loose.prepare import follow_prepare, plan_prepare
    from fieldmark.workbench.previewing import PAGE, preview_plan

    with errors_as_json(as_json):
        plan = plan_prepare(config, overrides=overrides, copies=write_tiles)
        if not preview:
            note("Stop it with Ctrl-C; the same command goes on.")
        follow(preview_plan(plan) if preview else follow_prepare(plan))
    place = plan.asked.out / PAGE if preview else plan.asked.out
    if as_json:
        say_json({"page" if preview else "folder": str(place)})
    else:
        say(
            f"See {place}."
            if preview
            else f"Prepared in {place}. Next: fieldmark fit --config FILE, with data_dir there."
        )


def _preview_project(
    project: Path, config: Path | None, overrides: tuple[str, ...], out: Path | None, as_json: bool
) -> None:
    from fieldmark.faces.cli.show import errors_as_json, follow, say, say_json
    from fieldmark.workbench import Workbench
    from fieldmark.workbench.fitting import read_fit_recipe
    from fieldmark.workbench.previewing import PAGE, preview_project

    with errors_as_json(as_json), Workbench.open(project) as bench:
        recipe = read_fit_recipe(None, config, overrides)
        place = out or bench.project.folder / PAGE
        follow(preview_project(bench, recipe, place))
    if as_json:
        say_json({"page": str(place)})
    else:
        say(f"See {place}.")
