"""`fieldmark redo`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--anybody", is_flag=True, help="Also when another person undid last.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def redo(project: Path, anybody: bool, as_json: bool) -> None:
    """Do again what you undid last, if you have changed nothing since."""
    from fieldmark.faces.cli.undo import turn

    turn(project, "redo", anybody, as_json)
