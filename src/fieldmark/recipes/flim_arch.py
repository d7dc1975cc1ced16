"""FLIM architectures: a tree of named modules and operations, with torch's parameters by torch's names.

The words and defaults are those of FLIM's JSON (see `fieldmark.recipes.dialects.flim_arch`, which reads it).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializationInfo,
    field_serializer,
)

from fieldmark.errors import BadRecipe, near_miss
from fieldmark.recipes.families import NetConfig
from fieldmark.recipes.kernels import KernelConfig
from fieldmark.recipes.loading import validate


def _whole_numbers(least: int, value: Any) -> int | tuple[int, ...]:
    numbers = value if isinstance(value, list | tuple) else [value]
    if not 1 <= len(numbers) <= MOST_AXES or not all(type(n) is int and least <= n < LARGEST for n in numbers):
        raise ValueError(f"wanted a whole number of at least {least}, or a list of them")
    return tuple(numbers) if isinstance(value, list | tuple) else numbers[0]


def _padding(value: Any) -> int | tuple[int, ...]:
    return _whole_numbers(0, value)


MOST_AXES = 3
LARGEST = 1 << 16
Sizes = Annotated[int | tuple[int, ...], BeforeValidator(partial(_whole_numbers, 1))]
"""One number for every axis, or one an axis in torch's order: (z,) y, x."""
Paddings = Annotated[int | tuple[int, ...], BeforeValidator(partial(_whole_numbers, 0))]
ConvPadding = Annotated[
    int | tuple[int, ...] | str, BeforeValidator(lambda value: value if value in ("same", "valid") else _padding(value))
]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
NAME_FORBIDS = "./"
"""Layers are addressed as `outer/inner`, and become parts of the names of weights."""


