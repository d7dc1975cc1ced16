"""The light of one channel, estimated from the planes of a data set that share it.

Two ways: microDL's polynomial through the medians of the mean image's blocks, and BaSiC (Peng, Thorn, Schroeder, Wang,
Theis, Marr and Navab, A BaSiC tool for background and shading correction of optical microscopy images, 2017), which
needs far fewer planes to see past what stands in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fieldmark.errors import BadInput
from fieldmark.prepare.flat_field import Surface, fit_surface, grid_surface

if TYPE_CHECKING:
    from fieldmark.recipes.prepare import FlatFieldConfig

SIDE = 64
"""BaSiC looks at planes as so many cells a side, each a mean of pixels: light is smooth."""
MOST_PLANES = 256
"""BaSiC looks at so many at most, spread over the data set (see `every_plane`)."""
SMOOTHNESS = 1 / 4000
"""Weight of the light's slowest cosines, relative to those of the mean plane; others cost as much as they bend. (The
paper has 1 / 800 for all of them.)"""
_REWEIGHTS, _STEPS = 10, 500
_STABLE = 1e-3
"""Relative change of the light between two rounds that ends them."""
_LEFT = 1e-6
"""Share of the planes that may stay unexplained when the steps of a round end."""
_SOFT = 0.1
"""What stands out by this share of the mean weighs half."""


class Light(Protocol):
    """Looks at planes one by one."""

    def add(self, plane: np.ndarray) -> None:
        """(y, x) of any real dtype; all planes have one size."""

    def surface(self) -> Surface:
        """What all planes have in common. Raises BadInput where that is not positive, or there was none."""


def light_of(config: FlatFieldConfig) -> Light:
    """What a recipe asks for."""
    return BlockLight(config.block, config.order) if config.method == "blocks" else BasicLight()


def every_plane(config: FlatFieldConfig, planes: int) -> int:
    """Every how many of a data set's planes one is looked at."""
    return max(1, -(-planes // MOST_PLANES)) if config.method == "basic" else 1


def surfaces_of(lights: Mapping[int, Light], channels: Sequence[int]) -> list[Surface | None]:
    """The surface of each place among channels; None where nobody looked.

    Args:
        lights: By place.
        channels: The number by which the user knows the channel of each place.

    Raises:
        BadInput: A channel, which is named, has no light that is positive, or no plane.
    """
    surfaces: list[Surface | None] = [None] * len(channels)
    for place, light in lights.items():
        try:
            surfaces[place] = light.surface()
        except BadInput as error:
            raise BadInput(
                f"{error} This is channel {channels[place]}; those to be corrected are named in "
                "prepare.flat_field.channels."
            ) from error
    return surfaces


class BlockLight:
    """microDL's: see `fit_surface`."""

    def __init__(self, block: int, order: int) -> None:
        self._block, self._order = block, order
        self._sum: np.ndarray | None = None
        self._count = 0

    def add(self, plane: np.ndarray) -> None:
        if self._sum is None:
            self._sum = np.zeros(plane.shape)
        self._sum += plane
        self._count += 1

    def surface(self) -> Surface:
        if self._sum is None:
            raise _no_planes()
        return fit_surface(self._sum / self._count, block=self._block, order=self._order)


class BasicLight:
    """BaSiC's, without its dark field. The cells of every plane are kept until the end."""

    def __init__(self) -> None:
        self._cells: list[np.ndarray] = []
        self._size = (0, 0)

    def add(self, plane: np.ndarray) -> None:
        self._size = (plane.shape[0], plane.shape[1])
        self._cells.append(cells_of(plane))

    def surface(self) -> Surface:
        if not self._cells:
            raise _no_planes()
        rows, columns = (_edges(side) for side in self._size)
        return grid_surface(basic(np.stack(self._cells)), rows, columns, self._size)


def cells_of(plane: np.ndarray) -> np.ndarray:
    """Means over cells, at most `SIDE` along each axis: float64."""
    rows, columns = (_edges(side) for side in plane.shape)
    sums = np.add.reduceat(np.add.reduceat(plane, rows[:-1], axis=0, dtype=np.float64), columns[:-1], axis=1)
    cells: np.ndarray = sums / (np.diff(rows)[:, None] * np.diff(columns))
    return cells


def basic(planes: np.ndarray) -> np.ndarray:
    """The light that planes share, up to a factor for each: (y, x) float64 of mean 1.

    Planes are brightness times light, and what stands out: the light a smooth picture of few cosines, and as little
    standing out as can be. Solved by augmented Lagrangians, in rounds that give less weight to where much stands out.
    Other than in the paper a cosine costs the more, the more it bends: textures that all planes share are no light.

    Args:
        planes: (n, y, x) float64.

    Raises:
        BadInput: The planes are not brighter than 0 on the whole.
    """
    shape = planes.shape[1:]
    values = planes.reshape(len(planes), -1)
    if not values.mean() > 0:
        raise BadInput("prepare.flat_field: the images are not brighter than 0. Give surfaces from files.")
    values = values / values.mean()
    weights, light = np.ones_like(values), np.ones(values.shape[1])
    for _ in range(_REWEIGHTS):
        before = light
        light, standing = _parted(values, weights, shape)
        if np.abs(light - before).sum() < _STABLE * before.sum():
            break
        weights = 1 / (np.abs(standing) + _SOFT)
        weights /= weights.mean()
    return light.reshape(shape)


def _parted(values: np.ndarray, weights: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """One round: the light (p,) of mean 1 of (n, p) values, and what stands out (n, p)."""
    from scipy.fft import dctn, idctn

    mean = values.mean(axis=0)
    down, across = np.ogrid[: shape[0], : shape[1]]
    stiff = SMOOTHNESS * (1 + down**2 + across**2) * np.abs(dctn(mean.reshape(shape), norm="ortho")).sum()
    # where it begins and how it grows is as in the paper's own code
    pull = 12.5 / np.sqrt(np.linalg.eigvalsh(values @ values.T)[-1])
    bright, light = values.mean(axis=1), mean
    standing, owed = np.zeros_like(values), np.zeros_like(values)
    whole = np.linalg.norm(values)
    for _ in range(_STEPS):
        wanted = values - standing + owed / pull
        total = bright @ bright
        waves = dctn((bright @ wanted / total).reshape(shape), norm="ortho")
        level = waves[0, 0]
        waves = _shrunk(waves, stiff / (pull * total))
        waves[0, 0] = level  # the mean bends nothing, and costs nothing
        light = idctn(waves, norm="ortho").ravel()
        light /= light.mean()
        bright = np.maximum(wanted @ light / (light @ light), 1e-9)  # planes are dark at most, never lit backwards
        lit = bright[:, None] * light
        standing = _shrunk(values - lit + owed / pull, weights / pull)
        left = values - lit - standing
        owed += pull * left
        pull = min(1.5 * pull, 1e8)
        if np.linalg.norm(left) < _LEFT * whole:
            break
    return light, standing


def _shrunk(values: np.ndarray, by: np.ndarray | float) -> np.ndarray:
    shrunk: np.ndarray = np.sign(values) * np.maximum(np.abs(values) - by, 0)
    return shrunk


def _edges(side: int) -> np.ndarray:
    """Where cells begin along an axis, and where the last one ends."""
    return np.linspace(0, side, min(side, SIDE) + 1).round().astype(int)


def _no_planes() -> BadInput:
    return BadInput("prepare.flat_field: there is no image to estimate it on.")
