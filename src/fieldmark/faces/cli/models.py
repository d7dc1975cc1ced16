"""`fieldmark models`."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def models() -> None:
    """List, show and export models."""


@models.command("list")
@click.option("--families", is_flag=True, help="The families that can be fitted, instead.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def list_(project: Path, families: bool, as_json: bool) -> None:
    """The project's models."""
    from fieldmark.faces.cli.show import errors_as_json, say_json, table
    from fieldmark.workbench import Workbench
    from fieldmark.workbench.models import family_rows, model_rows

    with errors_as_json(as_json):
        if families:
            rows = family_rows()
        else:
            with Workbench.open(project) as bench:
                rows = model_rows(bench)
    if as_json:
        say_json({"models": rows})
    elif rows:
        table(list(rows[0]), [list(row.values()) for row in rows])


@models.command("show")
@click.argument("model")
@click.pass_obj
def show(project: Path, model: str) -> None:
    """All that MODEL's header says, as JSON."""
    from fieldmark.checkpoint import header_of
    from fieldmark.faces.cli.show import say_json
    from fieldmark.workbench import Workbench
    from fieldmark.workbench.predicting import model_folder

    with Workbench.open(project) as bench:
        say_json(header_of(model_folder(bench, model)).to_json())


@models.command("export")
@click.argument("model")
@click.argument("path", type=click.Path(path_type=Path))
@click.pass_obj
def export(project: Path, model: str, path: Path) -> None:
    """Copy MODEL's folder to PATH, checked."""
    from fieldmark.faces.cli.show import say
    from fieldmark.workbench import Workbench
    from fieldmark.workbench.models import export_model

    with Workbench.open(project) as bench:
        export_model(bench, model, path)
    say(f"Wrote {path}.")
