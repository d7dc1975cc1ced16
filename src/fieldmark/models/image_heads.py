"""From the maps of a network to the class of the whole image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.errors import BadInput

if TYPE_CHECKING:
    from fieldmark.models.base import Net


VECTORS = ("rings", "pooled", "flatten")
LEVELS = ("all", "last")
TIES = ("first", "margin")
RINGS = 4
HALF_A_PIXEL = 0.5
ROOT_FLOOR = 1e-6


@dataclass(frozen=True, slots=True)
class Look:
    """How whole images become vectors.

    Args:
        vector: `rings` (the signed square roots of mean, maximum and spread of each map, and of its means over four
            rings around the middle), `pooled` (mean and maximum of each map over its parts) or `flatten` (every value).
        grid: Parts of a map along y and along x, for `pooled`.
        border: Pixels that are cut off each side of a map.
        size: Height and width in pixels that images are resized to; None for their own size.
        levels: `last` (what the family gives as its last maps) or `all` (every map of the network).
    """

    vector: str = "pooled"
    grid: int = 1
    border: int = 0
    size: tuple[int, int] | None = None
    levels: str = "last"

    def config(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> Look:
        height, width = values["size"] or (1, 1)
        levels = values.get("levels", "last")  # models of before there was a choice
        for number in (values["grid"], values["border"], height, width):
            if type(number) is not int or not 0 <= number < 1 << 16:
                raise ValueError(f"{number!r} is no number of pixels")
        if values["vector"] not in VECTORS or levels not in LEVELS or not (values["grid"] and height and width):
            raise ValueError(f"unknown vector {values!r}")
        size = (height, width) if values["size"] else None
        return cls(values["vector"], values["grid"], values["border"], size, levels)


class PooledVector(nn.Module):
    """Maps as one vector an image. Without parameters.

    Args:
        look: How; images of different sizes give vectors of one length only when pooled.
    """

    def __init__(self, look: Look) -> None:
        super().__init__()
        self.look = look

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, F, y, x), each of its own size, to (B, D)."""
        return torch.cat([self._one(trimmed(level, self.look.border)) for level in maps], dim=1)

    def _one(self, level: Tensor) -> Tensor:
        if self.look.vector == "flatten":
            return level.flatten(1)
        if self.look.vector == "rings":
            return ring_vector(level)
        parts = (functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d)
        return torch.cat([pool(level, self.look.grid).flatten(1) for pool in parts], dim=1)


def ring_vector(level: Tensor) -> Tensor:
    """Mean, maximum, spread and means over rings of maps (B, F, y, x), as signed square roots: (B, 7 F).

    Rings do not change when an object is turned, and they tell a small one from a large one in the same frame.
    Square roots keep a few strong answers from outshouting all others.
    """
    flat = level.flatten(2)
    mean = flat.mean(dim=2)
    around = ring_shares(level.shape[-2], level.shape[-1]).to(flat)
    # half a pixel of the whole map's mean: a ring that a small map has no pixel in says nothing of its own
    rings = (flat @ around.T + HALF_A_PIXEL * mean[..., None]) / (around.sum(dim=1) + HALF_A_PIXEL)
    variance = (flat - mean[..., None]).square().mean(dim=2)  # twice as fast as `var`
    spread = (variance + ROOT_FLOOR**2).sqrt() - ROOT_FLOOR  # a root's slope at 0 is infinite
    told = torch.cat([mean, flat.amax(dim=2), spread, rings.flatten(1)], dim=1)
    return told.sign() * (told.abs() + ROOT_FLOOR).sqrt()


def ring_shares(height: int, width: int) -> Tensor:
    """(RINGS, y * x): how much each pixel belongs to each ring around the middle.

    The distance is 0 in the middle and 1 at the middle of each edge. Ring c has its ridge at c / 3 and falls to
    nothing at the next ones; the last holds all that is farther, up to the corners.
    """
    y, x = ((torch.arange(size) + 0.5) / size * 2 - 1 for size in (height, width))
    distance = torch.hypot(y[:, None], x[None]).flatten() * (RINGS - 1)
    ridges = torch.arange(RINGS)[:, None]
    return (1 - (distance.clamp(max=RINGS - 1) - ridges).abs()).clamp(min=0)


