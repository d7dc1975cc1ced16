"""Batches of random crops; each crop is drawn from its place in the run alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fieldmark.core.geometry import Box
from fieldmark.core.seeds import derive_seed
from fieldmark.infer.forward import pad_to_stride

if TYPE_CHECKING:
    from fieldmark.learn.samples import Samples
    from fieldmark.recipes import DescendConfig


class CropBatches:
    """Square crops of prepared pixels, from all planes of all images alike.

    Args:
        samples: Where the pixels come from.
        config: Sizes and counts.
        stride: Crops are multiples of it; a smaller image is grown by reflection.
        seed: Of the run.
    """

    def __init__(self, samples: Samples, config: DescendConfig, *, stride: int, seed: int) -> None:
        self.samples = samples
        self.side = max(stride, config.crop // stride * stride)
        self.size = config.batch_size
        self.per_epoch = max(1, config.crops_per_epoch // config.batch_size)
        self.seed = seed
        self.rank, self.world = 0, 1

    def share(self, rank: int, world: int) -> None:
        """Give every `world`-th sample of each batch from now on, beginning with the `rank`-th."""
        self.rank, self.world = rank, world

    def get(self, epoch: int, index: int) -> Tensor:
        """(B / world, C, side, side) float32."""
        crops = [self._crop(epoch, index * self.size + place) for place in range(self.rank, self.size, self.world)]
        return torch.from_numpy(np.stack(crops))

    def _crop(self, epoch: int, number: int) -> np.ndarray:
        rng = np.random.default_rng(derive_seed(self.seed, "crop", epoch, number))
        image = int(rng.integers(len(self.samples.images)))
        t, _, z, y, x = self.samples.shape(image)
        plane = (int(rng.integers(t)), int(rng.integers(z)))
        corner = tuple(int(rng.integers(max(1, n - self.side + 1))) for n in (y, x))
        stop = tuple(min(n, c + self.side) for n, c in zip((y, x), corner, strict=True))
        box = Box((*plane, *corner), (plane[0] + 1, plane[1] + 1, *stop))
        return _grow(self.samples.read(image, box), self.side)


def _grow(pixels: np.ndarray, side: int) -> np.ndarray:
    """(C, y, x) to (C, side, side) by reflection."""
    return pad_to_stride(pixels, side)
