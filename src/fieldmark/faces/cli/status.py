"""`fieldmark status`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def status(project: Path, as_json: bool) -> None:
    """Say what the project holds."""
    from fieldmark.faces.cli.show import errors_as_json, say, say_json
    from fieldmark.workbench import Workbench

    with errors_as_json(as_json), Workbench.open(project) as bench:
        values = bench.status()
    if as_json:
        say_json(values)
        return
    say(f"Project {values['project']}")
    for key in ("images", "excluded", "strokes", "answers", "points"):
        say(f"  {key:10} {values[key]}")
    for item in values["classes"]:
        say(f"  class      {item['name']}: {item['strokes']} strokes, {item['pixels']} pixels")
    for key in ("columns", "models", "runs"):
        say(f"  {key:10} {', '.join(values[key]) or 'none'}")