class ImageHead(nn.Module):
    """Class probabilities of a whole image. `view` is fixed; `scores` is what is learned."""

    look: Look

    def view(self, maps: Sequence[Tensor]) -> Tensor:
        """What the head judges: (B, ...) of the maps (B, F, y, x) that a network gives of images."""
        raise NotImplementedError

    def scores(self, seen: Tensor) -> Tensor:
        """(B, K) real numbers, the greatest for the class that is answered."""
        raise NotImplementedError

    def probabilities(self, seen: Tensor) -> Tensor:
        """(B, K) in 0..1, summing to 1."""
        return self.scores(seen).softmax(dim=1)

    def trained(self) -> list[nn.Parameter]:
        """What gradient descent changes; nothing for a head in closed form."""
        return list(self.parameters())

    def config(self) -> dict[str, Any]:
        """What `build_image_head` needs to build it again."""
        raise NotImplementedError


class DenseHead(ImageHead):
    """Standardized vector, shrunk where images of one class differ, then fully connected layers with ReLU between.

    Args:
        look: How images become vectors.
        features: Length of the vector.
        hidden: Widths of the hidden layers.
        classes: K.
        axes: Directions that are shrunk (see `fieldmark.learn.within`).
    """

    mean: Tensor
    std: Tensor
    axes: Tensor
    gains: Tensor

    def __init__(self, look: Look, features: int, hidden: Sequence[int], classes: int, axes: int = 0) -> None:
        super().__init__()
        self.look = look
        self.widths = [features, *hidden, classes]
        self.pooled = PooledVector(look)
        self.register_buffer("mean", torch.zeros(features))  # of the images that taught it
        self.register_buffer("std", torch.ones(features))
        if axes:
            self.register_buffer("axes", torch.zeros(axes, features))
            self.register_buffer("gains", torch.zeros(axes))
        self.shrunk = axes
        self.layers = nn.ModuleList(_linear(before, after) for before, after in pairwise(self.widths))

    def view(self, maps: Sequence[Tensor]) -> Tensor:
        vector: Tensor = self.pooled(maps)
        return vector

    def scores(self, seen: Tensor) -> Tensor:
        x = (seen - self.mean) / self.std
        if self.shrunk:
            x = x + (x @ self.axes.T * self.gains) @ self.axes
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x))
        logits: Tensor = self.layers[-1](x)
        return logits

    def config(self) -> dict[str, Any]:
        features, *hidden, classes = self.widths
        own = {"features": features, "hidden": hidden, "classes": classes, "axes": self.shrunk}
        return {"kind": "dense", "look": self.look.config(), **own}


class OwnHead(ImageHead):
    """The classifier that an architecture brings along; its weights are the network's, not the head's.

    Outputs beyond the classes are never answered: documented architectures end in more
    outputs than there are classes. Nor are classes beyond the outputs: markers may be of
    more classes than images, as where the background is marked.

    Args:
        look: Border and size.
        classifier: From maps (B, F, y, x) to (B, at least `answered`).
        shape: (F, y, x) of the maps that it was sized for.
        classes: K.
        answered: The classifier must have an output for so many of the classes; None for all.
    """

    def __init__(
        self, look: Look, classifier: nn.Module, shape: Sequence[int], classes: int, answered: int | None = None
    ) -> None:
        super().__init__()
        self.look = look
        self.shape = tuple(shape)
        self.classes = classes
        self.answered = classes if answered is None else answered
        self._classifier = (classifier,)  # not a submodule: a weight has one name

    def view(self, maps: Sequence[Tensor]) -> Tensor:
        return trimmed(maps[-1], self.look.border)

    def scores(self, seen: Tensor) -> Tensor:
        found: Tensor = self._classifier[0](seen)
        if found.ndim != 2 or found.shape[1] < self.answered:
            raise BadInput(
                f"The architecture's classifier gives {tuple(found.shape[1:])} outputs for {self.answered} classes. "
                "Give its last layer at least as many outputs as there are classes."
            )
        silent = max(self.classes - found.shape[1], 0)
        return functional.pad(found[:, : self.classes], (0, silent), value=float("-inf"))

    def trained(self) -> list[nn.Parameter]:
        return list(self._classifier[0].parameters())

    def config(self) -> dict[str, Any]:
        own = {"shape": list(self.shape), "classes": self.classes, "answered": self.answered}
        return {"kind": "own", "look": self.look.config(), **own}


