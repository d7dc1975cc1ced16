"""The page for those who come from FLIM: what it names is there, and what is there is named."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "flim.md").read_text(encoding="utf-8")


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)
    assert len(named) > 20
    for file, function in named:
        assert (ROOT / file).is_file(), file
        assert not function or f"def {function}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{function}"


def test_every_operation_is_on_the_page() -> None:
    from fieldmark.recipes.flim_arch import OPERATIONS

    assert [name for name in OPERATIONS if f"`{name}`" not in PAGE] == []


@pytest.mark.parametrize("verb", ["arch", "explain", "select", "split", "train", "validate"])
def test_every_command_is_on_the_page(verb: str) -> None:
    assert re.search(rf"`{verb}[ `]", PAGE)


def test_every_flag_of_train_is_on_the_page() -> None:
    from fieldmark.faces.cli.flim import flim

    command = flim.get_command(click.Context(flim), "train")
    assert command is not None
    short = [option.opts[0] for option in command.params]
    assert [name for name in short if f"`{name}`" not in PAGE and f"`{name} " not in PAGE] == []
