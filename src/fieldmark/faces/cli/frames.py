"""`fieldmark frames`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--names",
    type=click.Choice(["auto", "letters", "sms"]),
    default="auto",
    show_default=True,
    help="How file names say what a frame is: im_c000_z000_t000_p000, or img_CHANNEL_t000_p000_z000.",
)
@click.option("--order", metavar="cztp", help="For other names: the order in which their four numbers stand.")
@click.option("--out", type=click.Path(path_type=Path), help="A folder or a .csv file; by default the project.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def frames(project: Path, folder: Path, names: str, order: str | None, out: Path | None, as_json: bool) -> None:
    """Write frames_meta.csv: which frame in FOLDER is which channel, slice, time and position.

    FOLDER itself is only read. To have its positions as images of the project: fieldmark add --layout frames.
    """
    from fieldmark.faces.cli.show import errors_as_json, note, say, say_json
    from fieldmark.workbench.frames import write_table

    with errors_as_json(as_json):
        file, table = write_table(folder, out, project=project, names=names, order=order)
    for line in table.notes:
        note(line)
    for shown, why in table.left_out:
        note(f"left out {shown}: {why}")
    counts = {
        name: len({getattr(row, column) for row in table.rows})
        for name, column in (
            ("positions", "pos_idx"),
            ("times", "time_idx"),
            ("channels", "channel_idx"),
            ("slices", "slice_idx"),
        )
    }
    if as_json:
        say_json({"file": str(file), "frames": len(table.rows), **counts, "left_out": table.left_out})
    else:
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        say(f"{len(table.rows)} frames ({told}): {file}")
