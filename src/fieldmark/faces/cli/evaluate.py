"""`fieldmark evaluate`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("model")
@click.option("--truth", required=True, type=click.Path(path_type=Path), help="The folder of reference masks.")
@click.option("--ignore", type=int, help="Pixel value of the masks that means unknown.")
@click.option("--report", type=click.Path(path_type=Path), help="Where to write the report.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def evaluate(project: Path, model: str, truth: Path, ignore: int | None, report: Path | None, as_json: bool) -> None:
    """Score MODEL on the images that taught it nothing, beside baselines."""
    from fieldmark.faces.cli.show import errors_as_json, note, say, say_json, table
    from fieldmark.workbench import Workbench

    with errors_as_json(as_json), Workbench.open(project) as bench:
        result = bench.evaluate(model, truth, ignore=ignore, report=report, watch=note)
    for line in result.notes:
        note(line)
    if as_json:
        say_json(result.to_json())
        return
    table(*result.table())
    say(f"Report: {result.report}")
