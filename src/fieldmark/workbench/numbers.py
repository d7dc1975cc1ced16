"""Tables of numbers for whole images."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.collection.importers import read_text
from fieldmark.collection.naming import ImageNames
from fieldmark.core.fingerprint import fingerprint
from fieldmark.errors import BadFile, BadInput, near_miss, some

if TYPE_CHECKING:
    from fieldmark.recipes import DataConfig, FitRecipe
    from fieldmark.recipes.data import TargetConfig

IMAGE = "image"
"""The column that names the image: as the project does, or its stem."""

Row = tuple[float | None, ...]


def completed(recipe: FitRecipe) -> FitRecipe:
    """The recipe with the columns written out that it learns, and the whole path of their table."""
    target = recipe.data.target
    if target.kind != "numbers":
        return recipe
    file = _table(target)
    names = tuple(name for name in columns_of(file) if name != IMAGE)
    if unknown := [name for name in target.columns if name not in names]:
        raise BadInput(f"{file} has no column {unknown[0]!r}. {near_miss(unknown[0], names)}")
    if not names:
        raise BadInput(f"{file} has no column of numbers beside {IMAGE!r}. Add one.")
    own = target.model_copy(update={"table": str(file.resolve()), "columns": target.columns or names})
    data: DataConfig = recipe.data.model_copy(update={"target": own})
    return recipe.model_copy(update={"data": data})


def attach_numbers(facts: list[dict[str, Any]], target: TargetConfig) -> None:
    """Put the numbers of each image, and their hash, into its facts; what the table does not say stays unknown.

    Raises:
        BadFile: The table cannot be read, or a cell is no number.
        BadInput: No row is of an image, or two rows are of one.
    """
    file = _table(target)
    rows = read_numbers(file, target.columns)
    names = numbers_by_image([fact["name"] for fact in facts], rows, file)
    for fact in facts:
        if fact["name"] in names:
            own = rows[names[fact["name"]]]
            fact |= {"numbers": list(own), "target_hash": fingerprint([list(target.columns), list(own)])}


def numbers_by_image(names: Sequence[str], rows: dict[str, Row], file: Path) -> dict[str, str]:
    """For each image that a row names, by its whole name, its last part or their stems, what the row calls it."""
    images = ImageNames(names)
    found: dict[str, str] = {}
    for called in rows:
        meant = images.meant_by(called)
        if len(meant) > 1:
            raise BadInput(f"{file}: {called!r} may be {meant[0]} or {meant[1]}. Write the whole name.")
        for name in meant:
            if name in found:
                raise BadInput(f"{file}: {found[name]!r} and {called!r} are both of {name}. Keep one row.")
            found[name] = called
    if not found:
        raise BadInput(
            f"{file}: no row is of an image. Its first is of {next(iter(rows), 'none')!r}; images: "
            f"{some(names, 3)}. Name them as the images are named."
        )
    return found


def read_numbers(file: Path, columns: Sequence[str]) -> dict[str, Row]:
    """The rows of a table by their image; an empty cell is None.

    Raises BadFile, with the line, where a cell is no finite number or an image stands there twice.
    """
    rows: dict[str, Row] = {}
    columns_of(file)
    reader = csv.DictReader(read_text(file).splitlines())
    for cells in reader:
        called = (cells.get(IMAGE) or "").strip()
        if called in rows:
            raise BadFile(file, f"line {reader.line_num}: {called!r} stands there twice. Keep one row.")
        rows[called] = tuple(_number(cells.get(name) or "", name, file, reader.line_num) for name in columns)
    return rows


def _number(cell: str, column: str, file: Path, line: int) -> float | None:
    text = cell.strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadFile(file, f"line {line}: {column} is {text[:40]!r}, which is no number. Leave the cell empty.")
    return value


def _table(target: TargetConfig) -> Path:
    if target.table is None:
        raise BadInput(
            "data.target.kind is numbers, and no table holds them. Name it: --set data.target.table=FILE.csv."
        )
    return Path(target.table)


def columns_of(file: Path) -> list[str]:
    """The columns of a table; one of them names the image. Raises BadFile."""
    try:
        columns = next(csv.reader(read_text(file).splitlines()), [])
    except csv.Error as error:
        raise BadFile(file, f"it is not a table of comma-separated values ({error}). Export it again.") from error
    if IMAGE not in columns:
        raise BadFile(file, f"its columns are {', '.join(columns) or 'none'}; one must be called {IMAGE!r}. Add it.")
    return columns
