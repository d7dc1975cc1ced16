"""`fieldmark add`."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--layout", type=click.Choice(["folder", "list", "csv", "lids", "frames"]), default="folder", show_default=True
)
@click.option(
    "--group-by", metavar="folder|PATTERN", help="Group images by folder, or by a pattern's group in their names."
)
@click.option("--max-bytes", type=click.IntRange(1), help="Largest decoded size of formats that are decoded whole.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def add(
    project: Path, images: tuple[Path, ...], layout: str, group_by: str | None, max_bytes: int | None, as_json: bool
) -> None:
    """Add IMAGES (files, folders, lists, tables, LIDS data sets, folders of frames). Originals are only read."""
    from fieldmark.faces.cli.show import errors_as_json, note, say, say_json
    from fieldmark.workbench import Workbench
    from fieldmark.workbench.status import add_sentence, add_values

    with errors_as_json(as_json), Workbench.open(project) as bench:
        report = bench.add(images, layout=layout, max_bytes=max_bytes, group_by=group_by)
    for line in report.notes:
        note(line)
    for shown, why in report.left_out:
        note(f"left out {shown}: {why}")
    if as_json:
        say_json(add_values(report))
    else:
        say(add_sentence(report))
    sys.exit(0 if report.added or report.known or report.moved else 1)
