"""microDL's preprocessing YAML, and what its `preprocessing_info.json` keeps of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from fieldmark.core.axes import factors_of
from fieldmark.errors import near_miss
from fieldmark.recipes.dialects.keys import (
    Chosen,
    ForeignPrepare,
    Group,
    Ids,
    Numbers,
    Sides,
    Words,
    as_list,
    path_of,
    refuse,
)
from fieldmark.recipes.dialects.microdl_channels import masks_place
from fieldmark.recipes.dialects.microdl_masks import (
    borders_of,
    foreground_of,
    mask_channel_of,
    mask_ext_of,
    mask_of,
    weights_of,
)
from fieldmark.recipes.loading import validate

_LISTED = "chosen tiles are listed; they are copied where --write-tiles asks for it."
_SHOWN = "progress is shown on a terminal."
_ALIKE = "images need not be alike."
SCHEMES: dict[str, dict[str, str]] = {
    "dataset": {"scheme": "dataset", "statistic": "median-iqr"},
    "volume": {"scheme": "volume", "statistic": "median-iqr"},
    "slice": {"scheme": "slice", "statistic": "median-iqr"},
    "stack": {"scheme": "stack", "statistic": "mean-std"},
}

_ORDERS = {"zyx": "zyx", "xyz": "yxz", "zxy": "zxy"}
"""What microDL calls xyz are its arrays as they are: rows, columns, slices."""


class FlatField(Group, frozen=True, extra="forbid"):
    """Uneven illumination."""

    estimate: bool = True
    correct: bool = True
    flat_field_channels: Numbers = ()
    block_size: PositiveInt | None = None
    method: Literal["estimate", "from_file", "basic"] = "estimate"
    """`basic` is ours: BaSiC's estimate."""
    flat_field_dir: str = ""
    ff_dir: str = ""


class Normalize(Group, frozen=True, extra="forbid"):
    """Center and spread."""

    ACCEPTED: ClassVar[dict[str, str]] = {"uniform_struct": _ALIKE}

    @model_validator(mode="before")
    @classmethod
    def _null_is_none(cls, values: Any) -> Any:
        """`normalize_im: null` is one of microDL's values, and no absent key."""
        absent = isinstance(values, dict) and values.get("normalize_im", "") is None
        return values | {"normalize_im": "none"} if absent else values

    normalize_im: str = "stack"
    min_fraction: float = Field(default=0.0, ge=0, le=1)
    normalize_channels: tuple[bool, ...] = ()
    hist_clip_limits: tuple[float, float] | None = None
    uniform_struct: bool = True
    """microDL's own example files have it here."""


class Resize(Group, frozen=True, extra="forbid"):
    """Factors for the axes, and the sub-volumes that resized volumes are cut into."""

    scale_factor: PositiveFloat | tuple[PositiveFloat, ...] = 1.0
    num_slices_subvolume: int = Field(default=-1, ge=-1)
    resize_3d: bool = False
    overlap_slices: NonNegativeInt = 1


class Masks(Group, frozen=True, extra="forbid"):
    """Where there is something to see."""

    ACCEPTED: ClassVar[dict[str, str]] = {
        "csv_name": "masks are paired with images by what their names say.",
        "normalize_im": "thresholds are found on raw pixels.",
    }

    channels: Numbers = ()
    mask_type: str = "otsu"
    str_elem_radius: NonNegativeInt = 5
    mask_ext: str = ".png"
    mask_dir: str = ""
    csv_name: str = ""
    mask_channel: NonNegativeInt | None = None
    normalize_im: bool | str = False


class Tile(Group, frozen=True, extra="forbid"):
    """Tiles that teach."""

    ACCEPTED: ClassVar[dict[str, str]] = dict.fromkeys(
        ("mask_dir", "mask_channel"), "foreground is what the masks say (masks)."
    )

    tile_size: Sides = (256, 256)
    step_size: Sides = (128, 128)
    depths: Annotated[tuple[PositiveInt, ...], BeforeValidator(as_list)] = ()
    depth: PositiveInt = 1
    mask_depth: PositiveInt = 1
    image_format: Literal["zyx", "xyz", "zxy"] = "zyx"
    min_fraction: float = Field(default=0.0, ge=0, le=1)
    tile_3d: bool = False
    channels: Ids = ()
    save_tiled_masks: str | bool = ""
    mask_channel: NonNegativeInt | None = None
    mask_dir: str = ""
    hist_clip_limits: tuple[float, float] | None = None


