"""`fieldmark lr-find`."""

from __future__ import annotations

from pathlib import Path

import click

from fieldmark.faces.cli.options import recipe_options


@click.command()
@recipe_options
@click.option("--base-lr", type=float, help="The first rate.")
@click.option("--max-lr", type=float, help="The last rate.")
@click.option("--steps", type=click.IntRange(10), help="Batches, one for each rate.")
@click.option("--scale", type=click.Choice(["exponential", "linear"]), help="How rates rise.")
@click.option("--apply", "write", is_flag=True, help="Write the rates into the recipe of --config (YAML).")
@click.option(
    "--allow-family", "allow", multiple=True, metavar="MODULE:CLASS", help="Code of your own that may be imported."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def lr_find(
    project: Path,
    /,
    family: str | None,
    config: Path | None,
    overrides: tuple[str, ...],
    write: bool,
    allow: tuple[str, ...],
    as_json: bool,
    **settings: object,
) -> None:
    """Sweep the learning rate of a fit of FAMILY, and suggest bounds; the project's models stay as they are."""
    from fieldmark.faces.cli.show import errors_as_json, follow, say, say_json
    from fieldmark.recipes import validate
    from fieldmark.recipes.find import FindConfig, steps_of
    from fieldmark.workbench import Workbench
    from fieldmark.workbench.fitting import read_fit_recipe, typed_families
    from fieldmark.workbench.loose.fit import is_foreign
    from fieldmark.workbench.lr_find import apply_found, begin_find, begin_foreign, follow_find, found

    if write and config is None:
        raise click.UsageError("--apply writes into the recipe of --config. Name one.")
    figure = None
    given = {key: value for key, value in settings.items() if value is not None}
    with errors_as_json(as_json):
        if config is not None and is_foreign(config):
            if write:
                raise click.UsageError("--apply writes recipes of Fieldmark, not another system's file.")
            run, recipe, figure = begin_foreign(config, overrides, given, allow)
        else:
            sweep = validate(FindConfig, given)
            recipe = read_fit_recipe(family, config, overrides, allow=allow, finding=sweep)
            with Workbench.open(project) as bench:
                run = begin_find(bench, recipe, sweep)
        typed = typed_families(family, overrides, allow)
        follow(follow_find(run, threads=recipe.threads, allow=typed))
        values = found(run, figure)
        if write and config is not None:
            apply_found(values, config, cyclic=steps_of(recipe, values["section"]).schedule == "cyclic")
    if as_json:
        say_json(values)
        return
    say(f"Rates between {values['base_lr']:.2g} and {values['max_lr']:.2g}: see {values['figure']}.")
    say(f"Written into {config}." if write else f"Next: --set {values['section']}.lr={values['max_lr']:.2g}")
