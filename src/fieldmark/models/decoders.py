"""Adaptive decoders: from the kernels' maps of one image to saliency, with weights that the image itself decides.

Joao et al., "A flyweight CNN with adaptive decoder for schistosoma mansoni egg detection"
(2023), and FLIM-AD (arXiv 2504.20872). They look at the whole image first: see `Head.survey`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fieldmark.models.heads import Head, Seen, enlarge
from fieldmark.models.tally import Tally, otsu

Decoder = Literal["vanilla", "probabilistic", "mean", "labelled"]

LOW_MEAN, FEW, MANY = 0.1, 0.1, 0.2
"""Vanilla: the least threshold that is softened, and the shares that are called few and many."""
FLAT = 1e-7
"""Probabilistic: a variance below is taken to be 1."""


class AdaptiveHead(Head):
    """Saliency of each foreground class, 0..1 in every image, as class probabilities.

    The saliency is stretched so that the image's own threshold (Otsu's, or one half) becomes
    one half. Against the background stands 1 minus the greatest foreground class, and the
    shares are divided by their sum: with two classes (1 - s, s). A map of one value shows
    background alone.

    Every decoder takes weighted sums of the maps of one level, keeps what is positive and
    stretches it to 0..1 over the image:

    - `vanilla`: maps are stretched to 0..1. With m the means of the maps, T their Otsu
      threshold and v their variance, a map weighs -1 where m >= T + v and more than a fifth
      of it is above its own Otsu threshold; +1 where m <= T - v (T where T <= 0.1) and less
      than a tenth is. It knows of no classes: small things are the foreground.
    - `probabilistic`: maps are divided by their maxima, before they are enlarged. At each sample, the values
      of the class's kernels in the sample and its four neighbors (six in a volume) give one normal distribution, those
      of all other kernels another. A kernel of the class weighs 1 where its value is likelier
      under the first, one of the others -1 where its value is likelier under the second.
    - `mean`: the same with means: kernels of the class weigh 1 where their mean is the
      greater, the others -1 where theirs is.
    - `labelled`: weights learned from the marks, the same for every image.

    A class without kernels has mean 0 and likelihood 0. Neighbors beyond the border repeat it.

    Args:
        decoder: Which.
        level: The place of the level that is decoded.
        classes: Classes of the model.
        background: The place of the class that is no object.
        threshold: `otsu`, or `half` for saliency as it is.
    """

    continuous: ClassVar[bool] = False
    kernel_class: Tensor
    importance: Tensor

    def __init__(self, decoder: Decoder, level: int, classes: int, background: int, threshold: str = "otsu") -> None:
        super().__init__()
        if decoder not in get_args(Decoder) or not 0 <= background < classes or threshold not in ("otsu", "half"):
            raise ValueError(f"no decoder {decoder!r} of {classes} classes, background {background}, {threshold!r}")
        self.decoder = decoder
        self.level = level
        self.classes = classes
        self.background = background
        self.threshold = threshold
        self.foreground = [place for place in range(classes) if place != background]
        self.register_buffer("kernel_class", torch.empty(0, dtype=torch.int64))  # (K,) class that each came from
        self.register_buffer("importance", torch.empty(0, 0))  # (classes, K) of `labelled`

    @property
    def rounds(self) -> int:  # type: ignore[override]
        return 1 if self.decoder == "labelled" else 2

    @property
    def margin(self) -> int:  # type: ignore[override]
        return 1 if self.decoder in ("probabilistic", "mean") else 0

    def forward(self, levels: Sequence[Tensor], size: Sequence[int], seen: Seen | None = None) -> Tensor:
        """Class probabilities (B, classes, Y, X). Without `seen` each image of the batch is taken to be whole."""
        if seen is None:
            images = [[level[i : i + 1] for level in levels] for i in range(levels[0].shape[0])]
            return torch.cat([self(own, size, self.survey_whole(own, size)) for own in images])
        salience = self.saliency(levels, size, seen)
        if self.threshold == "otsu":
            salience = _centered(salience, seen[-1])
        return self._shares(salience)

    def saliency(self, levels: Sequence[Tensor], size: Sequence[int], seen: Seen) -> Tensor:
        """(1, foreground classes, Y, X) in 0..1 over the image."""
        last = seen[-1]
        low, span = _column(last.low, levels[0]), _column(last.span, levels[0])
        stretched = (self._raw(levels, size, seen[:-1]) - low) / torch.where(span > 0, span, 1)
        return stretched.clamp(0, 1)

    def survey(self, levels: Sequence[Tensor], size: Sequence[int], core: Sequence[slice], seen: Seen) -> Tally:
        """The first round looks at the maps, the last one at the saliency before it is stretched."""
        if len(seen) == self.rounds - 1:
            found = self._raw(levels, size, seen)[0]
            return _tally(found[(slice(None), *core)])
        level = levels[self.level]
        if self.decoder == "vanilla":
            return _tally(enlarge(level, size)[0][(slice(None), *core)])
        return _tally(level[0][(slice(None), *_samples(level, size, core))], counted=False)

    def config(self) -> dict[str, Any]:
        return {
            "kind": "adaptive",
            "decoder": self.decoder,
            "level": self.level,
            "classes": self.classes,
            "background": self.background,
            "threshold": self.threshold,
        }

    def _raw(self, levels: Sequence[Tensor], size: Sequence[int], seen: Seen) -> Tensor:
        """(1, foreground classes, Y, X) sums of what is for and against, 0 and more."""
        level = levels[self.level].float()
        if self.decoder == "vanilla":
            weights = torch.from_numpy(vanilla_weights(seen[0])).to(level)
            return functional.relu(enlarge(mixed(level, weights[:, :-1]) + weights[:, -1], size))
        if self.decoder == "labelled":
            before, after = self.importance[: self.background], self.importance[self.background + 1 :]
            return functional.relu(enlarge(mixed(level, torch.cat([before, after])), size))
        if len(self.kernel_class) != level.shape[1]:
            raise ValueError(f"{len(self.kernel_class)} kernels have a class, the level has {level.shape[1]} maps")
        most = _column(seen[0].high, level)
        scaled = level / torch.where(most > 0, most, 1)
        favored = favored_by_likelihood if self.decoder == "probabilistic" else favored_by_mean
        return torch.cat([self._against_rest(scaled, klass, favored, size) for klass in self.foreground], dim=1)

    def _against_rest(self, scaled: Tensor, klass: int, favored: Any, size: Sequence[int]) -> Tensor:
        own = self.kernel_class.to(scaled.device) == klass
        return enlarge(functional.relu(favored(scaled, own)), size)

    def _shares(self, salience: Tensor) -> Tensor:
        ground = 1 - salience.amax(dim=1, keepdim=True)
        before, after = salience[:, : self.background], salience[:, self.background :]
        shares = torch.cat([before, ground, after], dim=1)
        return shares / shares.sum(dim=1, keepdim=True)


def vanilla_weights(bands: Tally) -> np.ndarray:
    """(1, K) weights of the raw maps and, last, a constant: the vanilla weights of the stretched maps.

    A map of one value weighs nothing.
    """
    known = bands.span > 0
    if not known.any():
        return np.zeros((1, len(known) + 1))
    span = np.where(known, bands.span, 1.0)
    means = (bands.mean - bands.low) / span
    _, shares = bands.otsu()
    threshold, spread = otsu(means[known]), float(means[known].var())
    high, low = threshold + spread, threshold - spread if threshold > LOW_MEAN else threshold
    signs = np.where((means <= low) & (shares < FEW), 1.0, 0.0)
    signs = np.where((means >= high) & (shares > MANY), -1.0, signs) * known
    weights = signs / span
    return np.append(weights, -(weights * bands.low).sum())[None]


def mixed(level: Tensor, weights: Tensor) -> Tensor:
    """(1, K, ...) maps and (C, K) weights to (1, C, ...) sums."""
    if weights.shape[1] != level.shape[1]:
        raise ValueError(f"the decoder weighs {weights.shape[1]} maps, the level has {level.shape[1]}")
    sums = weights @ level.flatten(2)
    return sums.view(1, len(weights), *level.shape[2:])


def favored_by_mean(maps: Tensor, own: Tensor) -> Tensor:
    """(1, K, y, x) maps and (K,) which are the class's, to (1, 1, y, x) sums."""
    mine, others = _around(maps[:, own]), _around(maps[:, ~own])
    for_it = (mine > others) * maps[:, own].sum(dim=1, keepdim=True)
    against = (mine < others) * maps[:, ~own].sum(dim=1, keepdim=True)
    return for_it - against


