"""`fieldmark flim`: marker-based filter learning on folders, without a project."""

from __future__ import annotations

from importlib import import_module
from typing import ClassVar

import click

from fieldmark.faces.cli.main import LazyGroup

VERBS = {
    "arch": ("flim_data", "Write an architecture file from a list of layers."),
    "explain": ("flim_apply", "Draw what of each image speaks for its class (Grad-CAM)."),
    "inspect": ("flim_inspect", "Show where each filter came from and what it is for; drop some."),
    "select": ("flim_data", "Choose images to mark."),
    "split": ("flim_data", "Split a data set into training, validation and test."),
    "train": ("flim_train", "Learn filters from markers, and a classifier of images."),
    "validate": ("flim_apply", "Score a model on a split: accuracy, kappa, each class."),
}
"""Commands, the module that holds each, and what help says of it."""


class FlimGroup(LazyGroup):
    """The commands of `fieldmark flim`."""

    table: ClassVar[dict[str, str]] = {name: summary for name, (_, summary) in VERBS.items()}

    def imported(self, name: str) -> click.Command:
        command: click.Command = getattr(import_module(f"fieldmark.faces.cli.{VERBS[name][0]}"), name)
        return command


@click.group(cls=FlimGroup)
def flim() -> None:
    """Learn convolution filters from image markers. Needs no project: folders in, folders out."""
