"""microDL's training YAML: `dataset`, `trainer`, `network`; with a learning rate finder also its LR-finder YAML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from fieldmark.errors import near_miss
from fieldmark.recipes.dialects.keys import (
    Chosen,
    ForeignFit,
    ForeignPrepare,
    Group,
    Numbers,
    Place,
    Words,
    path_of,
    refuse,
)
from fieldmark.recipes.dialects.microdl_callbacks import SHOWN, Callbacks, early_of, finder_of, rates_of, unused_rates
from fieldmark.recipes.dialects.microdl_channels import Channels, placed_preparation
from fieldmark.recipes.dialects.microdl_masks import loss_mask
from fieldmark.recipes.dialects.microdl_net import TO_NUMBERS, Network, net_of
from fieldmark.recipes.loading import validate
from fieldmark.recipes.train import Chance, Lean, Sigmas, Turn, Zooms

_WORKERS = "batches are prepared beside the training, in one thread."

LOSSES: dict[str, dict[str, float]] = {
    "mae_loss": {"mae": 1.0},
    "mean_absolute_error": {"mae": 1.0},
    "mae": {"mae": 1.0},
    "mse_loss": {"mse": 1.0},
    "mean_squared_error": {"mse": 1.0},
    "mse": {"mse": 1.0},
    "kl_divergence_loss": {"kl": 1.0},
    "dssim_loss": {"dssim": 1.0},
    "ms_ssim_loss": {"ms-ssim": 1.0},
    "dice_coef_loss": {"dice": 1.0},
    "binary_crossentropy_loss": {"bce": 1.0},
    "binary_crossentropy": {"bce": 1.0},
}
"""By microDL's names, and Keras's; its sums with the mean absolute error are a part of ours (`learn.losses`)."""
OF_LABELS = frozenset({"dice_coef_loss", "binary_crossentropy_loss", "binary_crossentropy"})
"""Those of segmentation."""
SPLITS = {"pos_idx": "image", "file_name": "image", "slice_idx": "slice", "time_idx": "time"}
"""Columns of frames that are axes of images here; any other is a column of theirs."""
WITHIN = ("channel_idx", "channel_name")
OPTIMIZERS = {"adam": "adam", "adamw": "adamw", "sgd": "sgd", "nadam": "adam"}


class Ratio(Group, frozen=True, extra="forbid"):
    """Shares of the data; they sum to one."""

    train: float = Field(ge=0, le=1)
    val: float = Field(default=0.0, ge=0, le=1)
    test: float = Field(default=0.0, ge=0, le=1)


class Augmentations(Group, frozen=True, extra="forbid"):
    """Changes of tiles while training; flips and quarter turns always belong to them."""

    zoom_range: Zooms = (1.0, 1.0)
    rotate_range: Turn = 0.0
    mean_jitter: NonNegativeFloat = 0.0
    std_jitter: Chance = 0.0
    intensity_jitter: tuple[NonNegativeFloat, Chance] = (0.0, 0.0)
    noise_std: NonNegativeFloat = 0.0
    blur_range: Sigmas = (0.0, 0.0)
    shear_range: Lean = 0.0


def _on_or_off(value: Any) -> Any:
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


class Dataset(Group, frozen=True, extra="forbid"):
    """Where the frames are, and what is learned from what."""

    ACCEPTED: ClassVar[dict[str, str]] = {
        "squeeze": "arrays keep their axes.",
        "preprocess": "preparation is a command of its own: fieldmark prepare --config FILE.",
        "shuffle": "samples are drawn in another order in every epoch.",
        "file_format": "formats are recognized by their content.",
        "num_workers": _WORKERS,
    }

    data_dir: Place
    input_channels: Numbers = Field(min_length=1)
    target_channels: Numbers = Field(min_length=1)
    mask_channels: Numbers = ()
    split_by_column: str = "pos_idx"
    split_ratio: Ratio = Ratio(train=0.7, val=0.15, test=0.15)
    train_fraction: float = Field(default=1.0, gt=0, le=1)
    random_seed: NonNegativeInt = 0
    shuffle: bool = True
    squeeze: bool = False
    normalize: bool = False
    model_task: Literal["regression", "segmentation"] | None = None
    """By itself `regression`, or what the loss asks for."""
    label_weights: tuple[NonNegativeFloat, ...] = ()
    augmentations: Annotated[Augmentations | None, BeforeValidator(_on_or_off)] = None
    preprocess: bool = False
    height: PositiveInt | None = None
    width: PositiveInt | None = None
    file_format: str = ""
    num_workers: NonNegativeInt = 1


class Optimizer(Group, frozen=True, extra="forbid"):
    """The optimizer and its rate."""

    name: str = "adam"
    lr: PositiveFloat = 1e-3


class Trainer(Group, frozen=True, extra="forbid"):
    """How it is trained."""

    ACCEPTED: ClassVar[dict[str, str]] = {
        "metrics": "every number of the task is written at every epoch.",
        "num_workers": _WORKERS,
        "workers": _WORKERS,
        "verbose": SHOWN,
        "data_format": "arrays have one order of axes here.",
        "patience": "callbacks.EarlyStopping.patience decides.",
        "ModelTrainer": "there is one way to train.",
        "resume": "a fit that was stopped goes on when it is begun again.",
        "gpu_mem_frac": "memory is taken as it is needed.",
    }

    model_dir: Place
    batch_size: PositiveInt = 64
    max_epochs: PositiveInt = 50
    metrics: Words = ()
    loss: str = "mae_loss"
    masked_loss: bool = False
    num_workers: NonNegativeInt = 1
    workers: NonNegativeInt = 1
    resume: bool = False
    patience: PositiveInt | None = None
    callbacks: Callbacks = Callbacks()
    optimizer: Optimizer = Optimizer()
    augmentations: Annotated[Augmentations | None, BeforeValidator(_on_or_off)] = None
    verbose: bool | int = False
    data_format: str = ""
    ModelTrainer: str = ""
    gpu_mem_frac: float = 1.0
    train_fraction: float = Field(default=1.0, gt=0, le=1)


class TrainingFile(Group, frozen=True, extra="forbid"):
    """The whole file."""

    ACCEPTED: ClassVar[dict[str, str]] = {
        "verbose": SHOWN,
        "gpu_mem_frac": "memory is taken as it is needed.",
        "num_workers": _WORKERS,
    }

    dataset: Dataset
    trainer: Trainer
    network: Network
    verbose: bool | int = False
    gpu_mem_frac: float = 1.0
    num_workers: NonNegativeInt = 1


def fit_of(
    values: dict[str, Any],
    *,
    beside: Path,
    source: object = "",
    prepared: ForeignPrepare | None = None,
    channels: tuple[int, ...] = (),
) -> ForeignFit:
    """The fit of a training file.

    Args:
        values: As read.
        beside: The folder that the file lies in: relative paths begin there.
        source: The file, as the user typed it.
        prepared: What prepared the data, where that is known (`preprocessing_info.json`).
        channels: Numbers of the channels that frames have, in order; empty where nobody has looked.

    Raises:
        BadRecipe: An unknown key (with the near miss) or a value that nothing here can do, named by its path.
    """
    file = validate(TrainingFile, values, source=source)
    rates = file.trainer.callbacks.LearningRateScheduler
    notes = [*file.told(), *unused_rates(rates, own="lr" in file.trainer.optimizer.model_fields_set)]
    if file.dataset.augmentations is not None and file.trainer.augmentations is not None:
        notes.append("trainer.augmentations: dataset.augmentations decides.")
    there = Channels(channels, source)
    recipe = _recipe(file, prepared, notes, there)
    frames = prepared.frames if prepared is not None else Chosen()
    if recipe["net"]["dims"] != "2" and (gap := _gap(frames.slices)):
        notes.append(f"dataset.data_dir: was prepared without slice {gap}; the slices beside it count as neighbors.")
    return ForeignFit(
        dialect="microdl-fit",
        recipe=recipe,
        images=(prepared.images if prepared is not None else path_of(file.dataset.data_dir, beside),),
        layout="frames",
        save=path_of(file.trainer.model_dir, beside),
        frames=frames,
        channels=channels,
        targets=file.dataset.target_channels,
        masks=_mask_channels(file, prepared),
        find=finder_of(rates, beside),
        notes=tuple(notes),
    )


def _gap(slices: Sequence[int]) -> int | None:
    """The first slice that is missing between others."""
    return next((z for z in range(min(slices, default=0), max(slices, default=0)) if z not in slices), None)


def _recipe(file: TrainingFile, prepared: ForeignPrepare | None, notes: list[str], there: Channels) -> dict[str, Any]:
    given, source = prepared.recipe if prepared is not None else {}, there.source
    train = given.get("train", {}) | _train(file, notes, source)
    crop = _crop(file)
    return {
        "family": "image-to-numbers" if file.network.class_ in TO_NUMBERS else "unet",
        "net": net_of(file.network, len(file.dataset.input_channels), len(file.dataset.target_channels), source, notes),
        "data": _data(file, prepared, notes, there),
        "prepare": placed_preparation(_prepare(file, given, notes), there),
        "train": train | ({"crop": crop} if crop else {}),
        "seed": file.dataset.random_seed,
    }


def _prepare(file: TrainingFile, given: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    prepare: dict[str, Any] = dict(given.get("prepare", {}))
    if file.dataset.normalize:
        notes.append("dataset.normalize: a slice is normalized as a whole, not tile by tile, so that tiles agree.")
        prepare["normalize"] = {"scheme": "stack", "statistic": "mean-std"}
    elif not given:
        notes.append(
            "dataset.data_dir: no preprocessing_info.json says how the data were prepared; "
            "they are normalized by median and IQR over the data set."
        )
        prepare["normalize"] = {"scheme": "dataset", "statistic": "median-iqr"}
    return prepare


def _crop(file: TrainingFile) -> list[int] | None:
    """Height and width of tiles, where the file says them."""
    height = file.dataset.height or file.network.height
    width = file.dataset.width or file.network.width
    return [height or width or 256, width or height or 256] if height or width else None


def _data(file: TrainingFile, prepared: ForeignPrepare | None, notes: list[str], there: Channels) -> dict[str, Any]:
    dataset, source = file.dataset, there.source
    if dataset.split_by_column in WITHIN:
        raise refuse(
            source,
            "dataset.split_by_column",
            f"{dataset.split_by_column!r} differs within each image, which keeps all its channels. Name another "
            f"column: {', '.join(SPLITS)}, dir_name, or one of your own in frames_meta.csv.",
        )
    ratio = dataset.split_ratio
    total = ratio.train + ratio.val + ratio.test
    if abs(total - 1) > 1e-6:
        raise refuse(source, "dataset.split_ratio", f"train, val and test sum to {total:g}; they must sum to 1.")
    target = _target(file, prepared, notes, there)
    if file.network.class_ in TO_NUMBERS:
        notes.append(
            "dataset.target_channels: numbers of whole images are read from a table, with a column `image` that names "
            "positions as p000: --set data.target.table=FILE.csv."
        )
        target = {"kind": "numbers"}
    return {
        "inputs": there.places(dataset.input_channels, "dataset.input_channels"),
        "target": target,
        "mask": _mask(file, prepared, notes, there),
        "split": {
            "by": SPLITS.get(dataset.split_by_column, f"column:{dataset.split_by_column}"),
            "train": ratio.train,
            "validation": ratio.val,
            "test": ratio.test,
        },
    }


def _target(file: TrainingFile, prepared: ForeignPrepare | None, notes: list[str], there: Channels) -> dict[str, Any]:
    """What is learned: channels of the frames, or the masks of the preparation, which have a number beyond those."""
    kind, numbers = _kind(file, notes, there.source), file.dataset.target_channels
    masks = prepared.masks if prepared is not None else None
    if kind == "labels" and masks is not None and len(numbers) == 1 and there.numbers and not there.has(numbers[0]):
        notes.append(f"dataset.target_channels: {numbers[0]} are the masks in {masks}.")
        return {"kind": kind, "folder": str(masks)}
    if file.network.class_ in TO_NUMBERS:
        return {"kind": kind}
    flat = prepared.recipe.get("prepare", {}).get("flat_field") if prepared is not None else None
    lit = [n for n in numbers if flat and (not flat["channels"] or n in flat["channels"])]
    if kind == "image" and lit:
        notes.append(f"dataset.target_channels: {lit} teach in their own light; flat_field corrects what is seen.")
    return {"kind": kind, "channels": there.places(numbers, "dataset.target_channels")}


def _kind(file: TrainingFile, notes: list[str], source: object) -> str:
    """What the target is, a picture or labels: as `model_task` says; where it says nothing, as the loss asks for."""
    said, loss = file.dataset.model_task, file.trainer.loss
    numbers = file.network.class_ in TO_NUMBERS
    wanted = "segmentation" if loss in OF_LABELS else "regression"
    if loss in LOSSES and wanted != ("regression" if numbers else said or wanted):
        why = f"network.class is {file.network.class_}" if numbers else f"dataset.model_task is {said}"
        fit = sorted(OF_LABELS if wanted == "regression" else LOSSES.keys() - OF_LABELS)
        raise refuse(source, "trainer.loss", f"{loss!r} is for {wanted}, and {why}. Use {', '.join(fit)}.")
    if said is None and wanted == "segmentation":
        notes.append(f"dataset.model_task: is segmentation, since trainer.loss is {loss}.")
    return "labels" if wanted == "segmentation" else "image"


def _mask(
    file: TrainingFile, prepared: ForeignPrepare | None, notes: list[str], there: Channels
) -> dict[str, Any] | None:
    """The mask of a masked loss: computed as the preparation said, or a channel of the images."""
    channels = file.dataset.mask_channels
    weights = list(file.dataset.label_weights)
    if not file.trainer.masked_loss:
        unused = [key for key in ("mask_channels", "label_weights") if getattr(file.dataset, key)]
        notes += [f"dataset.{key}: is not looked at, since trainer.masked_loss is off." for key in unused]
        return None
    if len(channels) != 1:
        raise refuse(
            there.source,
            "dataset.mask_channels",
            f"found {len(channels)} of them; trainer.masked_loss needs one. Name it, or set masked_loss to false.",
        )
    if prepared is not None and not there.has(channels[0]):
        labels = _kind(file, [], there.source) == "labels"
        found = loss_mask(prepared, channels[0], there, labels=labels, weighed=bool(weights), notes=notes)
        if found is not None:
            return found | {"label_weights": weights}
    return {"channel": there.place(channels[0], "dataset.mask_channels"), "label_weights": weights}


def _mask_channels(file: TrainingFile, prepared: ForeignPrepare | None) -> tuple[int, ...]:
    """Of masks in a folder of frames: as the preparation says, else as the training file does."""
    said = prepared.mask_channel if prepared is not None else None
    return (*file.dataset.mask_channels, *file.dataset.target_channels) if said is None else (said,)


def _train(file: TrainingFile, notes: list[str], source: object) -> dict[str, Any]:
    trainer, calls = file.trainer, file.trainer.callbacks
    name = trainer.optimizer.name.lower()
    if name not in OPTIMIZERS:
        raise refuse(source, "trainer.optimizer.name", f"{name!r} is no optimizer here. {near_miss(name, OPTIMIZERS)}")
    if name != OPTIMIZERS[name]:
        notes.append(f"trainer.optimizer.name: {trainer.optimizer.name} is {OPTIMIZERS[name]} here.")
    best = calls.ModelCheckpoint is None or calls.ModelCheckpoint.save_best_only
    return {
        "epochs": trainer.max_epochs,
        "batch_size": trainer.batch_size,
        "crops_share": file.dataset.train_fraction * trainer.train_fraction,
        "lr": trainer.optimizer.lr,
        "optimizer": OPTIMIZERS[name],
        "warmup_steps": 0,
        "schedule": "constant",
        "weight_decay": 0.0,
        "clip_norm": None,
        "loss": {"terms": _loss(trainer.loss, source)},
        "augment": _augment(file),
        "early": early_of(calls.EarlyStopping, source, labels=_kind(file, [], source) == "labels"),
        "keep": "best" if best else "last",
        "loggers": ["tensorboard"] if calls.TensorBoard is not None else [],
    } | rates_of(calls.LearningRateScheduler)


def _loss(name: str, source: object) -> dict[str, float]:
    if name not in LOSSES:
        why = " (VQ-VAE has no home here)" if name == "latent_loss" else ""
        raise refuse(source, "trainer.loss", f"{name!r} is no loss here{why}. {near_miss(name, LOSSES)}")
    return dict(LOSSES[name])


def _augment(file: TrainingFile) -> dict[str, Any]:
    """Ours for theirs. One sample in six stays as it is, as there; masks are changed along, as there only by flips."""
    one = file.dataset.augmentations or file.trainer.augmentations
    if one is None:
        return {"flip": 0.0, "rot90": False}
    offset, scale = one.intensity_jitter
    return {
        "flip": 0.5,
        "rot90": True,
        "zoom": list(one.zoom_range),
        "rotate": one.rotate_range,
        "shear": one.shear_range,
        "intensity_offset": max(offset, one.mean_jitter),
        "intensity_scale": max(scale, one.std_jitter),
        "noise": one.noise_std,
        "blur": list(one.blur_range),
        "share": 5 / 6,
    }
