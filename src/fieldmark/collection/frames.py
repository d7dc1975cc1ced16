"""Folders of frames, one plane a file, as microDL lays them out: what each frame is, and positions as images."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from types import MappingProxyType

from fieldmark.collection.importers import Plan, PlannedImage, read_text, told_columns
from fieldmark.core.files import write_atomic
from fieldmark.core.fingerprint import file_hash, fingerprint
from fieldmark.errors import BadFile, BadInput
from fieldmark.images import find_images
from fieldmark.images.readers import FRAMES_SUFFIX
from fieldmark.images.readers.frames import FOLDER, Frame, is_inside, listing_of, missing_frames, spelled

META = "frames_meta.csv"
GLOBAL = "global_metadata.csv"
ORDER = "cztp"
META_COLUMNS = ("channel_idx", "slice_idx", "time_idx", "channel_name", "file_name", "pos_idx", "dir_name")
_INDICES = {"c": "channel_idx", "z": "slice_idx", "t": "time_idx", "p": "pos_idx"}
_LETTERED = re.compile(r"(?:^|[_\W])([cztp])(\d+)(?=[_\W]|$)", re.IGNORECASE)
_NAMED = re.compile(r"im_c([^\W_].*?)(?=_[ztp]\d+(?:[_\W]|$))", re.IGNORECASE)
"""A channel that has a name where microDL's names have its number, as in `im_cGFP_z000_t000_p000`."""
_SMS = re.compile(r"img_(?P<channel>.+?)_t(?P<t>\d+)_p(?P<p>\d+)_z(?P<z>\d+)(?:_.*)?")
_WHOLE = re.compile(r"(\d{1,18})(?:\.0*)?")
"""An index in a table; programs that had empty cells in the column write it with a fraction of zero."""
RENAME = (
    "A number that a name lacks is 0. Name each frame as im_c000_z000_t000_p000, or say how: fieldmark frames --names "
    "or --order."
)
_COUNTS = {
    "nbr_channels": ("channel_idx", "channels"),
    "nbr_slices": ("slice_idx", "slices"),
    "nbr_timepoints": ("time_idx", "times"),
    "nbr_positions": ("pos_idx", "positions"),
}
_NO_NAMES: Mapping[int, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class FrameRow:
    """One line of `frames_meta.csv`."""

    channel_idx: int
    slice_idx: int
    time_idx: int
    pos_idx: int
    file_name: str
    channel_name: str = ""
    columns: Mapping[str, str] = field(default_factory=dict, compare=False)
    """What a table says of it besides; cells that say nothing are absent."""


@dataclass(frozen=True, slots=True)
class FrameTable:
    """The frames of one folder, and what was found besides."""

    folder: Path
    rows: list[FrameRow]
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Positions, slices, times and channels that are looked at; empty for all."""

    positions: tuple[int, ...] = ()
    slices: tuple[int, ...] = ()
    times: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()

    def has(self, row: FrameRow) -> bool:
        asked = (
            (self.positions, row.pos_idx),
            (self.slices, row.slice_idx),
            (self.times, row.time_idx),
            (self.channels, row.channel_idx),
        )
        return all(not places or place in places for places, place in asked)


def frames_in(path: Path, *, names: str = "auto", order: str | None = None) -> FrameTable:
    """Which frame of a folder is which channel, slice, time and position.

    A folder's own `frames_meta.csv` is believed; without one, or where `order` is given, file names say it.

    Args:
        path: A folder of frames, or a `frames_meta.csv` (whose `dir_name` says where frames lie).
        names: One of `PARSERS`: `letters` for `im_c000_z000_t000_p000.png` or `im_cGFP_z000_t000_p000.png`, `sms` for
            `img_phase_t000_p000_z000_anything.tif`, `auto` for whichever fits.
        order: The four numbers of each name in the order in which they stand there, such as `cztp`.

    Raises:
        BadFile: No such folder, no frame in it, or a table that cannot be read.
        BadInput: An unknown parser or order.
    """
    if names not in PARSERS:
        raise BadInput(f"There is no way {names!r} to read names; use one of {', '.join(PARSERS)}.")
    if path.is_file():
        return _checked(_from_table(path, None))
    if not path.is_dir():
        raise BadFile(path, "there is no such folder of frames. Check the name.")
    if order is None and names == "auto" and (path / META).is_file():
        return _checked(_from_table(path / META, path))
    return _checked(_from_names(path, _by_order(order) if order is not None else PARSERS[names]), hint=RENAME)


def write_listings(
    table: FrameTable, into: Path, wanted: Wanted | None = None, *, names: Mapping[int, str] = _NO_NAMES
) -> Plan:
    """Write a listing for each position below `into`, and say what images they are.

    The place is named after the folder and what is in it, so that the same frames give the same listings, wherever
    they have been moved to.

    Args:
        table: The frames.
        into: Where to.
        wanted: Which of them are meant; None for all.
        names: Of positions, folders with `/`; those that are absent have their own (`position_name`).
    """
    rows = [row for row in table.rows if wanted is None or wanted.has(row)]
    positions: dict[int, list[FrameRow]] = {}
    for row in rows:
        positions.setdefault(row.pos_idx, []).append(row)
    left_out, texts = list(table.left_out), {}
    called = {position: names.get(position, position_name(position)) for position in positions}
    for position, own in sorted(positions.items()):
        name = called[position]
        absent = missing_frames((row.time_idx, row.channel_idx, row.slice_idx) for row in own)
        if absent:
            left_out.append((f"{table.folder}: {name}", f"{spelled(absent[0])} is missing ({len(absent)} are)."))
        else:
            texts[name] = listing_of(_frame(table.folder, row) for row in own)
    home = into / f"{table.folder.resolve().name}-{fingerprint([text.decode() for text in texts.values()])[:8]}"
    for name, text in texts.items():
        write_atomic(home / f"{name}{FRAMES_SUFFIX}", text)
    for place in {home, *((home / name).parent for name in texts)} if texts else ():
        write_atomic(place / FOLDER, f"{table.folder.resolve()}\n".encode())
    told = {called[position]: position_columns(table.folder, own) for position, own in positions.items()}
    images = [
        PlannedImage(home / f"{name}{FRAMES_SUFFIX}", f"{table.folder}: {name}", name, group=name, columns=told[name])
        for name in texts
    ]
    return Plan(images, left_out)


def position_name(position: int) -> str:
    """What the image of a position is called."""
    return f"p{position:03d}"


def listings_in(folder: Path) -> list[Path]:
    """The listings that `write_listings` put into a folder, in order; a search for images passes them over."""
    found = folder.rglob if (folder / FOLDER).is_file() else folder.glob
    return sorted(found(f"*{FRAMES_SUFFIX}"))


def position_columns(folder: Path, rows: Sequence[FrameRow]) -> dict[str, str | None]:
    """What is said of a position by what is said of its frames; None where that differs from frame to frame.

    Its own number and folder are `pos_idx` and `dir_name`.
    """
    names = sorted({name for row in rows for name in row.columns})
    found = {name: {row.columns.get(name, "") for row in rows} for name in names}
    shared = {name: next(iter(values)) if len(values) == 1 else None for name, values in found.items()}
    return {**shared, "dir_name": str(folder.resolve()), "pos_idx": str(rows[0].pos_idx)}


def table_csv(table: FrameTable) -> bytes:
    """The table as microDL writes it: a column of row numbers without a name, `META_COLUMNS`, and the user's own."""
    text = StringIO()
    lines = csv.writer(text, lineterminator="\n")
    own = sorted({name for row in table.rows for name in row.columns})
    lines.writerow(("", *META_COLUMNS, *own))
    folder = str(table.folder.resolve())
    for number, row in enumerate(table.rows):
        values = row.channel_idx, row.slice_idx, row.time_idx, row.channel_name, row.file_name, row.pos_idx, folder
        lines.writerow((number, *values, *(row.columns.get(name, "") for name in own)))
    return text.getvalue().encode()


def _letters(stem: str) -> FrameRow | None:
    found = {letter.lower(): int(number) for letter, number in _LETTERED.findall(stem)}
    if not found or len(found) != len(_LETTERED.findall(stem)):
        return None
    named = _NAMED.match(stem) if "c" not in found else None
    return replace(_placed(found), channel_name=named[1] if named is not None else "")


def _placed(numbers: dict[str, int]) -> FrameRow:
    """By letters; those that a name lacks are 0."""
    c, z, t, p = (numbers.get(letter, 0) for letter in _INDICES)
    return FrameRow(c, z, t, p, "")


def _sms(stem: str) -> FrameRow | None:
    found = _SMS.fullmatch(stem)
    if found is None:
        return None
    t, p, z = (int(found[name]) for name in "tpz")
    return FrameRow(0, z, t, p, "", found["channel"])


PARSERS: dict[str, Callable[[str], FrameRow | None]] = {
    "auto": lambda stem: _sms(stem) or _letters(stem),
    "letters": _letters,
    "sms": _sms,
}
"""From a file name without its suffix to what the frame is; None for a name that does not say it."""


def _by_order(order: str) -> Callable[[str], FrameRow | None]:
    if sorted(order) != sorted(ORDER):
        raise BadInput(f"order is {order!r}; it names c, z, t and p once each, such as {ORDER}.")

    def parse(stem: str) -> FrameRow | None:
        numbers = re.findall(r"\d+", stem)
        if len(numbers) != len(order):
            return None
        named = dict(zip(order, map(int, numbers), strict=True))
        return _placed(named)

    return parse


def _from_names(folder: Path, parse: Callable[[str], FrameRow | None]) -> FrameTable:
    found = find_images(folder)
    rows, left_out = [], list(found.left_out)
    for place, shown in found.images:
        row = parse(place.stem)
        if row is None:
            left_out.append(
                (
                    shown,
                    "its name does not say channel, slice, time and position. Name it as "
                    "im_c000_z000_t000_p000, or say how: fieldmark frames --names or --order.",
                )
            )
        else:
            rows.append(replace(row, file_name=place.relative_to(folder).as_posix()))
    return FrameTable(folder, _with_channels(rows), left_out)


def _with_channels(rows: list[FrameRow]) -> list[FrameRow]:
    """Channels that have names instead of numbers are numbered in the order of their names.

    Raises:
        BadInput: Some have names and some have numbers: nobody says which number a name has.
    """
    named = {row.channel_name: row.file_name for row in rows}
    if "" not in named:
        numbers = {name: number for number, name in enumerate(sorted(named))}
        return [replace(row, channel_idx=numbers[row.channel_name]) for row in rows]
    numbered = named.pop("")
    if named:
        name, other = next(iter(named.items()))
        raise BadInput(
            f"{numbered} has a number for its channel, and {other} a name ({name}). "
            "Name them alike, say which are meant (fieldmark frames --names letters or sms), or put them into "
            "folders of their own."
        )
    return [replace(row, channel_name=f"channel {row.channel_idx}") for row in rows]


def _from_table(file: Path, folder: Path | None) -> FrameTable:
    """The rows of a `frames_meta.csv`; a folder that is not given is the table's `dir_name`."""
    try:
        lines = list(csv.DictReader(read_text(file).splitlines()))
    except csv.Error as error:
        raise BadFile(file, f"it is not a table of comma-separated values ({error}). Write it again.") from error
    wanted = [*_INDICES.values(), "file_name"]
    if missing := [name for name in wanted if not lines or name not in lines[0]]:
        raise BadFile(file, f"it has no row, or no column {', '.join(missing)}. Write it again: fieldmark frames.")
    rows = [_row(line, file, number) for number, line in enumerate(lines, start=2)]
    homes = sorted({line.get("dir_name") or "" for line in lines} - {""})
    if folder is None:
        if len(homes) > 1:
            raise BadFile(file, f"its frames lie in {len(homes)} folders ({homes[0]}, {homes[1]}). One table a folder.")
        folder = Path(homes[0]) if homes else file.parent
        folder = folder if folder.is_absolute() else file.parent / folder
    return FrameTable(folder, rows)


def _row(line: dict[str, str | None], file: Path, number: int) -> FrameRow:
    values = {}
    for name in _INDICES.values():
        found = _WHOLE.fullmatch((line[name] or "").strip())
        if found is None:
            raise BadFile(file, f"line {number}: {name} is {line[name]!r}; it is a whole number from 0 on. Correct it.")
        values[name] = int(found[1])
    place = (line["file_name"] or "").replace("\\", "/")
    if not is_inside(place):
        raise BadFile(file, f"line {number}: file_name {place!r} is no path inside the folder of frames. Correct it.")
    columns = {name: text for name, text in told_columns(line).items() if name not in META_COLUMNS}
    return FrameRow(**values, file_name=place, channel_name=line.get("channel_name") or "", columns=columns)


def _checked(table: FrameTable, hint: str = "Correct the table.") -> FrameTable:
    """In order; without what is not there or there twice (`hint` helps); compared with `global_metadata.csv`."""
    left_out = list(table.left_out)
    seen: dict[tuple[int, ...], str] = {}
    rows = []
    for row in sorted(table.rows, key=lambda one: (one.pos_idx, one.time_idx, one.channel_idx, one.slice_idx)):
        key = (row.pos_idx, row.time_idx, row.channel_idx, row.slice_idx)
        if key in seen:
            p, t, c, z = key
            read = f"channel {c}, slice {z}, time {t} and position {p}"
            left_out.append((row.file_name, f"it is read as {read}, and so is {seen[key]}. {hint}"))
        elif not _is_own(table.folder, row.file_name):
            left_out.append((row.file_name, f"there is no such file in {table.folder}, or it leads out of it."))
        else:
            seen[key] = row.file_name
            rows.append(row)
    if not rows:
        why = f"{left_out[0][0]}: {left_out[0][1]}" if left_out else "Frames are named as im_c000_z000_t000_p000.png."
        raise BadFile(table.folder, f"holds no frame. {why}")
    return FrameTable(table.folder, rows, left_out, [*table.notes, *_against_global(table.folder, rows)])


def _is_own(folder: Path, file: str) -> bool:
    path = folder / file
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


def _against_global(folder: Path, rows: Sequence[FrameRow]) -> Iterable[str]:
    """What `global_metadata.csv` says otherwise."""
    file = folder / GLOBAL
    if not file.is_file():
        return
    try:
        told = next(csv.DictReader(read_text(file).splitlines()), {})
    except csv.Error:
        told = {}
    for column, (name, what) in _COUNTS.items():
        text, found = (told.get(column) or "").strip(), len({getattr(row, name) for row in rows})
        if text and text.removesuffix(".0") != str(found):
            yield f"{file} says {text} {what}; there are {found}."


def _frame(folder: Path, row: FrameRow) -> Frame:
    path = folder / row.file_name
    size, digest = path.stat().st_size, file_hash(path)
    return Frame(row.channel_idx, row.slice_idx, row.time_idx, row.channel_name, row.file_name, size, digest)
