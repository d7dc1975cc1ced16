"""The group `network` of microDL's training YAML as settings of our U-Net."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveInt

from fieldmark.errors import near_miss
from fieldmark.recipes.dialects.keys import Group, refuse
from fieldmark.recipes.unet import Dropout, KernelSize

CLASSES: dict[str, dict[str, str]] = {
    "UNet2D": {"dims": "2"},
    "UNet3D": {"dims": "3"},
    "UNetStackTo2D": {"dims": "2.5", "gives": "slice"},
    "UNetStackToStack": {"dims": "2.5", "gives": "stack"},
    "Image2DToVectorNet": {"dims": "2"},
    "Image3DToVectorNet": {"dims": "3"},
    "RegressionNet2D": {"dims": "2"},
}
TO_NUMBERS = ("Image2DToVectorNet", "Image3DToVectorNet", "RegressionNet2D")
"""Those that answer whole images."""
ACTIVATIONS = {"relu": "relu", "leakyrelu": "leakyrelu", "elu": "elu", "gelu": "gelu", "selu": "elu"}
UPSAMPLINGS = {"bilinear": "bilinear", "nearest_neighbor": "nearest", "repeat": "nearest", "transposed": "transposed"}
SEQUENCES = {"conv-bn-activation": "conv-norm-activation", "conv-activation-bn": "conv-activation-norm"}
_SIZE = "networks see images of any size; height and width are the size of crops while training."


class Activation(Group, frozen=True, extra="forbid"):
    """By its name."""

    ACCEPTED: ClassVar[dict[str, str]] = {"alpha": "has its usual value."}

    type: str = "relu"
    alpha: float = 0.0


def _named(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


def _one_side(value: Any) -> Any:
    """Of a list of equal sides, such as [3, 3, 3], the side."""
    sides = value if isinstance(value, list | tuple) else [value]
    if len(sides) > 1 and any(side != sides[0] for side in sides):
        raise ValueError("filters are as long along each axis; give one number")
    return sides[0] if sides else value


class Network(Group, frozen=True, extra="forbid"):
    """A network by its class, with the document's defaults."""

    ACCEPTED: ClassVar[dict[str, str]] = {
        "data_format": "arrays have one order of axes here.",
        "height": _SIZE,
        "width": _SIZE,
        "init": "convolutions begin with He's random weights.",
        "kernel_init": "convolutions begin with He's random weights.",
        "temperature": "scores have one temperature.",
        "dropout_dense": "belongs to networks that give vectors; `dropout` is theirs too.",
        "num_focal_planes": "belongs to another kind of data.",
        "debug": "decides nothing.",
        "regularizer": "set train.weight_decay.",
    }

    class_: str = Field(alias="class")
    num_filters_per_block: tuple[PositiveInt, ...] = Field(default=(16, 32, 64, 128, 256), min_length=2)
    num_initial_filters: PositiveInt | None = None
    num_convs_per_block: PositiveInt = 2
    filter_size: Annotated[KernelSize, BeforeValidator(_one_side)] = 3
    depth: PositiveInt | None = None
    batch_norm: bool = True
    block_sequence: str = "conv-bn-activation"
    activation: Annotated[Activation, BeforeValidator(_named)] = Activation()
    dropout: Dropout = 0.2
    dropout_dense: Dropout = 0.0
    padding: Literal["same", "valid"] = "same"
    init: str = "he_normal"
    kernel_init: str = "he_normal"
    pooling_type: Literal["max", "average", "conv"] = "max"
    skip_merge_type: Literal["concat", "add"] = "concat"
    upsampling: str = "bilinear"
    residual: bool = True
    final_activation: Literal["linear", "sigmoid", "softmax"] = "linear"
    num_input_channels: PositiveInt | None = None
    num_target_channels: PositiveInt | None = None
    regression_length: PositiveInt | None = None
    regularizer: Any = None
    data_format: Literal["channels_first", "channels_last"] = "channels_first"
    height: PositiveInt | None = None
    width: PositiveInt | None = None
    temperature: float = 1.0
    num_focal_planes: PositiveInt | None = None
    debug: bool = False


