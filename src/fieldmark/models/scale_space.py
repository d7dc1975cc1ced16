"""A scale space: brightness, edges and curvature at several scales, by fixed kernels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional

TRUNCATE = 3.0
"""Gaussians end at this many standard deviations."""
BLOCK = 64
"""Rows that are smoothed at once, or twice as many as a Gaussian reaches: most of a larger matrix is zero."""


class ScaleSpace(nn.Module):
    """For each scale: the smoothed image, its gradient's length, and the eigenvalues of its Hessian.

    The features of Lindeberg's scale space that trainable segmentation in scikit-image, ilastik
    and Weka has made the common choice. Borders continue by their nearest value.

    Args:
        scales: Standard deviations in pixels.
    """

    def __init__(self, scales: Sequence[float]) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.radius = 2 + max((_reach(scale) for scale in scales), default=0)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, y, x) to one map (B, 4 C, y, x) a scale."""
        return [_describe(_smooth(x, scale)) for scale in self.scales]

    def at(self, x: Tensor, places: Tensor) -> list[Tensor]:
        """The same at the pixels (N, 2) of one image (1, C, y, x) alone: (N, 4 C) a scale."""
        return [_describe_at(_smooth(x, scale)[0], places) for scale in self.scales]


def _reach(scale: float) -> int:
    return ceil(TRUNCATE * scale)


def _smooth(x: Tensor, scale: float) -> Tensor:
    """Convolution with a Gaussian, as products of a band matrix with blocks of rows, then of columns.

    Faster here than depthwise convolutions with long kernels, and than the whole matrix, which is zero but for its
    band.
    """
    height, width = x.shape[-2:]
    rows = [_band(*block, scale, x) @ x[..., slice(*block[2:]), :] for block in _blocks(height, scale)]
    x = torch.cat(rows, dim=-2)
    columns = [x[..., slice(*block[2:])] @ _band(*block, scale, x).T for block in _blocks(width, scale)]
    return torch.cat(columns, dim=-1)


def _blocks(size: int, scale: float) -> list[tuple[int, int, int, int]]:
    """Blocks of an axis: first and last pixel, and those of what they see (without the last ones)."""
    if torch.onnx.is_in_onnx_export():  # a traced graph must not hold the number of blocks of its image
        return [(0, size, 0, size)]
    reach = _reach(scale)
    step = max(BLOCK, 2 * reach)
    ends = [(first, min(first + step, size)) for first in range(0, size, step)]
    return [(first, last, max(0, first - reach), min(size, last + reach)) for first, last in ends]


def _band(first: int, last: int, low: int, high: int, scale: float, like: Tensor) -> Tensor:
    """Rows `first` to `last` of the matrix, its columns `low` to `high` (both without the second)."""
    make = _banded if torch.onnx.is_in_onnx_export() else _kept_band
    return make(first - low, last - first, high - low, scale, like.dtype).to(like.device)


def _banded(first: int, rows: int, columns: int, scale: float, dtype: torch.dtype) -> Tensor:
    """(rows, columns): a row holds the Gaussian around its own pixel; the first row's is `first`.

    What it has beyond the border falls on the last pixel. Made on the processor: a GPU adds up what falls on one pixel
    in any order, and the last bits with it.
    """
    reach = _reach(scale)
    steps = torch.arange(-reach, reach + 1, device="cpu")
    kernel = torch.exp(-0.5 * (steps.to(dtype) / scale) ** 2)
    pixel = torch.arange(rows, device="cpu")[:, None] + first
    place = (pixel + steps).clamp(0, columns - 1)
    band = torch.zeros(rows, columns, dtype=dtype, device="cpu")
    return band.scatter_add_(1, place, (kernel / kernel.sum()).expand(rows, -1))


@lru_cache(maxsize=256)
def _kept_band(first: int, rows: int, columns: int, scale: float, dtype: torch.dtype) -> Tensor:
    """The same, made once: the blocks inside an image share it."""
    with torch.inference_mode(mode=False):  # so that it may have a part in a graph of gradients as well
        return _banded(first, rows, columns, scale, dtype)


def _describe(x: Tensor) -> Tensor:
    """Smoothed values, gradient length, larger and smaller eigenvalue of the Hessian: (B, 4 C, y, x)."""
    around = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    parts = slice(None, -2), slice(1, -1), slice(2, None)
    return torch.cat(_described([[around[..., rows, columns] for columns in parts] for rows in parts]), dim=1)


def _describe_at(x: Tensor, places: Tensor) -> Tensor:
    """The same of (C, y, x) at (N, 2) pixels: (N, 4 C)."""
    rows, columns = (
        [(at + step).clamp(0, size - 1) for step in (-1, 0, 1)]  # borders continue by their nearest value
        for at, size in zip(places.unbind(1), x.shape[1:], strict=True)
    )
    values = x.flatten(1)
    near = [[values.index_select(1, row * x.shape[2] + column) for column in columns] for row in rows]
    return torch.cat(_described(near)).T


def _described(near: list[list[Tensor]]) -> list[Tensor]:
    """From the values in the 3 rows of 3 columns around pixels: value, gradient length and both eigenvalues."""
    (up_left, up, up_right), (left, x, right), (down_left, down, down_right) = near
    # in place where a result has its own memory: every pass over the maps costs more than its arithmetic
    vertical, horizontal = up + down, left + right
    middle = (vertical + horizontal).mul_(0.5).sub_(x, alpha=2)  # half the trace of the Hessian
    half_difference = vertical.sub_(horizontal).mul_(0.5)
    xy = (down_right - down_left).sub_(up_right).add_(up_left).mul_(0.25)
    spread = half_difference.square_().add_(xy.square_()).sqrt_()
    length = (down - up).square_().add_((right - left).square_()).mul_(0.25).sqrt_()
    return [x, length, middle + spread, middle - spread]
