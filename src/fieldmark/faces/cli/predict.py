"""`fieldmark predict`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("model")
@click.argument("images", nargs=-1)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to write into.")
@click.option("--format", "form", type=click.Choice(["ome-zarr", "tiff", "png"]), default="ome-zarr", show_default=True)
@click.option("--probabilities", is_flag=True, help="Also write the probability of each class.")
@click.option("--saliency", is_flag=True, help="Also write how little each pixel looks like background, in 8 bits.")
@click.option("--min-area", type=click.IntRange(0), help="Objects of fewer pixels become background.")
@click.option("--max-area", type=click.IntRange(1), help="Objects of more pixels become background.")
@click.option(
    "--propagate",
    type=click.Choice(["auto", "none", "random-walker", "shortest-path"]),
    default=None,
    help="How strokes are carried through the images that hold them.",
)
@click.option("--tile", type=click.IntRange(64), help="Side of a tile in pixels, a multiple of 64.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    help="bf16: faster where the processor has it, about three digits.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def predict(
    project: Path, /, model: str, images: tuple[str, ...], out: Path, form: str, as_json: bool, **settings: object
) -> None:
    """Write OUT/<stem>.<ext>, a label map, for each of the project's IMAGES (all of them by default)."""
    from fieldmark.faces.cli.show import errors_as_json, follow, say, say_json
    from fieldmark.recipes import PredictRecipe, validate
    from fieldmark.workbench import Workbench

    given = {key: value for key, value in settings.items() if value is not None}
    with errors_as_json(as_json), Workbench.open(project) as bench:
        follow(bench.predict(model, images, out=out, form=form, recipe=validate(PredictRecipe, given)))
        count = len(bench.chosen(images))
    if as_json:
        say_json({"images": count, "out": str(out)})
    else:
        say(f"Wrote {count} label maps into {out}.")
