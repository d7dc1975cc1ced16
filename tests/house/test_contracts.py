"""Each import contract fails when somebody breaks it; that they hold is `make check`'s matter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

BROKEN = {
    "layers": ("core", "import fieldmark.images"),
    "torch-rooms": ("workbench", "def later() -> None:\n    from fieldmark.models import base"),
    "worker": ("faces", "import fieldmark.workbench.worker"),
    "torch": ("evaluate", "import torch"),
    "faces": ("store", "import click"),
    "core": ("core", "import yaml"),
}


def lint(folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "NO_COLOR": "1", "COLUMNS": "200"}
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the linter says of a copy of the house in which every contract is broken once."""
    folder = tmp_path_factory.mktemp("house")
    only_code = shutil.ignore_patterns("__pycache__", "demo_data")
    for name in ("src", "tools"):
        shutil.copytree(ROOT / name, folder / name, ignore=only_code)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for contract, (room, text) in BROKEN.items():
        (folder / "src/fieldmark" / room / f"broken_{contract.replace('-', '_')}.py").write_text(f"{text}\n")
    return lint(folder)


@pytest.mark.parametrize("contract", BROKEN)
def test_a_broken_contract_is_named(contract: str, broken: str) -> None:
    assert f"broken_{contract.replace('-', '_')}" in broken, broken


def test_no_contract_is_kept(broken: str) -> None:
    assert "0 kept" in broken, broken
