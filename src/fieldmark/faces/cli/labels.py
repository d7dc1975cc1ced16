"""`fieldmark labels`."""

from __future__ import annotations

from pathlib import Path

import click

IMPORTS = ["markers", "masks", "scribbles", "answers", "points"]


@click.group()
def labels() -> None:
    """Import and export labels."""


@labels.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(IMPORTS), required=True)
@click.option("--label-offset", type=int, help="Added to each label of marker files; detected where not given.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def import_(project: Path, path: Path, kind: str, label_offset: int | None, as_json: bool) -> None:
    """Take labels from the files in PATH; all of them, or none where one is bad."""
    from fieldmark.faces.cli.show import errors_as_json, note, say, say_json
    from fieldmark.workbench import Workbench
    from fieldmark.workbench.status import import_values

    with errors_as_json(as_json), Workbench.open(project) as bench:
        report = bench.import_labels(path, kind, label_offset=label_offset)
    for line in report.notes:
        note(line)
    for shown, why in report.left_out:
        note(f"left out {shown}: {why}")
    if as_json:
        say_json(import_values(report))
    else:
        say(f"Took {report.strokes} {kind} of {report.images} images.")


@labels.command("export")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(IMPORTS), required=True)
@click.option("--overwrite", is_flag=True, help="Replace files of the same names.")
@click.pass_obj
def export(project: Path, path: Path, kind: str, overwrite: bool) -> None:
    """Write labels as files into the folder PATH."""
    from fieldmark.faces.cli.show import say
    from fieldmark.workbench import Workbench

    with Workbench.open(project) as bench:
        written = bench.export_labels(path, kind, overwrite=overwrite)
    say(f"Wrote {len(written)} files into {path}.")
