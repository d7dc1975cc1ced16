"""The frames that a preparation looks at, as images to be opened one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from fieldmark.images.source import channel_dtypes
from fieldmark.prepare.estimate import Opened, Plane
from fieldmark.recipes.prepare import PrepareConfig
from fieldmark.workbench.loose.frames import require_chosen
from fieldmark.workbench.loose.stores import content_of, is_store, open_field, store_table

if TYPE_CHECKING:
    import numpy as np

    from fieldmark.images import ImageSource
    from fieldmark.recipes.dialects.keys import ForeignPrepare

FEW_FRAMES = 4
"""Frames of a position that stay decoded besides those of one plane: each is looked at once in a pass."""
_CHANNELS = ("flat_field", "normalize", "foreground")


Open = Callable[[], "ImageSource"]


@dataclass(frozen=True, slots=True)
class FrameSet:
    """Frames of a folder, by what their names say; or planes of a plate, by where they lie.

    Args:
        folder: Where they lie.
        rows: One for each frame.
        channels: Their numbers, in the order of the channel axis.
        sources: One for each position, in order, which opens it as it is.
        content: What the frames hold, for a fingerprint.
        stored: Whether they are planes of images in OME-Zarr.
        resize: Factors along z, y and x.
        most: The largest number of a channel in the whole folder.
        numbers: Position, times and slices of each position, by the numbers in names.
    """

    folder: Path
    rows: tuple[FrameRow, ...]
    channels: tuple[int, ...]
    sources: tuple[Open, ...]
    content: tuple[object, ...]
    stored: bool
    resize: Factors
    most: int
    numbers: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def positions(self) -> list[int]:
        return [position for position, _, _ in self.numbers]

    def opened(self) -> list[Opened]:
        """The positions as images, at the size that was asked for."""
        return [partial(_at_size, source, self.resize) for source in self.sources]

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
    stored = is_store(asked.images)
    table = store_table(asked.images) if stored else frames_in(asked.images)
    wanted = Wanted(
        positions=asked.frames.positions,
        slices=asked.frames.slices,
        times=asked.frames.times,
        channels=_wanted_channels(asked, config),
    )
    rows = tuple(row for row in table.rows if wanted.has(row))
    require_chosen(asked.frames, asked.images, table.rows)
    if not rows:
        raise BadInput(f"{asked.images}: holds no frame that channel_ids, slice_ids, pos_ids and time_ids choose.")
    require_chosen(asked.frames, asked.images, rows)
    sources, content = _stored(table.folder, rows) if stored else _listed(table.folder, rows, into)
    made = FrameSet(
        folder=table.folder,
        rows=rows,
        channels=tuple(sorted({row.channel_idx for row in rows})),
        sources=sources,
        content=content,
        stored=stored,
        resize=factors_of(config.resize),
        most=max(row.channel_idx for row in table.rows),
        numbers=_numbers(rows),
    )
    return made, table


def _listed(folder: Path, rows: Sequence[FrameRow], into: Path) -> tuple[tuple[Open, ...], tuple[object, ...]]:
    """What opens each position of a folder of frames, and what they hold."""
    plan = write_listings(FrameTable(folder, list(rows)), into)
    if plan.left_out:
        name, why = plan.left_out[0]
        raise BadInput(f"{name}: {why} Choose slices, times and positions that are complete, or bring it back.")
    listings = [image.path for image in plan.images]
    content = tuple(path.read_text(encoding="utf-8") for path in listings)
    return tuple(partial(_open_listing, image.path, image.shown) for image in plan.images), content


def _stored(folder: Path, rows: Sequence[FrameRow]) -> tuple[tuple[Open, ...], tuple[object, ...]]:
    """What opens each field of a plate, and what they hold."""
    fields: dict[int, list[FrameRow]] = {}
    for row in rows:
        fields.setdefault(row.pos_idx, []).append(row)
    channels = {row.channel_idx for row in rows}
    for own in fields.values():
        if lacks := channels - {row.channel_idx for row in own}:
            raise BadInput(
                f"{folder}: {own[0].file_name} has no channel {min(lacks)}, which other fields have. Choose channels "
                "that all have (channel_ids), or fields (pos_ids)."
            )
    ordered = [fields[position] for position in sorted(fields)]
    opens = tuple(partial(open_field, folder / own[0].file_name, own[0].file_name, own) for own in ordered)
    return opens, (content_of(folder, rows), _numbers(rows))


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


class ChannelPlanes:
    """Label maps in a channel of a plate's fields.

    Args:
        channel: Its number.
        frames: Planes of the plate.

    Raises:
        BadInput: A field has no such channel.
    """

    def __init__(self, channel: int, frames: FrameSet) -> None:
        if channel > frames.most:
            raise BadInput(f"{frames.folder}: has channels 0 to {frames.most}, and not {channel}. Correct weight_map.")
        self.frames, self.channel = frames, channel

    def content(self) -> list[str]:
        """Nothing besides: the fields' own content holds it."""
        return [f"channel {self.channel}"]

    def labels(self, plane: Plane) -> np.ndarray:
        """(y, x) whole numbers of a plane. Raises BadFile where the channel holds fractions."""
        position, times, slices = self.frames.numbers[plane.index]
        name = next(row.file_name for row in self.frames.rows if row.pos_idx == position)
        rows = [FrameRow(self.channel, z, t, position, name) for t in times for z in slices]
        opened = open_field(self.frames.folder / name, name, rows)
        with at_size(opened, self.frames.resize, nearest=True) as source:
            if (dtype := channel_dtypes(source)[0]).kind not in "ui":
                raise BadFile(name, f"channel {self.channel} holds {dtype} values; label maps hold whole numbers.")
            y, x = source.shape[3:]
            box = Box((plane.t, 0, plane.z, 0, 0), (plane.t + 1, 1, plane.z + 1, y, x))
            labels: np.ndarray = source.read(box)[0, 0, 0]
        return labels


def own_labels(asked: ForeignPrepare, frames: FrameSet) -> OwnPlanes | ChannelPlanes | None:
    """The label maps that weight maps are drawn of; None where it is the masks' objects."""
    if not asked.weights:
        return None
    if frames.stored:
        return ChannelPlanes(asked.weights[0], frames)
    return OwnPlanes(frames.folder, asked.weights[0], frames)


def _open_listing(listing: Path, shown: str) -> ImageSource:
    source = open_image(listing, shown=shown)
    if isinstance(source, FramesSource):
        source.most_open = source.shape[1] + FEW_FRAMES
    return source


def _at_size(opened: Open, factors: Factors) -> ImageSource:
    return at_size(opened(), factors)


def at_size(source: ImageSource, factors: Factors, *, nearest: bool = False) -> ImageSource:
    """An image at another size; with `nearest` its values are kept, as those of label maps."""
    return source if factors == AS_IS else ResizedSource(source, factors, "nearest" if nearest else "linear")


def _wanted_channels(asked: ForeignPrepare, config: PrepareConfig) -> tuple[int, ...]:
    """Those that were chosen, and those that masks are made of; empty for all."""
    if not asked.frames.channels:
        return ()
    groups = [group.channels for name in _CHANNELS if (group := getattr(config, name)) is not None]
    return tuple(sorted({*asked.frames.channels, *(n for group in groups for n in group)}))
