"""Networks over planes, over volumes and over both learn and answer, however their weights lie in memory."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fieldmark.infer.forward import NetForward
from fieldmark.learn.tasks import targets as tasks
from fieldmark.models.build import build
from fieldmark.models.layout import lay_channels_last
from fieldmark.models.taught import TaughtNet
from fieldmark.recipes import TaughtConfig, TrainConfig


class Lifting(TaughtNet):
    """Sees planes, or slices one by one; one convolution is over volumes one slice deep, one over planes."""

    def __init__(self, spatial: int) -> None:
        super().__init__(2, TaughtConfig(task="segment", out_channels=3))
        self.spatial, self.stride, self.radius = spatial, 1, 2
        self.flat = nn.Conv2d(2, 4, 3, padding=1, padding_mode="replicate")
        self.deep = nn.Conv3d(4, 3, (1, 3, 3), padding=(0, 1, 1), padding_mode="replicate")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        planes = x[:, :, None] if self.spatial == 2 else x
        maps = [self.flat(planes[:, :, z]).relu() for z in range(planes.shape[2])]
        scores = self.deep(torch.stack(maps, dim=2))
        return scores[:, :, 0] if self.spatial == 2 else scores


class Engine(SimpleNamespace):
    """As much of a Fabric as a task is set up with."""

    global_rank, world_size = 0, 1

    def setup(self, module: nn.Module, optimizer: object) -> tuple[nn.Module, object]:
        return module, optimizer


def set_up(net: TaughtNet, device: str) -> None:
    targets = SimpleNamespace(classes=(1, 2, 3), channels=3, span=1.0)
    batches = SimpleNamespace(share=lambda *_: None)
    task = tasks.OnTargets(net, targets, batches, TrainConfig(), SimpleNamespace())  # type: ignore[arg-type]
    task.set_up(Engine(device=torch.device(device)))  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("make", [lambda: Lifting(2), lambda: Lifting(3), lambda: build("unet", {"dims": "3"}, 1)])
def test_a_fit_begins_whatever_a_networks_convolutions_are_over(make, device):
    set_up(make(), device)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("spatial", [2, 3])
def test_convolutions_over_planes_and_volumes_in_one_network_answer_as_they_do_by_themselves(spatial, precision):
    torch.manual_seed(0)
    net = Lifting(spatial).eval()
    pixels = np.random.default_rng(0).normal(size=(2, 3, 12, 14)).astype(np.float32)
    planes = torch.from_numpy(pixels)[None] if spatial == 3 else torch.from_numpy(pixels).movedim(1, 0)
    with torch.no_grad():
        truth = net.probabilities(planes)
    answers = NetForward(net, [], precision=precision)(pixels[None])[0]
    found = torch.from_numpy(answers)[None] if spatial == 3 else torch.from_numpy(answers).movedim(1, 0)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-6 if precision == "fp32" else 2e-2)


def test_kernels_of_markers_lie_as_weights_do():
    """They are no parameters: they are found, not descended to."""

    class Kernels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 3, 5, 5))
            self.register_buffer("kernels", torch.ones(4, 3, 5, 5, 5))
            self.register_buffer("none", torch.empty(0, 0, 0, 0))

    module = Kernels()
    weight = module.weight
    lay_channels_last(module)
    assert module.weight is weight
    assert module.weight.is_contiguous(memory_format=torch.channels_last)
    assert module.kernels.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("make", [nn.Conv2d, nn.Conv3d])
def test_kernels_of_one_pixel_or_over_one_channel_are_laid_too(make):
    """Their numbers lie one way only, but by their strides torch chooses how their maps lie."""
    for conv in (make(1, 4, 3), make(4, 4, 1)):
        lay_channels_last(conv)
        assert conv.weight.stride()[1] == 1
