from __future__ import annotations

import pytest
import torch
from torch import nn

from fieldmark.models.build import build
from fieldmark.models.folding import folded


def stirred(net: nn.Module, seed: int = 0) -> nn.Module:
    """A network whose norms have scales, shifts and statistics of their own, as after training."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            for part, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.2)):
                getattr(module, part).data.copy_(low + torch.rand(module.num_features, generator=generator))
    return net.eval()


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ({"filters": [4, 8]}, (2, 1, 32, 24)),
        ({"filters": [4, 8], "dims": "3"}, (1, 1, 8, 16, 16)),
        ({"filters": [4, 8], "dims": "2.5"}, (1, 1, 5, 16, 16)),
        ({"filters": [4, 8], "residual": True, "dropout": 0.3}, (1, 1, 16, 16)),
        ({"encoder": "efficientnet-lite0"}, (1, 1, 64, 64)),
    ],
)
def test_folded_answers_are_the_same(config, shape):
    net = stirred(build("unet", {"task": "segment", "out_channels": 3, **config}, 1, seed=3))
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.inference_mode():
        right, found = net(x), folded(net)(x)
    assert (found - right).abs().max() <= 1e-5 * max(1.0, float(right.abs().max()))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_norms_that_follow_a_convolution_are_gone_and_others_stay():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.BatchNorm2d(2))
    assert [type(step) for step in folded(stirred(net))] == [nn.Conv2d, nn.Identity, nn.ReLU, nn.BatchNorm2d]


@pytest.mark.parametrize("norm", ["instance", "none", "layer"])
def test_what_has_nothing_to_fold_is_given_back(norm):
    net = build("unet", {"task": "segment", "out_channels": 2, "filters": [4, 8], "norm": norm}, 1, seed=3)
    assert folded(net) is net
