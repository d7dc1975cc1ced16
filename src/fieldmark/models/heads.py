"""From features to class probabilities: heads that were fitted elsewhere and are kept as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional


class Head(nn.Module):
    """Class probabilities from the levels of a network."""

    continuous: ClassVar[bool] = True
    """False where a probability may jump with the last bit of a feature."""

    def forward(self, levels: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Levels (B, F, y, x) at their own strides to (B, K, Y, X) probabilities."""
        raise NotImplementedError

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
        logits = self.bias.view(1, -1, 1, 1)
        for level, weight in zip(levels, parts, strict=True):
            own = functional.conv2d(level, weight[:, :, None, None])
            if tuple(own.shape[-2:]) != tuple(size):
                own = functional.interpolate(own, size=tuple(size), mode="bilinear", align_corners=False)
            logits = logits + own
        return logits.softmax(dim=1)

    def config(self) -> dict[str, Any]:
        return {"kind": "logistic"}


class ForestHead(Head):
    """A forest of decision trees as tensors: T trees of at most M nodes, walked level by level."""

    continuous: ClassVar[bool] = False
    feature: Tensor
    threshold: Tensor
    child: Tensor
    value: Tensor

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth
        self.register_buffer("feature", torch.empty(0, 0, dtype=torch.int64))  # (T, M); 0 at leaves
        self.register_buffer("threshold", torch.empty(0, 0))  # (T, M); +inf at leaves
        self.register_buffer("child", torch.empty(0, 0, 2, dtype=torch.int64))  # (T, M, left/right); itself at leaves
        self.register_buffer("value", torch.empty(0, 0, 0))  # (T, M, K) class shares

    def forward(self, levels: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        full = [
            level
            if tuple(level.shape[-2:]) == tuple(size)
            else functional.interpolate(level, size=tuple(size), mode="bilinear", align_corners=False)
            for level in levels
        ]
        features = torch.cat(full, dim=1)
        batch, count = features.shape[:2]
        rows = features.permute(0, 2, 3, 1).reshape(-1, count)
        shares = torch.cat([self._walk(part) for part in torch.split(rows, 1 << 16)])
        return shares.view(batch, *size, -1).permute(0, 3, 1, 2)

    def _walk(self, rows: Tensor) -> Tensor:
        """(N, F) features to (N, K) mean shares over the trees."""
        total = torch.zeros(len(rows), self.value.shape[2], dtype=rows.dtype, device=rows.device)
        for feature, threshold, child, value in zip(self.feature, self.threshold, self.child, self.value, strict=True):
            node = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
            for _ in range(self.depth):
                right = rows.gather(1, feature[node][:, None])[:, 0] > threshold[node]
                node = child[node, right.long()]
            total += value[node]
        return total / len(self.feature)

    def config(self) -> dict[str, Any]:
        return {"kind": "forest", "max_depth": self.depth}


def build_head(config: dict[str, Any]) -> Head:
    """An empty head of the kind that `config` names; its tensors are loaded afterwards."""
    match config:
        case {"kind": "logistic"}:
            return LogisticHead()
        case {"kind": "forest", "max_depth": int(depth)}:
            return ForestHead(depth)
        case _:
            raise ValueError(f"unknown head {config!r}")
