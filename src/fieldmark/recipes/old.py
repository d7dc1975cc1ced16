"""Settings of networks that other programs built, whose weights are taken as they are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fieldmark.recipes.families import NetConfig


class OldUNetConfig(NetConfig, frozen=True, extra="forbid"):
    """The U-Net of segmentation-models-pytorch, as OpenFIBSEM trained it."""

    color: Literal["raw"] = "raw"
    encoder: str = "resnet34"
    """`resnet18`, `resnet34`, `resnet50`, `resnet101` or `resnet152`."""
    task: Literal["auto", "segment"] = "segment"
    out_channels: int = Field(default=0, ge=0)
    """Classes; 0 for those of the targets."""