class SvmHead(ImageHead):
    """A linear support vector machine, one against one: every pair of classes has a vote.

    The class with the most votes is answered. The probabilities are the shares of the votes:
    they say how many rivals a class has beaten, not how certain that is.

    Args:
        look: How images become vectors.
        classes: K; classes that taught nothing are in no pair.
        ties: Which of several classes with as many votes is answered: the `first`, as scikit-learn does by itself, or
            the one that won by the `margin`: the sum of its decisions counts for less than one vote.
    """

    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor
    pairs: Tensor

    def __init__(self, look: Look, classes: int, *, ties: str = "first") -> None:
        super().__init__()
        if ties not in TIES:
            raise ValueError(f"unknown ties {ties!r}")
        self.look = look
        self.classes = classes
        self.ties = ties
        self.pooled = PooledVector(look)
        self.register_buffer("mean", torch.empty(0))  # (D,) of the images that taught it
        self.register_buffer("std", torch.empty(0))  # (D,)
        self.register_buffer("weight", torch.empty(0, 0))  # (P, D)
        self.register_buffer("bias", torch.empty(0))  # (P,)
        self.register_buffer(
            "pairs", torch.empty(0, 2, dtype=torch.int64)
        )  # (P, 2) voted for where positive, where not

    def view(self, maps: Sequence[Tensor]) -> Tensor:
        vector: Tensor = self.pooled(maps)
        return vector

    def decisions(self, seen: Tensor) -> Tensor:
        """(B, D) to (B, P): positive where the first class of a pair wins."""
        standardized = (seen - self.mean) / self.std
        return functional.linear(standardized.to(self.weight.dtype), self.weight, self.bias)

    def scores(self, seen: Tensor) -> Tensor:
        """(B, K) votes, each class's margin with them where ties are decided by it."""
        first, second = self.pairs.T
        decisions = self.decisions(seen)
        votes = functional.one_hot(torch.where(decisions > 0, first, second), self.classes).sum(dim=1).to(decisions)
        if self.ties == "first":
            return votes
        sides = functional.one_hot(first, self.classes) - functional.one_hot(second, self.classes)
        margin = decisions @ sides.to(decisions)
        return votes + margin / (3 * (margin.abs() + 1))  # a third of a vote at most, as in scikit-learn's `ovr`

    def probabilities(self, seen: Tensor) -> Tensor:
        scores = self.scores(seen).clamp(min=0)
        return scores / scores.sum(dim=1, keepdim=True)

    def config(self) -> dict[str, Any]:
        return {"kind": "svm", "look": self.look.config(), "classes": self.classes, "ties": self.ties}


def trimmed(level: Tensor, border: int) -> Tensor:
    """A map (B, F, y, x) without its outermost pixels. Raises BadInput where nothing would be left."""
    height, width = level.shape[-2:]
    if 2 * border >= min(height, width):
        raise BadInput(
            f"A border of {border} leaves nothing of a map of {height} x {width}. "
            "Choose a smaller `image_head.remove_border` (-rb), or larger images."
        )
    return level[..., border : height - border, border : width - border]


def build_image_head(config: dict[str, Any], net: Net) -> ImageHead:
    """An empty head of the kind that `config` names; its tensors are loaded afterwards."""
    match config:
        case {
            "kind": "dense",
            "look": dict(look),
            "features": int(features),
            "hidden": list(hidden),
            "classes": int(k),
        }:
            return DenseHead(Look.from_config(look), features, hidden, k, int(config.get("axes", 0)))
        case {"kind": "svm", "look": dict(look), "classes": int(classes)}:
            return SvmHead(Look.from_config(look), classes, ties=config.get("ties", "first"))
        case {"kind": "own", "look": dict(look), "shape": list(shape), "classes": int(classes)}:
            answered = int(config.get("answered", classes))  # models of before it could be fewer
            return OwnHead(Look.from_config(look), net.own_classifier(tuple(shape)), shape, classes, answered)
        case _:
            raise ValueError(f"unknown image head {config!r}")


def _linear(before: int, after: int) -> nn.Linear:
    layer = nn.Linear(before, after)
    nn.init.xavier_normal_(layer.weight, nn.init.calculate_gain("relu"))
    nn.init.zeros_(layer.bias)
    return layer
