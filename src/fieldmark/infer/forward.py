"""A network as a function of raw pixels."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fieldmark.core.geometry import round_up
from fieldmark.errors import BadInput
from fieldmark.models.base import Net
from fieldmark.prepare import apply


class NetForward:
    """Prepare, pad to the stride, run plane by plane (volume by volume where the net is 3-D), cut back.

    Args:
        net: In evaluation mode.
        preparation: The model's steps from raw to prepared pixels.
        output: What is wanted: `classes`, `features`, or an output of the family.
        precision: `fp32`, or `bf16` for autocast (faster, about three digits).
        device: A torch device.
        image: The name of what is predicted, for errors.
    """

    def __init__(
        self,
        net: Net,
        preparation: list[dict[str, Any]],
        output: str = "classes",
        *,
        precision: str = "fp32",
        device: str = "cpu",
        image: str = "The image",
    ) -> None:
        self.image = image
        self.net = net.to(device).eval()
        if net.spatial == 2:
            self.net = self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.preparation = preparation
        self.output = output
        self.precision = precision
        self.device = device
        self.stride = net.strides
        self.halo = net.radii

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """(t, c, z, y, x) raw pixels to (t, k, z, y, x) float32 answers."""
        times, _, depth = block.shape[:3]
        if self.net.spatial == 3:
            return np.stack([self.plane(block[t]) for t in range(times)])
        planes = [self.plane(block[t, :, z]) for t in range(times) for z in range(depth)]
        stacked = np.stack(planes).reshape(times, depth, *planes[0].shape)
        return np.ascontiguousarray(stacked.transpose(0, 2, 1, 3, 4))

    def plane(self, pixels: np.ndarray) -> np.ndarray:
        """(c, (z,) y, x) raw pixels to (k, (z,) y, x) float32 answers. Raises BadInput for pixels that are no numbers."""
        require_numbers(pixels, self.image)
        prepared = fit_to_net(apply(pixels, self.preparation), self.net)
        with torch.inference_mode(), self._autocast():
            answers = self.net.answer(self._tensor(prepared), self.output)
        plane: np.ndarray = answers[0][(slice(None), *map(slice, pixels.shape[1:]))].float().cpu().numpy()
        return plane

    def _tensor(self, prepared: np.ndarray) -> Tensor:
        batch = torch.from_numpy(prepared)[None].to(self.device)
        return batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "bf16":
            return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)
        return nullcontext()


def require_numbers(pixels: np.ndarray, image: str) -> None:
    """Raise BadInput where pixels are NaN or infinite: they would spread silently over all that is near them."""
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise BadInput(
            f"{image}: holds pixels that are NaN or infinite. Replace them, for example by the image's median."
        )


def pad_to_stride(pixels: np.ndarray, stride: int) -> np.ndarray:
    """Grow (c, y, x) downwards and to the right to multiples of the stride, by reflection."""
    return _grown(pixels, [round_up(size, stride) for size in pixels.shape[1:]])


def fit_to_net(pixels: np.ndarray, net: Net) -> np.ndarray:
    """Grow (c, (z,) y, x) at the far ends, by reflection, to a size that the network can take."""
    strides = net.strides[-net.spatial :]
    sizes = zip(pixels.shape[1:], strides, net.least, strict=True)
    return _grown(pixels, [max(round_up(size, stride), least) for size, stride, least in sizes])


def _grown(pixels: np.ndarray, size: list[int]) -> np.ndarray:
    beyond = [new - old for old, new in zip(pixels.shape[1:], size, strict=True)]
    if not any(beyond):
        return pixels
    return np.pad(pixels, ((0, 0), *((0, n) for n in beyond)), mode="reflect")
