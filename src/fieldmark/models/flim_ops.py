"""The operations of FLIM architectures, each with its arithmetic of coordinates; empty until markers teach them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.errors import BadInput
from fieldmark.recipes.flim_arch import (
    AdaptivePoolParams,
    AvgPoolParams,
    BatchNormParams,
    ConvParams,
    DecoderParams,
    FoldParams,
    MarkerNormParams,
    MaxPoolParams,
    Operation,
    UnfoldParams,
)

CONV: dict[int, Callable[..., Tensor]] = {2: functional.conv2d, 3: functional.conv3d}
MAX: dict[int, Callable[..., Tensor]] = {2: functional.max_pool2d, 3: functional.max_pool3d}
AVG: dict[int, Callable[..., Tensor]] = {2: functional.avg_pool2d, 3: functional.avg_pool3d}
ADAPTIVE: dict[int, Callable[..., Tensor]] = {2: functional.adaptive_avg_pool2d, 3: functional.adaptive_avg_pool3d}
PAD_WORDS = {"reflect": "reflect", "replicate": "replicate", "circular": "circular"}


class TooSmall(BadInput):
    """Pixels too few for a window, or of another size than a layer is fixed to."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Where the samples of a map lie along one axis of the image.

    Args:
        size: Samples.
        jump: Distance of two of them, in pixels.
        start: Place of the first, in pixels; pixel 0 has its center at 0.
        reach: What a sample depends on is at most this far from it, in pixels.
        thinned: On a map that was not thinned: the jump that it would have.
    """

    size: int
    jump: float = 1.0
    start: float = 0.0
    reach: float = 0.0
    thinned: int = 1

    @property
    def last(self) -> float:
        return self.start + (self.size - 1) * self.jump

    def windows(self, size: int, stride: int, pad: tuple[int, int], dilation: int, *, dense: bool, ceil: bool) -> Axis:
        """After windows of `size` samples; `dense` leaves no sample out, and dilates instead."""
        factor = self.thinned if dense else 1
        span, low, high = (size - 1) * dilation * factor, pad[0] * factor, pad[1] * factor
        step = 1 if dense else stride
        count = _count(self.size, span, low, high, step, ceil=ceil and not dense)
        if count < 1:
            raise TooSmall(
                f"The image is too small for the network: a map of {self.size} samples met a window of {span + 1}. "
                "Use larger images, or more padding in the architecture."
            )
        return Axis(
            count,
            self.jump * step,
            self.start + (span / 2 - low) * self.jump,
            self.reach + span / 2 * self.jump,
            self.thinned * stride,
        )

    def nearest(self, at: float) -> int:
        """The sample nearest to a pixel; it may be outside of the map."""
        return int((at - self.start) / self.jump + 0.5 + 1e-9) if at >= self.start - self.jump / 2 else -1


def _count(size: int, span: int, low: int, high: int, step: int, *, ceil: bool) -> int:
    room = size + low + high - span - 1
    if room < 0:
        return 0
    count = (room + (step - 1 if ceil else 0)) // step + 1
    # as in torch: a window that would begin in the padding on the far side is left out
    return count - 1 if ceil and (count - 1) * step >= size + low else count


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the samples of a map lie, along (z,) y, x.

    Args:
        axes: One entry an axis.
        dense: Whether strides leave nothing out (intrinsic atrous).
        flat: Whether the axes are rolled out into columns (`unfold`).
        whole: Whether a sample may depend on any pixel of what is seen at a time.
        fixed: Axes whose size must be that of a `fold`.
    """

    axes: tuple[Axis, ...]
    dense: bool = False
    flat: bool = False
    whole: bool = False
    fixed: tuple[int, ...] = (0, 1)

    @classmethod
    def of(cls, size: tuple[int, ...], *, dense: bool = False, fixed: tuple[int, ...] = (0, 1)) -> Grid:
        return cls(tuple(Axis(int(n)) for n in size), dense=dense, fixed=fixed)

    @property
    def size(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)

    @property
    def factors(self) -> tuple[int, ...]:
        """How much wider windows are than they say: 1 except on dense grids."""
        return tuple(axis.thinned if self.dense else 1 for axis in self.axes)

    def windows(
        self,
        size: tuple[int, ...],
        stride: tuple[int, ...],
        pads: tuple[tuple[int, int], ...],
        dilation: tuple[int, ...],
        *,
        ceil: bool = False,
    ) -> Grid:
        axes = zip(self.axes, size, stride, pads, dilation, strict=True)
        return replace(self, axes=tuple(a.windows(k, s, p, d, dense=self.dense, ceil=ceil) for a, k, s, p, d in axes))


