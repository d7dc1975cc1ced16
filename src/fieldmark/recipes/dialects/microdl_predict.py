"""microDL's inference YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from fieldmark.errors import near_miss
from fieldmark.recipes.dialects.keys import Chosen, ForeignPredict, Group, Ids, Numbers, Place, Words, path_of, refuse
from fieldmark.recipes.loading import validate

FORMS = {".tif": "tiff", ".tiff": "tiff", ".png": "png", ".npy": "npy", ".zarr": "ome-zarr"}
METRICS = ("ssim", "corr", "r2", "mae", "mse", "acc", "dice", "iou", "ms_ssim")
ORIENTATIONS = ("xy", "xz", "yz", "xyz")
_NAMES = "predictions are named like their images; axes and pixel size are kept."


class Dataset(Group, frozen=True, extra="forbid"):
    """Which frames are predicted."""

    ACCEPTED: ClassVar[dict[str, str]] = {
        "input_channels": "the model knows the channels that it sees.",
        "model_task": "the model knows its task.",
    }

    input_channels: Numbers = ()
    target_channels: Numbers = ()
    slice_ids: Ids = ()
    pos_ids: Ids = ()
    time_ids: Ids = ()
    model_task: str = ""


class Images(Group, frozen=True, extra="forbid"):
    """How predictions are written."""

    ACCEPTED: ClassVar[dict[str, str]] = {
        "image_format": "tile.tile_shape and tile.num_overlap have this order; " + _NAMES,
        "name_format": _NAMES,
        "pred_chan_name": _NAMES,
        "suffix": _NAMES,
        "flat_field_dir": "the model knows its flat field.",
        "crop_shape": "images are predicted whole; nothing is cropped.",
    }

    image_format: str = "zyx"
    image_ext: str = ".png"
    im_ext: str = ""
    name_format: str = ""
    pred_chan_name: str = ""
    suffix: str = ""
    flat_field_dir: str = ""
    crop_shape: tuple[int, ...] = ()


class Metrics(Group, frozen=True, extra="forbid"):
    """Numbers that are wanted, and along which planes."""

    metrics: Words = ()
    metrics_orientations: Words = ("xy",)


class Masks(Group, frozen=True, extra="forbid"):
    """Where they are measured, or, of type `target`, what is right of a model that segments."""

    mask_dir: str = ""
    mask_type: Literal["target", "metrics"] = "metrics"
    mask_channel: NonNegativeInt | None = None


class Tile(Group, frozen=True, extra="forbid"):
    """How large images are cut."""

    ACCEPTED: ClassVar[dict[str, str]] = {
        "num_slices": "slices are tiled by themselves.",
        "inf_shape": "images are predicted whole, in tiles.",
    }

    num_slices: PositiveInt | None = None
    inf_shape: tuple[PositiveInt, ...] = ()
    tile_shape: tuple[PositiveInt, ...] = ()
    num_overlap: tuple[NonNegativeInt, ...] | NonNegativeInt = ()
    overlap_operation: Literal["mean", "any"] = "mean"
    overlap_dict: dict[str, Any] = Field(default_factory=dict)


class InferenceFile(Group, frozen=True, extra="forbid"):
    """The whole file."""

    ACCEPTED: ClassVar[dict[str, str]] = {
        "preprocess_dir": "the model knows how its images are prepared.",
        "train_config": "the model knows how it was trained.",
        "verbose": "progress is shown on a terminal.",
        "gpu_mem_frac": "memory is taken as it is needed.",
        "batch_size": "tiles are predicted as memory allows.",
        "num_workers": "tiles are predicted in one process.",
    }

    model_dir: str = ""
    model_fname: str = ""
    train_config: str = ""
    image_dir: Place
    preprocess_dir: str = ""
    data_split: Literal["train", "val", "test", "all"] = "test"
    save_to_image_dir: bool = False
    save_folder_name: str = "predictions"
    save_figs: bool = False
    dataset: Dataset = Dataset()
    images: Images = Images()
    metrics: Metrics = Metrics()
    masks: Masks = Masks()
    tile: Tile = Tile()
    verbose: bool | int = False
    gpu_mem_frac: float = 1.0
    batch_size: PositiveInt = 1
    num_workers: PositiveInt = 1


_OLD = {
    "image_params_dict": "images",
    "mask_params_dict": "masks",
    "vol_inf_dict": "tile",
    "inference_3d": "tile",
}
"""What groups were called before."""


def predict_of(values: dict[str, Any], *, beside: Path, source: object = "") -> ForeignPredict:
    """The prediction of an inference file.

    Args:
        values: As read.
        beside: The folder that the file lies in: relative paths begin there.
        source: The file, as the user typed it.

    Raises:
        BadRecipe: An unknown key (with the near miss) or a value that nothing here can do, named by its path.
    """
    file = validate(InferenceFile, _renamed(values), source=source)
    notes = file.told()
    if file.save_to_image_dir:
        notes.append("save_to_image_dir: originals are only read; predictions go into the model's folder.")
    if {"im_ext", "image_ext"} <= file.images.model_fields_set:
        notes.append("images.im_ext: the format is `image_ext`'s.")
    if file.model_dir and file.model_fname:
        notes.append("model_fname: the folder in model_dir holds one model.")
    model = _model(file, beside, source)
    metrics, orientations = _checked(file.metrics, source)
    return ForeignPredict(
        model=model,
        images=path_of(file.image_dir, beside),
        out=model / file.save_folder_name,
        form=_form(file.images, source),
        recipe=_recipe(file, source),
        frames=Chosen(positions=file.dataset.pos_ids, slices=file.dataset.slice_ids, times=file.dataset.time_ids),
        targets=file.dataset.target_channels,
        split=file.data_split,
        metrics=metrics,
        orientations=orientations,
        masks=path_of(file.masks.mask_dir, beside) if file.masks.mask_dir else None,
        mask_channel=file.masks.mask_channel,
        masks_are_right=file.masks.mask_type == "target",
        notes=tuple(notes),
    )


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    """Old names of groups as the newer ones; a list of metrics as its group."""
    made = {_OLD.get(key, key): value for key, value in values.items()}
    if isinstance(made.get("metrics"), list | str):
        made["metrics"] = {"metrics": made["metrics"]}
    if "metrics_orientations" in made and isinstance(made.get("metrics"), dict):
        made["metrics"] = made["metrics"] | {"metrics_orientations": made.pop("metrics_orientations")}
    return made


def _model(file: InferenceFile, beside: Path, source: object) -> Path:
    """The model's folder. A file of Keras is refused by its name."""
    from fieldmark.recipes.dialects.weights import refuse_keras

    refuse_keras(file.model_fname)
    folder = file.model_dir or str(Path(file.model_fname).parent if file.model_fname else "")
    if not folder:
        raise refuse(source, "model_dir", "is missing. Name the folder of a model.")
    return path_of(folder, beside)


