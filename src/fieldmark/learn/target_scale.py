"""The scale of target images, so that every loss sees values of about one; kept in the model to go back by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.core.seeds import derive_seed
from fieldmark.errors import BadInput
from fieldmark.learn.number_targets import NumberTargets
from fieldmark.learn.preparation import foreground_rule, thin_mask
from fieldmark.learn.targets import ImageTargets, Weighted
from fieldmark.prepare import apply, scale_step, standardize_step
from fieldmark.prepare.whole import best_of, counted, statistics
from fieldmark.recipes.prepare import NormalizeConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fieldmark.learn.samples import Samples
    from fieldmark.learn.splits import Split
    from fieldmark.prepare.whole import Counted
    from fieldmark.recipes.prepare import PrepareConfig

CROPS = 64
SIDE = 256


def scale_targets(
    samples: Samples, prepare: PrepareConfig, *, seed: int, share: bool, first: Sequence[dict[str, Any]]
) -> None:
    """Estimate `samples.target_preparation` on crops of what teaches, and the span of the prepared values.

    Where statistics are those of foreground (`normalize.min_fraction`), so are the targets'. Classes are left as they
    are.

    Args:
        samples: The images, with targets and split.
        prepare: Whether values are brought to zero center and unit spread, and which; else they stay as they are.
        seed: Draws the crops.
        share: Whether the network answers shares from 0 to 1: then values are divided by their maximum.
        first: Steps before inputs are normalized.
    """
    targets, split, how = samples.targets, samples.split, prepare.normalize or NormalizeConfig()
    if split is None:
        return
    if isinstance(targets, NumberTargets):
        samples.target_preparation = [_standard(targets.known(split.train), how)] if how.targets else []
        return
    images = targets.targets if isinstance(targets, Weighted) else targets
    if not isinstance(images, ImageTargets):
        return
    places = _places(samples, images, split, seed)
    every = _values(images, places)
    if share:
        _require_positive(every)
        samples.target_preparation = [scale_step(float(max(np.nanmax(own) for own in every)) or 1.0)]
    elif how.targets:
        shown = _Shown(samples, prepare, first, seed).values(images, places) if how.min_fraction else None
        samples.target_preparation = [_standard(every if shown is None else shown, how)]
    ready = [apply(own[None], [_one(step, n) for step in samples.target_preparation]) for n, own in enumerate(every)]
    images.span = max(1e-3, *(float(np.ptp(own)) for own in ready))


def _standard(values: list[np.ndarray], how: NormalizeConfig) -> dict[str, object]:
    """To zero center and unit spread, by the known values (N,) of each channel."""
    found = [statistics(own[None], {"statistic": how.statistic}) for own in values]
    return standardize_step([float(one["center"][0]) for one in found], [float(one["spread"][0]) for one in found])


def _places(samples: Samples, targets: ImageTargets, split: Split, seed: int) -> list[tuple[int, Box]]:
    """Parts of planes, spread over the teaching images."""
    rng = np.random.default_rng(derive_seed(seed, "target-scale"))
    count = len(split.train)
    drawn = [split.train[n % count if count <= CROPS else n * count // CROPS] for n in range(CROPS)]
    return [(index, _place(samples, targets, split, index, rng)) for index in drawn]


def _place(samples: Samples, targets: ImageTargets, split: Split, index: int, rng: np.random.Generator) -> Box:
    """One plane's part that teaches."""
    _, _, _, y, x = samples.shape(index)
    at = targets.somewhere(index, rng, split.within(0))
    if at is None:
        at = tuple(int(rng.integers(n)) for n in (samples.shape(index)[0], samples.shape(index)[2], y, x))
    start = [min(at[2], max(0, y - SIDE)), min(at[3], max(0, x - SIDE))]
    stop = [min(y, start[0] + SIDE), min(x, start[1] + SIDE)]
    return Box((at[0], at[1], *start), (at[0] + 1, at[1] + 1, *stop))


def _values(targets: ImageTargets, places: Sequence[tuple[int, Box]]) -> list[np.ndarray]:
    """Known values (N,) of each channel."""
    parts = [targets.raw(index, box) for index, box in places]
    found = _known([part.reshape(len(part), -1) for part in parts])
    if any(len(own) == 0 for own in found):
        raise BadInput("A channel of the target images holds no finite value. Choose others: data.target.channels.")
    return found


def _known(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The finite values (N,) of each channel of some (T, N)."""
    every = np.concatenate(parts, axis=1).astype(np.float64)
    return [own[np.isfinite(own)] for own in every]


class _Shown:
    """Values of targets where there is something to see in their images.

    Args:
        samples: The images.
        prepare: What foreground is, and how much of a block it must cover.
        first: Steps before inputs are normalized.
        seed: Of the fit.
    """

    def __init__(self, samples: Samples, prepare: PrepareConfig, first: Sequence[dict[str, Any]], seed: int) -> None:
        self._samples, self._asked = samples, prepare.normalize or NormalizeConfig()
        self._ground = foreground_rule(samples, prepare, first, seed)
        masked = prepare.foreground is not None and isinstance(samples.targets, Weighted)
        self._weighted = samples.targets if masked and isinstance(samples.targets, Weighted) else None
        self._masks: dict[tuple[int, ...], tuple[np.ndarray, int]] = {}

    def values(self, targets: ImageTargets, places: Sequence[tuple[int, Box]]) -> list[np.ndarray] | None:
        """Known values (N,) of each channel in blocks with enough foreground; None where there are none."""
        parts = [part for index, box in places if (part := self._part(targets, index, box)) is not None]
        found = _known([best_of(parts)]) if parts else []
        return found if found and all(len(own) for own in found) else None

    def _part(self, targets: ImageTargets, index: int, box: Box) -> Counted | None:
        """(T, N) of a place that count; None where it shows nothing."""
        mask, every = self._mask(index, box)
        if mask is None or not mask.any():
            return None
        (*_, y0, x0), raw = box.start, targets.raw(index, box)[:, 0]
        return counted(raw[:, -y0 % every :: every, -x0 % every :: every], mask, self._asked.min_fraction)

    def _mask(self, index: int, box: Box) -> tuple[np.ndarray | None, int]:
        """(y, x) of the rows and columns of a box that are multiples of n, and n."""
        if self._ground is None:
            return (self._weighted.weights(index, box)[0, 0] > 0 if self._weighted is not None else None), 1
        (t, z, *low), (_, _, *high) = box.start, box.stop
        if (index, t, z) not in self._masks:
            self._masks[index, t, z] = thin_mask(self._samples, self._ground, index, t, z)
        plane, every = self._masks[index, t, z]
        return plane[tuple(slice(-(-a // every), -(-b // every)) for a, b in zip(low, high, strict=True))], every


def _require_positive(values: list[np.ndarray]) -> None:
    least = min(float(own.min()) for own in values)
    if least < 0:
        raise BadInput(
            f"net.final_activation=sigmoid answers 0 to 1, and the target images hold {least:g}. Use linear."
        )


def _one(step: dict[str, object], channel: int) -> dict[str, object]:
    """A step for all channels as one for a single of them."""
    return {key: [value[channel]] if isinstance(value, list) else value for key, value in step.items()}
