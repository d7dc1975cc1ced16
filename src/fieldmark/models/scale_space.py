"""A scale space: brightness, edges and curvature at several scales, by fixed kernels."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional

TRUNCATE = 3.0
"""Gaussians end at this many standard deviations."""


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


def _reach(scale: float) -> int:
    return ceil(TRUNCATE * scale)


def _smooth(x: Tensor, scale: float) -> Tensor:
    """Convolution with a Gaussian, as a product with one band matrix for rows and one for columns.

    Faster here than depthwise convolutions with long kernels, for tiles of ordinary size.
    """
    return _band(x.shape[-2], scale, x) @ x @ _band(x.shape[-1], scale, x).T


def _band(size: int, scale: float, like: Tensor) -> Tensor:
    """(size, size): row i holds the Gaussian around i; what it has beyond the border falls on the last pixel.

    Made on the processor: a GPU adds up what falls on one pixel in any order, and the last bits with it.
    """
    reach = _reach(scale)
    steps = torch.arange(-reach, reach + 1, device="cpu")
    kernel = torch.exp(-0.5 * (steps.to(like.dtype) / scale) ** 2)
    pixel = torch.arange(size, device="cpu")[:, None]
    band = torch.zeros(size, size, dtype=like.dtype, device="cpu")
    band.scatter_add_(1, (pixel + steps).clamp(0, size - 1), (kernel / kernel.sum()).expand(size, -1))
    return band.to(like.device)


def _describe(x: Tensor) -> Tensor:
    """Smoothed values, gradient length, larger and smaller eigenvalue of the Hessian: (B, 4 C, y, x)."""
    around = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    up, down = around[..., :-2, 1:-1], around[..., 2:, 1:-1]
    left, right = around[..., 1:-1, :-2], around[..., 1:-1, 2:]
    # in place where a result has its own memory: every pass over the maps costs more than its arithmetic
    vertical, horizontal = up + down, left + right
    middle = (vertical + horizontal).mul_(0.5).sub_(x, alpha=2)  # half the trace of the Hessian
    half_difference = vertical.sub_(horizontal).mul_(0.5)
    xy = (around[..., 2:, 2:] - around[..., 2:, :-2]).sub_(around[..., :-2, 2:]).add_(around[..., :-2, :-2]).mul_(0.25)
    spread = half_difference.square_().add_(xy.square_()).sqrt_()
    length = (down - up).square_().add_((right - left).square_()).mul_(0.25).sqrt_()
    return torch.cat([x, length, middle + spread, middle - spread], dim=1)
