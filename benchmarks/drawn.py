"""Discs and balls on noise, of any size, and U-Nets that were taught to find them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fieldmark.core.events import Event

EVERY, RADIUS = 128, 32
"""Pixels from one disc to the next, and of its radius; along z balls are as far apart as they are high."""
CLASSES = ("background", "object")


def objects(shape: tuple[int, int, int], top: int = 0) -> np.ndarray:
    """(z, y, x) bool: discs in each slice, balls where there are several; `top` is the first row."""
    z, y, x = (np.arange(n) for n in shape)
    deep = shape[0] if shape[0] > 1 else 0
    squares = (((y + top) % EVERY) - EVERY // 2)[:, None] ** 2 + ((x % EVERY) - EVERY // 2)[None] ** 2
    height = 2 * RADIUS * (z[:, None, None] - deep / 2) / max(1, deep)
    found: np.ndarray = squares[None] + height**2 < RADIUS**2
    return found


def noisy(found: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 pixels of objects, bright on dark."""
    return (np.where(found, 150, 80) + rng.normal(0, 25, found.shape)).clip(0, 255).astype(np.uint8)


def fitted(
    folder: Path, images: Sequence[np.ndarray], masks: Sequence[np.ndarray], recipe: dict[str, Any]
) -> Iterator[Event]:
    """The events of a fit of `unet` on arrays (y, x) or (z, y, x) and their masks, into `folder/fit/model`."""
    import tifffile

    from fieldmark.checkpoint import ClassSpec
    from fieldmark.core.fingerprint import file_hash
    from fieldmark.learn.run import FitJob, run_fit
    from fieldmark.learn.samples import Marks, SampleImage, Samples
    from fieldmark.recipes import FitRecipe

    given = []
    for number, pair in enumerate(zip(images, masks, strict=True)):
        files = folder / f"{number}.ome.tif", folder / f"{number}-mask.ome.tif"
        for file, values in zip(files, pair, strict=True):
            tifffile.imwrite(file, values.astype(np.uint8), metadata={"axes": "ZYX"[-values.ndim :]}, ome=True)
        hashes = [file_hash(file) for file in files]
        given.append(SampleImage(files[0].name, str(files[0]), hashes[0], target=str(files[1]), target_hash=hashes[1]))
    classes = tuple(ClassSpec(id=n + 1, name=name, value=n) for n, name in enumerate(CLASSES))
    asked = {
        "family": "unet",
        "data": {"target": {"kind": "labels"}, "split": {"train": 1.0, "validation": 0.0}},
    }
    yield from run_fit(
        FitJob(FitRecipe.model_validate(asked | recipe), Samples(given, Marks.none(), 2), classes, folder / "fit")
    )
