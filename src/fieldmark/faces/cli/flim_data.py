"""`fieldmark flim select`, `split` and `arch`: what comes before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fieldmark.faces.cli.many import ManyCommand
from fieldmark.workbench.flim.options import SelectOptions

_FILE = click.Path(path_type=Path)


@click.command(cls=ManyCommand)
@click.option("-md", "--markers-dir", type=_FILE, required=True, help="The folder to copy the chosen images into.")
@click.option("-d", "--dataset-dir", type=_FILE, required=True, help="A folder of images named CLASS_ID.EXT.")
@click.option("-s", "--split", type=_FILE, required=True, help="The names of the images to choose from.")
@click.option(
    "-n",
    "--n-images-per-class",
    type=click.IntRange(1),
    default=SelectOptions.n_images_per_class,
    show_default=True,
)
@click.option("-r", "--random", "at_random", is_flag=True, help="At random instead of by k-means; as --how random.")
@click.option(
    "--how",
    type=click.Choice(["kmeans", "random", "cover"]),
    default=SelectOptions.how,
    show_default=True,
    help="kmeans: typical images; cover: images as different from each other as can be.",
)
@click.option(
    "--model", type=_FILE, help="Compare images by what this model sees in them; by their colors where none is given."
)
@click.option("--seed", type=int, default=SelectOptions.seed, show_default=True)
def select(at_random: bool, how: str, **given: Any) -> None:
    """Choose images to mark in each class, and copy them into a folder of their own."""
    from fieldmark.faces.cli.show import follow, say
    from fieldmark.workbench.flim.choose import Choosing

    choosing = Choosing(SelectOptions(how="random" if at_random else how, **given))
    follow(choosing.events())
    for name in choosing.names:
        say(name)


@click.command(cls=ManyCommand)
@click.option("-d", "--dataset-dir", type=_FILE, required=True, help="A folder of images named CLASS_ID.EXT.")
@click.option("-n", "--split-name", required=True, help="Writes NAME-train.txt, NAME-val.txt and NAME-test.txt.")
@click.option("-ts", "--train-size", type=float, required=True, help="A share below 1, or a number of images.")
@click.option("-vs", "--val-size", type=float, help="The same; none where it is left out.")
@click.option("-tts", "--test-size", type=float, help="The same; what is left where it is left out.")
@click.option("--seed", type=int, default=SelectOptions.seed, show_default=True)
def split(
    dataset_dir: Path, split_name: str, train_size: float, val_size: float | None, test_size: float | None, seed: int
) -> None:
    """Split a data set so that each class has the same share everywhere."""
    from fieldmark.errors import some
    from fieldmark.faces.cli.show import note, say
    from fieldmark.workbench.flim.choose import split_dataset

    files, left_out = split_dataset(dataset_dir, split_name, train_size, val_size, test_size, seed=seed)
    if left_out:
        note(f"{len(left_out)} images were left out, whose names begin with no class: {some(left_out)}.")
    for path, count in files:
        if count:
            say(f"{path}: {count} images")
        else:
            note(f"No image is left for {path}, and it was not written.")


@click.command(cls=ManyCommand)
@click.option("-l", "--layers-spec-dir", type=_FILE, required=True, help="A list of layers as JSON, or libIFT's files.")
@click.option("-a", "--architecture-path", type=_FILE, required=True, help="The architecture file to write.")
def arch(layers_spec_dir: Path, architecture_path: Path) -> None:
    """Write an architecture file from a list of layers."""
    from fieldmark.faces.cli.show import say
    from fieldmark.workbench.flim.choose import write_architecture

    write_architecture(layers_spec_dir, architecture_path)
    say(f"Wrote {architecture_path}")
