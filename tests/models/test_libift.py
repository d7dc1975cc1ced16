"""Kernel folders of libIFT, against matrices that are written by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.errors import BadFile
from fieldmark.models.flim_graph import FlimGraphNet
from fieldmark.models.libift import LibiftLayer, from_matrix, offsets, read_layers, to_matrix, write_layers
from fieldmark.models.libift_nets import stacks_of
from fieldmark.recipes.flim_arch import FlimGraphConfig


def layer(kernels: int, channels: int, size: int, *, dims: int = 2, seed: int = 0) -> LibiftLayer:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(kernels, channels, *(size,) * dims)).astype(np.float32)
    mean, std = rng.normal(size=channels), rng.uniform(0.1, 2, channels)
    return LibiftLayer(
        weight, rng.normal(size=kernels).astype(np.float32), mean.astype(np.float32), std.astype(np.float32)
    )


def test_the_center_comes_first_then_rows_from_the_top():
    weight = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    assert to_matrix(weight)[:, 0].tolist() == [4, 0, 1, 2, 3, 5, 6, 7, 8]
    assert to_matrix(weight, "rows")[:, 0].tolist() == list(range(9))


def test_the_channels_of_an_offset_stand_together():
    weight = np.zeros((2, 3, 3, 3), np.float32)
    weight[1, 2, 0, 1] = 7  # kernel 1, channel 2, dy -1, dx 0: the third offset
    matrix = to_matrix(weight)
    assert matrix.shape == (27, 2)
    assert np.argwhere(matrix).tolist() == [[2 * 3 + 2, 1]]


def test_offsets_by_a_plain_loop():
    for shape in ((3, 3), (5, 5), (3, 3, 3), (1, 1), (3, 5)):
        steps = list(np.ndindex(*shape))
        center = tuple(side // 2 for side in shape)
        wanted = [center] + [step for step in steps if step != center]
        assert [steps[place] for place in offsets(shape)] == wanted


@given(
    kernels=st.integers(1, 4),
    channels=st.integers(1, 3),
    size=st.sampled_from([1, 3, 5]),
    dims=st.sampled_from([2, 3]),
    order=st.sampled_from(["center-first", "rows"]),
)
def test_a_matrix_and_back(kernels, channels, size, dims, order):
    weight = layer(kernels, channels, size, dims=dims).weight
    assert np.array_equal(from_matrix(to_matrix(weight, order), channels, (size,) * dims, order), weight)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_folder_and_back_is_exact(tmp_path, dims):
    layers = [layer(4, 3, 5, dims=dims), layer(6, 4, 3, dims=dims, seed=1)]
    write_layers(tmp_path, layers)
    found = read_layers(tmp_path, 3, dims=dims)
    assert len(found) == 2
    for one, other in zip(layers, found, strict=True):
        for name in ("weight", "bias", "mean", "std"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
            assert getattr(other, name).dtype == np.float32


def test_the_texts_have_a_count_and_then_the_values(tmp_path):
    one = LibiftLayer(
        np.ones((2, 1, 1, 1), np.float32),
        np.float32([0.5, -1]),
        np.float32([3]),
        np.float32([0.25]),
    )
    write_layers(tmp_path, [one])
    assert (tmp_path / "conv1-bias.txt").read_text() == "2\n0.5 -1\n"
    assert (tmp_path / "conv1-mean.txt").read_text() == "1\n3\n"
    assert (tmp_path / "conv1-stdev.txt").read_text() == "1\n0.25\n"


def test_a_folder_of_the_newer_kind_has_kernels_and_bias_alone(tmp_path):
    np.save(tmp_path / "conv1-kernels.npy", np.eye(9, 2))
    (tmp_path / "conv1-bias.txt").write_text("2\n1.5 2.5 \n")
    (found,) = read_layers(tmp_path, 1)
    assert found.bias.tolist() == [1.5, 2.5]
    assert found.mean.tolist() == [0]
    assert found.std.tolist() == [1]
    assert found.weight[0, 0, 1, 1] == 1  # the first row is the center
    assert found.weight[1, 0, 0, 0] == 1


def test_values_without_a_count_and_one_for_each_weight(tmp_path):
    np.save(tmp_path / "conv1-kernels.npy", np.ones((18, 1), np.float32))
    (tmp_path / "conv1-mean.txt").write_text(" ".join(["0.5", "2"] * 9))
    (tmp_path / "conv1-stdev.txt").write_text("1 4\n")
    (found,) = read_layers(tmp_path, 2)
    assert found.mean.tolist() == [0.5, 2]
    assert found.std.tolist() == [1, 4]
    (tmp_path / "conv1-mean.txt").write_text(" ".join(str(n) for n in range(18)))
    with pytest.raises(BadFile, match=r"conv1-mean.txt: has other values for each place"):
        read_layers(tmp_path, 2)


def test_folding_keeps_the_responses():
    one = layer(3, 2, 3)
    x = np.random.default_rng(1).normal(size=(2, 3, 3)).astype(np.float32)
    scaled = (x - one.mean[:, None, None]) / one.std[:, None, None]
    wanted = [(kernel * scaled).sum() + bias for kernel, bias in zip(one.weight, one.bias, strict=True)]
    folded = one.folded()
    found = [(kernel * x).sum() + bias for kernel, bias in zip(folded.weight, folded.bias, strict=True)]
    assert np.allclose(found, wanted, atol=1e-4)


def test_a_norm_with_a_scale_and_a_shift_is_one_mean_and_spread(tmp_path):
    """As gradient descent leaves it; and what images are standardized by before it comes on top."""
    rng = np.random.default_rng(2)
    arch = {
        "norm": {"operation": "m_norm2d"},
        "conv": {"operation": "conv2d", "params": {"kernel_size": 1, "out_channels": 2}},
    }
    net = FlimGraphNet(3, FlimGraphConfig(arch={"features": {"layers": arch}}))
    mean, std, scale, shift = rng.normal(size=3), rng.uniform(0.5, 2, 3), rng.uniform(0.5, 2, 3), rng.normal(size=3)
    norm, conv = net.op("norm"), net.op("conv")
    norm.mean, norm.std, norm.weight, norm.bias = (torch.tensor(own).float() for own in (mean, std, scale, shift))
    conv.weight, conv.bias = torch.rand(2, 3, 1, 1), torch.zeros(2)
    x = rng.normal(size=(3, 50))
    for steps in ([], [{"step": "standardize", "mean": [0.5, -1.0, 2.0], "std": [2.0, 0.25, 3.0]}]):
        seen = x
        for step in steps:
            seen = (x - np.array(step["mean"])[:, None]) / np.array(step["std"])[:, None]
        wanted = scale[:, None] * (seen - mean[:, None]) / std[:, None] + shift[:, None]
        (one,), _ = stacks_of(net, steps)["graph"]
        assert np.allclose((x - one.mean[:, None]) / one.std[:, None], wanted, atol=1e-5)


def test_sizes_that_do_not_fit_are_named(tmp_path):
    write_layers(tmp_path, [layer(4, 3, 3)])
    with pytest.raises(BadFile, match=r"conv1-kernels.npy: has 27 rows, which are no 2-D kernels .* 2 channels"):
        read_layers(tmp_path, 2)
    with pytest.raises(BadFile, match=r"has 27 rows; kernels of 5 x 5 over 3 channels have 75"):
        read_layers(tmp_path, 3, shapes=[(5, 5)])
    (tmp_path / "conv1-bias.txt").write_text("3\n1 2 3\n")
    with pytest.raises(BadFile, match="has 3 values for 4 kernels"):
        read_layers(tmp_path, 3)


def test_no_kernels_at_all(tmp_path):
    with pytest.raises(BadFile, match=r"has no conv1-kernels.npy"):
        read_layers(tmp_path, 3)


@pytest.mark.parametrize("name", ["mean", "stdev", "bias"])
@pytest.mark.parametrize("text", ["", "two\n1 2 3\n", "3\nnan 1 2\n", "3\n1e999 1 2\n", "\x00\xff", "2\n1 2 3\n"])
def test_damaged_texts_are_refused(tmp_path, name, text):
    write_layers(tmp_path, [layer(4, 3, 3)])
    (tmp_path / f"conv1-{name}.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadFile, match=f"conv1-{name}.txt"):
        read_layers(tmp_path, 3)


def test_a_spread_of_nothing_is_refused(tmp_path):
    write_layers(tmp_path, [layer(4, 3, 3)])
    (tmp_path / "conv1-stdev.txt").write_text("3\n1 0 1\n")
    with pytest.raises(BadFile, match="not above zero"):
        read_layers(tmp_path, 3)


@pytest.mark.parametrize("cut", [0, 1, 20, 127, 200])
def test_cut_matrices_are_refused(tmp_path, cut):
    write_layers(tmp_path, [layer(4, 3, 3)])
    path = tmp_path / "conv1-kernels.npy"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BadFile, match=r"conv1-kernels.npy"):
        read_layers(tmp_path, 3)
