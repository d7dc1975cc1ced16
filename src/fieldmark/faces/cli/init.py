"""`fieldmark init`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--classes", default="", metavar="A,B", help="Names of the classes, in order, separated by commas.")
@click.option("--name", help="The project's name; its folder's where none is given.")
def init(path: Path, classes: str, name: str | None) -> None:
    """Make a project in the folder PATH."""
    from fieldmark.faces.cli.show import note
    from fieldmark.workbench import Workbench

    wanted = [part.strip() for part in classes.split(",") if part.strip()]
    with Workbench.init(path, wanted, name) as bench:
        note(f"Made project {bench.project.name} in {path}. Next: fieldmark -C {path} add IMAGES")
