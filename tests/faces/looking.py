"""To look at what a command left."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.images import open_image


def read(path: str | Path) -> np.ndarray:
    """The pixels (t, c, z, y, x) of an image."""
    with open_image(path) as source:
        return source.read(Box.whole(source.shape))


def table(path: str | Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def tree(folder: str | Path, *, without: Sequence[str] = ()) -> dict[str, bytes]:
    """Every file below a folder and its content, but for files of some names."""
    root = Path(folder)
    files = (path for path in root.rglob("*") if path.is_file() and path.name not in without)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
