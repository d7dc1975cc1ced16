"""Tables of comma-separated values: read with the line in every error, written in one go."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from fieldmark.errors import BadFile, BadInput

_LONGEST = 1 << 30  # bytes
_MOST_PROBLEMS = 20

Made = TypeVar("Made")


def read_rows(path: Path, needed: Sequence[str], make: Callable[[dict[str, str]], Made]) -> list[Made]:
    """Make a value of each row of a table.

    Args:
        path: The table: UTF-8, with a line of column names.
        needed: Columns that must be there.
        make: From a row's cells, stripped, to a value; its `BadInput` is reported with the line.

    Raises:
        BadFile: It is no such table, a column is missing, or rows cannot be used; all of them are named.
    """
    made: list[Made] = []
    problems: list[str] = []
    reader = csv.DictReader(io.StringIO(_text(path), newline=""))
    try:
        _check_columns(path, reader.fieldnames or (), needed)
        for row in reader:
            cells = {key: (value or "").strip() for key, value in row.items() if isinstance(value, str | None) and key}
            try:
                made.append(make(cells))
            except (BadInput, LookupError) as error:
                problems.append(f"line {reader.line_num}: {error}")
    except csv.Error as error:
        raise BadFile(path, f"line {reader.line_num} is not comma-separated values ({error}). Mend it.") from error
    _refuse(path, problems)
    return made


def write_rows(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """The bytes of a table."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue().encode()


def checked_time(text: str, otherwise: str) -> str:
    """A time of a table, or `otherwise` where it is empty.

    Raises:
        BadInput: It is no time in ISO 8601.
    """
    if not text:
        return otherwise
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text!r} is no time; write it like 2026-11-23T14:05:00+00:00, or leave it empty.") from None
    return text


def _check_columns(path: Path, found: Sequence[str], needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in found]
    if missing:
        raise BadFile(
            path, f"its columns are {', '.join(found) or 'none'}; {', '.join(missing)} must be among them. Add it."
        )


def _refuse(path: Path, problems: Sequence[str]) -> None:
    if problems:
        shown = "\n".join(f"  {line}" for line in problems[:_MOST_PROBLEMS])
        more = f"\n  and {len(problems) - _MOST_PROBLEMS} more" if len(problems) > _MOST_PROBLEMS else ""
        raise BadFile(path, f"{len(problems)} rows cannot be imported, so nothing was:\n{shown}{more}")


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LONGEST:
            raise BadFile(path, f"it has more than {_LONGEST:,} bytes: too long for a table of labels.")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(path, f"it is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    except OSError as error:
        raise BadFile(path, f"it cannot be read ({error.strerror}). Check the name and its permissions.") from error