def favored_by_likelihood(maps: Tensor, own: Tensor) -> Tensor:
    """The same by how likely each value is under either group's normal distribution."""
    mine, others = _likelihood(maps, maps[:, own]), _likelihood(maps, maps[:, ~own])
    for_it = ((mine > others) * maps)[:, own].sum(dim=1, keepdim=True)
    against = ((mine < others) * maps)[:, ~own].sum(dim=1, keepdim=True)
    return for_it - against


def _likelihood(maps: Tensor, group: Tensor) -> Tensor:
    """(1, K, y, x) exp(-(f - mean)^2 / 2 variance), without the factor before it; 0 for an empty group."""
    if group.shape[1] == 0:
        return torch.zeros_like(maps)
    mean = _around(group)
    variance = _around(group, mean)
    variance = torch.where(variance < FLAT, 1, variance)
    return torch.exp(-((maps - mean) ** 2) / (2 * variance))


def _around(group: Tensor, center: Tensor | None = None) -> Tensor:
    """(1, 1, y, x) mean over the group's maps in each pixel and its four neighbors.

    Args:
        group: (1, G, y, x); 0 where G is 0.
        center: (1, 1, y, x): the mean squared distance from it instead.
    """
    if group.shape[1] == 0:
        return group.new_zeros(1, 1, *group.shape[2:])
    total = group.new_zeros(1, 1, *group.shape[2:])
    neighbors = [group, *(_moved(group, axis, step) for axis in range(2, group.ndim) for step in (-1, 1))]
    for values in neighbors:
        measured = values if center is None else (values - center) ** 2
        total = total + measured.sum(dim=1, keepdim=True)
    return total / (len(neighbors) * group.shape[1])


