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


def test_every_parameter_is_on_the_page() -> None:
    from fieldmark.recipes.flim_arch import OPERATIONS, Module, ModuleParams

    models = [*OPERATIONS.values(), Module, ModuleParams]
    missing = {name for model in models for name in model.model_fields if f"`{name}`" not in PAGE}
    assert missing == set()


def test_every_setting_of_kernels_and_decoders_is_in_the_manual() -> None:
    from typing import get_args

    from fieldmark.recipes.families import FlimLayer
    from fieldmark.recipes.fit import HeadConfig
    from fieldmark.recipes.kernels import KernelConfig

    manual = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    decoders = get_args(HeadConfig.model_fields["decoder"].annotation)
    kinds = get_args(KernelConfig.model_fields["kind"].annotation)
    wanted = [*KernelConfig.model_fields, *FlimLayer.model_fields, *decoders, *kinds]
    assert [name for name in wanted if f"`{name}`" not in manual] == []


def test_every_row_names_its_test() -> None:
    table = False
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        table = line.startswith("|") and (table or cells[-1] == "shown by")
        assert not table or "tests/" in cells[-1] or cells[-1] in ("shown by", "the same", "---"), line


@pytest.mark.parametrize("verb", ["arch", "explain", "inspect", "select", "split", "train", "validate"])
def test_every_command_and_flag_is_on_the_page(verb: str) -> None:
    from fieldmark.faces.cli.flim import flim

    assert re.search(rf"`{verb}[ `]", PAGE)
    command = flim.get_command(click.Context(flim), verb)
    assert command is not None
    flags = [name for param in command.params for name in param.opts if name.startswith("-")]
    assert [name for name in flags if f"`{name}`" not in PAGE] == []
