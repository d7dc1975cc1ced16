"""`fieldmark models`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fieldmark.workbench import Workbench


@click.group()
def models() -> None:
    """List, show and export models."""


@models.command("list")
@click.option("--families", is_flag=True, help="The families that can be fitted, instead.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def list_(project: Path, families: bool, as_json: bool) -> None:
    """The project's models."""
    from fieldmark.faces.cli.show import errors_as_json, say_json, table
    from fieldmark.workbench import Workbench
    from fieldmark.workbench.models import family_rows, model_rows

    with errors_as_json(as_json):
        if families:
            rows = family_rows()
        else:
            with Workbench.open(project) as bench:
                rows = model_rows(bench)
    if as_json:
        say_json({"models": rows})
    elif rows:
        table(list(rows[0]), [list(row.values()) for row in rows])


@models.command("show")
@click.argument("model")
@click.pass_obj
def show(project: Path, model: str) -> None:
    """All that MODEL's header says, as JSON; grids of light by their shape and range.

    MODEL is a model of the project, or a model folder; model.json in it holds every number.
    """
    from fieldmark.checkpoint import header_of
    from fieldmark.faces.cli.show import say_json
    from fieldmark.workbench.models import shown
    from fieldmark.workbench.predicting import model_folder

    with _project_of(project, model) as bench:
        say_json(shown(header_of(Path(model) if bench is None else model_folder(bench, model))))


@models.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What the model is called in the project.")
@click.option("--arch", type=click.Path(path_type=Path), help="FLIM architecture (JSON); arch.json in PATH if none.")
@click.option("--color", default="auto", show_default=True, help="What the weights were trained on, as net.color.")
@click.option("--scale", default=255.0, show_default=True, help="What pixels are divided by first.")
@click.option("--order", default="center-first", show_default=True, help="Of weights in a folder; or: rows.")
@click.pass_obj
def import_(project: Path, path: Path, name: str, arch: Path | None, color: str, scale: float, order: str) -> None:
    """Take weights from PATH, a libIFT kernel folder or a LIDS state dict (.pt), as a model."""
    from fieldmark.faces.cli.show import follow, say
    from fieldmark.workbench import Workbench, importing

    with Workbench.open(project) as bench:
        follow(importing.import_weights(bench, path, name, arch=arch, color=color, scale=scale, order=order))
    say(f"Model {name}.")


@models.command("export")
@click.argument("model")
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where to write; the same as PATH.")
@click.option("--format", "form", default="fieldmark", show_default=True, help="fieldmark, onnx or libift.")
@click.option("--output", default="", help="What an ONNX graph gives: classes, features or image.")
@click.option(
    "--allow-family", "allow", multiple=True, metavar="MODULE:CLASS", help="Code of your own that may be imported."
)
@click.pass_obj
def export(
    project: Path, model: str, path: Path | None, out: Path | None, form: str, output: str, allow: tuple[str, ...]
) -> None:
    """Write MODEL to PATH: its folder, checked; one ONNX graph; or libIFT's kernel files.

    MODEL is a model of the project, or a model folder, which needs none.
    """
    from fieldmark.faces.cli.show import note, say
    from fieldmark.workbench import exporting

    if (path is None) == (out is None):
        raise click.UsageError("Say once where to write: PATH, or --out PATH.")
    with _project_of(project, model) as bench:
        for event in exporting.export(bench, model, form, path or out or Path(), output, allow=allow):
            if event.phase == "note":
                note(event.message)
            else:
                say(f"Wrote {event.message}.")


def _project_of(place: Path, model: str) -> AbstractContextManager[Workbench | None]:
    """The project at `place`; None where there is none and a model folder was typed."""
    from fieldmark.workbench import Workbench
    from fieldmark.workbench.project import CONFIG

    if not (place / CONFIG).is_file() and (Path(model) / "model.json").is_file():
        return nullcontext(None)
    return Workbench.open(place)
