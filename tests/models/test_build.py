"""Model folders whose header asks for a network that nobody could run."""

from __future__ import annotations

import time
from math import prod

import pytest
import torch

from fieldmark.checkpoint import Header, save
from fieldmark.errors import BadFile, BadRecipe
from fieldmark.models.build import build, load_net
from fieldmark.recipes import AutoEncoderConfig, FlimConfig
from fieldmark.recipes.registry import FAMILIES


def test_strides_that_multiply_to_an_enormous_image_are_refused_before_it_is_made(tmp_path):
    strides = (64, 64, 8)
    layers = [{"out_channels": 1, "pool": "max", "pool_size": 1, "pool_stride": stride} for stride in strides]
    config = {"branches": [{"layers": layers}], "scales": []}
    net = build("flim", config, 1)
    header = Header(
        family="flim",
        config=config,
        preparation=[],
        outputs=("features",),
        channels=1,
        stride=net.strides,
        halo=net.halo,
        tile_exact=net.tile_exact,
    )
    assert net.strides == (1, prod(strides), prod(strides))
    save(tmp_path / "m", header, {name: tensor.numpy() for name, tensor in net.state_dict().items()})
    with pytest.raises(BadFile, match=r"the smallest image it could take is \(32768, 32768\)"):
        load_net(tmp_path / "m")


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("autoencoder", {"depth": 10**6}),
        ("autoencoder", {"width": 10**9}),
        ("autoencoder", {"latent": 2**80}),
        ("flim", {"branches": [{"layers": [{}]}] * 10**6}),
        ("flim", {"branches": [{"layers": [{}] * 10**6}]}),
        ("flim", {"branches": [{"layers": [{"out_channels": 10**9}]}]}),
        ("flim", {"scales": [float("inf")]}),
        ("flim", {"scales": [float("nan")]}),
    ],
)
def test_endless_settings_are_refused_at_once(family, settings):
    start = time.process_time()
    with pytest.raises(BadRecipe, match=next(iter(settings))) as refused:
        build(family, settings, 3)
    assert time.process_time() - start < 1
    assert len(str(refused.value)) < 1500


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("autoencoder", AutoEncoderConfig(width=8192, depth=10, latent=8192, blocks=32)),
        ("flim", FlimConfig(branches=[{"layers": [{"out_channels": 8192, "kernel_size": 63}] * 32}] * 16)),
    ],
    ids=["autoencoder", "flim"],
)
def test_the_largest_network_that_settings_allow_is_laid_out_without_memory(family, config):
    start = time.process_time()
    with torch.device("meta"):
        FAMILIES.load(family)(65_536, config)
    assert time.process_time() - start < 5
