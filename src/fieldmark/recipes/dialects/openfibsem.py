"""OpenFIBSEM's `config.yaml`, in both styles: `train: {data_dir: ...}`, and `data_paths` with `label_paths`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AliasChoices, Field, NonNegativeInt, PositiveFloat, PositiveInt

from fieldmark.errors import near_miss
from fieldmark.recipes.dialects.keys import ForeignFit, Group, Place, Words, path_of, refuse
from fieldmark.recipes.loading import validate

_WANDB = "Weights & Biases takes it from the environment; set WANDB_PROJECT or WANDB_ENTITY."
_OFTEN = "numbers are written at every epoch, into history.csv."
LOSS = {"ce": 1.0, "dice": 1.0, "focal": 1.0}
"""The sum that OpenFIBSEM minimizes."""
TRANSFORMS = {
    "flip": 0.1,
    "rot90": False,
    "rotate": 15.0,
    "autocontrast": 0.1,
    "equalize": 0.1,
    "blur": [0.1, 2.0],
    "intensity_scale": 0.1,
    "contrast": 0.1,
}
"""`apply_transforms` as ours."""
_OWN = ("resnet", "efficientnet-", "unet")
NO_TRANSFORMS = {"flip": 0.0, "rot90": False}


class _Settings(Group, frozen=True, extra="forbid"):
    """What both styles share."""

    ACCEPTED: ClassVar[dict[str, str]] = {
        "cuda": "true takes a GPU where the machine has one, and the processor elsewhere.",
        "wandb_project": _WANDB,
        "wandb_entity": _WANDB,
        "wandb_project_name": _WANDB,
        "note": "is kept in the file alone.",
        "train_log_freq": _OFTEN,
        "val_log_freq": _OFTEN,
    }

    checkpoint: str | None = None
    encoder: str = Field(default="resnet34", min_length=1)
    cuda: bool = True
    batch_size: PositiveInt = 4
    optimizer: Annotated[Literal["adam", "sgd"], Field()] = "adam"
    wandb: bool = False
    wandb_project: str = ""
    wandb_entity: str = ""
    wandb_project_name: str = ""
    model_type: str = ""
    note: str = ""
    train_log_freq: NonNegativeInt = 32
    val_log_freq: NonNegativeInt = 32


class FolderStyle(_Settings, frozen=True, extra="forbid"):
    """The group `train` of the documented file."""

    data_dir: Place
    save_dir: Place
    epochs: PositiveInt = 20
    num_classes: int = Field(default=3, ge=2)
    learning_rate: PositiveFloat = 1e-4
    split: float = Field(default=0.15, ge=0, lt=1, validation_alias=AliasChoices("split", "val_split"))
    apply_transforms: bool = False
    """The version of this file changed no image while training."""


class PathsStyle(_Settings, frozen=True, extra="forbid"):
    """The latest version's file."""

    data_paths: Words = Field(min_length=1)
    label_paths: Words = Field(min_length=1)
    save_path: Place
    epochs: PositiveInt = 50
    num_classes: int = Field(default=6, ge=2)
    lr: PositiveFloat = 3e-4
    split: float = Field(default=0.1, ge=0, lt=1)
    apply_transforms: bool = True


class _Document(Group, frozen=True, extra="forbid"):
    """The documented file: groups for other programs stand beside `train`."""

    ACCEPTED: ClassVar[dict[str, str]] = {
        "labelling": "belongs to the labelling program; fit does not look at it.",
        "inference": "belongs to the inference program; say it to `fieldmark predict`.",
    }

    train: dict[str, Any]
    labelling: dict[str, Any] = Field(default_factory=dict)
    inference: dict[str, Any] = Field(default_factory=dict)


