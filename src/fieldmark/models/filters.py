"""The learned filters of a network, layer by layer, and how strongly they answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from fieldmark.models.flim_ops import Seen
from fieldmark.recipes.layers import layer_name

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from fieldmark.models.base import Net


@dataclass(frozen=True, slots=True)
class Answers:
    """What a layer passes on.

    Args:
        values: (B, K, (z,) y, x).
        axes: Along (z,) y, x: the place of the first value in the image, in pixels, and the distance of two.
    """

    values: Tensor
    axes: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class FilterLayer:
    """A layer whose filters know where they came from.

    Args:
        name: What the user calls it.
        path: Its module, as in the names of weights.
        module: Holds `weight` (K, C, ...), `stroke` (K,) and `place` (K, 5) image, t, z, y, x.
    """

    name: str
    path: str
    module: nn.Module

    def array(self, name: str) -> np.ndarray:
        """One of its tensors."""
        array: np.ndarray = cast("Tensor", getattr(self.module, name)).detach().cpu().numpy()
        return array

    def __len__(self) -> int:
        return len(cast("Tensor", self.module.weight))


def filter_layers(net: Net) -> list[FilterLayer]:
    """Every layer that was learned from marked patches, in the order in which they were learned."""
    return [
        FilterLayer(layer_name(path), path, module)
        for path, module in net.named_modules()
        if {"weight", "stroke", "place"} <= module.state_dict(keep_vars=True).keys()
        and len(cast("Tensor", module.place)) == len(cast("Tensor", module.weight)) > 0
    ]


@contextmanager
def watching(layers: list[FilterLayer], size: Sequence[int]) -> Iterator[dict[str, Answers]]:
    """What the layers answered in the last run of the network on an image of `size`, by the layer's name."""
    seen: dict[str, Answers] = {}

    def watch(layer: FilterLayer) -> RemovableHandle:
        def keep(_module: nn.Module, _given: tuple[Any, ...], output: Any) -> None:
            seen[layer.name] = _answers(output, size)

        return layer.module.register_forward_hook(keep)

    handles = [watch(layer) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _answers(output: Any, size: Sequence[int]) -> Answers:
    """Of a module from map to map, or of one that passes places along with its maps."""
    if isinstance(output, Seen):
        return Answers(output.values, tuple((axis.start, axis.jump) for axis in output.grid.axes))
    jumps = [before // after for before, after in zip(size, output.shape[2:], strict=True)]
    return Answers(output, tuple(((jump - 1) / 2, float(jump)) for jump in jumps))
