"""Weights of encoders from local files, for images of any channels."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from fieldmark.errors import BadFile, BadRecipe
from fieldmark.learn.run import prepared_net
from fieldmark.models.build import build
from fieldmark.models.encoder_weights import take_encoder
from fieldmark.recipes import FitRecipe
from fieldmark.testing.drawn import drawn_job


@pytest.fixture
def resnet(tmp_path):
    """Other random weights of a ResNet-18 for color images, by torchvision's names, with a classifier beside them."""
    state = build("unet", {"encoder": "resnet18"}, 3, seed=7).encoder.state_dict()
    state |= {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}
    torch.save(state, tmp_path / "resnet18.pth")
    save_file({f"encoder.{name}": value for name, value in state.items()}, tmp_path / "resnet18.safetensors")
    return tmp_path, state


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_all_of_them_are_taken_and_the_first_kernels_adapted(resnet, suffix, channels):
    folder, state = resnet
    net = build("unet", {"encoder": "resnet18"}, channels, seed=1)
    decoder = {n: v.clone() for n, v in net.state_dict().items() if ".encoder." not in n}
    take_encoder(net, folder / f"resnet18{suffix}")
    for name, value in net.encoder.state_dict().items():
        if name == "conv1.weight" and channels != 3:
            own = state[name]
            truth = own.sum(dim=1, keepdim=True) if channels == 1 else 1.5 * own[:, :2]
            assert torch.allclose(value, truth)
        elif "num_batches" not in name:
            assert torch.equal(value, state[name]), name
    assert all(torch.equal(net.state_dict()[name], value) for name, value in decoder.items())


def test_a_fit_begins_with_them(resnet, tmp_path):
    folder, state = resnet
    values = {"family": "unet", "net": {"encoder": "resnet18", "weights": str(folder / "resnet18.pth")}}
    job = drawn_job(tmp_path, FitRecipe(**values))
    net, config, _ = prepared_net(job)
    assert torch.equal(net.encoder.state_dict()["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])
    assert config["weights"] == values["net"]["weights"]
    before = job.made_from()
    torch.save({name: value + 1 for name, value in state.items()}, folder / "resnet18.pth")
    assert job.made_from() != before


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda state, file: torch.save({"conv1.weight": state["conv1.weight"]}, file), BadFile, "it lacks bn1.weight"),
        (lambda state, file: torch.save({**state, "conv1.weight": torch.zeros(64, 3, 3, 3)}, file), BadFile, "conv1"),
        (lambda state, file: file.write_bytes(b"PK\x03\x04 not weights"), BadFile, "weights"),
    ],
)
def test_what_is_not_the_encoders_is_refused(resnet, make, error, words):
    folder, state = resnet
    net = build("unet", {"encoder": "resnet18"}, 3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    make(state, folder / "odd.pth")
    with pytest.raises(error, match=words):
        take_encoder(net, folder / "odd.pth")
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


def test_weights_of_a_block_that_the_encoder_has_no_place_for_are_refused(resnet):
    folder, state = resnet
    net = build("unet", {"encoder": "resnet18"}, 3)  # MONAI's, whose shortcuts have no weights, as torchvision's have
    before = {name: value.clone() for name, value in net.state_dict().items()}
    shortcut = {"layer2.0.downsample.0.weight": torch.zeros(128, 64, 1, 1)}
    torch.save({**state, **shortcut}, folder / "torchvision.pth")
    with pytest.raises(BadFile, match=r"no place for layer2\.0\.downsample\.0\.weight.* timm:resnet34"):
        take_encoder(net, folder / "torchvision.pth")
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


def test_without_a_published_encoder_or_a_file_it_is_said(resnet, tmp_path):
    folder, _ = resnet
    with pytest.raises(BadRecipe, match=r"net\.encoder is 'unet'"):
        take_encoder(build("unet", {"filters": [4, 8]}, 3), folder / "resnet18.pth")
    job = drawn_job(tmp_path, FitRecipe(family="unet", net={"encoder": "resnet18", "weights": "nowhere.pth"}))
    with pytest.raises(BadFile, match=r"nowhere\.pth"):
        job.made_from()
