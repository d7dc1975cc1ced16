"""FLIM's architecture files, both dialects: `{"features": ..., "classifier": ...}` and LIDS's `{"nlayers": ...}`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from fieldmark.core.files import write_atomic
from fieldmark.errors import BadRecipe, near_miss
from fieldmark.recipes.flim_arch import FlimArch, parse_arch
from fieldmark.recipes.loading import load_recipe, validate
from fieldmark.recipes.texts import parse_json

ThreeSizes = Annotated[tuple[NonNegativeInt, ...], Field(min_length=2, max_length=3)]
"""x, y and z; z is 0 or absent in 2-D."""


class LidsConv(BaseModel, frozen=True, extra="forbid"):
    """A convolution, as LIDS writes it."""

    kernel_size: ThreeSizes
    dilation_rate: ThreeSizes = (1, 1, 0)
    nkernels_per_image: PositiveInt | None = None
    """Accepted. FLIM's own conversion takes this number for the one a marker; ours takes `nkernels_per_marker`."""
    nkernels_per_marker: PositiveInt | None = None
    noutput_channels: PositiveInt


class LidsPooling(BaseModel, frozen=True, extra="forbid"):
    """A pool, as LIDS writes it."""

    size: ThreeSizes = (1, 1, 0)
    stride: PositiveInt = 1
    type: Literal["max_pool", "avg_pool", "no_pool"]


class LidsLayer(BaseModel, frozen=True, extra="forbid"):
    """Normalization by the markers, convolution, ReLU, pool."""

    conv: LidsConv
    relu: bool | Literal[0, 1] = True
    pooling: LidsPooling = LidsPooling(type="no_pool")


def load_arch(path: Path) -> FlimArch:
    """The architecture in a file of either dialect. Raises BadRecipe, which names the file and the path in it."""
    return arch_of(load_recipe(path), source=path)


def read_arch(text: str, *, source: object = "") -> FlimArch:
    """The architecture in a JSON text of either dialect. Raises BadRecipe."""
    try:
        values = parse_json(text)
    except ValueError as error:
        raise BadRecipe(f"{source or 'the architecture'}: cannot be parsed ({error}). Correct the file.") from error
    return arch_of(values, source=source)


def arch_of(values: Any, *, source: object = "") -> FlimArch:
    """The architecture of a JSON object of either dialect, told by its keys. Raises BadRecipe."""
    if isinstance(values, dict) and ("nlayers" in values or "layer1" in values):
        return parse_arch(from_lids(values, source=source), source=source)
    return parse_arch(values, source=source)


def from_lids(values: dict[str, Any], *, source: object = "") -> dict[str, Any]:
    """LIDS's dialect as the other one.

    Every layer becomes `m_norm`, `conv` (padded by half its kernel), `activation` and `pool`
    (padded by half its window). `nkernels_per_marker` and `stdev_factor` mean what they say:
    FLIM's own conversion takes `nkernels_per_image` for the kernels of a marker, and loses
    `stdev_factor`.
    """
    begin = f"{source}: " if source else ""
    count = values.get("nlayers", sum(key.startswith("layer") for key in values))
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise BadRecipe(f"{begin}nlayers: wanted a positive number, found {str(count)[:40]!r}. Correct the file.")
    names = [f"layer{number}" for number in range(1, count + 1)]
    known = ["nlayers", "stdev_factor", "apply_intrinsic_atrous", *names]
    for key in values:
        if key not in known:
            raise BadRecipe(f"{begin}{key}: unknown key. {near_miss(key, known)} Correct the file.")
    for name in names:
        if name not in values:
            raise BadRecipe(f"{begin}{name}: is missing; nlayers says {count}. Correct the file.")
    factor = _Factor.model_validate(values_of(_Factor, values, source)).stdev_factor
    parsed = [validate(LidsLayer, _object(values[name], name, begin), where=name, source=source) for name in names]
    layers: dict[str, Any] = {}
    for number, layer in enumerate(parsed, start=1):
        layers |= _converted(layer, number, factor)
    return {"features": {"type": "sequential", "layers": layers}}


class _Factor(BaseModel, frozen=True, extra="forbid"):
    stdev_factor: NonNegativeFloat = 0.01
    """Added to the spread of every channel."""


def values_of(model: type[BaseModel], values: dict[str, Any], source: object) -> dict[str, Any]:
    """The keys of `values` that `model` knows, checked."""
    own = {key: values[key] for key in model.model_fields if key in values}
    return validate(model, own, source=source).model_dump()


def _object(value: Any, name: str, begin: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRecipe(f"{begin}{name}: wanted an object with conv, relu and pooling. Correct the file.")
    return value


def _converted(layer: LidsLayer, number: int, factor: float) -> dict[str, Any]:
    axes = 3 if len(layer.conv.kernel_size) == 3 and layer.conv.kernel_size[2] > 0 else 2
    size, dilation = _axes(layer.conv.kernel_size, axes), _axes(layer.conv.dilation_rate, axes)
    conv = {
        "kernel_size": size,
        "stride": 1,
        "padding": [k // 2 * d for k, d in zip(size, dilation, strict=True)],
        "dilation": dilation,
        "out_channels": layer.conv.noutput_channels,
        "number_of_kernels_per_marker": layer.conv.nkernels_per_marker,
    }
    made = {
        f"m_norm{number}": {"operation": f"m_norm{axes}d", "params": {"kernel_size": size, "epsilon": factor}},
        f"conv{number}": {"operation": f"conv{axes}d", "params": conv},
    }
    if layer.relu:
        made[f"activation{number}"] = {"operation": "relu", "params": {"inplace": True}}
    if layer.pooling.type != "no_pool":
        window = _axes(layer.pooling.size, axes)
        params = {"kernel_size": window, "stride": layer.pooling.stride, "padding": [k // 2 for k in window]}
        made[f"pool{number}"] = {"operation": f"{layer.pooling.type}{axes}d", "params": params}
    return made


def _axes(sizes: tuple[int, ...], axes: int) -> list[int]:
    """x, y, z to torch's order: (z,) y, x."""
    x, y, *rest = sizes
    return [max(1, rest[0] if rest else 1), max(1, y), max(1, x)][3 - axes :]


def layers_as_arch(specs: Any, *, source: object = "") -> FlimArch:
    """An architecture from layer specifications.

    Args:
        specs: A list of `{"operation": ..., "params": {...}}` in order (`name` is optional; without it layers are
            called after their operation and place, as `conv1`), or an architecture of either dialect.
        source: Where it comes from, for errors.
    """
    if not isinstance(specs, list):
        return arch_of(specs, source=source)
    layers: dict[str, Any] = {}
    for number, spec in enumerate(specs, start=1):
        if not isinstance(spec, dict):
            raise BadRecipe(f"{source or 'the list'}: layer {number} is no object with `operation`. Correct the list.")
        named = dict(spec)
        name = str(named.pop("name", f"{str(named.get('operation', 'layer')).rstrip('123d')}{number}"))
        if name in layers:
            raise BadRecipe(f"{source or 'the list'}: two layers are called {name!r}. Give them different names.")
        layers[name] = named
    return parse_arch({"features": {"type": "sequential", "layers": layers}}, source=source)


def write_arch(arch: FlimArch, path: Path) -> None:
    """Write an architecture as JSON in the `features` dialect; what is left out is the default."""
    write_atomic(path, (json.dumps(arch_values(arch), indent=4) + "\n").encode())


def arch_values(arch: FlimArch) -> dict[str, Any]:
    """The JSON object of an architecture; `arch_of` gives the same architecture back."""
    return arch.model_dump(mode="json", exclude_unset=True, exclude_none=True)
