"""`fieldmark exclude`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("images", nargs=-1, required=True)
@click.option("--why", default="", help="A reason, kept with the image.")
@click.option("--include", is_flag=True, help="Take them in again.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def exclude(project: Path, images: tuple[str, ...], why: str, include: bool, as_json: bool) -> None:
    """Leave IMAGES out: nothing learns from them, nothing is predicted or scored. Their labels stay."""
    from fieldmark.faces.cli.show import errors_as_json, say, say_json
    from fieldmark.workbench import Workbench

    with errors_as_json(as_json), Workbench.open(project) as bench:
        names = bench.include(images) if include else bench.exclude(images, why)
    if as_json:
        say_json({"included" if include else "excluded": names})
        return
    say(f"{'Took in again' if include else 'Left out'} {', '.join(names)}.")