class Params(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Parameters of an operation."""


class ConvParams(Params, frozen=True):
    """conv2d, conv3d: torch's parameters, and how the kernels are learned from markers."""

    kernel_size: Sizes
    in_channels: PositiveInt | Literal[-1] | None = None
    """Found by itself; a number is checked."""
    out_channels: PositiveInt | None = None
    stride: Sizes = 1
    padding: ConvPadding = 0
    dilation: Sizes = 1
    groups: PositiveInt = 1
    bias: bool = False
    """Learned against pseudo classes, the clusters of the patches; without it the bias is 0."""
    padding_mode: PaddingMode = "zeros"
    number_of_kernels_per_marker: PositiveInt | None = None
    """Without it: `out_channels` over the number of markers, rounded up."""
    use_random_kernels: bool = False
    use_pca: bool = True
    """Kernels are reduced to `out_channels` by principal components where there are more of them than values in a
    patch (and at least `out_channels` values); otherwise by k-means."""
    train_dilation: bool = False
    """Learned on maps that no pool has thinned out, by kernels dilated as much as the pools would thin."""
    epochs: PositiveInt | None = None
    lr: PositiveFloat | None = None
    wd: NonNegativeFloat | None = None
    activation: Operation | None = None
    pool: Operation | None = None


class ReluParams(Params, frozen=True):
    """relu."""

    inplace: bool = False


class LinearParams(Params, frozen=True):
    """linear; what comes is flattened."""

    in_features: PositiveInt | Literal[-1]
    """-1: found by itself."""
    out_features: PositiveInt
    bias: bool = True


class BatchNormParams(Params, frozen=True):
    """batch_norm2d, batch_norm3d: statistics of the marked images, kept with the model."""

    num_features: PositiveInt | Literal[-1] | None = None
    eps: PositiveFloat = 1e-5
    momentum: FiniteFloat | None = 0.1
    affine: bool = True
    track_running_stats: Literal[True] = True
    """Statistics of the batch at hand would make an answer depend on its neighbors."""


class DropoutParams(Params, frozen=True):
    """dropout; only gradient descent drops."""

    p: float = Field(default=0.5, ge=0, le=1)
    inplace: bool = False


class AdaptivePoolParams(Params, frozen=True):
    """adap_avg_pool2d, adap_avg_pool3d."""

    output_size: Sizes


class MaxPoolParams(Params, frozen=True):
    """max_pool2d, max_pool3d."""

    kernel_size: Sizes
    stride: Sizes | None = None
    """Without it the kernel size, as in torch."""
    padding: Paddings = 0
    dilation: Sizes = 1
    return_indices: Literal[False] = False
    ceil_mode: bool = False


class AvgPoolParams(Params, frozen=True):
    """avg_pool2d, avg_pool3d."""

    kernel_size: Sizes
    stride: Sizes | None = None
    padding: Paddings = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: PositiveInt | None = None


class UnfoldParams(Params, frozen=True):
    """unfold."""

    kernel_size: Sizes
    dilation: Sizes = 1
    padding: Paddings = 0
    stride: Sizes = 1


class FoldParams(UnfoldParams, frozen=True):
    """fold."""

    output_size: Sizes


class MarkerNormParams(Params, frozen=True):
    """marker_based_norm, m_norm2d, m_norm3d: mean and spread of the marked pixels.

    `kernel_size` and `dilation` are accepted as FLIM does, which takes single pixels whatever they say.
    """

    kernel_size: Sizes = 1
    dilation: Sizes = 1
    epsilon: NonNegativeFloat = 0.001


class DecoderParams(Params, frozen=True):
    """decoder: one map a class, weighted sums of the channels by what the markers say of them."""

    n_classes: PositiveInt


Words = Literal[
    "conv2d", "conv3d", "relu", "linear", "batch_norm2d", "batch_norm3d", "dropout", "adap_avg_pool2d",
    "adap_avg_pool3d", "max_pool2d", "max_pool3d", "avg_pool2d", "avg_pool3d", "unfold", "fold", "marker_based_norm",
    "m_norm2d", "m_norm3d", "decoder",
]  # fmt: skip

OPERATIONS: dict[str, type[Params]] = {
    "conv2d": ConvParams,
    "conv3d": ConvParams,
    "relu": ReluParams,
    "linear": LinearParams,
    "batch_norm2d": BatchNormParams,
    "batch_norm3d": BatchNormParams,
    "dropout": DropoutParams,
    "adap_avg_pool2d": AdaptivePoolParams,
    "adap_avg_pool3d": AdaptivePoolParams,
    "max_pool2d": MaxPoolParams,
    "max_pool3d": MaxPoolParams,
    "avg_pool2d": AvgPoolParams,
    "avg_pool3d": AvgPoolParams,
    "unfold": UnfoldParams,
    "fold": FoldParams,
    "marker_based_norm": MarkerNormParams,
    "m_norm2d": MarkerNormParams,
    "m_norm3d": MarkerNormParams,
    "decoder": DecoderParams,
}
"""Every operation, and the class that checks its parameters."""

ACTIVATIONS = ("relu",)
POOLS = tuple(name for name in OPERATIONS if "pool" in name)


class Operation(BaseModel, frozen=True, extra="forbid"):
    """One layer that computes."""

    operation: Words
    params: Params

    @field_serializer("params")
    def _whole(self, params: Params, info: SerializationInfo) -> dict[str, Any]:
        """All keys of the operation, not those of the base class alone."""
        return params.model_dump(mode=info.mode, exclude_unset=info.exclude_unset, exclude_none=info.exclude_none)


class ModuleParams(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How a module joins its branches, and how biases below it are learned."""

    aggregate: Literal["concat", "sum", "prod", "mean"] = "concat"
    epochs: PositiveInt = 50
    lr: PositiveFloat = 0.001
    wd: NonNegativeFloat = 0.9


class Module(BaseModel, frozen=True, extra="forbid"):
    """Layers one after the other, or beside each other."""

    type: Literal["sequential", "parallel"] = "sequential"
    params: ModuleParams = ModuleParams()
    layers: dict[str, Operation | Module] = Field(default_factory=dict)
    """By name, in the order of the JSON."""


class FlimArch(BaseModel, frozen=True, extra="forbid"):
    """Where features come from and, optionally, what classifies an image by them."""

    features: Module
    classifier: Module | None = None

    @property
    def spatial(self) -> int:
        """2 for images, 3 for volumes."""
        names = [node.operation for _, node in walk(self.features)]
        return 3 if any(name.endswith("3d") for name in names) else 2


def walk(module: Module, prefix: str = "") -> Iterator[tuple[str, Operation]]:
    """Every operation below a module with its name, outer names first, joined by "/"; inline ones are not listed."""
    for name, node in module.layers.items():
        if isinstance(node, Module):
            yield from walk(node, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", node


def parse_arch(values: Any, *, source: object = "") -> FlimArch:
    """The architecture of a JSON object with `features` and, optionally, `classifier`.

    Args:
        values: As parsed from JSON.
        source: The file that it comes from, for errors.

    Raises:
        BadRecipe: It names the path of what is wrong, and the near miss.
    """
    place = _Place(source, "")
    known = ("features", "classifier")
    place.require_object(values, known)
    if "features" not in values:
        place.fail("has no `features`")
    classifier = values.get("classifier")
    arch = FlimArch(
        features=_module(values["features"], place.inside("features")),
        classifier=None if classifier is None else _module(classifier, place.inside("classifier")),
    )
    _check_parts(arch, place)
    return arch


class _Place:
    """A path in the JSON, for errors."""

    def __init__(self, source: object, path: str) -> None:
        self.source, self.path = source, path

    def inside(self, *keys: str) -> _Place:
        return _Place(self.source, ".".join([*filter(None, [self.path]), *keys]))

    def fail(self, problem: str) -> None:
        begin = f"{self.source}: " if self.source else ""
        end = "" if problem.endswith(("?", ".")) else "."
        raise BadRecipe(f"{begin}{self.path or 'the architecture'}: {problem}{end} Correct the architecture.")

    def require_object(self, value: Any, known: tuple[str, ...]) -> None:
        if not isinstance(value, dict):
            self.fail(f"wanted an object with {', '.join(known) or 'names'}, found {str(value)[:40]!r}")
        for key in value:
            if known and key not in known:
                self.inside(key).fail(f"unknown key. {near_miss(key, known)}")


def _module(value: Any, place: _Place) -> Module:
    place.require_object(value, ("type", "params", "layers"))
    kind = value.get("type", "sequential")
    if kind not in ("sequential", "parallel"):
        place.inside("type").fail(
            f"no module is {str(kind)[:40]!r}. {near_miss(str(kind), ['sequential', 'parallel'])}"
        )
    params = validate(ModuleParams, value.get("params") or {}, where=place.inside("params").path, source=place.source)
    layers = value.get("layers", {})
    place.inside("layers").require_object(layers, ())
    nodes = {name: _node(name, node, place.inside("layers", name)) for name, node in layers.items()}
    if kind == "parallel" and not nodes:
        place.inside("layers").fail("is empty; a parallel module needs a branch")
    return Module(type=kind, params=params, layers=nodes)


def _node(name: str, value: Any, place: _Place) -> Operation | Module:
    if not name or any(letter in name for letter in NAME_FORBIDS):
        place.fail(f"a layer cannot be called {name!r}: its name must have no '.' and no '/'")
    if isinstance(value, dict) and "operation" not in value and ("layers" in value or "type" in value):
        return _module(value, place)
    place.require_object(value, ("operation", "params"))
    if "operation" not in value:
        place.fail("has no `operation` (a module has `type` and `layers`)")
    return operation(value["operation"], value.get("params"), place.path, source=place.source)


def operation(word: Any, params: Any, where: str, *, source: object = "", among: tuple[str, ...] = ()) -> Operation:
    """One operation, checked.

    Args:
        word: Its name.
        params: Its parameters, None for none.
        where: Path of the operation in the JSON.
        source: The file, for errors.
        among: The names that may stand here; empty for all.
    """
    place = _Place(source, where)
    known = among or tuple(OPERATIONS)
    if word not in known:
        place.inside("operation").fail(f"no operation is called {str(word)[:40]!r}. {near_miss(str(word), known)}")
    params = {} if params is None else params
    below = place.inside("params")
    if not isinstance(params, dict):
        below.require_object(params, ())
    model = OPERATIONS[word]
    if model is ConvParams:
        params = params | {key: _inline(params.get(key), below.inside(key), words, params)
                           for key, words in (("activation", ACTIVATIONS), ("pool", POOLS))}  # fmt: skip
    checked = validate(model, params, where=below.path, source=source)
    _check_axes(word, checked, below)
    return Operation(operation=word, params=checked)


def _inline(value: Any, place: _Place, words: tuple[str, ...], conv: dict[str, Any]) -> Operation | None:
    """`activation` and `pool` inside a convolution: a name, or an operation."""
    if value is None or isinstance(value, Operation):
        return value
    if isinstance(value, str):
        params = {"kernel_size": 2} if value in words and OPERATIONS[value] in (MaxPoolParams, AvgPoolParams) else None
        return operation(value, params, place.path, source=place.source, among=words)
    place.require_object(value, ("operation", "params"))
    if "operation" not in value:
        place.fail("has no `operation`")
    return operation(value["operation"], value.get("params"), place.path, source=place.source, among=words)


def _check_axes(word: str, params: Params, place: _Place) -> None:
    """Lists must have one number an axis."""
    axes = 3 if word.endswith("3d") else 2
    if word == "marker_based_norm":
        return
    for name in ("kernel_size", "stride", "padding", "dilation", "output_size"):
        value = getattr(params, name, 1)
        if isinstance(value, tuple) and len(value) != axes:
            place.inside(name).fail(f"wanted one number or {axes} of them, found {list(value)}")
    if isinstance(params, ConvParams):
        _check_conv(params, place)
    if isinstance(params, MaxPoolParams | AvgPoolParams):
        _check_pool(params, axes, place)


def _check_pool(params: MaxPoolParams | AvgPoolParams, axes: int, place: _Place) -> None:
    sizes, pads = (n if isinstance(n, tuple) else (n,) * axes for n in (params.kernel_size, params.padding))
    if any(pad > size // 2 for size, pad in zip(sizes, pads, strict=True)):
        place.inside("padding").fail(
            f"is {list(pads)}, more than half of the window {list(sizes)}; torch allows no more"
        )


def _check_conv(params: ConvParams, place: _Place) -> None:
    if params.out_channels is None and params.number_of_kernels_per_marker is None:
        place.fail("needs `out_channels`, `number_of_kernels_per_marker` or both, to know how many kernels to learn")
    if params.groups > 1 and (params.out_channels or 0) % params.groups:
        place.inside("out_channels").fail(
            f"must be a multiple of groups ({params.groups}), found {params.out_channels}"
        )
    if params.groups > 1 and params.out_channels is None:
        place.inside("out_channels").fail(f"is needed where there are {params.groups} groups")
    strides = params.stride if isinstance(params.stride, tuple) else (params.stride,)
    if params.padding == "same" and max(strides) > 1:
        place.inside("padding").fail("'same' is not possible with a stride; write the number")


def _check_parts(arch: FlimArch, place: _Place) -> None:
    ends = {
        (2 if word.endswith("2d") else 3): name for name, word in _words(arch.features) if word.endswith(("2d", "3d"))
    }
    if len(ends) > 1:
        place.inside("features").fail(f"mixes 2-D ({ends[2]}) and 3-D ({ends[3]}) operations")
    for name, node in walk(arch.features):
        if node.operation == "linear":
            where = place.inside("features", "layers", *name.split("/"))
            where.fail("nothing teaches a linear layer among the features; put it under `classifier`")
    taught = ("conv2d", "conv3d", "marker_based_norm", "m_norm2d", "m_norm3d", "decoder")
    for name, node in walk(arch.classifier) if arch.classifier else ():
        if node.operation in taught:
            where = place.inside("classifier", "layers", *name.split("/"))
            where.fail(f"{node.operation} learns from markers, which a classifier never sees; put it under `features`")


def _words(module: Module) -> Iterator[tuple[str, str]]:
    for name, node in walk(module):
        yield name, node.operation
        if isinstance(node.params, ConvParams):
            for inner in (node.params.activation, node.params.pool):
                if inner is not None:
                    yield name, inner.operation


def _as_arch(value: Any) -> Any:
    from fieldmark.recipes.dialects.flim_arch import arch_of

    return value if isinstance(value, FlimArch) else arch_of(value)


class FlimGraphConfig(NetConfig, frozen=True, extra="forbid"):
    """A FLIM network as an architecture describes it."""

    arch: Annotated[FlimArch, BeforeValidator(_as_arch)]
    standardize: bool = True
    """Whether channels get zero mean and unit spread over the teaching images before the first layer sees them."""
    pooling: Literal["rescale", "atrous"] = "rescale"
    """How a layer after a stride learns: on the thinned map, with the marks' coordinates rescaled, or on the map that
    no stride has thinned, with dilated kernels (intrinsic atrous)."""
    levels: tuple[str, ...] = ()
    """Layers whose maps are the features, nested names joined with "/"; empty for the last map alone."""
    kernels: KernelConfig = KernelConfig()
    """Estimator of all layers; its `reduction` gives way to each layer's `use_pca`, its `kind` to
    `use_random_kernels`."""
    max_patches_per_marker: PositiveInt = 300
    dropped: dict[str, Annotated[tuple[NonNegativeInt, ...], Field(max_length=8192)]] = Field(default_factory=dict)
    """Filters of convolutions that are left out after they were learned, by the layer's name and their number from 0
    (see `fieldmark flim inspect`)."""


def layer_words() -> tuple[str, ...]:
    """The names of all operations."""
    return get_args(Words)


Operation.model_rebuild()
ConvParams.model_rebuild()
Module.model_rebuild()