def fit_of(values: dict[str, Any], *, beside: Path, source: object = "") -> ForeignFit:
    """The fit of a file in either style.

    Args:
        values: As read.
        beside: The folder that the file lies in: relative paths begin there.
        source: The file, as the user typed it.

    Raises:
        BadRecipe: An unknown key (with the near miss) or a wrong value, named by its path.
    """
    notes, where = [], ""
    if "train" in values:
        document = validate(_Document, values, source=source)
        notes, where, values = document.told(), "train", document.train
    if values.keys() & {"data_paths", "label_paths"}:
        paths = validate(PathsStyle, _lower(values), where=where, source=source)
        return _of_paths(paths, notes, where, beside, source)
    folder = validate(FolderStyle, _lower(values), where=where, source=source)
    recipe = _recipe(folder, folder.learning_rate, folder.epochs)
    return ForeignFit(
        dialect="openfibsem",
        recipe=recipe,
        images=(path_of(folder.data_dir, beside),),
        layout="pairs",
        save=path_of(folder.save_dir, beside),
        name=_name(folder),
        whole=True,
        checkpoint=_checkpoint(folder, beside),
        notes=(*notes, *folder.told(where), *_said(folder, where, source)),
    )


def _of_paths(paths: PathsStyle, notes: list[str], where: str, beside: Path, source: object) -> ForeignFit:
    if len(paths.data_paths) != len(paths.label_paths):
        counts = f"{len(paths.data_paths)} folders of images and {len(paths.label_paths)} of labels"
        raise refuse(source, "label_paths", f"found {counts}; name a folder of labels for each folder of images.")
    return ForeignFit(
        dialect="openfibsem",
        recipe=_recipe(paths, paths.lr, paths.epochs),
        images=tuple(path_of(text, beside) for text in paths.data_paths),
        labels=tuple(path_of(text, beside) for text in paths.label_paths),
        layout="pairs",
        save=path_of(paths.save_path, beside),
        name=_name(paths),
        whole=True,
        checkpoint=_checkpoint(paths, beside),
        notes=(*notes, *paths.told(where), *_said(paths, where, source)),
    )


def _lower(values: dict[str, Any]) -> dict[str, Any]:
    """`SGD` is `sgd`: the document says that case does not matter."""
    name = values.get("optimizer")
    return values | {"optimizer": name.lower()} if isinstance(name, str) else values


def _recipe(settings: FolderStyle | PathsStyle, lr: float, epochs: int) -> dict[str, Any]:
    return {
        "family": "unet",
        "net": {"encoder": _encoder(settings.encoder)},
        "data": {
            "target": {"kind": "labels", "pair_by": "order", "classes": settings.num_classes},
            "split": {"train": 1 - settings.split, "validation": settings.split, "order": "first"},
        },
        "prepare": {"normalize": {"scheme": "dataset", "statistic": "max"}},
        "train": {
            "epochs": epochs,
            "batch_size": settings.batch_size,
            "lr": lr,
            "optimizer": settings.optimizer,
            "schedule": "constant",
            "warmup_steps": 0,
            "weight_decay": 0.0,
            "clip_norm": None,
            "loss": {"terms": dict(LOSS)},
            "augment": dict(TRANSFORMS if settings.apply_transforms else NO_TRANSFORMS),
            "loggers": ["wandb"] if settings.wandb else [],
        },
        "accelerator": "auto" if settings.cuda else "cpu",
    }


def _encoder(name: str) -> str:
    """The encoder's name here: residual and efficient ones have the same, all others are timm's."""
    if name.startswith(_OWN) or ":" in name:
        return name
    return f"timm:{name.removeprefix('timm-').removeprefix('tu-').replace('-', '_')}"


def _said(settings: _Settings, where: str, source: object) -> list[str]:
    """What is not as the file means it. Raises BadRecipe for another kind of model."""
    begin = f"{where}." if where else ""
    kind = settings.model_type
    known = ["smp", "unet", "Unet"]
    if kind and kind not in known:
        raise refuse(source, f"{begin}model_type", f"{kind!r} is no U-Net. {near_miss(kind, known)}")
    said = [
        f"{begin}encoder: {settings.encoder} begins with random weights, so that nothing is downloaded; "
        "--set net.weights=FILE takes weights from a file."
    ]
    return said if not settings.checkpoint else []


def _name(settings: FolderStyle | PathsStyle) -> str:
    return f"unet-{settings.encoder}".replace("/", "-").replace(":", "-")


def _checkpoint(settings: _Settings, beside: Path) -> Path | None:
    return path_of(settings.checkpoint, beside) if settings.checkpoint else None
