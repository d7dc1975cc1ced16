"""A U-Net from scratch on strokes: MONAI's BasicUNet, cross entropy on the marked pixels alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.quality import Marked, pixels

STEPS = 200
STRIDE = 16
UNKNOWN = -100


def fit(lessons: list[Marked], seed: int) -> Callable[[Path], np.ndarray]:
    """Adam, one whole image a step, flipped and turned; a map (2, y, x) of any image afterwards."""
    from monai.networks.nets import BasicUNet

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    images = [_prepared(one.path) for one in lessons]
    wanted = [torch.from_numpy(np.where(one.strokes > 0, one.strokes - 1, UNKNOWN)) for one in lessons]
    net = BasicUNet(2, images[0].shape[0], 2, features=(16, 16, 32, 64, 128, 16)).train()
    descent = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(STEPS):
        place, turns, mirrored = rng.integers(len(images)), int(rng.integers(4)), bool(rng.integers(2))
        image, labels = (_moved(part, turns, mirrored=mirrored) for part in (images[place], wanted[place]))
        descent.zero_grad()
        loss = functional.cross_entropy(_answer(net, image), labels[None], ignore_index=UNKNOWN)
        loss.backward()  # type: ignore[no-untyped-call]
        descent.step()
    net.eval()

    def predict(path: Path) -> np.ndarray:
        with torch.inference_mode():
            shares: np.ndarray = _answer(net, _prepared(path))[0].softmax(dim=0).numpy()
        return shares

    return predict


def _prepared(path: Path) -> Tensor:
    """(c, y, x) float32 of zero mean and unit spread."""
    values = np.moveaxis(pixels(path), -1, 0).astype(np.float32)
    mean, std = values.mean(axis=(1, 2), keepdims=True), values.std(axis=(1, 2), keepdims=True)
    return torch.from_numpy((values - mean) / (std + 1e-6))


def _moved(part: Tensor, turns: int, *, mirrored: bool) -> Tensor:
    part = torch.rot90(part, turns, (-2, -1))
    return part.flip(-1) if mirrored else part


def _answer(net: Any, image: Tensor) -> Tensor:
    """(1, 2, y, x) of an image of any size: padded to the stride by reflection, and cut back."""
    y, x = image.shape[-2:]
    padded = functional.pad(image[None], (0, -x % STRIDE, 0, -y % STRIDE), mode="reflect")
    answer: Tensor = net(padded)[..., :y, :x]
    return answer
