"""`fieldmark undo`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click


@click.command()
@click.option("--anybody", is_flag=True, help="Also when the newest change is another person's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def undo(project: Path, anybody: bool, as_json: bool) -> None:
    """Take back your newest change: strokes, answers, classes, images that were added. Again for the one before."""
    turn(project, "undo", anybody, as_json)


def turn(project: Path, verb: Literal["undo", "redo"], anybody: bool, as_json: bool) -> None:
    """Undo or redo, and say what was undone or done again, and whose it is."""
    from fieldmark.faces.cli.show import errors_as_json, say, say_json
    from fieldmark.workbench import Workbench

    with errors_as_json(as_json), Workbench.open(project) as bench:
        entry = bench.undo(anybody=anybody) if verb == "undo" else bench.redo(anybody=anybody)
    if as_json:
        say_json({"entry": entry.id, "undoes": entry.undoes, "author": entry.author, "summary": entry.summary})
        return
    say(f"{entry.summary} ({entry.author})" if anybody else entry.summary)
