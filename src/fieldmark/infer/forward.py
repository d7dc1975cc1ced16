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
    """Prepare, pad to the stride, run plane by plane, cut back.

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
        self.net = net.to(device).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.preparation = preparation
        self.output = output
        self.precision = precision
        self.device = device
        self.stride = (1, net.stride, net.stride)
        self.halo = (0, net.radius, net.radius)

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """(t, c, z, y, x) raw pixels to (t, k, z, y, x) float32 answers."""
        times, _, depth = block.shape[:3]
        planes = [self.plane(block[t, :, z]) for t in range(times) for z in range(depth)]
        stacked = np.stack(planes).reshape(times, depth, *planes[0].shape)
        return np.ascontiguousarray(stacked.transpose(0, 2, 1, 3, 4))

    def plane(self, pixels: np.ndarray) -> np.ndarray:
        """(c, y, x) raw pixels to (k, y, x) float32 answers. Raises BadInput for pixels that are no numbers."""
        require_numbers(pixels, self.image)
        height, width = pixels.shape[1:]
        prepared = pad_to_stride(apply(pixels, self.preparation), self.net.stride)
        with torch.inference_mode(), self._autocast():
            answers = self.net.answer(self._tensor(prepared), self.output)
        plane: np.ndarray = answers[0, :, :height, :width].float().cpu().numpy()
        return plane

    def _tensor(self, prepared: np.ndarray) -> Tensor:
        batch = torch.from_numpy(prepared)[None].to(self.device)
        return batch.contiguous(memory_format=torch.channels_last)

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
    height, width = pixels.shape[1:]
    below, right = round_up(height, stride) - height, round_up(width, stride) - width
    if not below and not right:
        return pixels
    return np.pad(pixels, ((0, 0), (0, below), (0, right)), mode="reflect")
