"""`fieldmark evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("model")
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    help="A folder of reference masks, numbered objects or true images, or a table of numbers.",
)
@click.option("--ignore", type=int, help="Pixel value of the masks that means unknown.")
@click.option("--instances", is_flag=True, help="The truth numbers single objects: score those.")
@click.option("--class", "class_name", help="Whose objects they are, of more than two classes.")
@click.option(
    "--split",
    type=click.Choice(["none", "watershed"]),
    help="Take predicted objects that touch apart, by their distance to the border.",
)
@click.option("--split-distance", type=int, help="Least distance between the middles of two such objects, in pixels.")
@click.option("--min-area", type=int, help="Predicted objects of fewer pixels are background.")
@click.option("--target-channels", metavar="N,N,...", help="Channels of the true images, counted from 0.")
@click.option("--mask", type=click.Path(path_type=Path), help="A folder of masks: compare images within them too.")
@click.option("--orientations", metavar="xy,xz,yz,xyz", help="Planes that predicted images are compared in.")
@click.option("--metrics", metavar="NAME,...", help="Of predicted images: r2, corr, ssim, ms_ssim, mae, mse, dice, ...")
@click.option("--threshold", type=float, help="What lies above it overlaps, for dice, iou and acc of images.")
@click.option("--report", type=click.Path(path_type=Path), help="Where to write the report.")
@click.option(
    "--allow-family", "allow", multiple=True, metavar="MODULE:CLASS", help="Code of your own that may be imported."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def evaluate(
    project: Path,
    /,
    model: str,
    truth: Path | None,
    mask: Path | None,
    report: Path | None,
    allow: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Score MODEL on the images that taught it nothing, beside baselines.

    A model of numbers is scored against the table --truth (or the one that it learned from); so is a table that
    `fieldmark predict` wrote, in the place of MODEL and without a project.
    """
    from fieldmark.faces.cli.show import errors_as_json, note, say, say_json, table
    from fieldmark.recipes import validate
    from fieldmark.recipes.evaluate import EvaluateRecipe
    from fieldmark.workbench.evaluating import evaluate_typed

    with errors_as_json(as_json):
        recipe = validate(EvaluateRecipe, _asked(options))
        how = {"recipe": recipe, "mask": mask, "report": report, "watch": note}
        result = evaluate_typed(project, model, truth, allow=allow, **how)
    for line in result.notes:
        note(line)
    if as_json:
        say_json(result.to_json())
    else:
        if result.scored:
            table(*result.table())
        say(f"Report: {result.report}")
    sys.exit(0 if result.scored else 1)


LISTS = ("target_channels", "orientations", "metrics")


def _asked(options: dict[str, Any]) -> dict[str, Any]:
    """What was typed; the rest keeps the recipe's defaults."""
    typed = {name: value for name, value in options.items() if value is not None}
    lists = {name: [part.strip() for part in typed[name].split(",")] for name in LISTS if name in typed}
    return typed | lists
