"""What only a whole image knows: its maximum, where a pixel lies in it, and the statistics of its planes.

Steps that need it are data like all others; `Whole.at` puts numbers in their place for one box of one image, so that a
tile, an image and a batch give the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.core.axes import AS_IS, Factors, spelled_factors
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.prepare.flat_field import surface_at
from fieldmark.prepare.masks import foreground_of
from fieldmark.prepare.pipeline import PLACED, Step, apply, resize_of, scale_step

if TYPE_CHECKING:
    from fieldmark.images import ImageSource

MOST_PIXELS = 1 << 22
"""Of a plane or a volume that are measured; of larger ones every n-th row and column."""
BLOCK = 16
"""Side in pixels of the blocks that show enough foreground, or do not count."""


def image_maximum(source: ImageSource) -> float:
    """The largest magnitude among all pixels of an image; memory follows the piece, time the image."""
    from fieldmark.images.decode import pieces

    return max(float(np.abs(source.read(box)).max()) for box in pieces(source))


FLAT = 1e-6
"""A spread of less than this share of the center is rounding: the channel is constant, and stays so."""
LARGEST_VOLUME = 1 << 26
"""Pixels of a volume whose foreground is found at once; about fifteen bytes are held for each."""

Counted = tuple[int, np.ndarray]
"""The pixels (C, N) of a plane that count, and which these are: 2 for those of blocks, 1 for foreground, 0 for all."""
Keep = Callable[[tuple[int, ...], Callable[[], np.ndarray]], np.ndarray]


class _Latest:
    """Keeps what was made last, under its name."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[int, ...], np.ndarray] | None = None

    def get(self, name: tuple[int, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
        if self._kept is None or self._kept[0] != name:
            self._kept = (name, make())
        return self._kept[1]


@dataclass(frozen=True, slots=True)
class Place:
    """Where pixels lie in their image, and how large its planes are."""

    t: int
    z: tuple[int, ...]
    y: np.ndarray
    x: np.ndarray
    size: tuple[int, int]


class Whole:
    """One image, as far as the preparation of a part of it asks for the whole.

    Args:
        opened: Gives the image's source; called only where it is needed.
        resized: The factors along z, y and x that the source was resized by.
        keep: Gives what is kept under a name, or makes it; by itself only the latest is kept.
    """

    def __init__(
        self, opened: Callable[[], ImageSource], *, resized: Factors = AS_IS, keep: Keep | None = None
    ) -> None:
        self._opened, self._resized = opened, resized
        self._keep = keep or _Latest().get
        self._maximum: float | None = None
        self._measured: dict[tuple[int, int, int], dict[str, np.ndarray]] = {}

    def maximum(self) -> float:
        """The largest magnitude; 1 for a black image."""
        if self._maximum is None:
            self._maximum = image_maximum(self._opened()) or 1.0
        return self._maximum

    def at(self, steps: Sequence[Step], box: Box, *, size: tuple[int, int] | None = None) -> list[Step]:
        """The steps for a box over t, z, y, x of one t; a resize is done already, or refused.

        Args:
            steps: A preparation.
            box: Where the pixels lie.
            size: Height and width of the planes that the box lies in, where they were resized.
        """
        if not any(step.get("step") in PLACED for step in steps):
            return list(steps)
        if (by := resize_of(steps)) not in (AS_IS, self._resized):
            raise BadInput(
                f"This model resizes images by {spelled_factors(by)} first (prepare.resize), which predictions of "
                "whole images do: fieldmark predict. Single layers, answers and features at another size are not there."
            )
        (t, z0, y0, x0), (_, z1, y1, x1) = box.start, box.stop
        plane = size or self._opened().shape[3:]
        place = Place(t, tuple(range(z0, z1)), np.arange(y0, y1), np.arange(x0, x1), (int(plane[0]), int(plane[1])))
        return self._concrete(steps, place)

    def every(self, most: int = MOST_PIXELS) -> int:
        """Of how many rows and columns `values` gives one."""
        y, x = self._opened().shape[3:]
        return max(1, int(np.ceil(np.sqrt(y * x / most))))

    def foreground(
        self,
        steps: Sequence[Step],
        ground: Step,
        t: int,
        z: int,
        *,
        values: np.ndarray | None = None,
        every: int = 1,
        unseen: Collection[int] = (),
    ) -> np.ndarray:
        """What stands out in a plane, (y, x) bool, of every n-th row and column.

        Args:
            steps: What comes before.
            ground: See `prepare.masks.foreground_of`; with `by` set to `volume` it is found in all slices together.
            t: The plane's time.
            z: The plane's slice.
            values: What the steps give of these rows and columns, (C, y, x), where that is known.
            every: Of so many rows and columns one.
            unseen: Slices of the volume that are left out of it, as if it had only the others; z is none of them.

        Raises:
            BadInput: A volume is too large to be seen at once.
        """
        if ground.get("by") == "volume":
            slices = [n for n in range(self._opened().shape[2]) if n not in unseen]
            volume = self._keep((len(steps), t, *sorted(unseen)), lambda: self._volume(steps, ground, t, slices))
            return volume[slices.index(z), ::every, ::every]
        seen = self.values(steps, t, z) if values is None else values
        return foreground_of(seen, ground, every=every)

    def _volume(self, steps: Sequence[Step], ground: Step, t: int, slices: Sequence[int]) -> np.ndarray:
        """The foreground of some slices of a volume, (z, y, x) bool."""
        y, x = self._opened().shape[3:]
        require_seen_at_once(len(slices), y, x, "prepare.foreground.by")
        seen = np.empty((1, len(slices), y, x), np.float32)
        for place, z in enumerate(slices):
            values = self.values(steps, t, z, y * x)
            seen[0, place] = values[list(ground.get("channels") or range(len(values)))].mean(axis=0)
        return foreground_of(seen, {**ground, "channels": []})

    def values(self, steps: Sequence[Step], t: int, z: int, most: int = MOST_PIXELS) -> np.ndarray:
        """Prepared pixels of a plane, (C, y, x) float32: all of them, or every n-th row and column."""
        source, every = self._opened(), self.every(most)
        y, x = source.shape[3:]
        rows = np.arange(0, y, every)
        raw = np.concatenate([self._rows(source, t, z, part, every) for part in _parts(rows, every, x)], axis=1)
        place = Place(t, (z,), rows, np.arange(0, x, every), (y, x))
        return apply(raw, self._concrete(steps, place))

    def measured(self, steps: Sequence[Step], step: Step, t: int, z: int, most: int = MOST_PIXELS) -> Counted:
        """The prepared pixels of a plane that count: of blocks with enough foreground, or all."""
        values = self.values(steps, t, z, most)
        ground, share = step.get("foreground"), float(step.get("min_fraction") or 0.0)
        if ground is None or not share:
            return 0, values.reshape(len(values), -1)
        mask = self.foreground(steps, ground, t, z, values=values, every=self.every(most))
        return counted(values, mask, share)

    def numbers(self, steps: Sequence[Step], t: int, z: int) -> dict[str, np.ndarray]:
        """Low, high, center and spread (C,) that the last of the steps, `standardize-each`, has for a plane."""
        return self._statistics(steps, len(steps) - 1, t, z)

    def _concrete(self, steps: Sequence[Step], place: Place) -> list[Step]:
        made: list[Step] = []
        for number, step in enumerate(steps):
            match step.get("step"):
                case "resize":
                    pass
                case "scale-per-image":
                    made.append(scale_step(self.maximum()))
                case "flat-field":
                    made.append(_divided(step, place))
                case "standardize-each":
                    made.append(self._standardized(steps, number, place))
                case _:
                    made.append(step)
        return made

    def _standardized(self, steps: Sequence[Step], number: int, place: Place) -> Step:
        planes = [self._statistics(steps, number, place.t, z) for z in place.z]
        stacked = {name: np.stack([plane[name] for plane in planes], axis=1)[..., None, None] for name in planes[0]}
        return {"step": "affine", **stacked}

    def _statistics(self, steps: Sequence[Step], number: int, t: int, z: int) -> dict[str, np.ndarray]:
        step = steps[number]
        volume = step["of"] == "volume"
        key = (number, t, -1 if volume else z)
        if key not in self._measured:
            depth = self._opened().shape[2]
            slices = range(depth) if volume else (z,)
            most = max(1, MOST_PIXELS // len(slices))
            parts = [self.measured(steps[:number], step, t, each, most) for each in slices]
            self._measured[key] = statistics(best_of(parts), step)
        return self._measured[key]

    def _rows(self, source: ImageSource, t: int, z: int, rows: np.ndarray, every: int) -> np.ndarray:
        box = Box((t, 0, z, int(rows[0]), 0), (t + 1, source.shape[1], z + 1, int(rows[-1]) + 1, source.shape[4]))
        found: np.ndarray = source.read(box)[0, :, 0, ::every, ::every]
        return found


def require_seen_at_once(depth: int, y: int, x: int, name: str) -> None:
    """Raise BadInput, which names the setting, where a volume is too large for a foreground of all its slices."""
    if depth * y * x > LARGEST_VOLUME:
        raise BadInput(
            f"{name}=volume: a volume of {depth} x {y} x {x} pixels is too large to be seen at once; at most "
            f"{LARGEST_VOLUME:,} are. Let slices be masked by themselves (slice), or resize the images."
        )


def counted(values: np.ndarray, mask: np.ndarray, share: float) -> Counted:
    """Of pixels (C, y, x) those of blocks with this share of foreground; without one, foreground; or all."""
    for rank, counts in ((2, _blocks(mask, share)), (1, mask)):
        if counts.any():
            return rank, values[:, counts]
    return 0, values.reshape(len(values), -1)


def best_of(parts: Sequence[Counted]) -> np.ndarray:
    """(C, N) of the planes that show most: an empty one among them must not count with all its dark pixels."""
    best = max(rank for rank, _ in parts)
    return np.concatenate([values for rank, values in parts if rank == best], axis=1)


def statistics(values: np.ndarray, step: Step) -> dict[str, np.ndarray]:
    """Low, high, center and spread of (C, N) values, (C,) each; channels that are not meant stay as they are."""
    ready = values.astype(np.float64)
    count = len(ready)
    low, high = np.full(count, -np.inf), np.full(count, np.inf)
    if step.get("clip"):
        low, high = np.percentile(ready, step["clip"], axis=1)
        ready = np.clip(ready, low[:, None], high[:, None])
    if step["statistic"] == "median-iqr":
        first, center, last = np.percentile(ready, (25, 50, 75), axis=1)
        spread = last - first
    else:
        center, spread = ready.mean(axis=1), ready.std(axis=1)
    spread = np.where(spread > FLAT * np.abs(center), spread, 1.0)  # values may be small altogether
    if meant := step.get("channels"):
        own = np.isin(np.arange(count), meant)
        center, spread = np.where(own, center, 0.0), np.where(own, spread, 1.0)
        low, high = np.where(own, low, -np.inf), np.where(own, high, np.inf)
    return {"low": low, "high": high, "center": center, "spread": spread}


def _divided(step: Step, place: Place) -> Step:
    fields = [surface_at(surface, place.y, place.x, place.size) for surface in step["surfaces"]]
    return {"step": "divide", "by": np.stack(fields)}


def _parts(rows: np.ndarray, every: int, width: int) -> list[np.ndarray]:
    """Rows in groups that are read at once: about 16 million pixels each."""
    each = max(1, (1 << 24) // (width * every))
    return [rows[n : n + each] for n in range(0, len(rows), each)]


def _blocks(mask: np.ndarray, share: float) -> np.ndarray:
    """The pixels of blocks of which at least this share is foreground; blocks at the far ends may be smaller."""
    rows, columns = (np.arange(0, n, BLOCK) for n in mask.shape)
    found = np.add.reduceat(np.add.reduceat(mask, rows, axis=0, dtype=np.int32), columns, axis=1)
    high, wide = (np.diff(at, append=n) for at, n in zip((rows, columns), mask.shape, strict=True))
    enough = found >= share * (high[:, None] * wide)
    grown: np.ndarray = enough.repeat(high, 0).repeat(wide, 1)
    return grown


def whole_of(pixels: np.ndarray) -> Whole:
    """An image of one plane that is in memory, (C, y, x)."""
    from fieldmark.images.source import ArraySource

    return Whole(lambda: ArraySource(pixels, "cyx"))