def _moved(maps: Tensor, axis: int, step: int) -> Tensor:
    """Every pixel's next one along an axis; the border repeats itself."""
    last = maps.shape[axis] - 1
    places = (torch.arange(last + 1, device=maps.device) + step).clamp(0, last)
    return maps.index_select(axis, places)


def _centered(salience: Tensor, last: Tally) -> Tensor:
    """Stretch both sides so that Otsu's threshold becomes one half."""
    edge, _ = last.otsu()
    span = np.where(last.span > 0, last.span, 1.0)
    at = _column(np.clip((edge - last.low) / span, 1e-6, 1 - 1e-6), salience)
    return torch.where(salience < at, salience / (2 * at), 0.5 + (salience - at) / (2 * (1 - at)))


def _samples(level: Tensor, size: Sequence[int], core: Sequence[slice]) -> list[slice]:
    """The samples of a level (1, K, ...) that pixels of the core lie in: their maximum is that of the map itself."""
    axes = [(own, full, *part.indices(full)[:2]) for own, full, part in zip(level.shape[2:], size, core, strict=True)]
    return [slice(start * own // full, -(-stop * own // full)) for own, full, start, stop in axes]


def _tally(values: Tensor, *, counted: bool = True) -> Tally:
    return Tally.of(values.float().cpu().numpy(), counted=counted)


def _column(values: np.ndarray, like: Tensor) -> Tensor:
    """(K,) numbers as (1, K, 1, 1) float32, with the axes of `like`."""
    column = torch.from_numpy(np.asarray(values, np.float32)).to(like.device)
    return column.view(1, -1, *(1,) * (like.ndim - 2))
