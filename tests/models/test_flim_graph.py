"""Coordinates against brute force: which pixels a sample depends on, by derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput, BadRecipe, NotFound
from fieldmark.infer.tiles import plan_tiles
from fieldmark.models.flim_graph import FlimGraphNet, resample
from fieldmark.models.flim_ops import Axis, Conv, Grid, MarkerNorm, Seen, TooSmall
from fieldmark.recipes.flim_arch import FlimGraphConfig


def layer(word: str, **params) -> dict:
    return {"operation": word, "params": params}


def net_of(*layers: dict, channels: int = 1, **config) -> FlimGraphNet:
    """A network with positive random weights; layers are called a, b, c, ..."""
    named = {chr(97 + place): spec for place, spec in enumerate(layers)}
    net = FlimGraphNet(channels, FlimGraphConfig(arch={"features": {"layers": named}}, **config)).eval()
    fill(net, channels)
    return net


def fill(net: FlimGraphNet, channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, channels, *(96,) * net.spatial, generator=generator) if net.spatial == 2 else None
    x = torch.rand(1, channels, 24, 24, 24, generator=generator) if x is None else x
    for name in net.learnable():
        op, width = net.op(name), net.before(x, name).values.shape[1]
        if isinstance(op, Conv):
            op.weight = (
                torch.rand(op.params.out_channels, width // op.params.groups, *op.size, generator=generator) + 0.1
            )
            op.bias = torch.zeros(op.params.out_channels)
        elif isinstance(op, MarkerNorm):
            op.mean, op.std, op.weight, op.bias = (
                torch.zeros(width), torch.ones(width) * 2, torch.ones(width), torch.zeros(width),
            )  # fmt: skip


def seen_pixels(net: FlimGraphNet, size: int, sample: int) -> tuple[float, float]:
    """First and last pixel, along x, that a sample of the last map depends on."""
    x = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(1), requires_grad=True)
    level = net.final(x).values
    level[0, :, level.shape[2] // 2, sample].sum().backward()
    hit = torch.nonzero(x.grad.abs().sum(dim=(0, 1, 2))).flatten()
    return float(hit[0]), float(hit[-1])


windows = st.one_of(
    st.builds(
        lambda k, s, p, d: layer("conv2d", kernel_size=k, stride=s, padding=p, dilation=d, out_channels=2),
        st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.integers(1, 2),
    ),
    st.builds(
        lambda k, s, p: layer("avg_pool2d", kernel_size=k, stride=s, padding=min(p, k // 2)),
        st.integers(1, 4), st.integers(1, 3), st.integers(0, 2),
    ),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.lists(windows, min_size=1, max_size=3), st.integers(70, 90))
def test_a_sample_lies_in_the_middle_of_what_it_depends_on(layers, size):
    net = net_of(*layers)
    axis = net.final(torch.zeros(1, 1, size, size)).grid.axes[1]
    assert axis.size == net.final(torch.zeros(1, 1, size, size)).values.shape[-1]
    middle = axis.size // 2
    center = axis.start + middle * axis.jump
    if center - axis.reach < 0 or center + axis.reach > size - 1:
        return
    first, last = seen_pixels(net, size, middle)
    assert (first + last) / 2 == center
    assert (last - first) / 2 == axis.reach


@settings(max_examples=25, deadline=None)
@given(st.lists(windows, min_size=1, max_size=3))
def test_a_dense_map_holds_the_thinned_one(layers):
    net = net_of(*layers, layer("relu"))
    x = torch.rand(1, 1, 80, 80, generator=torch.Generator().manual_seed(2))
    thin, dense = (net.before(x, chr(97 + len(layers)), dense=is_dense) for is_dense in (False, True))
    for a, b in zip(thin.grid.axes, dense.grid.axes, strict=True):
        assert (b.start, b.jump, b.thinned) == (a.start, 1, a.jump)
    step = int(thin.grid.axes[0].jump)
    found = dense.values[..., ::step, ::step]
    # at the far end the pads of a dense map lie elsewhere
    far = [n - int((axis.reach + 8) / step) - 2 for n, axis in zip(thin.values.shape[2:], thin.grid.axes, strict=True)]
    near = (slice(None), slice(None), *(slice(0, max(0, n)) for n in far))
    assert torch.allclose(found[near], thin.values[near], rtol=1e-4, atol=1e-5)


def test_dense_max_pools_look_at_the_same_pixels():
    net = net_of(
        layer("max_pool2d", kernel_size=2), layer("max_pool2d", kernel_size=3, stride=2, padding=1), layer("relu")
    )
    x = torch.randn(1, 1, 64, 64)
    thin, dense = (net.before(x, "c", dense=is_dense).values for is_dense in (False, True))
    assert torch.equal(dense[..., ::4, ::4][..., :15, :15], thin[..., :15, :15])


@pytest.mark.parametrize("dilation", [1, 2])
def test_dense_pools_are_torchs_of_stride_1_also_where_all_is_below_0(dilation):
    """What pads a maximum is nothing, and not 0; what pads a mean is counted or not, as the parameter says."""
    x = torch.randn(1, 1, 20, 23, generator=torch.Generator().manual_seed(5)) - 9
    params = {"kernel_size": 3, "stride": 2, "padding": 1}
    net = net_of(layer("max_pool2d", dilation=dilation, **params), layer("relu"))
    wanted = torch.nn.functional.max_pool2d(x, 3, 1, 1, dilation)
    assert torch.equal(net.before(x, "b", dense=True).values, wanted)
    if dilation == 1:
        for more in ({"count_include_pad": True}, {"count_include_pad": False}, {"divisor_override": 4}):
            net = net_of(layer("avg_pool2d", **params, **more), layer("relu"))
            wanted = torch.nn.functional.avg_pool2d(x, 3, 1, 1, **more)
            assert torch.allclose(net.before(x, "b", dense=True).values, wanted, atol=1e-5)


@pytest.mark.parametrize(
    "spec",
    [
        layer("avg_pool2d", kernel_size=2, stride=1),
        layer("adap_avg_pool2d", output_size=5),
        layer("adap_avg_pool2d", output_size=[4, 10]),
        layer("conv2d", kernel_size=2, padding="same", out_channels=1),
        layer("avg_pool2d", kernel_size=4, stride=2, padding=1, count_include_pad=False),
    ],
)
def test_features_of_a_ramp_are_the_ramp(spec):
    """Means of a linear image are its values in the middle of the windows: places that are off by a half show."""
    net = net_of(spec)
    if spec["operation"] == "conv2d":
        net.op("a").weight = torch.full((1, 1, 2, 2), 0.25)
    ramp = torch.arange(20.0)[:, None] * 3 + torch.arange(20.0)
    found = net.features(ramp[None, None])[0, 0]
    assert torch.allclose(found[5:15, 5:15], ramp[5:15, 5:15], atol=1e-4)


@pytest.mark.parametrize("place", [(5, 290), (300, 7), (333, 391), (0, 0), (349, 399)])
def test_one_bright_pixel_is_found_again_beyond_255(place):
    """A unique pixel is carried through pads, strides and pools: the brightest sample is the nearest one to it."""
    net = net_of(
        layer("conv2d", kernel_size=3, padding=1, out_channels=1),
        layer("max_pool2d", kernel_size=3, stride=2, padding=1),
        layer("avg_pool2d", kernel_size=2),
    )
    net.op("a").weight = torch.zeros(1, 1, 3, 3)
    net.op("a").weight[..., 1, 1] = 1
    x = torch.zeros(1, 1, 352, 400)
    x[0, 0, *place] = 1
    seen = net.final(x)
    best = torch.nonzero(seen.values[0, 0] == seen.values.max())
    places = [[axis.start + axis.jump * i for axis, i in zip(seen.grid.axes, at, strict=True)] for at in best.tolist()]
    assert max(abs(np.array(places) - place).max(axis=1)) <= 4
    assert min(abs(np.array(places) - place).max(axis=1)) <= 2


def test_radius_covers_what_any_feature_depends_on():
    """A net that shrinks its maps: at the border, features continue from farther inside."""
    net = net_of(layer("conv2d", kernel_size=5, out_channels=2), layer("max_pool2d", kernel_size=3, stride=2))
    x = torch.rand(1, 1, 40, 40, requires_grad=True)
    for pixel in (0, 1, 17, 38, 39):
        x.grad = None
        net.features(x)[0, :, 20, pixel].sum().backward()
        hit = torch.nonzero(x.grad.abs().sum(dim=(0, 1, 2))).flatten()
        assert max(pixel - int(hit[0]), int(hit[-1]) - pixel) <= net.radii[2]


@pytest.mark.parametrize(
    "layers",
    [
        [layer("conv2d", kernel_size=5, out_channels=2), layer("max_pool2d", kernel_size=3, stride=2)],
        [layer("conv2d", kernel_size=4, out_channels=2, padding="same"), layer("avg_pool2d", kernel_size=3, stride=3)],
        [layer("conv2d", kernel_size=3, padding=4, out_channels=2, padding_mode="reflect", stride=2)],
        [layer("m_norm2d"), layer("conv2d", kernel_size=[1, 5], out_channels=2),
         layer("max_pool2d", kernel_size=2, ceil_mode=True)],
        [{"type": "parallel", "layers": {
            "p": layer("conv2d", kernel_size=3, out_channels=1, stride=2),
            "q": layer("conv2d", kernel_size=7, padding=1, out_channels=1, stride=3),
            "r": {"layers": {}}}}],
    ],
)  # fmt: skip
def test_tiles_equal_the_whole(layers):
    net = net_of(*layers)
    stride = net.strides
    height, width = (-(-n // s) * s for n, s in zip((90, 101), stride[1:], strict=True))
    x = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        whole = net.features(x)
        for tile in plan_tiles((1, 1, 1, height, width), tile=24, stride=stride, halo=net.radii):
            rows, columns = tile.read.slices[2:]
            part = net.features(x[..., rows, columns])
            inner = Box(tile.core.start[2:], tile.core.stop[2:]).relative_to(
                Box(tile.read.start[2:], tile.read.stop[2:])
            )
            a, b = part[..., *inner.slices], whole[..., *tile.core.slices[2:]]
            assert (a - b).abs().max() <= 1e-5 * max(1, whole.abs().max())


def test_the_least_size_is_the_least():
    net = net_of(layer("conv2d", kernel_size=5, out_channels=1), layer("max_pool2d", kernel_size=3, stride=2))
    assert net.least == (8, 8)
    net.features(torch.rand(1, 1, 8, 8))
    with pytest.raises(TooSmall, match="too small for the network"):
        net.features(torch.rand(1, 1, 6, 6))


def test_a_ramp_keeps_its_place():
    """Linear interpolation of a linear map is exact: features of x are x, where the map is shrunken and thinned."""
    axis = Axis(10, 3.0, 4.0)
    ramp = torch.tensor([axis.start + axis.jump * i for i in range(10)]).expand(1, 1, 10, 10)
    found = resample(Seen(ramp, Grid((axis, axis))), [Axis(40), Axis(40)])
    assert torch.allclose(found[0, 0, 5], torch.arange(40.0).clamp(4, 31), atol=1e-5)


def test_parallel_modules_join_as_they_say():
    x = torch.rand(1, 1, 8, 8)
    for aggregate in ("concat", "sum", "prod", "mean"):
        branches = {"p": layer("relu"), "q": layer("avg_pool2d", kernel_size=3, stride=1, padding=1)}
        net = net_of({"type": "parallel", "params": {"aggregate": aggregate}, "layers": branches}, layer("relu"))
        p, q = x, torch.nn.functional.avg_pool2d(x, 3, 1, 1)
        wanted = {"concat": torch.cat([p, q], 1), "sum": p + q, "prod": p * q, "mean": (p + q) / 2}[aggregate]
        assert torch.allclose(net.features(x), wanted)
        assert set(net.maps(x, ["a/p", "a/q", "a"])) == {"a/p", "a/q", "a"}


@pytest.mark.parametrize("order", [("fine", "coarse"), ("coarse", "fine")])
def test_branches_are_joined_on_the_finest_grid(order):
    """A coarse map of a ramp, whose samples lie at 0.5, 2.5, ..., is the ramp again between them."""
    kinds = {"fine": layer("relu"), "coarse": layer("avg_pool2d", kernel_size=2)}
    net = net_of({"type": "parallel", "layers": {name: kinds[name] for name in order}})
    ramp = (torch.arange(12.0)[:, None] * 5 + torch.arange(16.0))[None, None]
    seen = net.final(ramp)
    assert seen.grid.size == (12, 16)
    assert torch.allclose(seen.values[:, :, 1:-1, 1:-1], ramp.expand(1, 2, 12, 16)[:, :, 1:-1, 1:-1], atol=1e-5)


def test_unfold_and_fold_are_torchs():
    params = {"kernel_size": 3, "padding": 1}
    net = net_of(layer("unfold", **params), layer("fold", output_size=16, **params), layer("relu"))
    x = torch.rand(2, 1, 16, 16)
    folded = torch.nn.functional.fold(torch.nn.functional.unfold(x, 3, padding=1), 16, 3, padding=1)
    assert torch.allclose(net.features(x), folded)
    assert not net.tile_exact
    assert net.least == (16, 16)
    with pytest.raises(BadInput, match="fixes the size of images"):
        net.features(torch.rand(1, 1, 20, 16))


def test_what_layers_cannot_do_names_its_path():
    fold = layer("fold", kernel_size=3, output_size=9)
    with pytest.raises(BadInput, match=r"^features\.layers\.b\.layers\.inner: A `fold` wants the columns"):
        net_of(layer("relu"), {"layers": {"inner": fold}})
    branches = {"p": layer("unfold", kernel_size=3), "q": layer("relu")}
    with pytest.raises(BadInput, match=r"^features\.layers\.a: Branches that end in `unfold`"):
        net_of({"type": "parallel", "layers": branches})


@pytest.mark.parametrize("size", [(2, 9, 9), (9, 2, 9), (3, 3, 3)])
def test_torch_takes_no_mean_of_a_volume_smaller_than_the_window(size):
    """Its pools of images do, where padding fills the window."""
    net = net_of(layer("avg_pool3d", kernel_size=3, stride=2, padding=1))
    assert net.least == (4, 4, 4)  # the fewest that its stride divides
    x = torch.rand(1, 1, *size)
    if min(size) < 3:
        with pytest.raises(TooSmall, match="too small"):
            net.final(x)
    else:
        assert torch.equal(net.final(x).values, torch.nn.functional.avg_pool3d(x, 3, 2, 1))
    assert net_of(layer("avg_pool2d", kernel_size=3, stride=2, padding=1)).least == (2, 2)


def test_adaptive_pools_are_never_tiled():
    net = net_of(layer("adap_avg_pool2d", output_size=4), layer("relu"))
    assert not net.tile_exact
    assert net.features(torch.rand(1, 1, 9, 11)).shape == (1, 1, 9, 11)


def test_levels_by_name_and_wrong_names():
    net = net_of(layer("relu"), layer("avg_pool2d", kernel_size=2), levels=("a", "b"))
    assert [level.shape[-1] for level in net.levels(torch.rand(1, 1, 8, 8))] == [8, 4]
    with pytest.raises(NotFound, match="No layer is called 'c'"):
        net.maps(torch.rand(1, 1, 8, 8), ["c"])
    with pytest.raises(BadRecipe, match="cannot be called 'forward'"):
        FlimGraphNet(1, FlimGraphConfig(arch={"features": {"layers": {"forward": layer("relu")}}}))


def test_the_documents_classifier_is_sized_by_itself():
    layers = {
        "linear1": layer("linear", in_features=-1, out_features=512),
        "relu3": layer("relu", inplace=True),
        "drop": layer("dropout", p=0.3),
        "linear2": layer("linear", in_features=512, out_features=7),
    }
    arch = {"features": {"layers": {"a": layer("relu")}}, "classifier": {"layers": layers}}
    net = FlimGraphNet(3, FlimGraphConfig(arch=arch))
    classifier = net.own_classifier((5, 6, 4)).eval()
    assert classifier(torch.rand(2, 5, 6, 4)).shape == (2, 7)
    arch["classifier"]["layers"]["linear1"]["params"]["in_features"] = 100
    with pytest.raises(BadInput, match=r"classifier\.layers\.linear1\.params\.in_features: 100, but 120"):
        FlimGraphNet(3, FlimGraphConfig(arch=arch)).own_classifier((5, 6, 4))


def test_volumes_have_a_stride_and_a_radius_an_axis():
    net = net_of(
        layer("conv3d", kernel_size=[1, 3, 5], padding=[0, 1, 2], out_channels=2),
        layer("max_pool3d", kernel_size=[1, 2, 2]),
        layer("avg_pool3d", kernel_size=3, stride=1, padding=1),
    )
    assert net.strides == (1, 2, 2)
    assert net.radii == (1, 6, 7)  # y: 1 of the kernel, 1/2 and 2 of the pools, 2 of interpolation; x: 1 more
    assert net.features(torch.rand(1, 1, 3, 8, 8)).shape == (1, 2, 3, 8, 8)


def test_volumes_are_cut_along_z_too(monkeypatch):
    monkeypatch.setattr("fieldmark.infer.tiles.VOLUME_READ", 46 * 16 * 20)
    net = net_of(
        layer("conv3d", kernel_size=3, padding=1, out_channels=2),
        layer("max_pool3d", kernel_size=[2, 2, 2]),
        layer("conv3d", kernel_size=3, out_channels=2),
    )
    x = torch.rand(1, 1, 80, 16, 20, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        whole = net.features(x)
        tiles = list(plan_tiles((1, 1, 80, 16, 20), tile=64, stride=net.strides, halo=net.radii))
        assert [tile.core.start[1] for tile in tiles] == [0, 32, 64]
        for tile in tiles:
            part = net.features(x[..., *tile.read.slices[1:]])
            a = part[..., *tile.core.relative_to(tile.read).slices[1:]]
            b = whole[..., *tile.core.slices[1:]]
            assert (a - b).abs().max() <= 1e-5 * max(1, whole.abs().max())


def test_a_network_without_layers_gives_what_it_is_given() -> None:
    net = net_of(channels=5)
    x = torch.rand(2, 5, 3, 1, generator=torch.Generator().manual_seed(4))
    assert torch.equal(net.features(x), x)
    assert (net.strides, net.radii, net.least, net.tile_exact) == ((1, 1, 1), (0, 0, 0), (1, 1), True)
    assert net.learnable() == []
    assert net.tunable() == []


def test_branches_that_cannot_be_joined_are_named_by_their_module():
    branches = {
        "p": layer("conv2d", kernel_size=1, out_channels=4),
        "q": layer("conv2d", kernel_size=1, out_channels=3),
    }
    parted = {"type": "parallel", "params": {"aggregate": "sum"}, "layers": branches}
    with pytest.raises(
        BadInput, match=r"^features\.layers\.b: Branches of \[4, 3\] channels cannot be joined by 'sum'"
    ):
        net_of(layer("relu"), parted).features(torch.zeros(1, 1, 8, 8))
    inner = {"type": "parallel", "layers": {"m": {"layers": {"n": parted}}}}
    with pytest.raises(BadInput, match=r"^features\.layers\.a\.layers\.m\.layers\.n: Branches of"):
        net_of(inner).features(torch.zeros(1, 1, 8, 8))
