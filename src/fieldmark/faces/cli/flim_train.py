"""`fieldmark flim train`."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

import click

from fieldmark.faces.cli.many import ManyCommand, UnusedOption
from fieldmark.faces.cli.options import torchvision_option
from fieldmark.workbench.flim.options import FORMATS, TrainOptions

_FILE = click.Path(path_type=Path)


class _Finite(click.FloatRange):
    """A number in a range; NaN and infinity, which no comparison keeps out, are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


class _Iterations(click.IntRange):
    """A number above 0, or -1 for no limit."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if number == 0:
            self.fail("0 iterations train no machine; give 1 or more, or -1 for as many as it needs.", param, ctx)
        return number


@click.command(cls=ManyCommand)
@click.option("-md", "--markers-dir", type=_FILE, help="Marker files; their images beside them, or in -d.")
@click.option("-d", "--dataset-dir", type=_FILE, help="Images named CLASS_ID.EXT, or their features: an OPF .zip.")
@click.option("-ts", "--train-split", type=_FILE, help="A text file: the names of the training images.")
@click.option("-ad", "--architecture-dir", type=_FILE, help="The architecture as JSON, in either dialect.")
@click.option("-od", "--outputs-dir", type=_FILE, required=True, help="The folder to write into.")
@click.option("-mn", "--model-filename", required=True, help="The model's name; it becomes a folder in -od.")
@click.option("-e", "--epochs", type=click.IntRange(0), default=TrainOptions.epochs, show_default=True)
@click.option("-bs", "--batch-size", type=click.IntRange(1), default=TrainOptions.batch_size, show_default=True)
@click.option(
    "-lr", "--learning-rate", type=_Finite(0, min_open=True), default=TrainOptions.learning_rate, show_default=True
)
@click.option("-wd", "--weight-decay", type=_Finite(0), default=TrainOptions.weight_decay, show_default=True)
@click.option(
    "-st",
    "--step",
    type=click.IntRange(1),
    default=TrainOptions.step,
    show_default=True,
    help="Epochs after which the learning rate falls to a tenth, again and again.",
)
@click.option(
    "-g", "--gpus", type=int, multiple=True, metavar="N...", help="Compute on these GPUs where there are any."
)
@click.option("-dstd", "--default-std", type=float, cls=UnusedOption, help="the architecture's epsilon does its work.")
@click.option("-s", "--svm", is_flag=True, help="Classify by a linear support vector machine.")
@click.option("-smi", "--svm-max-iter", type=_Iterations(-1), default=TrainOptions.svm_max_iter, show_default=True)
@click.option("-smn", "--svm-filename", cls=UnusedOption, help="the machine is a part of the model.")
@click.option("-b", "--backpropagation", is_flag=True, help="Train the whole network, the filters too.")
@click.option(
    "-c", "--only-classifier", is_flag=True, help="Train the classifier alone; with -ts this is what is done."
)
@click.option("-ld", "--load-lids-model", is_flag=True, help="Take filters that libIFT has learned.")
@click.option("-ldd", "--lids-model-dir", type=_FILE, help="Their folder.")
@click.option("-rb", "--remove-border", type=click.IntRange(0), default=TrainOptions.remove_border, show_default=True)
@torchvision_option
@click.option("-pt", "--pretrained", is_flag=True, help="Refused, as -tm.")
@click.option("-nc", "--number-classes", type=click.IntRange(1), help="How many classes there are, if more than occur.")
@click.option("-i", "--intermediate", is_flag=True, help="Write what the layers of -l give for each image.")
@click.option("-f", "--format", type=click.Choice(FORMATS), default=TrainOptions.format, show_default=True)
@click.option(
    "-l", "--layers", multiple=True, metavar="NAME...", help="Layers of the architecture; all where not given."
)
@click.option("--label-offset", type=int, help="Added to each label of marker files; detected where not given.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE...", help="Settings of the recipe (models.md).")
def train(torchvision_model: str | None, pretrained: bool, **given: Any) -> None:
    """Learn filters from markers, and a classifier of images where a training split is given."""
    from fieldmark.faces.cli.show import follow, say
    from fieldmark.workbench.flim.checks import refuse_torchvision
    from fieldmark.workbench.flim.train import train as begin

    refuse_torchvision(torchvision_model, pretrained=pretrained)
    options = TrainOptions(**given)
    follow(begin(options))
    say(f"Model {options.outputs_dir / options.model_filename}")
