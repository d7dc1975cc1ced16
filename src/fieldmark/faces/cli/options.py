"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

torchvision_option = click.option(
    "-tm",
    "--torchvision-model",
    metavar="[vgg16_bn]",  # help would show it as it is compared, with a hyphen
    type=click.Choice(["vgg16_bn"]),
    help="Refused: torchvision is not used here.",
)

_RECIPE = (
    click.argument("family", required=False),
    click.option(
        "--config", type=click.Path(path_type=Path), help="A recipe (YAML, JSON or TOML); its paths begin at it."
    ),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change one setting of the recipe; may be repeated. By Fieldmark's keys beside another system's file too.",
    ),
)


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What says a fit's recipe: a family, a file, and settings that are typed."""
    for option in reversed(_RECIPE):
        command = option(command)
    return command