class WeightMap(Group, frozen=True, extra="forbid"):
    """Weights between touching objects."""

    channels: Numbers = ()


class Metadata(Group, frozen=True, extra="forbid"):
    """How names of frames are read."""

    ACCEPTED: ClassVar[dict[str, str]] = {
        "order": "names of frames are read by their letters; see fieldmark frames --order.",
        "name_parser": "names of frames are recognized.",
    }

    order: str = "cztp"
    name_parser: str = ""


class PreparationFile(Group, frozen=True, extra="forbid"):
    """The whole file."""

    ACCEPTED: ClassVar[dict[str, str]] = {
        "verbose": _SHOWN,
        "num_workers": "planes are prepared one after the other.",
        "file_format": "formats are recognized by their content.",
        "uniform_struct": _ALIKE,
        "uniform_structure": _ALIKE,
        "tile_stack": _LISTED,
        "crop_2x": "images are padded and cut back, never cropped.",
    }

    input_dir: str = Field(min_length=1)
    output_dir: str = Field(min_length=1)
    verbose: bool | int = False
    file_format: str = "image"
    channel_ids: Ids = ()
    channel_names: Words = ()
    slice_ids: Ids = ()
    pos_ids: Ids = ()
    time_ids: Ids = ()
    num_workers: NonNegativeInt = 1
    flat_field: FlatField | None = None
    correct_flat_field: bool = False
    normalize: Normalize | None = None
    uniform_struct: bool = True
    uniform_structure: bool = True
    resize: Resize | None = None
    masks: Masks | None = None
    use_masks: bool = True
    make_weight_map: bool = False
    weight_map: WeightMap | None = None
    tile: Tile | None = None
    tile_stack: bool = True
    crop_2x: bool = False
    metadata: Metadata = Metadata()


def prepare_of(values: dict[str, Any], *, beside: Path, source: object = "") -> ForeignPrepare:
    """The preparation of a preprocessing file.

    Args:
        values: As read.
        beside: The folder that the file lies in: relative paths begin there.
        source: The file, as the user typed it.

    Raises:
        BadRecipe: An unknown key (with the near miss) or a value that nothing here can do, named by its path.
    """
    file = validate(PreparationFile, values, source=source)
    if file.channel_names:
        raise refuse(source, "channel_names", "name channels by their numbers: channel_ids.")
    notes = file.told()
    factors = _resize(file.resize, notes, source)
    volumes = _subvolume(file, factors, source)
    if volumes is None and file.resize is not None and "overlap_slices" in file.resize.model_fields_set:
        notes.append("resize.overlap_slices: without num_slices_subvolume a volume is one.")
    if volumes is not None:
        notes.append(_told_of_subvolumes(file, volumes[0]))
    prepare: dict[str, Any] = {
        "flat_field": _flat_field(file, beside, notes),
        "resize": factors,
        "normalize": _normalize(file, notes, source),
        "foreground": foreground_of(file, beside, source),
    }
    return ForeignPrepare(
        recipe={"prepare": prepare, "train": _train(file, volumes, prepare["foreground"] is not None, notes)},
        images=path_of(file.input_dir, beside),
        out=path_of(file.output_dir, beside),
        frames=Chosen(channels=file.channel_ids, positions=file.pos_ids, slices=file.slice_ids, times=file.time_ids),
        mask=mask_of(file, beside, source),
        borders=borders_of(file),
        mask_ext=mask_ext_of(file, source),
        mask_channel=mask_channel_of(file, notes),
        masks=masks_place(prepare["foreground"], path_of(file.output_dir, beside), file.channel_ids),
        weights=weights_of(file, source),
        tiles=_tiles(file.tile, volumes, prepare["foreground"] is not None, notes, source),
        notes=tuple(notes),
    )


PATHS = ("input_dir", "output_dir", "flat_field.flat_field_dir", "flat_field.ff_dir", "masks.mask_dir")


