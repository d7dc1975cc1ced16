"""`import fieldmark` and `fieldmark --help` import nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HEAVY = frozenset({
    "PIL", "dask", "fastapi", "imagecodecs", "kornia", "lightning_fabric", "monai", "numcodecs", "numpy",
    "ome_zarr_models", "pandas", "pydantic", "safetensors", "scipy", "skimage", "sklearn", "sqlalchemy",
    "tifffile", "torch", "uvicorn", "yaml", "zarr",
})  # fmt: skip


def imported_by(*command: str) -> set[str]:
    """The top-level packages that a command imports; the interpreter itself lists them."""
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_importing_the_package_imports_only_the_standard_library() -> None:
    others = imported_by(sys.executable, "-c", "import fieldmark") - sys.stdlib_module_names
    bare = imported_by(sys.executable, "-c", "pass")
    assert "fieldmark" in others
    assert {name for name in others - bare if not name.startswith("_")} == {"fieldmark"}


def test_help_imports_nothing_heavy() -> None:
    names = imported_by(str(Path(sys.executable).with_name("fieldmark")), "--help")
    assert {"fieldmark", "click"} <= names
    assert not names & HEAVY


def test_the_package_is_the_command() -> None:
    command = [sys.executable, "-m", "fieldmark"]
    names = imported_by(*command, "--help")
    assert {"fieldmark", "click"} <= names
    assert not names & HEAVY
    done = subprocess.run([*command, "fti"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Did you mean 'fit'?" in done.stderr
    assert "__main__" not in done.stderr


EVERY_HELP = """
import click
from fieldmark.faces.cli.main import group
for name in group.list_commands(click.Context(group)):
    group.get_command(click.Context(group), name).get_help(click.Context(group))
"""


def test_help_of_every_command_imports_nothing_heavy() -> None:
    names = imported_by(sys.executable, "-c", EVERY_HELP)
    assert {"fieldmark", "click"} <= names
    assert not names & HEAVY