class Seen(NamedTuple):
    """A map (B, F, (z,) y, x) and where it lies."""

    values: Tensor
    grid: Grid


def each(value: int | tuple[int, ...], axes: int) -> tuple[int, ...]:
    """One number an axis."""
    return value if isinstance(value, tuple) else (value,) * axes


class Op(nn.Module):
    """One operation; by itself it changes nothing."""

    learns = False
    """Whether markers teach it."""

    def after(self, grid: Grid) -> Grid:
        """Where the samples lie afterwards. Raises TooSmall where none would be left."""
        return grid

    def compute(self, x: Tensor, grid: Grid) -> Tensor:
        """(B, F, ...) on `grid` to (B, F', ...) on `after(grid)`."""
        return x

    def forward(self, seen: Seen) -> Seen:
        grid = self.after(seen.grid)  # first: what is too small is told in our words
        return Seen(self.compute(seen.values, seen.grid), grid)


class Conv(Op):
    """A convolution with kernels from markers; then its inline activation and pool."""

    learns = True
    weight: Tensor
    bias: Tensor
    stroke: Tensor
    place: Tensor
    klass: Tensor

    def __init__(self, params: ConvParams, axes: int) -> None:
        super().__init__()
        self.params, self.axes = params, axes
        self.size = each(params.kernel_size, axes)
        self.stride = each(params.stride, axes)
        self.dilation = each(params.dilation, axes)
        self.pads = tuple(_conv_pads(params, k, d, axis, axes) for axis, (k, d) in enumerate(self._windows()))
        self.after_it = nn.ModuleList(build_op(op, axes) for op in (params.activation, params.pool) if op is not None)
        self.register_buffer("weight", torch.empty(0, 0, *(0,) * axes))  # (K, C / groups, (kz,) ky, kx), unit length
        self.register_buffer("bias", torch.empty(0))  # (K,)
        self.register_buffer("stroke", torch.empty(0, dtype=torch.int64))  # (K,) that each kernel came from
        self.register_buffer("place", torch.empty(0, 5, dtype=torch.int64))  # (K, 5) image, t, z, y, x of its patch
        self.register_buffer("klass", torch.empty(0, dtype=torch.int64))  # (K,) class of that pixel

    def _windows(self) -> list[tuple[int, int]]:
        return list(zip(self.size, self.dilation, strict=True))

    def patches_grid(self, grid: Grid) -> Grid:
        """Where the centers of all its windows lie, also those that the stride leaves out."""
        return grid.windows(self.size, (1,) * self.axes, self.pads, self.dilation)

    def padded(self, x: Tensor, grid: Grid) -> Tensor:
        """Raises TooSmall where there are too few samples for the padding."""
        _require_room(self.pads, self.params.padding_mode, grid)
        pads = _torch_pads(self.pads, grid.factors)
        if not any(pads):
            return x
        return functional.pad(x, pads, mode=PAD_WORDS.get(self.params.padding_mode, "constant"))

    def window(self, grid: Grid) -> tuple[int, ...]:
        """Dilation of the kernels on this grid."""
        return tuple(d * f for d, f in zip(self.dilation, grid.factors, strict=True))

    def after(self, grid: Grid) -> Grid:
        _require_room(self.pads, self.params.padding_mode, grid)
        grid = grid.windows(self.size, self.stride, self.pads, self.dilation)
        for op in self.after_it:
            grid = op.after(grid)  # type: ignore[operator]
        return grid

    def forward(self, seen: Seen) -> Seen:
        x, grid = seen
        self.after(grid)
        stride = (1,) * self.axes if grid.dense else self.stride
        x = CONV[self.axes](
            self.padded(x, grid), self.weight, self.bias, stride, 0, self.window(grid), self.params.groups
        )
        seen = Seen(x, grid.windows(self.size, self.stride, self.pads, self.dilation))
        for op in self.after_it:
            seen = op(seen)
        return seen


class MarkerNorm(Op):
    """Mean and spread of the marked pixels, then a scale and a shift that begin as 1 and 0."""

    learns = True
    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, params: MarkerNormParams) -> None:
        super().__init__()
        self.params = params
        self.register_buffer("mean", torch.empty(0))  # (C,)
        self.register_buffer("std", torch.empty(0))  # (C,), epsilon included
        self.register_buffer("weight", torch.empty(0))  # (C,)
        self.register_buffer("bias", torch.empty(0))  # (C,)

    def compute(self, x: Tensor, grid: Grid) -> Tensor:
        shape = (1, -1, *(1,) * (x.ndim - 2))
        scale = self.weight / self.std
        return (x - self.mean.view(shape)) * scale.view(shape) + self.bias.view(shape)


