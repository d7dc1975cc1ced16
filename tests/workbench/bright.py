"""A network of somebody's own that tells classes by brightness alone: what it answers is known beforehand."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from fieldmark.checkpoint import ClassSpec, Header, save
from fieldmark.models.build import build
from fieldmark.models.taught import TaughtNet
from fieldmark.models.tensors import arrays_of
from fieldmark.recipes import TaughtConfig
from fieldmark.recipes.registry import FAMILIES

FAMILY = "tests.workbench.bright:Bright"
CLASSES = ("ground", "gray", "white")


class BrightConfig(TaughtConfig, frozen=True, extra="forbid"):
    dims: int = 3


class Bright(TaughtNet):
    """Ground below 50, gray below 150, white above; of planes, stacks or volumes."""

    config_class = BrightConfig

    def __init__(self, channels, config):
        super().__init__(channels, config)
        self.spatial = config.dims
        conv = nn.Conv3d if config.dims == 3 else nn.Conv2d
        self.conv = conv(channels, self.out_channels, 1)
        self.stride, self.radius = 1, 0

    def forward(self, x):
        return self.conv(x)


def save_bright(folder: Path, dims: int, ids: tuple[int, int, int] = (0, 1, 2)) -> str:
    """The model folder; `ids` are those of the classes in a project."""
    config = {"dims": dims, "task": "segment", "out_channels": len(CLASSES)}
    with FAMILIES.lending([FAMILY]):
        net = build(FAMILY, config, 1)
    with torch.no_grad():
        net.conv.weight.copy_(torch.tensor([0.0, 1.0, 2.0]).view_as(net.conv.weight))
        net.conv.bias.copy_(torch.tensor([0.0, -50.0, -200.0]))
    header = Header(
        family=FAMILY,
        config=config,
        preparation=[],
        outputs=("classes",),
        channels=1,
        stride=net.strides,
        halo=net.halo,
        tile_exact=net.tile_exact,
        classes=[ClassSpec(id=ids[n], name=name, value=n) for n, name in enumerate(CLASSES)],
    )
    save(folder, header, arrays_of(net))
    return str(folder)
