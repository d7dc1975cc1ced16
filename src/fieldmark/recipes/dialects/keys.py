"""What other systems' configuration files have in common: whose they are, groups of keys, and what is said of each.

A dialect reads a file's plain values into a `Foreign...` value: a recipe of ours with the
document's defaults written out, and where images, labels and the model lie. Every key of the
file becomes a part of the recipe, is named in `notes`, or is an error with its path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from re import fullmatch
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    model_validator,
)

from fieldmark.errors import BadRecipe

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Dialect = Literal["openfibsem", "microdl-fit", "microdl-prepare", "microdl-predict"]

_OPENFIBSEM = {"data_paths", "label_paths"}
_IN_TRAIN = {"data_dir", "save_dir", "save_path", "num_classes", *_OPENFIBSEM}
"""Keys that the group `train` of our own recipes does not have."""
_FIT = {"dataset", "trainer", "network"}
_PREDICT = {"model_dir", "model_fname", "train_config", "image_dir"}
_PREPARE = {"input_dir", "output_dir"}


def dialect_of(values: Mapping[str, Any]) -> Dialect | None:
    """Whose file this is, by its keys; None for a recipe of our own (whose keys are others)."""
    train = values.get("train")
    if values.keys() & _OPENFIBSEM or (isinstance(train, dict) and train.keys() & _IN_TRAIN):
        return "openfibsem"
    if values.keys() & {"trainer", "network"}:
        return "microdl-fit"
    if values.keys() & _PREDICT:
        return "microdl-predict"
    if values.keys() & _PREPARE:
        return "microdl-prepare"
    return "microdl-fit" if values.keys() & _FIT else None


def _names_of(own: str, field: FieldInfo) -> list[str]:
    """The keys that a file may write a field by."""
    if isinstance(field.validation_alias, AliasChoices):
        return [str(name) for name in field.validation_alias.choices]
    return [field.alias or own]


class Group(BaseModel, frozen=True, extra="forbid"):
    """A group of keys in another system's file. A key without a value counts as absent."""

    ACCEPTED: ClassVar[dict[str, str]] = {}
    """Keys that decide nothing here, and why."""

    @model_validator(mode="before")
    @classmethod
    def _absent(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        known = {name for own, field in cls.model_fields.items() for name in _names_of(own, field)}
        return {key: value for key, value in values.items() if value is not None or key not in known}

    def told(self, where: str = "") -> list[str]:
        """A sentence for each key of the file that decides nothing here, its groups' keys included."""
        begin = f"{where}." if where else ""
        notes = [f"{begin}{key}: {self.ACCEPTED[key]}" for key in self.model_fields_set if key in self.ACCEPTED]
        inner = [(key, getattr(self, key)) for key in type(self).model_fields if key in self.model_fields_set]
        return sorted(notes) + [
            note for key, value in inner if isinstance(value, Group) for note in value.told(f"{begin}{key}")
        ]


def as_list(value: Any) -> Any:
    """One value alone stands for a list of it."""
    return [value] if isinstance(value, int | float | str) and not isinstance(value, bool) else value


def _all_or_some(value: Any) -> Any:
    """-1, alone or in a list, means all of them."""
    value = as_list(value)
    for item in value if isinstance(value, list | tuple) else ():
        if isinstance(item, str) and not fullmatch(r"-?\d+", item.strip()):  # "0-2" would be read as -2
            raise ValueError("no number; name each by itself: [0, 1, 2], or -1 for all")
    return [] if value in ([-1], ["-1"]) else value


Numbers = Annotated[tuple[NonNegativeInt, ...], BeforeValidator(as_list)]
"""Whole numbers; one alone stands for a list of it."""
Ids = Annotated[tuple[NonNegativeInt, ...], BeforeValidator(_all_or_some)]
"""Whole numbers; empty, or -1 in the file, for all."""
Place = Annotated[str, StringConstraints(min_length=1)]
"""A path; nothing would be the folder that the file lies in."""
Words = Annotated[tuple[str, ...], BeforeValidator(as_list)]
"""Words; one alone stands for a list of it."""


def _square(value: Any) -> Any:
    return [value, value] if isinstance(value, int) and not isinstance(value, bool) else value


Sides = Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=3), BeforeValidator(_square)]
"""Rows and columns, or rows, columns and slices; one number alone is both rows and columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which frames of a data set are looked at; empty for all."""

    channels: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()
    slices: tuple[int, ...] = ()
    times: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignFit:
    """A fit that another system's file describes.

    Args:
        dialect: Whose file it is.
        recipe: Values of a FitRecipe, every default of the document written out.
        images: Folders of images.
        labels: A folder of label maps for each folder of images; empty where `images` hold them below or beside.
        layout: How images lie there: `pairs` of images and label maps, or `frames`.
        save: The folder that models are saved in.
        name: The model's name in it; empty where `save` is the model's folder.
        whole: Networks are taught whole images.
        checkpoint: Weights to begin with.
        frames: Which frames teach.
        channels: Numbers of the channels of frames, in the order in which images have them; empty for 0, 1, 2, ...
        targets: Numbers of the channels that are learned.
        masks: Channels of the masks in folders of frames, the one that is meant first.
        find: With a learning rate finder: its settings (`base_lr`, `max_lr`, `epochs`, `figure`).
        notes: What is to be told about keys that have another meaning here, or none.
    """

    dialect: Dialect
    recipe: dict[str, Any]
    images: tuple[Path, ...]
    labels: tuple[Path, ...] = ()
    layout: Literal["pairs", "frames"]
    save: Path
    name: str = ""
    whole: bool = False
    checkpoint: Path | None = None
    frames: Chosen = Chosen()
    channels: tuple[int, ...] = ()
    targets: tuple[int, ...] = ()
    masks: tuple[int, ...] = ()
    find: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignPrepare:
    """A preparation that another system's file describes.

    Args:
        recipe: Values of a FitRecipe: `prepare`, and of `train` what tiles say of crops.
        images: The folder of frames.
        out: Where to put what is found.
        frames: Which frames are looked at.
        mask: Values of a MaskConfig for networks that are taught with the masks; None for none.
        borders: The same for weight maps between objects.
        made_masks: Folder where the computed masks lie, as a loss is to look at them; None where it computes them.
        made_weights: The same of weight maps.
        mask_ext: How masks are written: `.png` or `.npy`.
        mask_channel: The channel of the masks that a person made; None for the only one.
        masks: Folder of the masks of all planes; None where there are none.
        weights: Channels with label maps whose borders weight maps are drawn of; empty for those of the masks' objects,
            None for no weight maps.
        tiles: Values of a TilesConfig; None for none.
        notes: What is to be told.
    """

    recipe: dict[str, Any]
    images: Path
    out: Path
    frames: Chosen = Chosen()
    mask: dict[str, Any] | None = None
    borders: dict[str, Any] | None = None
    made_masks: Path | None = None
    made_weights: Path | None = None
    mask_ext: str = ".png"
    mask_channel: int | None = None
    masks: Path | None = None
    weights: tuple[int, ...] | None = None
    tiles: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignPredict:
    """A prediction that another system's file describes.

    Args:
        model: The model's folder.
        images: The folder of frames or images.
        out: Where to write.
        form: The format of what is written.
        recipe: Values of a PredictRecipe.
        frames: Which frames are predicted.
        targets: Channels of the images that show what is right.
        split: Which part of the images: `train`, `val`, `test` or `all`.
        metrics: Names of the numbers that are wanted.
        orientations: Along which planes.
        masks: Folder of masks for masked numbers.
        mask_channel: Of the masks, in a folder of frames; None for the only one.
        masks_are_right: Whether masks are what a model should answer, not where its answers are measured.
        word: What is added to each file's name.
        notes: What is to be told.
    """

    model: Path
    images: Path
    out: Path
    form: str
    recipe: dict[str, Any] = field(default_factory=dict)
    frames: Chosen = Chosen()
    targets: tuple[int, ...] = ()
    split: str = "all"
    metrics: tuple[str, ...] = ()
    orientations: tuple[str, ...] = ("xy",)
    masks: Path | None = None
    mask_channel: int | None = None
    masks_are_right: bool = False
    word: str = ""
    notes: tuple[str, ...] = ()


def grouped(notes: Iterable[str]) -> list[str]:
    """The same notes, `key: reason`, with keys of one reason in one sentence."""
    keys: dict[str, list[str]] = {}
    for note in notes:
        key, _, reason = note.partition(": ")
        keys.setdefault(reason, []).append(key)
    return [f"{', '.join(names)}: {reason}" for reason, names in keys.items()]


def path_of(text: str, beside: Path) -> Path:
    """A path as a file means it: relative ones begin at the folder that the file lies in, `~` at the user's home."""
    return beside / Path(text).expanduser()


def refuse(source: object, where: str, problem: str) -> BadRecipe:
    """The error for a value that nothing here can do; to be raised by the caller."""
    return BadRecipe(f"{source}: {where}: {problem}" if source else f"{where}: {problem}")
