"""The frames that a preparation looks at, as images to be opened one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.collection.frames import FrameRow, FrameTable, Wanted, frames_in, write_listings
from fieldmark.core.axes import AS_IS, Factors, factors_of
from fieldmark.core.fingerprint import file_hash
from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile, BadInput, BadRecipe
from fieldmark.images import open_image
from fieldmark.images.readers.frames import FramesSource
from fieldmark.images.resized import ResizedSource, nearest
from fieldmark.prepare.estimate import Opened, Plane
from fieldmark.recipes.prepare import PrepareConfig

if TYPE_CHECKING:
    import numpy as np

    from fieldmark.images import ImageSource
    from fieldmark.recipes.dialects.keys import ForeignPrepare

FEW_FRAMES = 4
"""Frames of a position that stay decoded besides those of one plane: each is looked at once in a pass."""
_CHANNELS = ("flat_field", "normalize", "foreground")


@dataclass(frozen=True, slots=True)
class FrameSet:
    """Frames of a folder, by what their names say.

    Args:
        folder: Where they lie.
        rows: One for each frame.
        channels: Their numbers, in the order of the channel axis.
        listings: One file for each position, in order, which opens as an image.
        resize: Factors along z, y and x.
        most: The largest number of a channel in the whole folder.
        numbers: Position, times and slices of each listing, by the numbers in names.
    """

    folder: Path
    rows: tuple[FrameRow, ...]
    channels: tuple[int, ...]
    listings: tuple[Path, ...]
    resize: Factors
    most: int
    numbers: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def positions(self) -> list[int]:
        return [position for position, _, _ in self.numbers]

    def opened(self) -> list[Opened]:
        """The positions as images."""
        return [partial(_open, listing, self.resize) for listing in self.listings]

    def place(self, plane: Plane) -> tuple[int, int, int]:
        """Position, time and slice of a plane, by the numbers in names; resized slices are numbered from the first."""
        position, times, slices = self.numbers[plane.index]
        return position, times[plane.t], slices[0] + plane.z if self.blends_slices else slices[plane.z]

    @property
    def blends_slices(self) -> bool:
        """Whether slices are not those of the files."""
        return self.resize[0] != 1

    def own_place(self, plane: Plane) -> tuple[int, int, int]:
        """Position, time and slice of the frame that the middle of a plane lies in, by the numbers in names."""
        position, times, slices = self.numbers[plane.index]
        (z,) = nearest((plane.z, plane.z + 1), plane.source.shape[2], len(slices))
        return position, times[plane.t], slices[int(z)]


def frame_set(asked: ForeignPrepare, config: PrepareConfig, into: Path) -> tuple[FrameSet, FrameTable]:
    """The frames that a file chooses, with listings below `into`; and the table of the whole folder.

    Raises:
        BadFile: No such folder, or no frame in it.
        BadInput: A frame is missing, or nothing was chosen.
    """
    table = frames_in(asked.images)
    wanted = Wanted(
        positions=asked.frames.positions,
        slices=asked.frames.slices,
        times=asked.frames.times,
        channels=_wanted_channels(asked, config),
    )
    rows = tuple(row for row in table.rows if wanted.has(row))
    if not rows:
        raise BadInput(f"{asked.images}: holds no frame that channel_ids, slice_ids, pos_ids and time_ids choose.")
    _require_chosen(asked, rows)
    plan = write_listings(FrameTable(table.folder, list(rows)), into)
    if plan.left_out:
        name, why = plan.left_out[0]
        raise BadInput(f"{name}: {why} Choose slices, times and positions that are complete, or bring it back.")
    listings = tuple(image.path for image in plan.images)
    channels = tuple(sorted({row.channel_idx for row in rows}))
    most = max(row.channel_idx for row in table.rows)
    return FrameSet(table.folder, rows, channels, listings, factors_of(config.resize), most, _numbers(rows)), table


def _numbers(rows: Sequence[FrameRow]) -> tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]:
    times: dict[int, set[int]] = {}
    slices: dict[int, set[int]] = {}
    for row in rows:
        times.setdefault(row.pos_idx, set()).add(row.time_idx)
        slices.setdefault(row.pos_idx, set()).add(row.slice_idx)
    return tuple(
        (position, tuple(sorted(times[position])), tuple(sorted(slices[position]))) for position in sorted(times)
    )


def placed(config: PrepareConfig, channels: Sequence[int]) -> PrepareConfig:
    """The same settings with places along the channel axis for numbers of channels. Raises BadRecipe."""
    changed: dict[str, Any] = {}
    for name in _CHANNELS:
        group = getattr(config, name)
        if group is not None:
            own = tuple(place_of(channel, channels, f"{name}.channels") for channel in group.channels)
            changed[name] = group.model_copy(update={"channels": own})
    return config.model_copy(update=changed)


def place_of(channel: int, channels: Sequence[int], where: str) -> int:
    """Where a channel lies along the channel axis. Raises BadRecipe, which names `where`."""
    if channel not in channels:
        found = ", ".join(map(str, channels))
        raise BadRecipe(f"{where} names channel {channel}, and the frames have {found}. Correct the channels.")
    return channels.index(channel)


class OwnPlanes:
    """Masks or label maps that a person made, one for each plane, in a folder of frames.

    Args:
        folder: Where they lie.
        channel: Theirs; None for the only one.
        frames: What they belong to.

    Raises:
        BadInput: Several channels, and none was named; or no such channel.
    """

    def __init__(self, folder: Path, channel: int | None, frames: FrameSet) -> None:
        table = frames_in(folder)
        channels = sorted({row.channel_idx for row in table.rows})
        if channel is None and len(channels) > 1:
            raise BadInput(f"{folder}: holds masks of channels {channels}. Name one: masks.mask_channel.")
        chosen = channels[0] if channel is None else channel
        if chosen not in channels:
            raise BadInput(f"{folder}: holds channels {channels}, and not {chosen}, which masks or weight_map name.")
        self.folder, self.frames, self.channel = folder, frames, chosen
        self._files = {
            (row.pos_idx, row.time_idx, row.slice_idx): row.file_name for row in table.rows if row.channel_idx == chosen
        }

    def content(self) -> list[str]:
        """The hash of each file."""
        return [file_hash(self.folder / name) for _, name in sorted(self._files.items())]

    def labels(self, plane: Plane) -> np.ndarray:
        """(y, x) whole numbers. Raises BadFile where a plane has none, or one of another size or type."""
        p, t, z = self.frames.own_place(plane)
        name = self._files.get((p, t, z))
        if name is None:
            raise BadFile(self.folder, f"holds no mask of position {p}, time {t}, slice {z}. Make one.")
        with at_size(open_image(self.folder / name), self.frames.resize, nearest=True) as source:
            labels: np.ndarray = source.read(Box.whole(source.shape))[0, 0, 0]
        if labels.shape != plane.source.shape[3:]:
            raise BadFile(self.folder / name, f"is {labels.shape} (y, x), and its frame {plane.source.shape[3:]}.")
        if labels.dtype.kind not in "ui":
            raise BadFile(
                self.folder / name,
                f"holds {labels.dtype} values; masks and label maps hold whole numbers. Name another channel.",
            )
        return labels

    def mask(self, plane: Plane) -> np.ndarray:
        """(y, x) bool: what is not 0. Raises as `labels`."""
        found: np.ndarray = self.labels(plane) > 0
        return found


def own_masks(asked: ForeignPrepare, config: PrepareConfig, frames: FrameSet) -> OwnPlanes | None:
    """The masks of `masks.mask_dir`."""
    ground = config.foreground
    if ground is None or ground.method != "folder" or ground.folder is None:
        return None
    return OwnPlanes(Path(ground.folder), asked.mask_channel, frames)


def own_labels(asked: ForeignPrepare, frames: FrameSet) -> OwnPlanes | None:
    """The label maps that weight maps are drawn of; None where it is the masks' objects."""
    return OwnPlanes(frames.folder, asked.weights[0], frames) if asked.weights else None