def absolute(values: dict[str, Any], beside: Path) -> dict[str, Any]:
    """The same file with paths that mean the same wherever it lies."""
    made = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for name in PATHS:
        group, _, key = name.rpartition(".")
        place = made.get(group) if group else made
        if isinstance(place, dict) and place.get(key):
            place[key] = str(path_of(str(place[key]), beside))
    return made


def last_run(info: Any, *, source: object) -> dict[str, Any]:
    """The settings of the newest run in a `preprocessing_info.json`: `[{"processing_time": ..., "config": {...}}]`."""
    runs = info if isinstance(info, list) else [info]
    if not runs or not isinstance(runs[-1], dict) or not isinstance(runs[-1].get("config"), dict):
        raise refuse(source, "config", "wanted a list of runs, each with its config. Prepare the data again.")
    config: dict[str, Any] = runs[-1]["config"]
    return config


def _flat_field(file: PreparationFile, beside: Path, notes: list[str]) -> dict[str, Any] | None:
    if file.flat_field is not None and file.correct_flat_field:
        notes.append("correct_flat_field: flat_field decides.")
    one = file.flat_field or (FlatField() if file.correct_flat_field else None)
    if one is None or not one.correct:
        return None
    folder = one.flat_field_dir or one.ff_dir or str(Path(file.output_dir) / "flat_field_images")
    from_file = one.method == "from_file" or not one.estimate
    made: dict[str, Any] = {
        "channels": list(one.flat_field_channels),
        "method": "basic" if one.method == "basic" else "blocks",
    }
    if from_file:
        made |= {"method": "file", "folder": str(path_of(folder, beside))}
    elif one.flat_field_dir or one.ff_dir:
        name = "flat_field_dir" if one.flat_field_dir else "ff_dir"
        notes.append(f"flat_field.{name}: what is estimated is kept in the model.")
    if one.block_size and made["method"] == "basic":
        notes.append("flat_field.block_size: BaSiC has no blocks.")
    return made | ({"block": one.block_size} if one.block_size else {})


def _normalize(file: PreparationFile, notes: list[str], source: object) -> dict[str, Any]:
    one = file.normalize or Normalize()
    said = one.normalize_channels
    if one.normalize_im.lower() == "none" or (said and not any(said)):
        return {"scheme": "none"}
    if one.normalize_im not in SCHEMES:
        raise refuse(
            source,
            "normalize.normalize_im",
            f"{one.normalize_im!r} is no scheme. {near_miss(one.normalize_im, SCHEMES)}",
        )
    share = one.min_fraction
    if one.normalize_im == "stack" and share:
        notes.append("normalize.min_fraction: stack measures whole slices; volume and slice measure their foreground.")
        share = 0.0
    clip = one.hist_clip_limits or (file.tile.hist_clip_limits if file.tile is not None else None)
    return {
        **SCHEMES[one.normalize_im],
        "min_fraction": share,
        "channels": _normalized(file, said, source),
        "clip": list(clip) if clip else None,
    }


def _normalized(file: PreparationFile, said: tuple[bool, ...], source: object) -> list[int]:
    """The channels that `normalize_channels` says yes of; empty for all."""
    ids = file.channel_ids or tuple(range(len(said)))
    if said and len(ids) != len(said):
        raise refuse(
            source,
            "normalize.normalize_channels",
            f"says yes or no {len(said)} times, for {len(ids)} channels (channel_ids). Say it once for each.",
        )
    return [] if all(said) else [channel for channel, yes in zip(ids, said, strict=True) if yes]


def _resize(resize: Resize | None, notes: list[str], source: object) -> list[float] | float | None:
    """A factor along y and x, or three, along z, y, x."""
    if resize is None:
        return None
    said = resize.scale_factor if isinstance(resize.scale_factor, tuple) else (resize.scale_factor,)
    match said:
        case (one,):
            z, y, x = (one if resize.resize_3d else 1.0), one, one
        case (first, second):
            z, y, x = 1.0, first, second
        case (first, second, third) if second == third:
            z, y, x = first, second, third
        case (first, second, third) if first == second:  # as volumes lie in the arrays of its later versions
            z, y, x = third, first, second
            notes.append(f"resize.scale_factor: {list(said)} is read as {z:g} along z, for y and x are alike.")
        case _:
            raise refuse(
                source,
                "resize.scale_factor",
                f"{list(said)} does not say which factor is that of z. Give one factor for y and x, or three, "
                "[z, y, x], with the same for y and x.",
            )
    if z == y == x == 1:
        return None
    return y if z == 1 and y == x else [z, y, x]


