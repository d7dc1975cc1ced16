"""The manual's examples run as they stand, and its pages name what the code has."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tools.cli_reference import reference

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = ("quickstart", "images", "labels", "models", "predict", "evaluate")
"""In this order they tell one story: later pages use the project that the first one makes."""


def blocks(page: str, language: str) -> Iterator[tuple[int, str]]:
    """Line number and text of each fenced block in one language. Blocks in `bash` are shown, not run."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    for found in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield text.count("\n", 0, found.start()) + 2, found[1]


def commands(page: str) -> Iterator[tuple[str, list[str]]]:
    """Where it stands and the words of each command of a page."""
    for first, text in blocks(page, "sh"):
        for number, line in enumerate(text.splitlines()):
            if words := shlex.split(line, comments=True):
                yield f"{page}.md:{first + number}", words


def run(where: str, command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{where}: {shlex.join(command)}\n{done.stdout}\n{done.stderr}"


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A folder as the manual takes it for granted: `photos`, `strokes` for two of them, `truth` for all."""
    from fieldmark.images import encode_png

    for name in ("photos", "strokes", "truth"):
        (tmp_path / name).mkdir()
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:96, :96]
    for number, (cy, cx) in enumerate([(40, 44), (52, 50), (46, 40), (50, 56)], start=1):
        disc = np.hypot(y - cy, x - cx) < 24
        image = np.where(disc, 170, 70) + rng.normal(0, 12, disc.shape)
        (tmp_path / f"photos/field-{number}.png").write_bytes(encode_png(image.clip(0, 255).astype(np.uint8)))
        (tmp_path / f"truth/field-{number}.png").write_bytes(encode_png(np.where(disc, 2, 1).astype(np.uint8)))
        if number % 2:
            marked = [(px, cy, 1) for px in range(cx - 8, cx + 8)] + [(px, 6, 0) for px in range(20, 60)]
            lines = [f"{len(marked)} 96 96", *(f"{px} {py} -1 {label}" for px, py, label in marked)]
            (tmp_path / f"strokes/field-{number}-seeds.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_the_examples_run_as_processes(drawn: Path) -> None:
    script = str(Path(sys.executable).with_name("fieldmark"))
    for page in PAGES:
        for where, (_, *words) in commands(page):
            run(where, [script, *words], drawn)


@pytest.mark.timeout(300)
def test_the_examples_run(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, workers too: that is how the whole manual fits into seconds."""
    from fieldmark.faces.cli import main
    from fieldmark.workbench import fitting, predicting, worker

    for module in (fitting, predicting):
        monkeypatch.setattr(module, "run_job", lambda job, file, *, threads=0: worker.start(job))
    monkeypatch.chdir(drawn)
    ran = 0
    for page in PAGES:
        for where, (program, *words) in commands(page):
            assert program == "fieldmark", f"{where}: only commands of ours are run; fence others as bash"
            with pytest.raises(SystemExit) as left:
                main(words)
            assert left.value.code == 0, where
            ran += 1
        for line, text in blocks(page, "python"):
            run(f"{page}.md:{line}", [sys.executable, "-c", text], drawn)
    assert ran > 12


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (DOCS / "index.md").read_text()
    for page in DOCS.glob("*.md"):
        assert page.stem == "index" or re.search(rf"^{page.stem}$", index, re.MULTILINE), page.name


def test_every_image_format_is_on_its_page() -> None:
    from fieldmark.images.readers import READERS
    from fieldmark.images.writers import FORMAT_SUFFIX

    page = (DOCS / "images.md").read_text()
    assert [name for name, _ in READERS if f"`{name}`" not in page] == []
    assert [name for name in FORMAT_SUFFIX if f"`{name}`" not in page] == []


def test_every_family_is_on_its_page() -> None:
    from fieldmark.recipes.registry import FAMILIES

    page = (DOCS / "models.md").read_text()
    assert [name for name, _ in FAMILIES if f"`{name}`" not in page] == []


def test_every_recipe_of_the_manual_is_valid() -> None:
    import yaml

    from fieldmark.recipes import FitRecipe, validate
    from fieldmark.recipes.registry import FAMILIES

    texts = [text for page in PAGES for _, text in blocks(page, "yaml")]
    assert texts
    for text in texts:
        recipe = validate(FitRecipe, yaml.safe_load(text))
        validate(FAMILIES.load_config(recipe.family), recipe.net)


def test_the_command_reference_has_every_command_and_option() -> None:
    from fieldmark.faces.cli.main import group

    text = reference(group, "fieldmark")
    for name in (
        "add",
        "demo",
        "doctor",
        "evaluate",
        "fit",
        "init",
        "predict",
        "status",
        "labels import",
        "runs prune",
    ):
        assert f"## `fieldmark {name}`" in text
    assert "`--label-offset INTEGER`" in text
    assert "\nfieldmark" not in text  # usage lines are code


def test_the_changelog_names_this_version() -> None:
    from fieldmark import __version__

    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_extras_of_the_makefile_exist() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    wanted = set(re.findall(r"\$\(STAMP\)-(\w+)", (ROOT / "Makefile").read_text())) - {"base"}
    assert wanted <= extras
