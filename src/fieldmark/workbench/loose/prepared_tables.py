"""The tables of a preparation: what was measured of each frame, and the statistics that pixels are normalized by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.collection.frames import META_COLUMNS, position_name
from fieldmark.errors import some
from fieldmark.workbench.loose.prepared_files import Where, write_table

if TYPE_CHECKING:
    from fieldmark.recipes.prepare import NormalizeConfig
    from fieldmark.workbench.loose.frame_set import FrameSet

Numbers = dict[str, np.ndarray]
"""`center` and `spread` of each channel, (C,)."""


@dataclass(frozen=True, slots=True)
class Looked:
    """A plane that was looked at.

    Args:
        where: Its place.
        share: Of its pixels that are foreground; None without masks.
        numbers: Its own statistics; None where the data set's count.
    """

    where: Where
    share: float | None
    numbers: Numbers | None


def told_of_masks(places: Sequence[Looked]) -> Iterator[str]:
    """A sentence where the masks of all planes of a position are empty, and one where they are full."""
    shares: dict[int, list[float]] = {}
    for looked in places:
        if looked.share is not None:
            shares.setdefault(looked.where[0], []).append(looked.share)
    for share, which in ((0.0, "No pixel"), (1.0, "Every pixel")):
        alike = [position_name(position) for position, own in shares.items() if set(own) == {share}]
        if alike:
            yield f"masks: {which} is foreground in {len(alike)} of {len(shares)} positions ({some(alike)})."


def numbers_of(steps: Sequence[dict[str, Any]], places: Sequence[Looked]) -> dict[Where, Numbers]:
    """What each plane is normalized by; nothing where planes are not normalized."""
    last = steps[-1] if steps else {}
    if last.get("step") == "standardize":
        one = {"center": np.asarray(last["mean"]), "spread": np.asarray(last["std"])}
        return {looked.where: one for looked in places}
    return {looked.where: looked.numbers for looked in places if looked.numbers is not None}


def columns_of(normalize: NormalizeConfig) -> tuple[str, str]:
    """Of center and spread, as microDL calls them."""
    return ("zscore_median", "zscore_iqr") if normalize.statistic == "median-iqr" else ("mean", "std")


def write_statistics(
    path: Path, normalize: NormalizeConfig, channels: Sequence[int], numbers: dict[Where, Numbers]
) -> None:
    """A line for each plane and channel; for statistics of the data set one for each channel."""
    names = columns_of(normalize)
    if normalize.scheme == "dataset":
        found = next(iter(numbers.values()))
        write_table(path, ("channel_idx", *names), [(c, *_of(found, n)) for n, c in enumerate(channels)])
        return
    rows = [
        (p, t, z, channel, *_of(found, place))
        for (p, t, z), found in numbers.items()
        for place, channel in enumerate(channels)
    ]
    write_table(path, ("pos_idx", "time_idx", "slice_idx", "channel_idx", *names), rows)


def write_meta(
    path: Path,
    frames: FrameSet,
    numbers: dict[Where, Numbers],
    normalize: NormalizeConfig | None,
    places: Sequence[Looked],
) -> None:
    """`frames_meta.csv` of the frames that were looked at, with what was measured of each.

    Where slices were blended along z there is nothing to be said of a single frame, but what all of its stack share.
    """
    known = numbers
    if frames.blends_slices:
        stacks = {where[:2]: found for where, found in numbers.items()}
        shared = normalize is not None and normalize.scheme in ("dataset", "volume")
        own = {(row.pos_idx, row.time_idx, row.slice_idx) for row in frames.rows}
        known = {where: stacks[where[:2]] for where in own} if shared and numbers else {}
    names = columns_of(normalize) if known and normalize is not None else ()
    shares = {looked.where: looked.share for looked in places if looked.share is not None}
    shares = {} if frames.blends_slices else shares
    folder = str(frames.folder.resolve())
    rows = []
    for row in frames.rows:
        where = row.pos_idx, row.time_idx, row.slice_idx
        measured = _of(known[where], frames.channels.index(row.channel_idx)) if known else ()
        facts = (row.channel_idx, row.slice_idx, row.time_idx, row.channel_name, row.file_name, row.pos_idx, folder)
        rows.append((*facts, *measured, *((shares[where],) if shares else ())))
    write_table(path, (*META_COLUMNS, *names, *(("fg_frac",) if shares else ())), rows)


def _of(numbers: Numbers, place: int) -> tuple[float, float]:
    return float(numbers["center"][place]), float(numbers["spread"][place])