def _open(listing: Path, resize: Factors) -> ImageSource:
    source = open_image(listing)
    if isinstance(source, FramesSource):
        source.most_open = source.shape[1] + FEW_FRAMES
    return at_size(source, resize)


def at_size(source: ImageSource, factors: Factors, *, nearest: bool = False) -> ImageSource:
    """An image at another size; with `nearest` its values are kept, as those of label maps."""
    return source if factors == AS_IS else ResizedSource(source, factors, "nearest" if nearest else "linear")


def _require_chosen(asked: ForeignPrepare, rows: Sequence[FrameRow]) -> None:
    """Raise BadInput where a number was asked for that no frame has."""
    chosen = asked.frames
    for name, ids, column in (
        ("channel_ids", chosen.channels, "channel_idx"),
        ("pos_ids", chosen.positions, "pos_idx"),
        ("slice_ids", chosen.slices, "slice_idx"),
        ("time_ids", chosen.times, "time_idx"),
    ):
        there = sorted({getattr(row, column) for row in rows})
        if absent := sorted(set(ids) - set(there)):
            found = ", ".join(map(str, there[:10])) + (", ..." if len(there) > 10 else "")
            raise BadInput(f"{name} names {absent[0]}, and {asked.images} has {found}. Correct it, or bring it back.")


def _wanted_channels(asked: ForeignPrepare, config: PrepareConfig) -> tuple[int, ...]:
    """Those that were chosen, and those that masks are made of; empty for all."""
    if not asked.frames.channels:
        return ()
    groups = [group.channels for name in _CHANNELS if (group := getattr(config, name)) is not None]
    return tuple(sorted({*asked.frames.channels, *(n for group in groups for n in group)}))
