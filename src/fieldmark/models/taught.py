"""What networks share that learn from targets: classes of pixels, or values of images."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from fieldmark.errors import BadInput
from fieldmark.models.base import Net
from fieldmark.recipes.families import NetConfig, TaughtConfig

if TYPE_CHECKING:
    from torch import Tensor


def require_told(net: Net) -> None:
    """Raise BadInput where a network does not say how images are cut for it, or has nothing that could be learned.

    To be asked before a fit: what is missing would be missed when the fit is over.
    """
    for several, one in (("strides", "stride"), ("radii", "radius")):
        found = getattr(net, one, None)
        if getattr(type(net), several) is getattr(Net, several) and not isinstance(found, int):
            raise BadInput(
                f"{type(net).__name__}: its {one} is {found}, and a whole number of pixels is wanted. "
                f"Set self.{one} in __init__."
            )
    if not any(weight.requires_grad for weight in net.parameters()):
        raise BadInput(f"{type(net).__name__}: has no weight that can be learned. Give it one, or let one be changed.")


class TaughtNet(Net):
    """A network whose last maps are its answer: scores of classes, or values of an image.

    A family implements `forward`, and says its `stride` and `radius` (see `Net`). It gives the raw scores of
    `out_channels` maps; which classes they are, what they are compared with, and the units of values are the fit's
    matter. A network that takes statistics over space says so by `tile_exact = False`.

    Args:
        channels: Channels of prepared images.
        config: Its settings; `task` and `out_channels` are known when a network is built.

    Attributes:
        task: `segment` or `regress`.
        out_channels: Of the answer.
    """

    config_class: ClassVar[type[NetConfig]] = TaughtConfig
    phases: ClassVar[tuple[str, ...]] = ("targets",)

    def __init__(self, channels: int, config: TaughtConfig) -> None:
        super().__init__(channels)
        self.config = config
        self.task = "segment" if config.task == "auto" else config.task
        self.out_channels = max(1, config.out_channels)
        self.outputs = ("image",) if self.task == "regress" else ()  # type: ignore[misc]

    @property
    def gives_classes(self) -> bool:
        return self.task == "segment"

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Raw scores (B, K, ...) of a training input (B, C, ...)."""

    def levels(self, x: Tensor) -> list[Tensor]:
        return [self.scores(x)]

    def scores(self, x: Tensor) -> Tensor:
        """(B, K, ...) scores of every pixel."""
        scores: Tensor = self(x)
        return scores

    def probabilities(self, x: Tensor) -> Tensor:
        return self.scores(x).softmax(dim=1)

    def values(self, x: Tensor) -> Tensor:
        """(B, K, ...) the image that it paints, in prepared units of the target."""
        return self.scores(x)

    def answer(self, x: Tensor, output: str) -> Tensor:
        return self.values(x) if output == "image" else super().answer(x, output)
