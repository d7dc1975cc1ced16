"""What a network is taught from: which channels it sees, what it should answer, and which images test it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from fieldmark.recipes.places import PathText


class TargetConfig(BaseModel, frozen=True, extra="forbid"):
    """What the network should answer for each image."""

    kind: Literal["marks", "labels", "image", "numbers"] = "marks"
    """`marks`: strokes and label tiles of the project; `labels`: a label map for each image; `image`: an image each;
    `numbers`: some numbers for each whole image."""
    table: PathText | None = None
    """Of `numbers`: CSV with a column `image` and one for each number; an empty cell is unknown."""
    columns: tuple[str, ...] = ()
    """Of the table; empty for all but `image`."""
    folder: PathText | None = None
    """Where label maps or target images lie; None for channels of the images themselves."""
    pair_by: Literal["stem", "order"] = "stem"
    """`order`: the n-th file of the folder belongs to the n-th image, both sorted by name (OpenFIBSEM)."""
    channels: tuple[NonNegativeInt, ...] = ()
    """Of the target image; empty for all."""
    ignore: NonNegativeInt | None = None
    """The value of label maps that means unknown: such pixels teach nothing."""
    objects: bool = False
    """Label maps number single objects: every value but 0 is class 1."""
    classes: PositiveInt | None = None
    """Values of label maps from this number on are class 0, the background (OpenFIBSEM)."""


class MaskConfig(BaseModel, frozen=True, extra="forbid"):
    """Where the loss is looked at: pixels of a mask, or weights by its labels."""

    folder: PathText | None = None
    """A mask for each image, by stem."""
    channel: NonNegativeInt | None = None
    """Of the images themselves, where no folder is given."""
    method: Literal["none", "otsu", "unimodal", "borders"] = "none"
    """Computed from `channel` (of the images or the target) where no mask is given; `borders`: a weight map of the
    label maps that is heavy between touching objects (U-Net paper)."""
    radius: NonNegativeInt = 5
    """Of the disk or ball that opens a computed mask, in pixels."""
    by: Literal["slice", "volume"] = "slice"
    """Whether each slice is masked by itself (and opened by a disk), or all slices together (by a ball)."""
    label_weights: tuple[NonNegativeFloat, ...] = ()
    """The weight of each value of the mask; empty for the value itself (8 bits: over 255, where any is above 1)."""


MANY_CHANNELS = (
    "has {0} channels; a label map has one, of whole numbers (colors are no classes). Write it with one channel, or "
    "name the channel that holds the numbers: --set data.target.channels=[0]."
)
"""What is said of a label map of which no channel was named."""
WAYS = ("group", "image", "split")
PLANES = {"time": 0, "time_idx": 0, "slice": 1, "slice_idx": 1}
COLUMN = "column:"
"""Before a column's name, where it could be taken for another way to part images."""


class SplitConfig(BaseModel, frozen=True, extra="forbid"):
    """Which images teach, validate and test. Groups are never split."""

    by: str = Field(default="group", min_length=1)
    """`group`: an image without one stands alone; `image`: whatever the groups; `split`: as the project says; `time`
    and `slice` (or `time_idx` and `slice_idx`): planes of each image. Or a column of the images, such as `patient`:
    images with the same value stay together, and so do those of a group; `column:time` where a column has one of
    these names."""
    train: float = Field(default=0.85, ge=0, le=1)
    validation: float = Field(default=0.15, ge=0, le=1)
    test: float = Field(default=0.0, ge=0, le=1)
    order: Literal["random", "first"] = "random"
    """`first`: the first ones validate, of shares rounded down (OpenFIBSEM)."""
    seed: NonNegativeInt | None = None
    """By itself the run's."""

    @property
    def axis(self) -> int | None:
        """0 to part images along t, 1 along z; None for whole images."""
        return PLANES.get(self.by)

    @property
    def column(self) -> str | None:
        """The column of the images that parts them; None for the other ways."""
        own = self.by in WAYS or self.by in PLANES
        return None if own else self.by.removeprefix(COLUMN)

    @model_validator(mode="after")
    def _whole(self) -> SplitConfig:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(
                f"train ({self.train:g}), validation ({self.validation:g}) and test ({self.test:g}) must sum to 1; "
                f"they sum to {total:g}, so set all three"
            )
        return self


class DataConfig(BaseModel, frozen=True, extra="forbid"):
    """What a network is taught from."""

    inputs: tuple[NonNegativeInt, ...] = ()
    """Channels that the network sees; empty for all."""
    target: TargetConfig = TargetConfig()
    mask: MaskConfig | None = None
    split: SplitConfig = SplitConfig()
