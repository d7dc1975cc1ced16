"""Marker files: the text format that marker-based filter learning has always used.

The first line is `count width height`, or `count width height depth` for a volume; then a line for each marked pixel,
`x y marker label`, or `x y z marker label`. x is the column and y the row, from 0. Some programs count labels from 0
(0 is the first class), others from 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldmark.errors import BadFile

_LONGEST = 1 << 31  # bytes
_FOREIGN = re.compile(rb"[^0-9\s+-]")
_ENDLESS = re.compile(rb"\d{16,}")


@dataclass(frozen=True, eq=False)
class MarkerFile:
    """What a marker file says.

    Args:
        size: Width, height and, in a volume, depth of the image, in pixels.
        places: (n, 3) int64 z, y, x of the marked pixels, in the file's order; z is 0 in a plane.
        ids: (n,) int64, the file's marker numbers; -1 where its writer had none.
        labels: (n,) int64, as in the file.
    """

    shown: str
    size: tuple[int, ...]
    places: np.ndarray
    ids: np.ndarray
    labels: np.ndarray

    @property
    def convention(self) -> str:
        """How labels are counted, in words."""
        return "counts labels from 0" if (self.labels == 0).any() else "counts labels from 1"

    @property
    def twofold(self) -> int:
        """How many pixels carry two or more labels; the last one counts."""
        pairs = np.unique(np.column_stack([self.places, self.labels]), axis=0)
        return len(pairs) - len(np.unique(pairs[:, :3], axis=0))


def read_markers(path: Path, shown: str | None = None) -> MarkerFile:
    """Read a marker file and check all of it: counts, columns, coordinates, labels.

    Raises:
        BadFile: It is not such a file, its count is wrong, or a pixel lies outside the size that it declares.
    """
    name = shown or str(path)
    lines = [line for line in _text(path, name).splitlines() if line.strip()]
    if not lines:
        raise BadFile(name, "it is empty; a marker file begins with `count width height`. Export it again.")
    count, size = _first_line(name, lines[0])
    columns = len(size) + 2
    if len(lines) - 1 != count:
        raise BadFile(
            name, f"its first line promises {count} marked pixels, and {len(lines) - 1} lines follow. Export it again."
        )
    for number, line in enumerate(lines[1:], start=2):
        if len(line.split()) != columns:
            raise BadFile(name, f"line {number} is {_short(line)!r}; it must hold {columns} whole numbers. Mend it.")
    table = _numbers(name, lines[1:]).reshape(count, columns)
    _check_inside(name, table[:, : len(size)], size)
    if count and table[:, -1].min() < 0:
        raise BadFile(name, f"it holds the label {table[:, -1].min()}; labels begin at 0 or 1. Export it again.")
    depth = table[:, 2] if len(size) == 3 else np.zeros(count, dtype=np.int64)
    return MarkerFile(name, size, np.column_stack([depth, table[:, 1], table[:, 0]]), table[:, -2], table[:, -1])


def write_markers(size: Sequence[int], places: np.ndarray, ids: np.ndarray, labels: np.ndarray) -> bytes:
    """The bytes of a marker file.

    Args:
        size: Width, height and, for a volume, depth, in pixels.
        places: (n, 3) integers z, y, x.
        ids: (n,) marker numbers.
        labels: (n,) labels.
    """
    columns = [places[:, 2], places[:, 1], *([places[:, 0]] if len(size) == 3 else []), ids, labels]
    lines = [" ".join(map(str, [len(places), *size]))]
    lines += [" ".join(map(str, row)) for row in np.column_stack(columns).astype(np.int64).tolist()]
    return ("\n".join(lines) + "\n").encode()


def _text(path: Path, name: str) -> bytes:
    try:
        if path.stat().st_size > _LONGEST:
            raise BadFile(name, f"it has more than {_LONGEST:,} bytes: too long for a marker file.")
        text = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise BadFile(name, f"it cannot be read ({error.strerror}). Check its permissions.") from error
    for pattern, problem in ((_FOREIGN, "is no whole number"), (_ENDLESS, "is too large a number")):
        found = pattern.search(text)
        if found:
            number = text.count(b"\n", 0, found.start()) + 1
            line = text.splitlines()[number - 1] if number <= len(text.splitlines()) else b""
            raise BadFile(name, f"line {number}, {_short(line)!r}, holds something that {problem}. Mend the line.")
    return text


def _first_line(name: str, line: bytes) -> tuple[int, tuple[int, ...]]:
    numbers = _numbers(name, [line]).tolist()
    if len(numbers) not in {3, 4}:
        raise BadFile(name, f"its first line is {_short(line)!r}; it must be `count width height`, or with a depth.")
    count, *size = numbers
    if count < 0 or min(size) < 1 or count > 1 << 40:
        raise BadFile(name, f"its first line declares {count} pixels of an image of {' x '.join(map(str, size))}.")
    return count, tuple(size)


def _numbers(name: str, lines: list[bytes]) -> np.ndarray:
    """All numbers of some lines, one after the other: int64."""
    tokens = b" ".join(lines).split()
    try:
        return np.array(tokens, dtype=np.bytes_).astype(np.int64) if tokens else np.zeros(0, dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise BadFile(name, f"it holds something that is no whole number ({error}). Mend that line.") from error


def _check_inside(name: str, table: np.ndarray, size: tuple[int, ...]) -> None:
    outside = ((table < 0) | (table >= np.asarray(size))).any(axis=1)
    if outside.any():
        row = int(np.argmax(outside))
        where = ", ".join(map(str, table[row].tolist()))
        raise BadFile(
            name,
            f"line {row + 2} marks {where} (x, y{', z' * (len(size) == 3)}), outside the image of "
            f"{' x '.join(map(str, size))} pixels that its first line declares. Export it again.",
        )


def _short(line: bytes) -> str:
    text = line.decode("utf-8", "replace").strip()
    return text if len(text) <= 60 else text[:57] + "..."
