"""Train a U-Net on crops through the whole training path, beside a bare loop of the same net and data."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.drawn import fitted, noisy, objects
from benchmarks.machine import bf16_units
from benchmarks.rows import Row

if TYPE_CHECKING:
    import torch

CLAIM = "Training through the one path, saved at every epoch, takes at least 0.95 of a bare loop's samples a second."
PEER = (
    "a bare PyTorch loop: the same U-Net, crops, flips and turns from arrays in memory, cross entropy + Dice, AdamW, "
    "clipped gradients; nothing is saved. An epoch covers the images once. Samples per second of processor time, so "
    "that other work changes little."
)
IMAGES, SIDE = 12, 512
BATCH = 8
EPOCHS = 6
"""Of which the first is not counted."""
SETTLE = 0.3
"""Seconds in which a batch that is made ahead gets ready: it belongs to who asked for it."""
CASES = ((256, "32-true"), (128, "32-true"), (256, "bf16-mixed"), (128, "bf16-mixed"))


def measure(cases: Sequence[tuple[int, str]] = CASES, epochs: int = EPOCHS, **net: Any) -> list[Row]:
    """Both take turns, an epoch each."""
    rows = []
    for crop, precision in cases:
        if precision == "32-true" or bf16_units():
            with tempfile.TemporaryDirectory() as name:
                ours, peer = _taken(Path(name), crop, precision, epochs, net)
            speeds = [[_crops(crop) / seconds for seconds in one] for one in (ours, peer)]
            told = f"{epochs - 1} epochs in turns; ours {min(speeds[0]):.3g} to {max(speeds[0]):.3g}, "
            told += f"peer {min(speeds[1]):.3g} to {max(speeds[1]):.3g}"
            case = f"crops of {crop} px, {precision.removesuffix('-true').removesuffix('-mixed')}"
            middle = median(speeds[0]), median(speeds[1])
            rows.append(Row(case, middle[0], middle[1], "samples / CPU s", more_is_better=True, spread=told))
    return rows


def _taken(folder: Path, crop: int, precision: str, epochs: int, net: dict[str, Any]) -> tuple[list[float], ...]:
    """CPU seconds of each epoch but the first, ours and the peer's."""
    images, masks = _drawn()
    ours = _events(folder, images, masks, _recipe(crop, precision, epochs, net))
    peer = _bare(images, masks, crop, precision, net)
    taken: tuple[list[float], ...] = ([], [])
    for _ in range(epochs):
        for actor, own in zip((ours, peer), taken, strict=True):
            own.append(_cpu_seconds(lambda actor=actor: next(actor)))  # type: ignore[misc]
    return tuple(own[1:] for own in taken)


def _crops(crop: int) -> int:
    """Of an epoch: as many as cover the images once, which is our default."""
    return IMAGES * (SIDE // crop) ** 2


def _cpu_seconds(action: Callable[[], object]) -> float:
    start = time.process_time()
    action()
    time.sleep(SETTLE)
    return time.process_time() - start


def _drawn() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Gray images (y, x) uint8, and their masks."""
    rng = np.random.default_rng(0)
    found = objects((1, SIDE, SIDE))[0]
    masks = [np.roll(found, tuple(rng.integers(SIDE, size=2)), axis=(0, 1)) for _ in range(IMAGES)]
    return [noisy(mask, rng) for mask in masks], masks


def _recipe(crop: int, precision: str, epochs: int, net: dict[str, Any]) -> dict[str, Any]:
    train = {"epochs": epochs, "batch_size": BATCH, "crop": (crop, crop)}
    return {"net": net, "train": train, "precision": precision}


def _events(
    folder: Path, images: Sequence[np.ndarray], masks: Sequence[np.ndarray], recipe: dict[str, Any]
) -> Iterator[object]:
    """The finished epochs of a fit; what comes before the first of them belongs to it."""
    return (event for event in fitted(folder, images, masks, recipe) if event.phase == "targets")


def _bare(
    images: Sequence[np.ndarray], masks: Sequence[np.ndarray], crop: int, precision: str, net: dict[str, Any]
) -> Iterator[None]:
    """An epoch at each `next`."""
    import torch

    from fieldmark.models.build import build

    model: Any = build("unet", {"task": "segment", "out_channels": 2, **net}, 1, seed=0)
    model = model.to(memory_format=torch.channels_last).train()
    whole = np.stack(images).astype(np.float32)
    pixels, answers = (whole - whole.mean()) / whole.std(), np.stack(masks).astype(np.int64)
    descent = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    rng = np.random.default_rng(0)
    while True:
        for _ in range(_crops(crop) // BATCH):
            x, y = _batch(pixels, answers, crop, rng)
            descent.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
                scores = model(x.contiguous(memory_format=torch.channels_last))
            _loss(scores.float(), y).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            descent.step()
        yield


def _batch(
    pixels: np.ndarray, answers: np.ndarray, crop: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, 1, crop, crop) and (B, crop, crop), flipped and turned."""
    import torch

    parts = []
    for _ in range(BATCH):
        image, (y, x) = rng.integers(IMAGES), rng.integers(SIDE - crop + 1, size=2)
        turns, flip = int(rng.integers(4)), int(rng.integers(2))
        pair = (part[image, y : y + crop, x : x + crop][:, :: 1 - 2 * flip] for part in (pixels, answers))
        parts.append([np.rot90(part, turns) for part in pair])
    x, y = (torch.from_numpy(np.stack(column)) for column in zip(*parts, strict=True))
    return x[:, None], y


def _loss(scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    from torch.nn import functional

    shares = scores.softmax(dim=1)
    truth = functional.one_hot(target, 2).movedim(-1, 1).to(shares)
    both, sums = (shares * truth).sum(dim=(2, 3)), (shares + truth).sum(dim=(2, 3))
    return functional.cross_entropy(scores, target) + (1 - 2 * both / sums.clamp_min(1e-7)).mean()
