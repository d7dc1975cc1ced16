"""Masks and weight maps of microDL's preprocessing YAML, and which of them a masked loss looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fieldmark.errors import near_miss
from fieldmark.recipes.dialects.keys import path_of, refuse
from fieldmark.recipes.dialects.microdl_channels import placed_mask

if TYPE_CHECKING:
    from pathlib import Path

    from fieldmark.recipes.dialects.keys import ForeignPrepare
    from fieldmark.recipes.dialects.microdl_channels import Channels
    from fieldmark.recipes.dialects.microdl_prepare import Masks, PreparationFile

METHODS = {
    "otsu": "otsu",
    "unimodal": "unimodal",
    "dataset otsu": "dataset-otsu",
    "borders_weight_loss_map": "borders",
}
MASK_FILES = (".png", ".npy")


def foreground_of(file: PreparationFile, beside: Path, source: object) -> dict[str, Any] | None:
    """Values of a ForegroundConfig; None where there are no masks."""
    masks = file.masks if file.use_masks else None
    if masks is None:
        return None
    if masks.mask_dir:
        return {"method": "folder", "folder": str(path_of(masks.mask_dir, beside))}
    method = _method(masks, source)
    if method == "borders":
        return None
    return {
        "method": method,
        "channels": list(masks.channels),
        "radius": masks.str_elem_radius,
        "by": "volume" if _has_volumes(file) else "slice",
    }


def mask_of(file: PreparationFile, beside: Path, source: object) -> dict[str, Any] | None:
    """What a loss looks at that is masked by the masks."""
    masks = file.masks if file.use_masks else None
    if masks is None:
        return None
    if masks.mask_dir:
        return {"folder": str(path_of(masks.mask_dir, beside))}
    method = _method(masks, source)
    channel = masks.channels[0] if masks.channels else None
    if method == "borders":
        return {"method": method, "channel": channel}
    return {
        "method": "otsu" if method == "dataset-otsu" else method,
        "channel": channel,
        "radius": masks.str_elem_radius,
        "by": "volume" if _has_volumes(file) else "slice",
    }


def borders_of(file: PreparationFile) -> dict[str, Any] | None:
    """What a loss looks at that is weighted between objects."""
    masks = file.masks if file.use_masks else None
    if not file.make_weight_map and file.weight_map is None:
        return None
    channels = (file.weight_map.channels if file.weight_map else ()) or (masks.channels if masks else ())
    return {"method": "borders", "channel": channels[0] if channels else None}


def loss_mask(
    prepared: ForeignPrepare, number: int, there: Channels, *, labels: bool, weighed: bool, notes: list[str]
) -> dict[str, Any] | None:
    """What a loss looks at whose mask is a channel beyond those of the frames; None where nothing was prepared.

    As microDL numbers them, masks that were computed are the channel after the last one, and weight maps the next.

    Args:
        prepared: What prepared the data.
        number: Of the channel.
        there: The channels of the frames.
        labels: Whether label maps are learned, of whose objects weight maps can be drawn.
        weighed: Whether values of the mask have weights, by which those of files are no places.
        notes: What is to be told.
    """
    rule, made = prepared.mask, prepared.made_masks if not weighed else None
    if prepared.borders is not None and _is_of_weights(prepared, number, there):
        rule, made = prepared.borders, prepared.made_weights if not (labels or weighed) else None
    if made is None or rule is None:
        return None if rule is None else placed_mask(rule, there)
    notes.append(f"dataset.mask_channels: {number} are the files in {made}.")
    return {"folder": str(made)}


def _is_of_weights(prepared: ForeignPrepare, number: int, there: Channels) -> bool:
    """Whether a number means the weight maps. Raises BadRecipe where it is neither theirs nor that of computed masks.

    They stand behind the masks, be these computed or a person's; a person's may have any other number.
    """
    if prepared.mask is None or not there.numbers:
        return True
    behind = max(there.numbers) + 1
    computed = "method" in prepared.mask
    weights = behind + 1 if computed or prepared.mask_channel == behind else behind
    if computed and number not in (behind, weights):
        raise refuse(
            None,
            "dataset.mask_channels",
            f"{number} is no channel of the frames, and neither {behind}, the prepared masks, nor {weights}, the "
            "weight maps. Name one of these.",
        )
    return number == weights


def mask_ext_of(file: PreparationFile, source: object) -> str:
    """How masks are written: `.png` or `.npy`."""
    said = file.masks.mask_ext if file.masks is not None else ".png"
    if said not in MASK_FILES:
        raise refuse(source, "masks.mask_ext", f"{said!r} is no form of masks. {near_miss(said, MASK_FILES)}")
    return said


def mask_channel_of(file: PreparationFile, notes: list[str]) -> int | None:
    """Of the masks that a person made."""
    masks = file.masks
    if masks is None or masks.mask_channel is None:
        return None
    if not masks.mask_dir:
        notes.append("masks.mask_channel: a computed mask needs no channel of its own.")
        return None
    return masks.mask_channel


def weights_of(file: PreparationFile, source: object) -> tuple[int, ...] | None:
    """Channels with label maps whose borders weight maps are drawn of; see `ForeignPrepare.weights`."""
    masks = file.masks if file.use_masks else None
    borders = masks is not None and not masks.mask_dir and _method(masks, source) == "borders"
    if not (file.make_weight_map or file.weight_map is not None or borders):
        return None
    asked = file.weight_map.channels if file.weight_map is not None else ()
    channels = asked or (masks.channels if masks is not None and borders else ())
    if not channels and (masks is None or borders):
        raise refuse(
            source,
            "weight_map.channels" if masks is None else "masks.channels",
            "there are no masks whose objects could be weighed. Name a channel with label maps, or ask for masks.",
        )
    return channels


def _method(masks: Masks, source: object) -> str:
    if masks.mask_type not in METHODS:
        raise refuse(
            source, "masks.mask_type", f"{masks.mask_type!r} is no kind of mask. {near_miss(masks.mask_type, METHODS)}"
        )
    return METHODS[masks.mask_type]


def _has_volumes(file: PreparationFile) -> bool:
    """Whether the file's data are volumes, not slices: their masks are opened by a ball."""
    resize, tile = file.resize, file.tile
    solid = resize is not None and (resize.resize_3d or resize.num_slices_subvolume > 0)
    return solid or (tile is not None and tile.tile_3d)
