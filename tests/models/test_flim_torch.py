"""Parameters of an architecture against torch's own modules, one after the other."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fieldmark.models.flim_classifier import build_classifier
from fieldmark.models.flim_graph import FlimGraphNet
from fieldmark.models.flim_ops import BatchNorm, Conv
from fieldmark.recipes.flim_arch import FlimGraphConfig, parse_arch

CHANNELS = 4
TWINS = {
    "conv2d": nn.Conv2d,
    "conv3d": nn.Conv3d,
    "max_pool2d": nn.MaxPool2d,
    "max_pool3d": nn.MaxPool3d,
    "avg_pool2d": nn.AvgPool2d,
    "avg_pool3d": nn.AvgPool3d,
    "adap_avg_pool2d": nn.AdaptiveAvgPool2d,
    "adap_avg_pool3d": nn.AdaptiveAvgPool3d,
    "batch_norm2d": nn.BatchNorm2d,
    "batch_norm3d": nn.BatchNorm3d,
    "relu": nn.ReLU,
    "dropout": nn.Dropout,
    "unfold": nn.Unfold,
}
CASES = [
    ("conv2d", {"kernel_size": 3, "out_channels": 5}),
    ("conv2d", {"kernel_size": [3, 5], "stride": [2, 1], "out_channels": 5, "in_channels": 4}),
    ("conv2d", {"kernel_size": 3, "padding": [1, 2], "dilation": [1, 2], "out_channels": 5}),
    ("conv2d", {"kernel_size": 3, "padding": "same", "dilation": 2, "out_channels": 5}),
    ("conv2d", {"kernel_size": [4, 2], "padding": "same", "out_channels": 5}),
    ("conv2d", {"kernel_size": 3, "padding": "valid", "groups": 2, "out_channels": 6, "bias": True}),
    ("conv2d", {"kernel_size": 3, "padding": 2, "padding_mode": "reflect", "out_channels": 5}),
    ("conv2d", {"kernel_size": 3, "padding": 2, "padding_mode": "replicate", "out_channels": 5}),
    ("conv2d", {"kernel_size": 3, "padding": 2, "padding_mode": "circular", "out_channels": 5}),
    ("conv3d", {"kernel_size": [1, 3, 5], "stride": [1, 2, 1], "padding": [0, 1, 2], "out_channels": 5}),
    ("max_pool2d", {"kernel_size": 3}),
    ("max_pool2d", {"kernel_size": [2, 3], "stride": [3, 2], "padding": [1, 0], "ceil_mode": True}),
    ("max_pool2d", {"kernel_size": 2, "stride": 1, "dilation": 3, "return_indices": False}),
    ("max_pool2d", {"kernel_size": 1, "stride": 3, "ceil_mode": True}),
    ("avg_pool2d", {"kernel_size": [3, 2], "stride": 4, "padding": [1, 0], "ceil_mode": True}),
    ("max_pool3d", {"kernel_size": [1, 2, 3], "stride": 2, "padding": [0, 1, 1]}),
    ("avg_pool2d", {"kernel_size": 3}),
    ("avg_pool2d", {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False, "ceil_mode": True}),
    ("avg_pool2d", {"kernel_size": [2, 3], "stride": 2, "divisor_override": 5}),
    ("avg_pool3d", {"kernel_size": 2, "stride": [1, 2, 1], "padding": 1}),
    ("adap_avg_pool2d", {"output_size": [3, 4]}),
    ("adap_avg_pool3d", {"output_size": 2}),
    ("batch_norm2d", {"num_features": 4, "eps": 0.3, "momentum": 0.2, "affine": False}),
    ("batch_norm3d", {"eps": 0.1}),
    ("relu", {"inplace": True}),
    ("dropout", {"p": 0.9, "inplace": True}),
    ("unfold", {"kernel_size": [2, 3], "dilation": [2, 1], "padding": [1, 0], "stride": [1, 2]}),
]


def image(axes: int) -> torch.Tensor:
    shape = (1, CHANNELS, 16, 17) if axes == 2 else (1, CHANNELS, 6, 16, 17)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("word", "params"), CASES)
def test_every_parameter_does_what_it_does_in_torch(word, params):
    axes = 3 if word.endswith("3d") else 2
    own = {"operation": word, "params": params}
    net = FlimGraphNet(CHANNELS, FlimGraphConfig(arch={"features": {"layers": {"a": own}}})).eval()
    needed = {"num_features": CHANNELS} if word.startswith("batch") else {}
    needed |= {"in_channels": CHANNELS} if word.startswith("conv") else {}
    twin = TWINS[word](**(needed | {"bias": False} if word.startswith("conv") else needed) | params).eval()
    op = net.op("a")
    if isinstance(op, Conv):
        op.weight, bias = twin.weight.data, twin.bias
        op.bias = torch.zeros(len(op.weight)) if bias is None else bias.data
    if isinstance(op, BatchNorm):
        twin.running_mean, twin.running_var = torch.randn(CHANNELS), torch.rand(CHANNELS) + 0.1
        op.mean, op.variance = twin.running_mean, twin.running_var
        op.weight, op.bias = torch.ones(CHANNELS), torch.zeros(CHANNELS)
    x = image(axes)
    with torch.no_grad():
        expected = twin(x.clone())
        found, grid = net.final(x)
    assert found.shape == expected.shape
    assert grid.flat or grid.size == expected.shape[2:]
    assert torch.allclose(found, expected, atol=1e-5)


def test_fold_undoes_unfold_as_torch_does():
    shape = {"kernel_size": [2, 3], "dilation": [1, 2], "padding": [1, 2], "stride": [1, 2]}
    layers = {
        "u": {"operation": "unfold", "params": shape},
        "f": {"operation": "fold", "params": shape | {"output_size": [16, 17]}},
    }
    net = FlimGraphNet(CHANNELS, FlimGraphConfig(arch={"features": {"layers": layers}})).eval()
    expected = nn.Fold((16, 17), **shape)(nn.Unfold(**shape)(image(2)))
    assert torch.equal(net.final(image(2)).values, expected)


@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_begin_as_flims_and_drop_in_training_alone(bias):
    layers = {
        "l": {"operation": "linear", "params": {"in_features": -1, "out_features": 3, "bias": bias}},
        "d": {"operation": "dropout", "params": {"p": 0.5}},
    }
    relu = {"operation": "relu"}
    arch = parse_arch({"features": {"layers": {"r": relu}}, "classifier": {"layers": layers}})
    torch.manual_seed(0)
    classifier = build_classifier(arch.classifier, (CHANNELS, 5, 6))
    (linear,) = (part for part in classifier.modules() if isinstance(part, nn.Linear))
    assert linear.weight.shape == (3, CHANNELS * 5 * 6)
    assert (linear.bias is not None) == bias
    x = torch.randn(2, CHANNELS, 5, 6)
    expected = x.flatten(1) @ linear.weight.T
    assert torch.allclose(classifier.eval()(x), expected, atol=1e-5)
    assert (classifier.train()(x) == 0).any()
