"""Old checkpoints of segmentation-models-pytorch (`.pt`), as OpenFIBSEM saved them, as models of ours.

A file holds a bare state dict, or `{"checkpoint": state dict, "encoder": name, "nc": classes}`. The network is built
anew: a residual encoder of timm (extra `backbones`) and the decoder of that library, with its names.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark import __version__
from fieldmark.checkpoint import ClassSpec, Header, save
from fieldmark.core.events import Event
from fieldmark.core.extras import require_extra
from fieldmark.errors import BadFile, BadInput, near_miss
from fieldmark.models.base import Net
from fieldmark.models.build import build
from fieldmark.models.foreign import State, read_checkpoint
from fieldmark.models.tensors import arrays_of, load_arrays
from fieldmark.prepare import color_steps
from fieldmark.recipes.old import OldUNetConfig

FAMILY = "smp-unet"
DECODER = (256, 128, 64, 32, 16)
BLOCKS: dict[str, tuple[tuple[int, ...], bool]] = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}
"""Encoders: blocks of each level, and whether they are bottlenecks."""
_PASSED = "num_batches_tracked"


class OldUNet(Net):
    """The U-Net of segmentation-models-pytorch with a residual encoder."""

    phases: ClassVar[tuple[str, ...]] = ("targets",)
    outputs: ClassVar[tuple[str, ...]] = ()
    window = 0

    def __init__(self, channels: int, config: OldUNetConfig) -> None:
        super().__init__(channels)
        if config.encoder not in BLOCKS:
            raise BadInput(
                f"Encoder {config.encoder!r} is none of old checkpoints'. {near_miss(config.encoder, BLOCKS)}"
            )
        require_extra("timm", "backbones", f"The encoder {config.encoder} of an old checkpoint")
        timm: Any = import_module("timm")
        self.task = "segment"
        self.out_channels = max(1, config.out_channels)
        self.stride = 32
        self.radius = _radius(config.encoder)
        self.encoder = timm.create_model(config.encoder, features_only=True, in_chans=channels, pretrained=False)
        widths = list(self.encoder.feature_info.channels())
        self.decoder = _Decoder(widths)
        self.segmentation_head = nn.Sequential(nn.Conv2d(DECODER[-1], self.out_channels, 3, padding=1))

    @property
    def gives_classes(self) -> bool:
        return True

    @property
    def tile_exact(self) -> bool:
        return True

    @property
    def least(self) -> tuple[int, ...]:
        return 2 * self.stride, 2 * self.stride

    def forward(self, x: Tensor) -> Tensor:
        """Raw scores (B, K, Y, X)."""
        scores: Tensor = self.segmentation_head(self.decoder(self.encoder(x)))
        return scores

    def levels(self, x: Tensor) -> list[Tensor]:
        return [self(x)]

    def probabilities(self, x: Tensor) -> Tensor:
        """(B, K, Y, X); a network with one score, as that library makes it by itself, tells an object from the rest."""
        scores: Tensor = self(x)
        if self.out_channels == 1:
            return torch.cat([(-scores).sigmoid(), scores.sigmoid()], dim=1)
        return scores.softmax(dim=1)


class _Decoder(nn.Module):
    """Five blocks: doubled, beside what was seen on the way down, two convolutions."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        skips = [*reversed(widths[:-1]), 0]
        inner = [widths[-1], *DECODER[:-1]]
        self.blocks = nn.ModuleList(_Block(a + b, c) for a, b, c in zip(inner, skips, DECODER, strict=True))

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = maps[-1]
        for block, skip in zip(self.blocks, [*reversed(maps[:-1]), None], strict=True):
            x = block(x, skip)
        return x


class _Block(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels, width)
        self.conv2 = _conv(width, width)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        x = x if skip is None else torch.cat([x, skip], dim=1)
        found: Tensor = self.conv2(self.conv1(x))
        return found


