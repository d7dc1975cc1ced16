"""What every family's network promises to the training and the inference path."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fieldmark.core.geometry import Box, round_up
from fieldmark.models.heads import Head, enlarge, enlarged_at
from fieldmark.models.image_heads import ImageHead, Look
from fieldmark.models.refine import REACH, Walker
from fieldmark.recipes.families import NetConfig

WHOLE_OUTPUTS = ("image-classes", "vector")
"""Outputs of one row an image: (B, K) and (B, D). They want the whole image, and no tiles."""


class Net(nn.Module):
    """A network over prepared pixels, plane by plane.

    A family implements `levels`; the rest follows. `levels` must be translation
    equivariant up to its stride, with a finite receptive field: every value may depend
    only on pixels at most `radius` away, and on no statistic of the image or the batch.

    Attributes:
        channels: Channels of an image.
        stride: Total downsampling in pixels along y and x.
        radius: Receptive-field radius of the features at full size, in pixels.
        spatial: 2 for planes, 3 for volumes: then (B, C, Z, Y, X) stands where (B, C, Y, X) does below.
        tile_exact: False where a value may jump with the last bit of its input.
        head: Turns features into class probabilities; None before one is learned.
        refiner: Moves the borders of what the head says onto those of the image; None for the head's own.
        image_head: Turns maps into the class probabilities of a whole image; None before one is learned.
    """

    config_class: ClassVar[type[NetConfig]] = NetConfig
    """What checks the settings of a class that is not in the registry, where settings stand by themselves."""
    phases: ClassVar[tuple[str, ...]] = ()
    """Names of the training phases, in order (see `fieldmark.learn.phases`)."""
    outputs: ClassVar[tuple[str, ...]] = ("features",)
    """What the network gives beside class probabilities."""

    channels: int
    spatial: int = 2
    stride: int
    radius: int
    head: Head | None
    image_head: ImageHead | None

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.head = None
        self.refiner: Walker | None = None
        self.image_head = None

    @property
    def strides(self) -> tuple[int, int, int]:
        """Total downsampling along z, y, x, in pixels."""
        return 1, self.stride, self.stride

    @property
    def radii(self) -> tuple[int, int, int]:
        """Receptive-field radius along z, y, x, in pixels."""
        return 0, self.radius, self.radius

    @property
    def least(self) -> tuple[int, ...]:
        """The fewest pixels along (z,) y, x that it can take: multiples of the strides."""
        return self.strides[-self.spatial :]

    @property
    def gives_classes(self) -> bool:
        """Whether it answers with class probabilities of pixels."""
        return self.head is not None

    @property
    def tile_exact(self) -> bool:
        return self.head is None or (self.head.continuous and self.refiner is None)

    @property
    def halo(self) -> tuple[int, int, int]:
        """Pixels around a tile that its classes depend on: the radius, and what head and refiner look at beside it."""
        margin = self.head.margin if self.head is not None else 0
        reach = REACH if self.refiner is not None else 0
        sides = zip(self.radii, self.strides, strict=True)
        z, y, x = (max(radius + margin * stride, reach) for radius, stride in sides)
        return z if self.spatial == 3 else 0, y, x

    def kernel_classes(self) -> dict[int, Tensor]:
        """For each level whose maps come from one kernel each: (K,) the class of the stroke of each kernel.

        The last is what a decoder takes by itself.
        """
        return {}

    @abstractmethod
    def levels(self, x: Tensor) -> list[Tensor]:
        """Features at several scales.

        Args:
            x: (B, C, Y, X) float32 prepared pixels; Y and X are multiples of the stride.

        Returns:
            Maps (B, F, Y / s, X / s), each at its own stride s.
        """

    def levels_at(self, x: Tensor, places: Tensor) -> list[Tensor]:
        """The levels of one image (1, C, Y, X) at full size, at (N, 2) pixels y, x alone: (N, F) each."""
        return [enlarged_at(level[0], places, x.shape[2:]) for level in self.levels(x)]

    def views(self) -> dict[str, list[int]]:
        """Sets of levels that a head may look at by themselves, by name; empty where there is only the whole."""
        return {}

    def features(self, x: Tensor) -> Tensor:
        """All levels at full size: (B, F, Y, X)."""
        return torch.cat([enlarge(level, x.shape[2:]) for level in self.levels(x)], dim=1)

    def probabilities(self, x: Tensor) -> Tensor:
        """(B, K, Y, X) in 0..1, summing to 1 over the K classes."""
        return self.refined(self.unrefined(x), x)

    def unrefined(self, x: Tensor) -> Tensor:
        """The same as the head says it."""
        if self.head is None:
            raise RuntimeError("this network has no head")
        shares: Tensor = self.head(self.levels(x), x.shape[2:])
        return shares

    def refined(self, shares: Tensor, x: Tensor) -> Tensor:
        """What the head said of prepared pixels, by the refiner where there is one."""
        return shares if self.refiner is None else self.refiner(shares, x)

    @property
    def image_stride(self) -> int:
        """Whole images are grown to multiples of this, by reflection, before an image head sees them."""
        return self.stride

    def least_whole(self, border: int = 0) -> tuple[int, int]:
        """The fewest pixels along y and x of an image for an image head that cuts `border` off each side of a map."""
        y, x = (
            round_up(least + 2 * border * stride, self.image_stride)
            for least, stride in zip(self.least[-2:], self.strides[-2:], strict=True)
        )
        return y, x

    def image_maps(self, x: Tensor) -> list[Tensor]:
        """What an image head looks at: maps (B, F, y, x) of a whole image; by default the last level."""
        return self.levels(x)[-1:]

    def looked_at(self, x: Tensor, look: Look) -> list[Tensor]:
        """The maps of a whole image that a head with this look judges."""
        return self.levels(x) if look.levels == "all" else self.image_maps(x)

    def tunable(self) -> list[Tensor]:
        """The weights of the features that gradient descent may change, where it is to train the whole network."""
        parts = [part for name, part in self.named_children() if name not in ("head", "image_head")]
        return [weight for part in parts for weight in part.parameters()]

    @property
    def brings_classifier(self) -> bool:
        """Whether the family's settings describe a classifier of images; else a head is added to the network."""
        return False

    def own_classifier(self, shape: tuple[int, ...]) -> nn.Module:
        """That classifier, from maps (B, F, y, x) to scores: sized for `shape` (F, y, x), now a part of the network."""
        raise ValueError(f"{type(self).__name__} brings no classifier of its own")

    def image_view(self, x: Tensor) -> Tensor:
        """What the image head judges of a batch of whole images."""
        if self.image_head is None:
            raise RuntimeError("this network has no image head")
        return self.image_head.view(self.looked_at(x, self.image_head.look))

    def image_probabilities(self, x: Tensor) -> Tensor:
        """(B, K) in 0..1, summing to 1 over the K classes."""
        seen = self.image_view(x)
        return self.image_head.probabilities(seen)  # type: ignore[union-attr]

    def answer(self, x: Tensor, output: str) -> Tensor:
        """What the network says of a batch.

        `classes` and `features` of pixels, `image-classes` (B, K) and `vector` (B, D) of whole
        images, or a family's own output.
        """
        match output:
            case "image-classes":
                return self.image_probabilities(x)
            case "vector":
                return self.image_view(x).flatten(1)
            case "classes":
                return self.probabilities(x)
            case "features":
                return self.features(x)
            case _:
                raise ValueError(f"{type(self).__name__} gives no {output!r}")

    def answer_inside(self, x: Tensor, output: str, part: Box) -> Tensor:
        """What `answer` says of the pixels of a part, over (z,) y, x; a family may compute no more than they need."""
        return self.answer(x, output)[(slice(None), slice(None), *part.slices)]

    def details(self) -> dict[str, Any]:
        """What the report shows of the training; JSON values."""
        return {}
