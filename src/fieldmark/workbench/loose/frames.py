"""Folders of frames, as microDL lays them out, and what it wrote beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.collection.frames import Wanted
from fieldmark.collection.importers import Plan, from_folder
from fieldmark.errors import BadFile, BadInput
from fieldmark.images.plates import fields_of, is_plate
from fieldmark.recipes.dialects import microdl_prepare
from fieldmark.recipes.dialects.keys import Chosen, ForeignPrepare, path_of
from fieldmark.recipes.loading import MAX_RECIPE_BYTES
from fieldmark.recipes.texts import parse_json
from fieldmark.workbench.frames import add_frames as add_positions
from fieldmark.workbench.loose.images import require_whole

if TYPE_CHECKING:
    from fieldmark.workbench.bench import Workbench

INFO = "preprocessing_info.json"
"""Where microDL, and `fieldmark prepare --config`, write the settings that data were prepared with."""
FIELDS = "flat_field_images"
"""Beside it: flat fields, one file for each channel."""


def prepared_before(dataset: Any, beside: Path) -> ForeignPrepare | None:
    """What prepared the data of a training file; None where nothing says it.

    microDL trains on tiles in a folder of the preparation's `output_dir`; `preprocessing_info.json` lies there.
    Here nothing is copied, so that the folder of tiles need not exist.

    Raises:
        BadFile: The file is damaged, or its frames are gone.
    """
    folder = dataset.get("data_dir") if isinstance(dataset, dict) else None
    if not isinstance(folder, str):
        return None
    place = path_of(folder, beside)
    return prepared_in(place) or prepared_in(place.parent)


def prepared_in(folder: Path) -> ForeignPrepare | None:
    """What prepared the data of an `output_dir`; None where nothing in it says it. Raises BadFile."""
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
    return _with_fields(asked, file) if runs[-1].get("flat_fields") == FIELDS else asked


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


def add_frames(bench: Workbench, folders: Sequence[Path], chosen: Chosen) -> None:
    """The positions of folders of frames as images of a project, or those of them that were chosen."""
    for folder in folders:
        if not folder.is_dir():
            raise BadFile(folder, "there is no such folder. Correct the path.")
    plates = [folder for folder in folders if is_plate(folder)]
    for plate in plates:
        _add_plate(bench, plate, chosen)
    if frames := [folder for folder in folders if folder not in plates]:
        wanted = Wanted(positions=chosen.positions, slices=chosen.slices, times=chosen.times)
        require_whole(add_positions(bench, frames, wanted=wanted))


def _add_plate(bench: Workbench, plate: Path, chosen: Chosen) -> None:
    """The fields of a plate, or those of them whose numbers, in the order of the metadata, were chosen."""
    if chosen.slices or chosen.times:
        raise BadInput(
            f"{plate}: slices and times are chosen among frames, and this is a plate of whole images. "
            "Leave slice_ids and time_ids at -1."
        )
    fields = fields_of(plate, str(plate))
    if chosen.positions and max(chosen.positions) >= len(fields):
        raise BadInput(f"{plate}: has positions 0 to {len(fields) - 1}, not {max(chosen.positions)}. Correct pos_ids.")
    kept = {fields[number].path for number in chosen.positions} or {field.path for field in fields}

    def listed(path: Path) -> Plan:
        every = from_folder(path)
        return Plan([image for image in every.images if image.path in kept], every.left_out)

    require_whole(bench.collection.add_images([plate], layout="folder", plan_of=listed, author=bench.author))
