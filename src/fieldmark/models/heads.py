"""From features to class probabilities: heads that were fitted elsewhere and are kept as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from fieldmark.models.tally import Tally

Seen = tuple["Tally", ...]
"""What is known of the whole image, a tally for each round so far."""

ROWS = 1 << 11
"""Pixels that a forest takes at a time: its working set stays in the cache."""

FLOOR = 0.02
"""The least probability that a member of a pool is taken to mean."""
LEAST_WEIGHT = 0.02
"""A member of a pool with less weight is not computed."""


class Head(nn.Module):
    """Class probabilities from the levels of a network."""

    continuous: ClassVar[bool] = True
    """False where a probability may jump with the last bit of a feature."""
    rounds: ClassVar[int] = 0
    """How often it must see the whole image before it can answer."""
    margin: ClassVar[int] = 0
    """Cells of the coarsest level that it looks at beside a pixel's own."""

    def forward(self, levels: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Levels (B, F, y, x) at their own strides to (B, K, Y, X) probabilities."""
        raise NotImplementedError

    def survey(self, levels: Sequence[Tensor], size: Sequence[int], core: Sequence[slice], seen: Seen) -> Tally:
        """What a tile adds to what must be known of the whole image, for heads with `rounds`.

        Args:
            levels: Of one image: (1, F, y, x).
            size: (Y, X) of the tile.
            core: The rows and columns of the tile that are its own.
            seen: The sums of the rounds before this one.
        """
        raise NotImplementedError

    def survey_whole(self, levels: Sequence[Tensor], size: Sequence[int], core: Sequence[slice] | None = None) -> Seen:
        """Every round on one image that is one tile; `core` where it was padded."""
        core = core or tuple(slice(0, length) for length in size)
        seen: Seen = ()
        for _ in range(self.rounds):
            seen = (*seen, self.survey(levels, size, core, seen))
        return seen

    def answer(self, levels: Sequence[Tensor], size: Sequence[int], seen: Seen) -> Tensor:
        """As `forward`, for a tile of an image that has been seen; heads without `rounds` need nothing of it."""
        return self(levels, size, seen) if self.rounds else self(levels, size)  # type: ignore[no-any-return]

    def config(self) -> dict[str, Any]:
        """What `build_head` needs to build it again."""
        raise NotImplementedError


class LogisticHead(Head):
    """Multinomial logistic regression.

    A linear map commutes with interpolation, so each level is mapped to K logits
    at its own scale and only those are enlarged.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(0, 0))  # (K, F), folded with the features' standardization
        self.register_buffer("bias", torch.empty(0))  # (K,)

    def forward(self, levels: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        parts = torch.split(self.weight, [level.shape[1] for level in levels], dim=1)
        ones = (1,) * len(size)
        convolve = functional.conv3d if len(size) == 3 else functional.conv2d
        logits = self.bias.view(1, -1, *ones)
        for level, weight in zip(levels, parts, strict=True):
            logits = logits + enlarge(convolve(level, weight.view(*weight.shape, *ones)), size)
        return logits.softmax(dim=1)

    def config(self) -> dict[str, Any]:
        return {"kind": "logistic"}


class ForestHead(Head):
    """A forest of decision trees as tensors: T complete trees of depth D, walked a level at a time.

    Node n has the children 2n+1 and 2n+2. A leaf higher up is filled up with nodes that
    always lead to the same answer.
    """

    continuous: ClassVar[bool] = False
    feature: Tensor
    threshold: Tensor
    value: Tensor

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth
        self.register_buffer("feature", torch.empty(0, 0, dtype=torch.int32))  # (T, 2^D - 1)
        self.register_buffer("threshold", torch.empty(0, 0))  # (T, 2^D - 1); right where greater
        self.register_buffer("value", torch.empty(0, 0, 0))  # (T, 2^D, K) class shares

    def forward(self, levels: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        features = torch.cat([enlarge(level, size) for level in levels], dim=1)
        batch, count = features.shape[:2]
        rows = features.movedim(1, -1).reshape(-1, count).float()
        shares = self._traced(rows) if torch.onnx.is_in_onnx_export() else self._walk(rows)
        last = features.ndim - 1  # by number: an exporter does not know how many axes a view has
        return shares.view(batch, *size, -1).permute(0, last, *range(1, last))

    def _walk(self, rows: Tensor) -> Tensor:
        """(N, F) features to (N, K) mean shares over the trees."""
        levels = self._nodes()
        return torch.cat([self._walk_part(part, levels) for part in torch.split(rows, ROWS)])

    def _nodes(self) -> list[tuple[Tensor, Tensor]]:
        """For each depth, features and thresholds of the nodes of all trees there: node n leads to 2n and 2n+1."""
        ends = [(2**depth - 1, 2 ** (depth + 1) - 1) for depth in range(self.depth)]
        return [(self.feature[:, a:b].flatten(), self.threshold[:, a:b].flatten()) for a, b in ends]

    def _walk_part(self, rows: Tensor, levels: list[tuple[Tensor, Tensor]]) -> Tensor:
        """The same for few rows: the walk is bound by memory, so nothing is allocated on the way."""
        (count, width), trees = rows.shape, len(self.feature)
        values = rows.flatten()
        row = torch.arange(count, dtype=torch.int32, device=rows.device)[:, None] * width  # half the bytes of int64
        node = torch.arange(trees, dtype=torch.int32, device=rows.device).repeat(count, 1)
        place = torch.empty_like(node)
        found, limit = rows.new_empty(2, count * trees)
        for feature, threshold in levels:
            torch.index_select(feature, 0, node.view(-1), out=place.view(-1))
            place += row
            torch.index_select(values, 0, place.view(-1), out=found)
            torch.index_select(threshold, 0, node.view(-1), out=limit)
            node.mul_(2).add_((found > limit).view_as(node))
        return functional.embedding_bag(node, self.value.flatten(0, 1), mode="mean")

    def _traced(self, rows: Tensor) -> Tensor:
        """The same as operations of a graph, which must not hold the size of the image that it was traced with."""
        values = rows.flatten()
        row = torch.arange(rows.shape[0], dtype=torch.int32, device=rows.device)[:, None] * rows.shape[1]
        node = torch.arange(len(self.feature), dtype=torch.int32, device=rows.device).expand(rows.shape[0], -1)
        for feature, threshold in self._nodes():
            at = node.flatten()
            place = (feature.index_select(0, at).view_as(node) + row).flatten()
            right = values.index_select(0, place) > threshold.index_select(0, at)
            node = node * 2 + right.view_as(node)
        return self.value.flatten(0, 1)[node.long()].mean(dim=1)

    def config(self) -> dict[str, Any]:
        return {"kind": "forest", "max_depth": self.depth}


class PooledHead(Head):
    """A logarithmic opinion pool: several heads, each with its own view of the levels.

    The pool's log-probability is the weighted mean of the members', each kept away from
    certainty by `FLOOR`, so that one member alone cannot rule a class out.

    Args:
        views: The places of the levels that each member sees.
        members: One head for each view.
    """

    weights: Tensor

    def __init__(self, views: Sequence[Sequence[int]], members: Sequence[Head]) -> None:
        super().__init__()
        self.views = [list(view) for view in views]
        self.members = nn.ModuleList(members)
        self.register_buffer("weights", torch.empty(0))  # (members,), summing to 1

    @property
    def continuous(self) -> bool:  # type: ignore[override]
        return all(cast("Head", member).continuous for member in self.members)

    def forward(self, levels: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        parts = []
        for view, member, weight in zip(self.views, self.members, self.weights.tolist(), strict=True):
            if weight >= LEAST_WEIGHT:
                parts.append(weight * member([levels[i] for i in view], size).clamp_min(FLOOR).log())
        return torch.stack(parts).sum(dim=0).softmax(dim=1)

    def config(self) -> dict[str, Any]:
        return {"kind": "pool", "views": self.views, "members": [cast("Head", m).config() for m in self.members]}


def enlarge(level: Tensor, size: Sequence[int]) -> Tensor:
    """Bring a level to full size, along (z,) y and x, by linear interpolation (pixel centers aligned)."""
    if tuple(level.shape[2:]) == tuple(size):
        return level
    mode = "trilinear" if level.ndim == 5 else "bilinear"
    return functional.interpolate(level, size=tuple(size), mode=mode, align_corners=False)


def enlarged_at(level: Tensor, places: Tensor, size: Sequence[int]) -> Tensor:
    """What `enlarge` gives at some pixels: (N, F) of one level (F, (z,) y, x) at (N, axes) pixels of the full size."""
    cells = level.flatten(1).T  # of maps in channels-last memory this is a view, and its rows lie together
    if tuple(level.shape[1:]) == tuple(size):
        return cells.index_select(0, _flat(places.unbind(1), size))
    axes = [_between(at, full, own) for at, full, own in zip(places.unbind(1), size, level.shape[1:], strict=True)]
    corners = list(product(*(list(zip(*axis, strict=True)) for axis in axes)))
    index = torch.stack([_flat([cell for cell, _ in corner], level.shape[1:]) for corner in corners], dim=1)
    weights = torch.stack([torch.stack([share for _, share in corner]).prod(dim=0) for corner in corners], dim=1)
    return functional.embedding_bag(index, cells.contiguous(), per_sample_weights=weights.to(level.dtype), mode="sum")


def _between(places: Tensor, full: int, own: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The two cells of an axis that pixels lie between, their centers among theirs, and what each weighs."""
    exact = ((places.double() + 0.5) * (own / full) - 0.5).clamp_min(0)
    first = exact.long().clamp_max(own - 1)
    share = exact - first
    return (first, (first + 1).clamp_max(own - 1)), (1 - share, share)


def _flat(places: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """(N,) the number of the cell at a place on each axis, the last axis the fastest."""
    number = places[0]
    for at, length in zip(places[1:], size[1:], strict=True):
        number = number * length + at
    return number


def build_head(config: dict[str, Any]) -> Head:
    """An empty head of the kind that `config` names; its tensors are loaded afterwards."""
    match config:
        case {"kind": "logistic"}:
            return LogisticHead()
        case {"kind": "forest", "max_depth": int(depth)}:
            return ForestHead(depth)
        case {"kind": "pool", "views": list(views), "members": list(members)}:
            return PooledHead(views, [build_head(member) for member in members])
        case {"kind": "adaptive", **settings}:
            from fieldmark.models.decoders import AdaptiveHead

            return AdaptiveHead(**settings)
        case _:
            raise ValueError(f"unknown head {config!r}")