def net_of(network: Network, inputs: int, targets: int, source: object, notes: list[str]) -> dict[str, Any]:
    """Settings of our U-Net.

    Args:
        network: As the file says.
        inputs: How many input channels the data set has.
        targets: How many target channels.
        source: The file, for errors.
        notes: What is to be told is added to it.

    Raises:
        BadRecipe: A class, or a setting of it, that has no home here.
    """
    _require_channels(network, inputs, targets, source)
    shape = CLASSES[_known("class", network.class_, CLASSES, source)]
    if network.padding == "valid":
        raise refuse(source, "network.padding", "valid makes the answer smaller than the image; leave it at same.")
    kind = network.activation.type.lower()
    if network.final_activation == "softmax":
        notes.append("network.final_activation: softmax is what makes probabilities of classes; images stay linear.")
    if kind == "selu":
        notes.append("network.activation: selu is elu here.")
    net = {
        **shape,
        "filters": _filters(network, notes),
        "convs_per_block": network.num_convs_per_block,
        "kernel_size": network.filter_size,
        "block": SEQUENCES[_known("block_sequence", network.block_sequence, SEQUENCES, source)],
        "activation": ACTIVATIONS[_known("activation", kind, ACTIVATIONS, source)],
        "norm": "batch" if network.batch_norm else "none",
        "residual": network.residual,
        "pool": network.pooling_type,
        "dropout": network.dropout,
    }
    if network.class_ in TO_NUMBERS:
        unused = [key for key in ("skip_merge_type", "upsampling") if key in network.model_fields_set]
        notes += [f"network.{key}: belongs to U-Nets." for key in unused]
        return net | {"dropout": max(network.dropout, network.dropout_dense)} | _length(network, source)
    net |= {
        "skip": network.skip_merge_type,
        "up": UPSAMPLINGS[_known("upsampling", network.upsampling, UPSAMPLINGS, source)],
        "final_activation": "sigmoid" if network.final_activation == "sigmoid" else "linear",
    }
    if shape["dims"] == "2.5":
        if network.depth is not None and network.depth % 2 == 0:
            raise refuse(source, "network.depth", f"{network.depth} slices have no middle one. Give an odd number.")
        net["depth"] = network.depth or 5
    elif network.depth not in (None, 1):
        notes.append(f"network.depth: {network.class_} sees no stack; tiles of 3-D networks have train.depth slices.")
    if network.regression_length is not None:
        notes.append("network.regression_length: belongs to networks that give vectors.")
    return net


def _length(network: Network, source: object) -> dict[str, Any]:
    """How many numbers a network answers, 0 for as many as the table of targets has, and the size of what it sees."""
    if network.final_activation != "linear":
        raise refuse(source, "network.final_activation", "numbers are answered as they are; leave it at linear.")
    sized = network.height and network.width and CLASSES[network.class_]["dims"] == "2"
    size = {"size": [network.height, network.width]} if sized else {}
    return {"task": "regress", "out_channels": network.regression_length or 0} | size


def _filters(network: Network, notes: list[str]) -> list[int]:
    first = network.num_initial_filters
    if first is not None and "num_filters_per_block" in network.model_fields_set:
        notes.append("network.num_initial_filters: num_filters_per_block decides.")
        first = None
    if first is None:
        return list(network.num_filters_per_block)
    return [first << place for place in range(5)]


def _known(key: str, value: str, known: dict[str, Any], source: object) -> str:
    if value not in known:
        why = " (VQ-VAE is no U-Net)" if value == "VQNet" else ""
        raise refuse(source, f"network.{key}", f"{value!r} has no home here{why}. {near_miss(value, known)}")
    return value


def _require_channels(network: Network, inputs: int, targets: int, source: object) -> None:
    """The network's numbers of channels are those of the data set."""
    for key, said, found, group in (
        ("num_input_channels", network.num_input_channels, inputs, "input_channels"),
        ("num_target_channels", network.num_target_channels, targets, "target_channels"),
    ):
        if said is not None and said != found:
            raise refuse(
                source, f"network.{key}", f"says {said}, and dataset.{group} names {found}. Make them the same."
            )
