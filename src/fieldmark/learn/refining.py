"""Whether random walks help a head, as far as the strokes can tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from fieldmark.core.geometry import Box
from fieldmark.core.seeds import derive_seed
from fieldmark.models.heads import FLOOR
from fieldmark.models.refine import Walker

if TYPE_CHECKING:
    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net

SIDE = 40
"""Of a window around a marked pixel, in pixels; of windows of volumes along y and x."""
DEPTH = 5
"""Slices of such a window of a 3-D network."""
WINDOWS = 12
"""Windows that are looked at, shared among the classes; each has one at least."""
TRUSTED = 0.8
"""Walks are taken where they give strokes that they were not shown at least this probability, in the geometric mean
over the pixels of the class that does worst. They swallow what is thin: vessels, fibers and cracks get less."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of an image around a mark.

    Args:
        index: Of the image.
        box: Over t, z, y, x.
        classes: ((z,) y, x) 1 + the place of the class that was marked, 0 where nobody marked.
    """

    index: int
    box: Box
    classes: np.ndarray

    @property
    def places(self) -> np.ndarray:
        """(N, 4) t, z, y, x of its pixels, row by row."""
        axes = np.meshgrid(*map(np.arange, self.box.start, self.box.stop), indexing="ij")
        return np.stack([axis.ravel() for axis in axes], axis=1)

    @property
    def images(self) -> np.ndarray:
        """(N,) the image of each."""
        return np.full(int(np.prod(self.box.shape)), self.index)


def windows_of(net: Net, samples: Samples, seed: int) -> list[Window]:
    """Windows around marked pixels drawn by chance, each class in turn and in it each stroke."""
    marks = samples.marks
    rng = np.random.default_rng(derive_seed(seed, "windows"))
    classes = np.unique(marks.klass)
    drawn: list[int] = []
    for klass in classes:
        own = np.flatnonzero(marks.klass == klass)
        strokes = rng.permutation(np.unique(marks.stroke[own]))
        chosen = np.resize(strokes, max(1, WINDOWS // len(classes)))
        drawn += [int(rng.choice(own[marks.stroke[own] == stroke])) for stroke in chosen]
    return [_window(net, samples, row) for row in dict.fromkeys(drawn)]


def _window(net: Net, samples: Samples, row: int) -> Window:
    marks = samples.marks
    index, middle = int(marks.image[row]), marks.place[row]
    t, _, z, y, x = samples.shape(index)
    sizes = (1, DEPTH if net.spatial == 3 else 1, SIDE, SIDE)
    low = [
        int(np.clip(at - size // 2, 0, max(0, full - size)))
        for at, size, full in zip(middle, sizes, (t, z, y, x), strict=True)
    ]
    high = [min(full, first + size) for first, size, full in zip(low, sizes, (t, z, y, x), strict=True)]
    box = Box(tuple(low), tuple(high))
    own = np.flatnonzero(marks.image == index)
    inside = own[((marks.place[own] >= low) & (marks.place[own] < high)).all(axis=1)]
    classes = np.zeros(box.shape, np.int64)
    classes[tuple((marks.place[inside] - low).T)] = marks.klass[inside] + 1
    return Window(index, box, classes.reshape(box.shape[-net.spatial :]))


def choose_refiner(
    net: Net, samples: Samples, asked: str, windows: list[Window], features: np.ndarray, widths: list[int]
) -> dict[str, float]:
    """Set `net.refiner` as the recipe asks; what `auto` found.

    Args:
        net: With its head.
        samples: The images.
        asked: `auto`, `random-walker` or `none`.
        windows: Of `auto`.
        features: (N, F) of the windows' pixels, one window after the other.
        widths: Of the levels.
    """
    net.refiner = None if asked == "none" else Walker()
    if asked != "auto":
        return {}
    found = agreement(net, samples, windows, features, widths)
    if not found >= TRUSTED:  # nor where it is no number
        net.refiner = None
    return {"refine": found}


def agreement(net: Net, samples: Samples, windows: list[Window], features: np.ndarray, widths: list[int]) -> float:
    """The geometric mean of the probability that walks give to marks, in the class that does worst.

    Marked pixels and their neighbors are no seeds: what the head was taught there says nothing.
    """
    walker, told = Walker(), []
    ends = np.cumsum([window.classes.size for window in windows])
    for window, own in zip(windows, np.split(_shares(net, features, widths), ends[:-1]), strict=True):
        shares = own.T.reshape(-1, *window.classes.shape)
        pixels = samples.read(window.index, window.box, spatial=net.spatial)
        refined = walker.walk(shares, pixels, unsaid=_grown(window.classes > 0))
        told += [_mean_log(refined, window.classes, klass) for klass in np.unique(window.classes[window.classes > 0])]
    worst = {klass: np.mean([value for own, value in told if own == klass]) for klass, _ in told}
    return float(np.exp(min(worst.values())))


def _shares(net: Net, features: np.ndarray, widths: list[int]) -> np.ndarray:
    """(N, F) features to (N, K) probabilities."""
    if net.head is None:
        raise RuntimeError("this network has no head")
    one = (1,) * net.spatial  # every pixel as an image of its own: nothing is laid out anew
    levels = [level.view(*level.shape, *one) for level in torch.split(torch.from_numpy(features), widths, dim=1)]
    with torch.inference_mode():
        shares: np.ndarray = net.head(levels, one).flatten(1).numpy()
    return shares


def _grown(marked: np.ndarray) -> np.ndarray:
    """Marked pixels and their neighbors, corners included."""
    from scipy.ndimage import binary_dilation

    grown: np.ndarray = binary_dilation(marked, np.ones((3,) * marked.ndim))
    return grown


def _mean_log(shares: np.ndarray, classes: np.ndarray, klass: int) -> tuple[int, float]:
    return int(klass), float(np.log(np.maximum(shares[klass - 1][classes == klass], FLOOR)).mean())