class BatchNorm(Op):
    """Batch norm with the statistics of the marked images."""

    learns = True
    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, params: BatchNormParams) -> None:
        super().__init__()
        self.params = params
        for name in ("mean", "variance", "weight", "bias"):
            self.register_buffer(name, torch.empty(0))  # (C,) each

    def compute(self, x: Tensor, grid: Grid) -> Tensor:
        return functional.batch_norm(x, self.mean, self.variance, self.weight, self.bias, eps=self.params.eps)


class Decoder(Op):
    """Weighted sums of the channels, one a class, ReLU."""

    learns = True
    weight: Tensor

    def __init__(self, params: DecoderParams) -> None:
        super().__init__()
        self.params = params
        self.register_buffer("weight", torch.empty(0, 0))  # (classes, C)

    def compute(self, x: Tensor, grid: Grid) -> Tensor:
        return functional.relu(torch.einsum("kc,bc...->bk...", self.weight, x))


class Relu(Op):
    """What is negative becomes 0. `inplace` is not followed: the map may be asked for."""

    def compute(self, x: Tensor, grid: Grid) -> Tensor:
        return functional.relu(x)


class Dropout(Op):
    """Drops in training alone."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def compute(self, x: Tensor, grid: Grid) -> Tensor:
        return functional.dropout(x, self.p, training=self.training)


class Pool(Op):
    """What max and average pools share: windows."""

    def __init__(self, params: MaxPoolParams | AvgPoolParams, axes: int, dilation: int | tuple[int, ...] = 1) -> None:
        super().__init__()
        self.axes = axes
        self.size = each(params.kernel_size, axes)
        self.stride = self.size if params.stride is None else each(params.stride, axes)
        self.padding = each(params.padding, axes)
        self.dilation = each(dilation, axes)
        self.ceil = params.ceil_mode

    @property
    def pads(self) -> tuple[tuple[int, int], ...]:
        return tuple((p, p) for p in self.padding)

    def after(self, grid: Grid) -> Grid:
        return grid.windows(self.size, self.stride, self.pads, self.dilation, ceil=self.ceil)

    def _shifts(self, x: Tensor, grid: Grid, fill: float) -> list[Tensor]:
        """Dense maps: the padded map, once for each place in the window."""
        factors = grid.factors
        x = functional.pad(x, _torch_pads(self.pads, factors), value=fill)
        steps = [d * f for d, f in zip(self.dilation, factors, strict=True)]
        size = [n - (k - 1) * s for n, k, s in zip(x.shape[2:], self.size, steps, strict=True)]
        shifted = []
        for place in product(*map(range, self.size)):
            starts = [p * s for p, s in zip(place, steps, strict=True)]
            cut = tuple(slice(a, a + n) for a, n in zip(starts, size, strict=True))
            shifted.append(x[(slice(None), slice(None), *cut)])
        return shifted


class MaxPool(Pool):
    """The largest of each window."""

    def __init__(self, params: MaxPoolParams, axes: int) -> None:
        super().__init__(params, axes, params.dilation)

    def compute(self, x: Tensor, grid: Grid) -> Tensor:
        if not grid.dense:
            return MAX[self.axes](x, self.size, self.stride, self.padding, self.dilation, self.ceil)
        first, *others = self._shifts(x, grid, float("-inf"))
        for other in others:
            first = torch.maximum(first, other)
        return first


class AvgPool(Pool):
    """The mean of each window."""

    def __init__(self, params: AvgPoolParams, axes: int) -> None:
        super().__init__(params, axes)
        self.params = params

    def after(self, grid: Grid) -> Grid:
        thin = any(n < k for n, k in zip(grid.size, self.size, strict=True))
        if self.axes == 3 and not grid.dense and thin:  # its twin in 2-D has no such rule
            raise TooSmall(
                f"The volume is too small for the network: torch takes no mean of {list(self.size)} over a map of "
                f"{list(grid.size)}, however padded. Use larger volumes, or a smaller window."
            )
        return super().after(grid)

    def compute(self, x: Tensor, grid: Grid) -> Tensor:
        include, divisor = self.params.count_include_pad, self.params.divisor_override
        if not grid.dense:
            return AVG[self.axes](x, self.size, self.stride, self.padding, self.ceil, include, divisor)
        total = torch.stack(self._shifts(x, grid, 0.0)).sum(dim=0)
        count: Any = divisor or len(list(product(*map(range, self.size))))
        if not include and not divisor:
            count = torch.stack(self._shifts(torch.ones_like(x[:1, :1]), grid, 0.0)).sum(dim=0)
        mean: Tensor = total / count
        return mean


class AdaptivePool(Op):
    """The mean of each part, whatever the size."""

    def __init__(self, params: AdaptivePoolParams, axes: int) -> None:
        super().__init__()
        self.axes = axes
        self.size = each(params.output_size, axes)

    def after(self, grid: Grid) -> Grid:
        if grid.dense:
            raise BadInput("An adaptive pool has no dense form. Use `pooling: rescale`, without train_dilation.")
        axes = []
        for axis, size in zip(grid.axes, self.size, strict=True):
            jump = axis.jump * axis.size / size
            axes.append(replace(axis, size=size, jump=jump, start=axis.start + (jump - axis.jump) / 2))
        return replace(grid, axes=tuple(axes), whole=True)

    def compute(self, x: Tensor, grid: Grid) -> Tensor:
        return ADAPTIVE[self.axes](x, self.size)


class Unfold(Op):
    """Windows side by side as columns: (B, C, y, x) to (B, C * k * k, L)."""

    def __init__(self, params: UnfoldParams) -> None:
        super().__init__()
        self.params = params

    def after(self, grid: Grid) -> Grid:
        size, step, pad, dilation = (
            each(getattr(self.params, name), 2) for name in ("kernel_size", "stride", "padding", "dilation")
        )
        grid.windows(size, step, tuple((p, p) for p in pad), dilation)  # where there is no window, it says so
        return replace(grid, flat=True, whole=True)

    def compute(self, x: Tensor, grid: Grid) -> Tensor:
        p = self.params
        return functional.unfold(x, p.kernel_size, p.dilation, p.padding, p.stride)


class Fold(Op):
    """Columns back to maps; overlapping values are added. It fixes the size of the image."""

    def __init__(self, params: FoldParams) -> None:
        super().__init__()
        self.params = params

    def after(self, grid: Grid) -> Grid:
        if not grid.flat:
            raise BadInput("A `fold` wants the columns of an `unfold`. Correct the architecture.")
        wanted = each(self.params.output_size, 2)
        if any(grid.size[axis] != wanted[axis] for axis in grid.fixed):
            raise TooSmall(
                f"A `fold` to {list(wanted)} met maps of {list(grid.size)}: it fixes the size of images. "
                "Use images of that size, or change its output_size."
            )
        return replace(grid, flat=False, whole=True)

    def compute(self, x: Tensor, grid: Grid) -> Tensor:
        p = self.params
        maps: Tensor = functional.fold(x, each(p.output_size, 2), p.kernel_size, p.dilation, p.padding, p.stride)
        return maps


def build_op(spec: Operation, axes: int) -> Op:
    """The module of an operation that may stand among features."""
    match spec.params:
        case ConvParams():
            return Conv(spec.params, axes)
        case MarkerNormParams():
            return MarkerNorm(spec.params)
        case BatchNormParams():
            return BatchNorm(spec.params)
        case DecoderParams():
            return Decoder(spec.params)
        case MaxPoolParams():
            return MaxPool(spec.params, axes)
        case AvgPoolParams():
            return AvgPool(spec.params, axes)
        case AdaptivePoolParams():
            return AdaptivePool(spec.params, axes)
        case FoldParams():
            return Fold(spec.params)
        case UnfoldParams():
            return Unfold(spec.params)
    return Dropout(spec.params.p) if spec.operation == "dropout" else Relu()  # type: ignore[attr-defined]


def _conv_pads(params: ConvParams, size: int, dilation: int, axis: int, axes: int) -> tuple[int, int]:
    span = (size - 1) * dilation
    if params.padding == "same":
        return span // 2, span - span // 2
    if params.padding == "valid":
        return 0, 0
    pad = each(params.padding, axes)[axis]  # type: ignore[arg-type]
    return pad, pad


def _torch_pads(pads: tuple[tuple[int, int], ...], factors: tuple[int, ...]) -> list[int]:
    """In torch's order: the last axis first."""
    turned = reversed(list(zip(pads, factors, strict=True)))
    return [n * factor for (low, high), factor in turned for n in (low, high)]


def _require_room(pads: tuple[tuple[int, int], ...], mode: str, grid: Grid) -> None:
    """Reflection needs more samples than it pads by, going round as many."""
    for pad, axis, factor in zip(pads, grid.axes, grid.factors, strict=True):
        most = max(pad) * factor
        if (mode == "reflect" and most >= axis.size) or (mode == "circular" and most > axis.size):
            raise TooSmall(
                f"The image is too small for the network: a map of {axis.size} samples cannot be padded by {most} "
                f"({mode}). Use larger images, or padding_mode zeros or replicate."
            )