def _subvolume(file: PreparationFile, factors: list[float] | float | None, source: object) -> tuple[int, int] | None:
    """Resized slices of a sub-volume, and from one to the next; None where a volume is one."""
    resize = file.resize
    if resize is None or resize.num_slices_subvolume < 0:
        return None
    slices, shared = resize.num_slices_subvolume, resize.overlap_slices
    if slices <= shared or slices < 2:
        raise refuse(
            source,
            "resize.num_slices_subvolume",
            f"sub-volumes of {slices} slices cannot share {shared} with the next. Give more slices, or -1 for all.",
        )
    z = factors_of(factors)[0]
    return max(1, round(slices * z)), max(1, round((slices - shared) * z))


def _told_of_subvolumes(file: PreparationFile, depth: int) -> str:
    solid = file.tile is not None and len(file.tile.tile_size) == 3
    what = "tiles are listed within sub-volumes" if solid else f"sub-volumes become crops of {depth} slices"
    return (
        f"resize.num_slices_subvolume: {what}; a fit draws its crops anywhere in a stack, and volumes are predicted "
        "whole, without borders between sub-volumes."
    )


def _tiles(
    tile: Tile | None, volumes: tuple[int, int] | None, has_foreground: bool, notes: list[str], source: object
) -> dict[str, Any] | None:
    """Rows, columns and slices in our order; every channel's own depth."""
    if tile is None:
        return None
    solid = len(tile.tile_size) == 3
    if tile.tile_3d and not solid:
        raise refuse(source, "tile.tile_size", f"{list(tile.tile_size)} has no slices, and tile_3d asks for volumes.")
    if solid != (len(tile.step_size) == 3):
        raise refuse(
            source,
            "tile.step_size",
            f"{list(tile.step_size)} and tile.tile_size {list(tile.tile_size)} name different axes. "
            "Give rows and columns in both, or rows, columns and slices.",
        )
    depths = tile.depths or ((tile.depth,) if tile.depth > 1 else ())
    if tile.depths and "depth" in tile.model_fields_set:
        notes.append("tile.depth: tile.depths decides.")
    if solid and max((1, *depths)) > 1:
        notes.append("tile.depths: tiles of several slices need no more around them.")
    for name, slices in (("depths", depths), ("mask_depth", (tile.mask_depth,))):
        if even := [depth for depth in slices if depth % 2 == 0]:
            raise refuse(source, f"tile.{name}", f"{even[0]} slices have no middle one. Give odd numbers.")
    return {
        "size": [(*tile.tile_size, 1)[2], *tile.tile_size[:2]],
        "step": [(*tile.step_size, 1)[2], *tile.step_size[:2]],
        "depths": [] if solid else list(depths),
        "mask_depth": tile.mask_depth,
        "subvolume": volumes if solid else None,
        "min_fraction": tile.min_fraction if has_foreground else 0.0,
        "channels": list(tile.channels),
        "order": _ORDERS[tile.image_format],
        "masks": bool(tile.save_tiled_masks),
    }


def _train(
    file: PreparationFile, volumes: tuple[int, int] | None, has_foreground: bool, notes: list[str]
) -> dict[str, Any]:
    """What tiles and sub-volumes say of crops."""
    tile, made = file.tile, dict[str, Any]()
    if volumes is not None:
        made["depth"] = volumes[0]
    if tile is None:
        return made
    made |= {"crop": list(tile.tile_size[:2])}
    if len(tile.tile_size) == 3:
        made["depth"] = tile.tile_size[2]
    if tile.min_fraction and not has_foreground:
        notes.append("tile.min_fraction: there is no mask that it could be a fraction of; every tile teaches.")
    elif tile.min_fraction:
        made["min_fraction"] = tile.min_fraction
    return made