def _conv(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


def _radius(encoder: str) -> int:
    """How far the encoder and the decoder see, in pixels: every 3 x 3 convolution one step of its level."""
    radius, stride = 3 + 2, 4
    for level, blocks in enumerate(BLOCKS[encoder][0]):
        first = stride if level == 0 else stride // 2
        threes = blocks if BLOCKS[encoder][1] else 2 * blocks
        radius += first + (threes - 1) * stride
        stride *= 2
    steps = [16, 8, 4, 2, 1]
    return radius + sum(2 * step + step for step in steps) + 1


def convert_from_job(job: dict[str, Any]) -> Iterator[Event]:
    """Write an old checkpoint as a model folder (see `fieldmark.workbench.loose.old`)."""
    source = Path(job["source"])
    require_extra("timm", "backbones", f"{source}, a checkpoint of segmentation-models-pytorch,")
    state, facts = read_checkpoint(source)
    state = {_plain(name): value for name, value in state.items() if not name.endswith(_PASSED)}
    encoder = _encoder(state, facts, source)
    head, first = state["segmentation_head.0.weight"], state["encoder.conv1.weight"]
    config = {"encoder": encoder, "out_channels": len(head)}
    net = build(FAMILY, config, int(first.shape[1]))
    _take(net, state, source)
    save(Path(job["out"]), _header(net, config, source), arrays_of(net))
    yield Event("convert", 1, 1, message=source.name)


def _plain(name: str) -> str:
    """A weight's name without the wrappers of Lightning, and of timm's encoders (`tu-resnet34`)."""
    return name.removeprefix("model.").replace("encoder.model.", "encoder.", 1)


def _encoder(state: State, facts: dict[str, Any], source: Path) -> str:
    """The encoder that the file names, or the one whose blocks the weights are of."""
    if {"segmentation_head.0.weight", "encoder.conv1.weight"} - state.keys():
        raise BadFile(
            source, "is no U-Net with a ResNet as its encoder. Fit the model again: fieldmark fit --config FILE."
        )
    named = facts.get("encoder")
    if isinstance(named, str):
        named = named.removeprefix("tu-")
        if named not in BLOCKS:
            raise BadFile(source, f"has the encoder {named!r}; {', '.join(BLOCKS)} can be taken. Fit the model again.")
        return named
    counts = tuple(
        len({name.split(".")[2] for name in state if name.startswith(f"encoder.layer{n}.")}) for n in range(1, 5)
    )
    deep = any(name.startswith("encoder.layer1.0.conv3") for name in state)
    for name, known in BLOCKS.items():
        if known == (counts, deep):
            return name
    raise BadFile(source, f"has an encoder of {counts} blocks, which is none of {', '.join(BLOCKS)}. Fit it again.")


def _take(net: Net, state: State, source: Path) -> None:
    """The file's weights in the network, every one of them in its place."""
    own = {name: array for name, array in arrays_of(net).items() if not name.endswith(_PASSED)}
    missing = sorted(own.keys() - state.keys())
    unknown = sorted(state.keys() - own.keys())
    if missing or unknown:
        raise BadFile(
            source, f"does not fit its encoder: missing {missing[:3]}, unknown {unknown[:3]}. Fit the model again."
        )
    if odd := [name for name, array in own.items() if array.shape != state[name].shape]:
        name = odd[0]
        raise BadFile(source, f"{name} is {state[name].shape}, and its encoder wants {own[name].shape}. Fit it again.")
    passed = {name: array for name, array in arrays_of(net).items() if name.endswith(_PASSED)}
    load_arrays(net, {name: np.asarray(state[name]) for name in own} | passed)


def _header(net: Net, config: dict[str, Any], source: Path) -> Header:
    names = ["background", *(f"class {place}" for place in range(1, max(2, config["out_channels"])))]
    return Header(
        family=FAMILY,
        config=OldUNetConfig.model_validate(config).model_dump(mode="json"),
        preparation=color_steps("raw", net.channels, by=255.0, integers=True),
        outputs=("classes",),
        channels=net.channels,
        stride=net.strides,
        halo=net.halo,
        tile_exact=net.tile_exact,
        classes=tuple(ClassSpec(id=place, name=name, value=place) for place, name in enumerate(names)),
        details={"imported": source.name},
        code_version=__version__,
    )
