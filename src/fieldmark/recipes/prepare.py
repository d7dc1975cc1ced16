"""How raw pixels become what a network sees: flat field, scale, normalization; saved with the model as data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from fieldmark.core.fingerprint import files_hash
from fieldmark.recipes.places import PathText

_Percent = Annotated[float, Field(ge=0, le=100)]
_Factor = Annotated[float, Field(ge=1 / 64, le=64)]


def _one_or_three(factors: Any) -> Any:
    if isinstance(factors, list | tuple) and len(factors) != 3:
        raise ValueError("must be one factor, for y and x, or three, [z, y, x]")
    return factors


def _rising(percents: tuple[float, float]) -> tuple[float, float]:
    if percents[0] >= percents[1]:
        raise ValueError("Between these percentiles lies nothing. Give the lower one first")
    return percents


class FlatFieldConfig(BaseModel, frozen=True, extra="forbid"):
    """Uneven illumination, divided out: a surface over its mean."""

    method: Literal["basic", "blocks", "file"] = "basic"
    """`basic`: BaSiC's estimate (see `prepare.light`); `blocks`: microDL's, also where `block` or `order` is said
    without a method."""
    channels: tuple[NonNegativeInt, ...] = ()
    """Channels that are corrected; empty for all that the network sees."""
    block: PositiveInt = 32
    """Side in pixels of the blocks whose medians the polynomial is fitted to."""
    order: int = Field(default=2, ge=0, le=5)
    """Of the polynomial in y and x, on coordinates scaled to -1..1."""
    folder: PathText | None = None
    """With `file`: `flat-field_channel-C.npy` for each channel."""

    @model_validator(mode="before")
    @classmethod
    def _implied(cls, values: Any) -> Any:
        if isinstance(values, dict) and "method" not in values and values.keys() & {"block", "order"}:
            return {**values, "method": "blocks"}
        return values

    def fingerprint(self) -> str:
        """The hash of the folder's files; empty where none are read."""
        return (
            files_hash(Path(self.folder), "flat-field_channel-*.npy") if self.method == "file" and self.folder else ""
        )


class NormalizeConfig(BaseModel, frozen=True, extra="forbid"):
    """Center and spread of a channel's values."""

    scheme: Literal["dataset", "volume", "slice", "stack", "none"] = "dataset"
    """Whose statistics: of all teaching images (kept with the model), of an image's volume, of each slice by itself;
    `stack` is `slice` with mean and std (microDL)."""
    statistic: Literal["median-iqr", "mean-std", "max"] = "mean-std"
    """`max` divides by the largest value that the type can hold (OpenFIBSEM's image / 255)."""
    clip: Annotated[tuple[_Percent, _Percent], AfterValidator(_rising)] | None = None
    """Percentiles outside of which values are cut, the lower one first, before anything is measured."""
    min_fraction: float = Field(default=0.0, ge=0, le=1)
    """Only blocks with at least this share of foreground are measured."""
    channels: tuple[NonNegativeInt, ...] = ()
    """Channels that are normalized; empty for all that the network sees."""
    targets: bool = True
    """Target images are normalized likewise (data-set statistics), and predictions are brought back to their units."""


class ForegroundConfig(BaseModel, frozen=True, extra="forbid"):
    """Where there is something to see."""

    method: Literal["otsu", "unimodal", "dataset-otsu", "folder"] = "otsu"
    channels: tuple[NonNegativeInt, ...] = ()
    """Averaged before the threshold; empty for all."""
    radius: NonNegativeInt = 5
    """Of the disk or ball that opens the mask, in pixels."""
    fill: bool = False
    """Holes too; those of a volume are closed on all sides."""
    by: Literal["slice", "volume"] = "slice"
    """Whether each slice has a threshold and is opened by a disk, or all slices of a volume have one and are opened by
    a ball."""
    folder: PathText | None = None
    """With `folder`: the user's own masks, by stem."""


class TilesConfig(BaseModel, frozen=True, extra="forbid"):
    """How images are cut into tiles that teach; pixels and slices, along z, y, x."""

    size: tuple[PositiveInt, PositiveInt, PositiveInt]
    """Of a tile; 1 slice for planes."""
    step: tuple[PositiveInt, PositiveInt, PositiveInt]
    """From one tile to the next."""
    depths: tuple[PositiveInt, ...] = ()
    """2.5-D: slices around a tile's middle one, for each channel; empty for 1."""
    mask_depth: PositiveInt = 1
    """Slices around the middle one whose foreground is measured; tiles of several slices are measured whole."""
    min_fraction: float = Field(default=0.0, ge=0, le=1)
    """Least share of foreground of a tile that is chosen."""
    subvolume: tuple[PositiveInt, PositiveInt] | None = None
    """Slices of the sub-volumes that tiles of several slices are cut of, and slices from one to the next; None for one
    volume. The last sub-volume is flush with the last slice."""
    channels: tuple[NonNegativeInt, ...] = ()
    """Channels of copies on disk; empty for all."""
    order: Literal["zyx", "yxz", "zxy"] = "zyx"
    """Axes of copies on disk."""
    masks: bool = False
    """Whether copies on disk hold the masks too."""

    @property
    def depth(self) -> int:
        """Slices around a tile's middle one that must be there."""
        return max((1, *self.depths))


class PrepareConfig(BaseModel, frozen=True, extra="forbid"):
    """From raw to prepared pixels, in this order."""

    flat_field: FlatFieldConfig | None = None
    resize: Annotated[_Factor | tuple[_Factor, _Factor, _Factor] | None, BeforeValidator(_one_or_three)] = None
    """Factor along y and x, or three, along z, y and x: images are read at this size, and predictions come back at
    their own. U-Nets alone. Images of a single slice keep it."""
    normalize: NormalizeConfig | None = None
    """None for the family's own way (see `net.color`)."""
    foreground: ForegroundConfig | None = None
    """For statistics, for the choice of crops (`train.min_fraction`) and for masked losses."""
