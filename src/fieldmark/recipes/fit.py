"""How a model is fitted, whatever its family."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from fieldmark.core.fingerprint import files_hash
from fieldmark.recipes.data import DataConfig
from fieldmark.recipes.places import PathText
from fieldmark.recipes.predict import Accelerator
from fieldmark.recipes.prepare import PrepareConfig
from fieldmark.recipes.steps import StepsConfig
from fieldmark.recipes.train import TrainConfig


class Member(BaseModel, frozen=True, extra="forbid"):
    """One forest of a pool: what it looks at, and whether each tree sees only a small random share of the pixels."""

    view: Literal["near", "all"]
    bagged: bool = False


class HeadConfig(BaseModel, frozen=True, extra="forbid"):
    """The classifier that turns features into class probabilities, learned on labelled pixels only."""

    kind: Literal["logistic", "forest", "adaptive", "none"] = "forest"
    decoder: Literal["vanilla", "probabilistic", "mean", "labelled", "trained"] = "mean"
    """With `adaptive`: how the maps of one level become saliency."""
    level: NonNegativeInt | None = None
    """The level that is decoded; by itself the last FLIM layer of the first branch."""
    background: str | None = None
    """The class that is no object; by itself the first."""
    threshold: Literal["auto", "otsu", "half"] = "auto"
    """What becomes a probability of one half: the image's Otsu threshold of the saliency (by itself for `vanilla` and
    `labelled`, whose weights know no scale), or a saliency of one half (for `probabilistic` and `mean`)."""
    max_pixels_per_stroke: PositiveInt = 1000
    refine: Literal["auto", "random-walker", "none"] = "auto"
    """Whether borders are moved onto those of the image by random walks from certain pixels; `auto`: where the walks
    find strokes again that they were not shown. Adaptive decoders are refined where it is asked for alone."""
    l2: PositiveFloat = 1.0
    trees: PositiveInt = 24
    max_depth: int = Field(default=12, ge=1, le=16)
    min_pixels_per_leaf: PositiveInt = 5
    members: tuple[Member, ...] = Field(
        default=(Member(view="near", bagged=True), Member(view="near"), Member(view="all")), min_length=1
    )
    """Heads that are pooled where a family has several views of an image."""
    folds: NonNegativeInt = 0
    """Parts of the strokes that are held out in turn, to weigh the members against each other; 0: all weigh alike."""


class DescendConfig(StepsConfig, frozen=True, extra="forbid", allow_inf_nan=False):
    """Gradient descent over batches of crops."""

    crops_per_epoch: PositiveInt = 128
    crop: PositiveInt = 64


class ClassifyConfig(StepsConfig, frozen=True, extra="forbid", allow_inf_nan=False):
    """Gradient descent of a dense image head, with FLIM's numbers: Adam, a rate that falls in steps."""

    epochs: NonNegativeInt = 15
    batch_size: PositiveInt = 4
    lr: PositiveFloat = 1e-2
    warmup_steps: NonNegativeInt = 0
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    schedule: Literal["constant", "cosine", "step", "exponential", "decay", "one-cycle", "cyclic"] = "step"
    weight_decay: NonNegativeFloat = 1e-3
    first_clip_norm: PositiveFloat | None = 0.1
    """Takes the place of `clip_norm` in the first epochs."""
    first_epochs: NonNegativeInt = 3
    only_classifier: bool = True
    """The features stay as they are; False trains the whole network."""


class ImageHeadConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """The classifier of whole images, learned from answers."""

    kind: Literal["none", "dense", "svm"] = "none"
    vector: Literal["rings", "pooled", "flatten"] = "rings"
    """`rings`: mean, maximum and spread of each map, and its means over four rings around the middle; `pooled`: mean
    and maximum of each map over `grid` x `grid` parts; `flatten`: every value, at one image size."""
    levels: Literal["all", "last"] = "all"
    """Which maps are judged: those of every level of the network, or its last ones."""
    grid: PositiveInt = 1
    size: tuple[PositiveInt, PositiveInt] | None = None
    """Height and width in pixels that images are resized to. Without it, pooled vectors see images at their own size,
    and all others want images of one size."""
    remove_border: NonNegativeInt = 0
    """Pixels of the maps that are cut off on each side before they are judged."""
    hidden: tuple[PositiveInt, ...] = ()
    """Widths of the hidden layers of a dense head, where the architecture brings no classifier of its own."""
    descend: ClassifyConfig = ClassifyConfig()
    unit_length: bool = True
    """Vectors are scaled to be 1 long on average, after each of their numbers was standardized."""
    within: PositiveFloat | None = 0.001
    """Directions in which images of one class differ are shrunk before they are judged: one with this share of the
    whole variance to half of its variance, others the more the larger they are. null for not at all."""
    svm_c: PositiveFloat | Literal["auto"] = "auto"
    """`auto`: what answers most right in parts of the teaching images that are held out."""
    svm_ties: Literal["margin", "first"] = "margin"
    """Which of several classes with as many votes is answered: the one that won by more, or the first."""
    svm_max_iter: int = Field(default=-1, ge=-1)
    """Iterations of the solver for each pair of classes; -1 for as many as it needs."""

    @field_validator("svm_max_iter")
    @classmethod
    def _some_iterations(cls, value: int) -> int:
        if value == 0:
            raise ValueError("0 iterations train no machine; give 1 or more, or -1 for as many as it needs")
        return value


class BeginConfig(BaseModel, frozen=True, extra="forbid"):
    """Filters that libIFT has learned, which a `flim-net` takes instead of learning its own from strokes."""

    folder: PathText
    """Holds `conv1-kernels.npy` and so on, one for each convolution of the architecture."""
    order: Literal["center-first", "rows"] = "center-first"
    """Of the weights in the files."""
    scale: PositiveFloat = 255.0
    """What pixels are divided by before the first layer, as they were when the filters were learned."""

    def fingerprint(self) -> str:
        """The hash of the folder's files."""
        return files_hash(Path(self.folder), "conv*-*")


class FitRecipe(BaseModel, frozen=True, extra="forbid"):
    """Everything that decides a run's result; saved beside its weights."""

    family: str = "flim"
    net: dict[str, Any] = Field(default_factory=dict)
    begin: BeginConfig | None = None
    start: PathText | None = None
    """A model folder whose weights the network begins with."""
    data: DataConfig = DataConfig()
    prepare: PrepareConfig = PrepareConfig()
    train: TrainConfig = TrainConfig()
    head: HeadConfig = HeadConfig()
    descend: DescendConfig = DescendConfig()
    image_head: ImageHeadConfig = ImageHeadConfig()
    seed: NonNegativeInt = 0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    accelerator: Accelerator | Literal["tpu"] = "auto"
    devices: PositiveInt = 1
    num_nodes: PositiveInt = 1
    strategy: str = "auto"
    threads: NonNegativeInt = 0
