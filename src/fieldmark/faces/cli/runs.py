"""`fieldmark runs`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click


@click.group()
def runs() -> None:
    """List, show and prune fits."""


@runs.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def list_(project: Path, as_json: bool) -> None:
    """The project's runs, oldest first."""
    from fieldmark.faces.cli.show import say_json, table
    from fieldmark.workbench import Workbench

    with Workbench.open(project) as bench:
        found = bench.runs()
    if as_json:
        say_json({"runs": [asdict(run) | {"folder": str(run.folder)} for run in found]})
    else:
        table(["run", "model", "status", "began"], [[run.id, run.model, run.status, run.began] for run in found])


@runs.command("show")
@click.argument("run")
@click.pass_obj
def show(project: Path, run: str) -> None:
    """A run's record and its numbers, as JSON."""
    from fieldmark.faces.cli.show import say_json
    from fieldmark.workbench import Workbench
    from fieldmark.workbench.runs import find_run, read_history

    with Workbench.open(project) as bench:
        found = find_run(bench.project, run)
    say_json(asdict(found) | {"folder": str(found.folder), "history": read_history(found.folder)})


@runs.command("prune")
@click.option("--keep", type=click.IntRange(0), default=5, show_default=True, help="Newest runs that stay.")
@click.pass_obj
def prune(project: Path, keep: int) -> None:
    """Delete finished runs; models stay, and so do runs that can be resumed."""
    from fieldmark.faces.cli.show import say
    from fieldmark.workbench import Workbench
    from fieldmark.workbench.runs import prune_runs

    with Workbench.open(project) as bench:
        gone = prune_runs(bench.project, keep=keep)
    say(f"Deleted {len(gone)} runs{': ' + ', '.join(gone) if gone else ''}.")
