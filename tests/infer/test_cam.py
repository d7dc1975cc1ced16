"""Grad-CAM against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fieldmark.errors import BadInput, NotFound
from fieldmark.infer.cam import layer_names, weighed_maps
from fieldmark.models.build import build
from fieldmark.models.image_heads import DenseHead, Look, SvmHead

LAYER = "branches.0.1"


@pytest.fixture
def net():
    """Two FLIM blocks with random kernels under a dense head, in double precision."""
    torch.manual_seed(0)
    layers = [{"out_channels": 4, "pool": "max"}, {"out_channels": 3, "pool": "max"}]
    net = build("flim", {"branches": [{"layers": layers}]}, 2)
    for block, (before, after) in zip(net.branches[0], [(2, 4), (4, 3)], strict=True):
        block.mean, block.std = torch.zeros(before), torch.ones(before)
        block.weight, block.bias = torch.randn(after, before, 3, 3), torch.randn(after)
    net.image_head = DenseHead(Look(), 6, [5], 3)
    return net.double()


def scores_with(net, x, change):
    """The scores where a change has been added to the layer's maps."""
    handle = net.get_submodule(LAYER).register_forward_hook(lambda _, __, out: out + change)
    with torch.no_grad():
        scores = net.image_head.scores(net.image_view(x))[0]
    handle.remove()
    return scores


@pytest.mark.parametrize("klass", [0, 1, 2])
def test_maps_are_weighed_by_finite_differences(net, klass):
    x = torch.randn(1, 2, 12, 16, dtype=torch.float64)
    maps = net.image_maps(x)[-1].detach()
    gradient, step = torch.zeros_like(maps), 1e-6
    for at in np.ndindex(*maps.shape):
        change = torch.zeros_like(maps)
        change[at] = step
        up, down = scores_with(net, x, change)[klass], scores_with(net, x, -change)[klass]
        gradient[at] = (up - down) / (2 * step)
    wanted = torch.einsum("k,kyx->yx", gradient[0].mean(dim=(1, 2)), maps[0]).clamp(min=0)
    found, probabilities, told = weighed_maps(net, x, LAYER, klass)
    assert told == klass
    assert torch.allclose(found[0, 0], wanted, atol=1e-7)
    assert torch.allclose(probabilities, net.image_probabilities(x)[0])


def test_without_a_class_the_answer_is_explained(net):
    x = torch.randn(1, 2, 12, 16, dtype=torch.float64)
    _, probabilities, klass = weighed_maps(net, x, LAYER)
    assert klass == int(probabilities.argmax())


def test_wrong_layers_classes_and_heads_are_refused(net):
    x = torch.randn(1, 2, 12, 16, dtype=torch.float64)
    assert LAYER in layer_names(net)
    with pytest.raises(NotFound, match=r"branches\.0\.7.*Did you mean"):
        weighed_maps(net, x, "branches.0.7")
    with pytest.raises(BadInput, match="plays no part"):
        weighed_maps(net, x, "scale_space")
    with pytest.raises(BadInput, match="Class 3 is none of the 3"):
        weighed_maps(net, x, LAYER, 3)
    net.image_head = SvmHead(Look(), 2)
    with pytest.raises(BadInput, match="dense image head"):
        weighed_maps(net, x, LAYER)
