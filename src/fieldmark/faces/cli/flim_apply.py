"""`fieldmark flim validate` and `explain`: what a model says, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fieldmark.faces.cli.many import ManyCommand, UnusedOption
from fieldmark.faces.cli.options import torchvision_option
from fieldmark.workbench.flim.options import ExplainOptions, ValidateOptions

_FILE = click.Path(path_type=Path)


@click.command(cls=ManyCommand)
@click.option(
    "-d", "--dataset-dir", type=_FILE, required=True, help="Images named CLASS_ID.EXT, or their features: an OPF .zip."
)
@click.option("-vs", "--val-split", type=_FILE, required=True, help="A text file: the names of the images to score on.")
@click.option("-ad", "--architecture-dir", type=_FILE, cls=UnusedOption, help="the model holds its architecture.")
@click.option("-mp", "--model-path", type=_FILE, required=True, help="The model that `train` wrote.")
@click.option(
    "-g", "--gpus", type=int, multiple=True, metavar="N...", help="Compute on these GPUs where there are any."
)
@click.option("-dstd", "--default-std", type=float, cls=UnusedOption, help="it belongs to the model.")
@click.option("-s", "--svm", is_flag=True, cls=UnusedOption, help="the model knows its classifier.")
@click.option("-smp", "--svm-path", type=_FILE, cls=UnusedOption, help="the machine is a part of the model.")
@click.option("-rb", "--remove-border", type=int, cls=UnusedOption, help="it belongs to the model.")
@torchvision_option
@click.option("-nc", "--number-classes", type=int, cls=UnusedOption, help="the model knows its classes.")
@click.option("--grad-cam", is_flag=True, help="Also draw what speaks for each class, as `explain` does, into -od.")
@click.option("-od", "--outputs-dir", type=_FILE, help="Where the pictures of --grad-cam go.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def validate(torchvision_model: str | None, grad_cam: bool, as_json: bool, **given: Any) -> None:
    """Score a model on a split: accuracy, kappa, and each class. Images that taught it are left out."""
    from fieldmark.faces.cli.show import errors_as_json, follow, note, say, say_json
    from fieldmark.workbench.flim.checks import refuse_torchvision
    from fieldmark.workbench.flim.explain import explain as draw
    from fieldmark.workbench.flim.explain import require_drawable
    from fieldmark.workbench.flim.validate import Validation

    refuse_torchvision(torchvision_model, pretrained=False)
    options = ValidateOptions(**given)
    with errors_as_json(as_json):
        if grad_cam and options.outputs_dir is None:
            raise click.UsageError("--grad-cam draws pictures: say where with -od.")
        if grad_cam and options.outputs_dir is not None:
            require_drawable(options.model_path, options.dataset_dir, options.outputs_dir)
        validation = Validation(options)
        follow(validation.events())
        if grad_cam and options.outputs_dir is not None:
            follow(draw(_as_explain(options, options.outputs_dir)))
    for line in validation.notes:
        note(line)
    if as_json:
        say_json(validation.values())
        return
    for line in validation.lines():
        say(line)


def _as_explain(options: ValidateOptions, out: Path) -> ExplainOptions:
    return ExplainOptions(
        dataset_dir=options.dataset_dir,
        split=options.val_split,
        model_path=options.model_path,
        outputs_dir=out,
        gpus=options.gpus,
    )


@click.command(cls=ManyCommand)
@click.option("-d", "--dataset-dir", type=_FILE, required=True, help="A folder of images named CLASS_ID.EXT.")
@click.option("-ts", "--train-split", "split", type=_FILE, required=True, help="The names of the images.")
@click.option("-ad", "--architecture-dir", type=_FILE, cls=UnusedOption, help="the model holds its architecture.")
@click.option("-rb", "--remove-border", type=int, cls=UnusedOption, help="it belongs to the model.")
@click.option("-od", "--outputs-dir", type=_FILE, required=True, help="Pictures are written into CAMs/ below it.")
@click.option("-mp", "--model-path", type=_FILE, required=True, help="The model that `train` wrote.")
@click.option(
    "-g", "--gpus", type=int, multiple=True, metavar="N...", help="Compute on these GPUs where there are any."
)
@torchvision_option
@click.option(
    "-i", "--image-indices", type=click.IntRange(0), multiple=True, metavar="N...", help="Places in the split, from 0."
)
@click.option("-t", "--target-layers", multiple=True, metavar="NAME...", help="Layers to look at; the last by default.")
@click.option("-nc", "--number-classes", type=int, cls=UnusedOption, help="the model knows its classes.")
@click.option("--intermediate", is_flag=True, cls=UnusedOption, help="every picture is of one layer.")
def explain(torchvision_model: str | None, **given: Any) -> None:
    """Draw what of each image speaks for its class (Grad-CAM), one picture for each image and layer."""
    from fieldmark.faces.cli.show import follow, say
    from fieldmark.workbench.flim.checks import refuse_torchvision
    from fieldmark.workbench.flim.explain import FOLDER
    from fieldmark.workbench.flim.explain import explain as draw

    refuse_torchvision(torchvision_model, pretrained=False)
    options = ExplainOptions(**given)
    follow(draw(options))
    say(f"Pictures in {options.outputs_dir / FOLDER}")
