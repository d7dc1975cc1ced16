"""What lies beside folders of frames, as microDL names it: masks by plane, flat fields by number of channel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fieldmark.collection.frames import FrameRow, Wanted, frames_in, position_name, write_listings
from fieldmark.collection.naming import look_below, pair_files
from fieldmark.core.files import write_atomic
from fieldmark.errors import BadInput
from fieldmark.recipes.dialects.keys import Chosen
from fieldmark.workbench.loose.stores import is_store, store_table


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskFolder:
    """Masks that a file names, and what it says of them.

    Args:
        folder: Where they lie.
        images: The folder of frames, or the plate, that they belong to.
        chosen: Which of its frames are looked at.
        channels: Numbers of the masks' own channel, the one that is meant first; none where there is only one.
        key: What the file calls that number, for errors.
        names: Of the positions that need masks; None for all that are looked at.
    """

    folder: Path
    images: Path
    chosen: Chosen
    channels: tuple[int, ...] = ()
    key: str = "masks.mask_channel"
    names: frozenset[str] | None = None


def by_position(masks: MaskFolder, into: Path) -> Path:
    """A folder with one image of masks for each position, named as that (`p000`) or as the field of a plate (`A/1/0`).

    It is the folder itself where files are named so already.

    Args:
        masks: What is meant.
        into: Where listings of its frames are put; no pixel is copied.

    Raises:
        BadInput: It has several channels and none was named, or lacks a plane of a position.
    """
    if not masks.folder.is_dir():
        return masks.folder
    stored = is_store(masks.images)
    frames = (store_table(masks.images) if stored else frames_in(masks.images)).rows
    names = {row.pos_idx: row.file_name if stored else position_name(row.pos_idx) for row in frames}
    planes = _planes(masks, frames, names)
    if pair_files(sorted({names[position] for position, *_ in planes}), look_below(masks.folder).files).files:
        return masks.folder
    table = frames_in(masks.folder)
    channel = _channel(masks, table.rows)
    rows = [row for row in table.rows if row.channel_idx == channel and _plane(row) in planes]
    if absent := sorted(planes - {_plane(row) for row in rows}):
        p, t, z = absent[0]
        raise BadInput(
            f"{masks.folder}: holds no mask of position {p}, time {t}, slice {z} ({len(absent)} of {len(planes)} are "
            "missing). Make them, or name another folder."
        )
    first = write_listings(replace(table, rows=rows), into, names=names).images[0]
    return first.path.parents[first.name.count("/")]


def masks_of(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where a recipe names a folder of masks: the group and the key in it."""
    places = (("data", "mask"), ("data", "target"), ("prepare", "foreground"))
    return [(group, key) for group, key in places if ((recipe.get(group) or {}).get(key) or {}).get("folder")]


def by_place(fields: Path, channels: Sequence[int], into: Path) -> Path:
    """A folder of flat fields that are named by the places of channels, not by their numbers.

    It is the folder itself where both are the same.

    Args:
        fields: `flat-field_channel-C.npy` for each channel.
        channels: Their numbers, in order; empty for 0, 1, 2, ...
        into: Where copies are put.
    """
    if tuple(channels) == tuple(range(len(channels))):
        return fields
    into.mkdir(parents=True, exist_ok=True)
    for place, number in enumerate(channels):
        own = fields / f"flat-field_channel-{number}.npy"
        if own.is_file():
            write_atomic(into / f"flat-field_channel-{place}.npy", own.read_bytes())
    return into


def fields_in(folder: Path) -> list[Path]:
    """Its flat fields, in order."""
    return sorted(folder.glob("flat-field_channel-*.npy"))


def files_below(folder: Path) -> Iterator[Path]:
    """The files of a folder and its subfolders, in order."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _channel(masks: MaskFolder, rows: Sequence[FrameRow]) -> int:
    there = sorted({row.channel_idx for row in rows})
    meant = [channel for channel in masks.channels if channel in there]
    if not meant and len(there) > 1:
        raise BadInput(f"{masks.folder}: holds masks of channels {there}. Name one of them: {masks.key}.")
    return (*meant, *there)[0]


def _planes(masks: MaskFolder, frames: Sequence[FrameRow], names: Mapping[int, str]) -> set[tuple[int, int, int]]:
    """Position, time and slice of every plane that needs a mask."""
    wanted = Wanted(positions=masks.chosen.positions, slices=masks.chosen.slices, times=masks.chosen.times)
    rows = [row for row in frames if wanted.has(row)]
    return {_plane(row) for row in rows if masks.names is None or names[row.pos_idx] in masks.names}


def _plane(row: FrameRow) -> tuple[int, int, int]:
    return row.pos_idx, row.time_idx, row.slice_idx
