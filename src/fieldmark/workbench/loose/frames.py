"""Folders of frames, as microDL lays them out, and what it wrote beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.collection.frames import FrameRow, Wanted, frames_in, write_listings
from fieldmark.collection.importers import Plan
from fieldmark.core.fingerprint import file_hash
from fieldmark.errors import BadFile, BadInput
from fieldmark.recipes.dialects import microdl_prepare
from fieldmark.recipes.dialects.keys import Chosen, ForeignPrepare, path_of
from fieldmark.recipes.dialects.microdl_channels import weights_folder
from fieldmark.recipes.loading import MAX_RECIPE_BYTES
from fieldmark.recipes.texts import parse_json
from fieldmark.workbench.frames import FOLDER
from fieldmark.workbench.frames import add_frames as add_positions
from fieldmark.workbench.loose.images import require_whole
from fieldmark.workbench.loose.prepare_state import FIELDS, INFO, require_prepared
from fieldmark.workbench.loose.stores import chosen_fields, is_store, store_table

if TYPE_CHECKING:
    from fieldmark.workbench.bench import Workbench


def prepared_before(dataset: Any, beside: Path) -> ForeignPrepare | None:
    """What prepared the data of a training file; None where nothing says it.

    microDL trains on tiles in a folder of the preparation's `output_dir`; `preprocessing_info.json` lies there.
    Here nothing is copied, so that the folder of tiles need not exist.

    Raises:
        BadFile: The file is damaged, its frames are gone, or a preparation has not come to its end.
    """
    folder = dataset.get("data_dir") if isinstance(dataset, dict) else None
    if not isinstance(folder, str):
        return None
    place = path_of(folder, beside)
    return prepared_in(place) or prepared_in(place.parent)


def channels_before(dataset: Any, beside: Path, prepared: ForeignPrepare | None) -> tuple[int, ...]:
    """The numbers of the channels of a training file's frames, in order; empty where there are none to look at.

    Raises:
        BadInput: A position has others than another one.
    """
    folder = dataset.get("data_dir") if isinstance(dataset, dict) else None
    if not isinstance(folder, str) or (prepared is None and not folder):
        return ()
    place, chosen = path_of(folder, beside), Chosen()
    if prepared is not None:
        place, chosen = prepared.images, prepared.frames
    return numbered_channels(place, chosen) if place.is_dir() else ()


def numbered_channels(folder: Path, chosen: Chosen) -> tuple[int, ...]:
    """The numbers of the channels of frames or fields, in order. Raises BadInput where positions differ in them."""
    found: dict[int, set[int]] = {}
    for row in (store_table(folder) if is_store(folder) else frames_in(folder)).rows:
        if not chosen.positions or row.pos_idx in chosen.positions:
            found.setdefault(row.pos_idx, set()).add(row.channel_idx)
    every = sorted(set().union(*found.values()))
    for position, own in found.items():
        if absent := sorted(set(every) - own):
            raise BadInput(
                f"{folder}: position {position} has no frame of channel {absent[0]}, and others have. Bring it "
                "back, or leave the position out."
            )
    return tuple(every)


def prepared_in(folder: Path) -> ForeignPrepare | None:
    """What prepared the data of an `output_dir`; None where nothing in it says it. Raises BadFile."""
    require_prepared(folder)
    return _read(folder / INFO) if (folder / INFO).is_file() else None


def info_runs(file: Path) -> list[Any]:
    """The runs that a `preprocessing_info.json` tells of, the newest last; none where there is no such file.

    Raises:
        BadFile: It is damaged.
    """
    if not file.is_file():
        return []
    if file.stat().st_size > MAX_RECIPE_BYTES:
        raise BadFile(file, f"is larger than {MAX_RECIPE_BYTES} bytes, which no such file is. Prepare the data again.")
    try:
        info = parse_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadFile(file, f"cannot be parsed ({error}). Prepare the data again.") from error
    return info if isinstance(info, list) else [info]


def _read(file: Path) -> ForeignPrepare:
    runs = info_runs(file)
    values = microdl_prepare.last_run(runs, source=file)
    asked = microdl_prepare.prepare_of(values, beside=file.parent, source=file)
    if not asked.images.exists():
        raise BadFile(file, f"says that input_dir is {asked.images}, and there is none. Put it back, or prepare again.")
    asked = _with_masks(asked)
    return _with_fields(asked, file) if runs[-1].get("flat_fields") == FIELDS else asked


def _with_masks(asked: ForeignPrepare) -> ForeignPrepare:
    """With the masks and weight maps that were computed, where a loss can look at the very files.

    Not so for resized images, of which there are none at their own size; for plates, whose masks are no images of
    theirs; and for volumes, of which a loss must not see slices that are held out.
    """
    rule = asked.mask or {}
    if asked.recipe["prepare"]["resize"] is not None or rule.get("by") == "volume" or is_store(asked.images):
        return asked
    foreground = asked.recipe["prepare"]["foreground"] or {}
    channels = asked.weights or foreground.get("channels") or asked.frames.channels
    weights = asked.out / weights_folder(channels) if asked.weights is not None and channels else None
    return replace(
        asked,
        made_masks=asked.masks if "method" in rule and _is_folder(asked.masks) else None,
        made_weights=weights if _is_folder(weights) else None,
    )


def _is_folder(path: Path | None) -> bool:
    return path is not None and path.is_dir()


def _with_fields(asked: ForeignPrepare, file: Path) -> ForeignPrepare:
    """With the flat fields that lie beside the file, instead of others to be estimated."""
    flat = asked.recipe["prepare"]["flat_field"]
    if flat is None:
        return asked
    folder = file.parent / FIELDS
    if not folder.is_dir():
        raise BadFile(file, f"tells of flat fields in {folder}, and they are gone. Prepare the data again.")
    prepare = asked.recipe["prepare"] | {"flat_field": flat | {"method": "file", "folder": str(folder)}}
    return replace(asked, recipe=asked.recipe | {"prepare": prepare})


def add_frames(bench: Workbench, folders: Sequence[Path], chosen: Chosen, *, channels: tuple[int, ...] = ()) -> None:
    """The positions of folders of frames as images of a project, or those of them that were chosen.

    Images have all channels, whatever a preparation had chosen, or those in `channels` alone.
    """
    for folder in folders:
        if not folder.is_dir():
            raise BadFile(folder, "there is no such folder. Correct the path.")
    wanted = Wanted(positions=chosen.positions, slices=chosen.slices, times=chosen.times, channels=channels)
    stores = [folder for folder in folders if is_store(folder)]
    for store in stores:
        if chosen != Chosen():
            require_chosen(chosen, store, store_table(store).rows)
        _add_store(bench, store, wanted)
    if frames := [folder for folder in folders if folder not in stores]:
        if chosen != Chosen():
            require_chosen(chosen, frames[0], [row for folder in frames for row in frames_in(folder).rows])
        require_whole(add_positions(bench, frames, wanted=wanted))


def hashes_of(folder: Path, wanted: Wanted, into: Path) -> dict[str, str]:
    """By its name, the hash that each position has as an image of the frames that are wanted; listings go into `into`.

    Raises:
        BadFile: There is no such folder, or no frame in it.
    """
    plan = chosen_fields(folder, wanted, into) if is_store(folder) else write_listings(frames_in(folder), into, wanted)
    return {image.name: file_hash(image.path) for image in plan.images}


def require_chosen(chosen: Chosen, folder: Path, rows: Sequence[FrameRow]) -> None:
    """Raise BadInput where a number was asked for that no frame of a folder has."""
    for name, ids, column in (
        ("channel_ids", chosen.channels, "channel_idx"),
        ("pos_ids", chosen.positions, "pos_idx"),
        ("slice_ids", chosen.slices, "slice_idx"),
        ("time_ids", chosen.times, "time_idx"),
    ):
        there = sorted({getattr(row, column) for row in rows})
        if absent := sorted(set(ids) - set(there)):
            found = ", ".join(map(str, there[:10])) + (", ..." if len(there) > 10 else "")
            raise BadInput(f"{name} names {absent[0]}, and {folder} has {found}. Correct it, or bring it back.")


def _add_store(bench: Workbench, store: Path, wanted: Wanted) -> None:
    """The fields of a plate, or those planes of them that are wanted."""

    def listed(path: Path) -> Plan:
        return chosen_fields(path, wanted, bench.project.folder / FOLDER)

    require_whole(bench.collection.add_images([store], layout="folder", plan_of=listed, author=bench.author))
