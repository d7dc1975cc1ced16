"""OME-Zarr plates and images where a microDL file has a folder of frames: their fields are its positions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fieldmark.collection.frames import FrameRow, FrameTable, Wanted, position_name
from fieldmark.collection.importers import Plan, from_folder
from fieldmark.core.files import write_atomic
from fieldmark.core.fingerprint import file_hash, fingerprint
from fieldmark.errors import BadFile, BadInput
from fieldmark.images import open_image
from fieldmark.images.picked import PickedSource
from fieldmark.images.plates import fields_of, is_plate
from fieldmark.images.readers import FRAMES_SUFFIX
from fieldmark.images.readers.frames import FOLDER
from fieldmark.images.readers.planes import Planes, planes_listing
from fieldmark.images.zarr_folders import is_zarr_folder

if TYPE_CHECKING:
    from fieldmark.images import ImageSource


@dataclass(frozen=True, slots=True)
class Field:
    """One image of a plate or folder: a position.

    Args:
        name: Such as `A/1/0`.
        path: Where it lies.
        shape: Along t, c, z, y, x.
    """

    name: str
    path: Path
    shape: tuple[int, int, int, int, int]


def is_store(folder: Path) -> bool:
    """Whether a folder is a plate or an image in OME-Zarr, or holds such folders and no images besides."""
    if not folder.is_dir():
        return False
    if is_zarr_folder(folder):
        return True
    inner = any(is_zarr_folder(path) for path in folder.iterdir() if path.is_dir())
    return inner and all(is_zarr_folder(image.path) for image in from_folder(folder).images)


def fields_in(folder: Path) -> dict[int, Field]:
    """The fields of a store by their number: in the order of a plate's metadata, else of their names.

    A field that a plate's metadata names and that is not there is left out, and its number stays free.

    Raises:
        BadFile: Metadata is damaged, an image cannot be opened, or there is none.
    """
    if is_plate(folder):
        named = [(field.name, field.path) for field in fields_of(folder, str(folder))]
    else:
        named = [(image.name, image.path) for image in from_folder(folder).images]
    found = {number: _field(name, path) for number, (name, path) in enumerate(named) if path.is_dir()}
    if not found:
        raise BadFile(folder, "holds no field or image in OME-Zarr. Correct the path, or export the plate again.")
    return found


def store_table(folder: Path) -> FrameTable:
    """Every plane of a store as a frame: its field's name is its file's, below the table's folder."""
    fields = fields_in(folder)
    rows = [
        FrameRow(c, z, t, number, field.name, f"channel {c}")
        for number, field in fields.items()
        for t in range(field.shape[0])
        for c in range(field.shape[1])
        for z in range(field.shape[2])
    ]
    absent = sorted(set(range(max(fields) + 1)) - set(fields))
    why = "the plate's metadata names it, but there is no such field."
    left_out = [(f"{folder}: position {number}", why) for number in absent]
    alone = [field.path for field in fields.values()] == [folder]
    return FrameTable(folder.parent if alone else folder, rows, left_out)


def open_field(path: Path, shown: str, rows: Sequence[FrameRow]) -> ImageSource:
    """The planes of a field that rows name, as an image.

    Raises:
        BadInput: They are no full grid of times, channels and slices.
    """
    times, channels, slices = _places(rows)
    source = open_image(path, shown=shown)
    t, c, z = source.shape[:3]
    if max(times) >= t or max(channels) >= c or max(slices) >= z:
        source.close()
        raise BadInput(
            f"{shown}: has {t} times, {c} channels and {z} slices, fewer than other fields that were chosen."
        )
    return PickedSource(source, times, channels, slices)


def content_of(folder: Path, rows: Sequence[FrameRow]) -> list[list[str]]:
    """Name and hash of each field that rows name."""
    return [[name, file_hash(folder / name)] for name in sorted({row.file_name for row in rows})]


def chosen_fields(store: Path, wanted: Wanted, into: Path) -> Plan:
    """The fields of a store that are wanted, as images: themselves, or listings below `into` of the wanted planes.

    A field without such planes is no image, and where positions are wanted nothing else is missed.
    """
    table, every = store_table(store), from_folder(store)
    rows = _by_field(row for row in table.rows if wanted.has(row))
    counts = Counter(row.file_name for row in table.rows)
    in_part = {name: own for name, own in rows.items() if len(own) < counts[name]}
    places = _write_listings(table.folder, in_part, into / store.resolve().name)
    images = [replace(image, path=places.get(image.name, image.path)) for image in every.images if image.name in rows]
    return Plan(images, [] if wanted.positions else every.left_out)


def _write_listings(folder: Path, fields: Mapping[str, Sequence[FrameRow]], into: Path) -> dict[str, Path]:
    """By its name, the listing of planes of each field; their place is named `into`, and after what is in them.

    Args:
        folder: What names begin at.
        fields: The planes of each.
        into: The beginning of the place's name.
    """
    texts = {
        name: planes_listing(Planes(name, file_hash(folder / name), *_places(own))) for name, own in fields.items()
    }
    home = into.with_name(f"{into.name}-{fingerprint([text.decode() for text in texts.values()])[:8]}")
    places = {name: home / f"{position_name(own[0].pos_idx)}{FRAMES_SUFFIX}" for name, own in fields.items()}
    for name, place in places.items():
        write_atomic(place, texts[name])
    if texts:
        write_atomic(home / FOLDER, f"{folder.resolve()}\n".encode())
    return places


def _by_field(rows: Iterable[FrameRow]) -> dict[str, list[FrameRow]]:
    found: dict[str, list[FrameRow]] = {}
    for row in rows:
        found.setdefault(row.file_name, []).append(row)
    return found


def _places(rows: Sequence[FrameRow]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Times, channels and slices that rows name."""
    times, channels, slices = (
        tuple(sorted({getattr(row, name) for row in rows})) for name in ("time_idx", "channel_idx", "slice_idx")
    )
    return times, channels, slices


def _field(name: str, path: Path) -> Field:
    with open_image(path, shown=name) as source:
        return Field(name, path, source.shape)
