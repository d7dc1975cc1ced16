"""What the commands of marker-based filter learning can be told. Defaults are those of the commands' document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMATS = ("zip", "mimg", "npy")


def computing(gpus: Sequence[int]) -> dict[str, Any]:
    """What a job says of where it computes: the GPUs that `-g` names where there are any, else the processor."""
    return {"gpus": list(gpus), "accelerator": "auto" if gpus else "cpu"}


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Of `train`. Each field is the flag of that name."""

    outputs_dir: Path
    model_filename: str
    markers_dir: Path | None = None
    dataset_dir: Path | None = None
    train_split: Path | None = None
    architecture_dir: Path | None = None
    epochs: int = 15
    batch_size: int = 4
    learning_rate: float = 0.01
    weight_decay: float = 0.001
    step: int = 15
    gpus: tuple[int, ...] = ()
    svm: bool = False
    svm_max_iter: int = 1000
    backpropagation: bool = False
    only_classifier: bool = False
    load_lids_model: bool = False
    lids_model_dir: Path | None = None
    remove_border: int = 0
    number_classes: int | None = None
    intermediate: bool = False
    format: str = "npy"
    layers: tuple[str, ...] = ()
    label_offset: int | None = None
    """Added to every label of the marker files; None to tell from them. The document does not know it."""
    settings: tuple[str, ...] = ()
    """`KEY=VALUE` of our own recipe, which the document does not know."""


@dataclass(frozen=True, kw_only=True)
class ValidateOptions:
    """Of `validate`."""

    dataset_dir: Path
    val_split: Path
    model_path: Path
    outputs_dir: Path | None = None
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """Of `explain`."""

    dataset_dir: Path
    split: Path
    model_path: Path
    outputs_dir: Path
    image_indices: tuple[int, ...] = ()
    target_layers: tuple[str, ...] = ()
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SelectOptions:
    """Of `select`."""

    markers_dir: Path
    dataset_dir: Path
    split: Path
    n_images_per_class: int = 3
    how: str = "kmeans"
    model: Path | None = None
    """Whose features say how alike images are; None for their colors."""
    seed: int = 42
