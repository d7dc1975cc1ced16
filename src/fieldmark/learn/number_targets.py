"""Numbers of whole images, where they are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fieldmark.errors import BadInput, BadRecipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fieldmark.core.geometry import Box
    from fieldmark.learn.samples import Samples
    from fieldmark.learn.target_files import Known, Planes, Within
    from fieldmark.recipes import DataConfig


class NumberTargets:
    """A row of numbers for each image; NaN where one is unknown.

    Args:
        samples: Images with `numbers`.
        config: Names the columns.
    """

    classes = False
    span: float | None = None

    def __init__(self, samples: Samples, config: DataConfig) -> None:
        if config.mask is not None:
            raise BadRecipe("data.mask: weighs pixels, and numbers belong to whole images. Leave it out.")
        self.samples = samples
        self.names = config.target.columns
        self.channels = len(self.names)
        rows = [image.numbers or (None,) * self.channels for image in samples.images]
        self.values = np.array([[np.nan if one is None else one for one in row] for row in rows], np.float64)
        self.values = self.values.reshape(len(rows), self.channels)

    def images(self) -> list[int]:
        return np.flatnonzero(np.isfinite(self.values).any(axis=1)).tolist()

    def check(self) -> None:
        for column, name in enumerate(self.names):
            if not np.isfinite(self.values[:, column]).any():
                raise BadInput(f"The column {name!r} holds no number of any image. Leave it out: data.target.columns.")

    def known(self, images: Sequence[int]) -> list[np.ndarray]:
        """The known numbers of each column, of these images; of all where these have none."""
        own = self.values[list(images)]
        found = [column[np.isfinite(column)] for column in own.T]
        every = [column[np.isfinite(column)] for column in self.values.T]
        return [a if len(a) else b for a, b in zip(found, every, strict=True)]

    def planes(self, index: int) -> Planes:
        t, _, z, _, _ = self.samples.shape(index)
        return range(t), range(z)

    def read(self, index: int, box: Box) -> Known:
        raise NotImplementedError("numbers belong to no place in an image")

    def somewhere(self, index: int, rng: np.random.Generator, within: Within | None = None) -> tuple[int, ...] | None:
        return None

    def knows(self, index: int, box: Box) -> bool:
        return bool(np.isfinite(self.values[index]).any())

    def share(self, known: Known) -> float:
        return 1.0
