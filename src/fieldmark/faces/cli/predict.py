"""`fieldmark predict`."""

from __future__ import annotations

from pathlib import Path

import click

from fieldmark.faces.cli.many import UnusedOption


@click.command()
@click.argument("model", required=False)
@click.argument("images", nargs=-1)
@click.option(
    "--config", type=click.Path(path_type=Path), help="microDL's inference YAML, in the place of MODEL IMAGES."
)
@click.option("--out", type=click.Path(path_type=Path), help="The folder to write into.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["ome-zarr", "tiff", "png", "npy", "csv", "json"]),
    help="Of what is written; ome-zarr by itself. Stacks become a PNG for each plane.",
)
@click.option("--probabilities", is_flag=True, help="Also write the probability of each class.")
@click.option(
    "--probabilities-dtype",
    type=click.Choice(["float32", "uint8", "uint16"]),
    help="Of the probabilities; whole numbers: the largest is certain.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "uint8", "uint16"]),
    help="Of predicted images; whole numbers are rounded and cut.",
)
@click.option("--instances", metavar="CLASS", help="Also number the objects of a class, one by one.")
@click.option("--split", type=click.Choice(["none", "watershed"]), help="Take apart objects that touch.")
@click.option("--split-distance", type=click.IntRange(1), help="Least distance of their middles in pixels.")
@click.option("--figures", is_flag=True, help="Also draw each slice into OUT/figures: image, truth, prediction, both.")
@click.option(
    "--truth",
    type=click.Path(file_okay=False, path_type=Path),
    help="With --figures: a folder of what is right, by stem.",
)
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
    "--blend",
    type=click.Choice(["linear", "gaussian", "mean", "max", "any"]),
    help="How overlapping tiles share a seam.",
)
@click.option("--overlap", type=click.IntRange(0), help="Pixels by which such a tile reaches over its border.")
@click.option("--overlap-z", type=click.IntRange(0), help="The same along z, of 3-D models.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    help="bf16: faster where the processor has it, about three digits.",
)
@click.option(
    "--allow-family", "allow", multiple=True, metavar="MODULE:CLASS", help="Code of your own that may be imported."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option(
    "--accelerator",
    type=click.Choice(["auto", "cpu", "gpu", "cuda", "mps"]),
    help="What computes; by itself a GPU where there is one.",
)
@click.option("--gpu", type=click.IntRange(-1), help="The one GPU to use; -1 for none. By itself the first.")
@click.option("--gpu-mem-frac", cls=UnusedOption, type=float, help="memory is taken as it is needed.")
@click.pass_obj
def predict(
    project: Path,
    /,
    model: str | None,
    images: tuple[str, ...],
    config: Path | None,
    out: Path | None,
    form: str | None,
    truth: Path | None,
    gpu: int | None,
    allow: tuple[str, ...],
    as_json: bool,
    **settings: object,
) -> None:
    """Write OUT/<stem>.<ext>, a label map, for each of the project's IMAGES (all of them by default).

    A model that makes images writes those; one that answers whole images writes OUT/answers.csv (or .json).
    Without a project, MODEL is a model folder, and IMAGES are files or folders of images.
    """
    from fieldmark.faces.cli.show import errors_as_json, follow, say, say_json
    from fieldmark.recipes import PredictRecipe, validate
    from fieldmark.workbench.loose.images import nothing_left
    from fieldmark.workbench.loose.predict import bench_for

    given = {key: value for key, value in settings.items() if value is not None and value is not False}
    gpus = _named_gpus(gpu, given)
    if config is not None:
        if model is not None or truth is not None:
            raise click.UsageError("--config names the model and the images. Leave MODEL, IMAGES and --truth out.")
        predict_config(config, given, out, form, allow, gpus=gpus, as_json=as_json)
        return
    if model is None or out is None:
        raise click.UsageError("Say what to predict with, and where to write: MODEL --out FOLDER, or --config FILE.")
    with errors_as_json(as_json), nothing_left(out):
        recipe = validate(PredictRecipe, given)
        bench, model, names = bench_for(project, model, images, out)
        with bench:
            bench.allow = allow
            form = form or "ome-zarr"
            follow(bench.predict(model, names, out=out, form=form, recipe=recipe, truth=truth, gpus=gpus))
            count = len(bench.chosen(names))
    if as_json:
        say_json({"images": count, "out": str(out)})
    else:
        say(f"Wrote predictions of {count} images into {out}.")


def _named_gpus(gpu: int | None, given: dict[str, object]) -> tuple[int, ...]:
    """The GPU that is named, if any; `--gpu -1` says `--accelerator cpu`."""
    if gpu is None:
        return ()
    accelerator = given.setdefault("accelerator", "cpu" if gpu == -1 else "auto")
    if (gpu == -1) != (accelerator == "cpu"):
        raise click.UsageError(f"--gpu {gpu} and --accelerator {accelerator} contradict each other. Leave one out.")
    return () if gpu == -1 else (gpu,)


def predict_config(
    config: Path,
    given: dict[str, object],
    out: Path | None,
    form: str | None,
    allow: tuple[str, ...],
    *,
    gpus: tuple[int, ...] = (),
    as_json: bool,
) -> None:
    """Predict what microDL's inference file says, where it says; options go before the file."""
    from fieldmark.faces.cli.show import errors_as_json, follow, say, say_json
    from fieldmark.workbench.loose.images import nothing_left
    from fieldmark.workbench.loose.inference import follow_inference, plan_inference

    with errors_as_json(as_json):
        plan = plan_inference(config, given, out=out, form=form, allow=allow, gpus=gpus)
        with nothing_left(plan.out):
            follow(follow_inference(plan))
    if as_json:
        say_json({"out": str(plan.out)})
    else:
        say(f"Wrote predictions into {plan.out}.")