def _form(images: Images, source: object) -> str:
    older = images.im_ext and "image_ext" not in images.model_fields_set
    suffix = images.im_ext if older else images.image_ext
    if suffix not in FORMS:
        raise refuse(source, "images.image_ext", f"{suffix!r} is no format here. {near_miss(suffix, FORMS)}")
    return FORMS[suffix]


def _recipe(file: InferenceFile, source: object) -> dict[str, Any]:
    tile = file.tile
    made: dict[str, Any] = {"figures": file.save_figs}
    is_last = file.images.image_format == "xyz"  # of three numbers, that of the slices
    if not isinstance(tile.num_overlap, tuple):
        made["overlap" if tile.num_slices is None else "overlap_z"] = tile.num_overlap
    elif tile.num_overlap:
        z, side = (-1, 0) if is_last else (0, -1)
        made["overlap"] = tile.num_overlap[side]
        if len(tile.num_overlap) > 2:
            made["overlap_z"] = tile.num_overlap[z]
    if tile.overlap_operation == "any":
        made["blend"] = "any"
    if tile.overlap_dict:
        raise refuse(source, "tile.overlap_dict", "is of another version; name num_overlap and overlap_operation.")
    if tile.tile_shape:
        side = tile.tile_shape[0 if is_last and len(tile.tile_shape) > 2 else -1]
        made["tile"] = max(64, round(side / 64) * 64)
    return made


def _checked(metrics: Metrics, source: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    for where, given, known in (
        ("metrics.metrics", metrics.metrics, METRICS),
        ("metrics.metrics_orientations", metrics.metrics_orientations, ORIENTATIONS),
    ):
        for name in given:
            if name not in known:
                raise refuse(source, where, f"{name!r} is not measured here. {near_miss(name, known)}")
    return metrics.metrics, metrics.metrics_orientations
