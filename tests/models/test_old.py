"""Old checkpoints of segmentation-models-pytorch, with a stand-in for timm that has its names."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fieldmark.errors import BadFile, MissingExtra
from fieldmark.models import old
from fieldmark.models.build import load_net


class Basic(nn.Module):
    """A block of two convolutions, by torchvision's names."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        if stride > 1 or channels != width:
            self.downsample = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + (self.downsample(x) if hasattr(self, "downsample") else x)).relu()


class Encoder(nn.Module):
    """ResNet-18 that gives its maps at strides 2 to 32; narrow, so that tests are fast."""

    widths = (8, 8, 12, 16, 24)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, self.widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(self.widths[0])
        for n in range(1, 5):
            first = Basic(self.widths[n - 1], self.widths[n], 1 if n == 1 else 2)
            setattr(self, f"layer{n}", nn.Sequential(first, Basic(self.widths[n], self.widths[n], 1)))
        self.feature_info = SimpleNamespace(channels=lambda: list(self.widths))

    def forward(self, x):
        maps = [self.bn1(self.conv1(x)).relu()]
        y = functional.max_pool2d(maps[0], 3, 2, 1)
        for n in range(1, 5):
            y = getattr(self, f"layer{n}")(y)
            maps.append(y)
        return maps


@pytest.fixture
def timm(monkeypatch):
    """timm, installed."""
    made = SimpleNamespace(create_model=lambda name, features_only, in_chans, pretrained: Encoder(in_chans))
    monkeypatch.setattr(old, "import_module", {"timm": made}.__getitem__)
    monkeypatch.setattr(old, "require_extra", lambda *_: None)


def state_dict(channels: int = 1, classes: int = 3) -> dict[str, torch.Tensor]:
    """Weights by the names of segmentation-models-pytorch."""
    torch.manual_seed(4)
    state = {f"encoder.{name}": value for name, value in Encoder(channels).state_dict().items()}
    widths, inner = [*reversed(Encoder.widths[:-1]), 0], [Encoder.widths[-1], 256, 128, 64, 32]
    for n, width in enumerate((256, 128, 64, 32, 16)):
        for conv, source in (("conv1", widths[n] + inner[n]), ("conv2", width)):
            place = f"decoder.blocks.{n}.{conv}"
            state[f"{place}.0.weight"] = torch.randn(width, source, 3, 3) / source
            for name, value in nn.BatchNorm2d(width).state_dict().items():
                state[f"{place}.1.{name}"] = value + 0.1 * torch.rand(width) if value.ndim else value
    state["segmentation_head.0.weight"] = torch.randn(classes, 16, 3, 3)
    state["segmentation_head.0.bias"] = torch.randn(classes)
    return state


def plain(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The answer, written out from the weights."""
    encoder = Encoder(x.shape[1]).eval()
    encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")})
    maps = encoder(x)
    y = maps.pop()
    for n in range(5):
        y = y.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        y = torch.cat([y, maps.pop()], dim=1) if maps else y
        for conv in ("conv1", "conv2"):
            place = f"decoder.blocks.{n}.{conv}"
            y = functional.conv2d(y, state[f"{place}.0.weight"], padding=1)
            mean, variance, scale, shift = (
                state[f"{place}.1.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
            )
            y = ((y - mean) / (variance + 1e-5).sqrt() * scale + shift).clamp(min=0)
    return functional.conv2d(y, state["segmentation_head.0.weight"], state["segmentation_head.0.bias"], padding=1)


@pytest.mark.parametrize(
    ("named", "prefix"),
    [("resnet18", "encoder."), (None, "encoder."), ("tu-resnet18", "encoder.model."), (None, "model.encoder.model.")],
)
def test_a_checkpoint_answers_as_it_did(timm, tmp_path, named, prefix):
    state = state_dict()
    kept = {name.replace("encoder.", prefix): value for name, value in state.items()}
    torch.save({"checkpoint": kept, "encoder": named, "nc": 3} if named else kept, tmp_path / "old.pt")
    list(old.convert_from_job({"source": str(tmp_path / "old.pt"), "out": str(tmp_path / "model")}))
    header, net = load_net(tmp_path / "model")
    assert [(spec.name, spec.value) for spec in header.classes] == [("background", 0), ("class 1", 1), ("class 2", 2)]
    assert header.config["encoder"] == "resnet18"
    x = torch.rand(2, 1, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = plain(state, x).softmax(dim=1)
        found = net.answer(x, "classes")
    assert np.abs((wanted - found).numpy()).max() < 1e-5


def test_one_score_tells_an_object_from_the_rest(timm, tmp_path):
    """That library's networks have one class by themselves: a sigmoid, of which a softmax would say 1 everywhere."""
    state = state_dict(classes=1)
    torch.save(state, tmp_path / "old.pt")
    list(old.convert_from_job({"source": str(tmp_path / "old.pt"), "out": str(tmp_path / "model")}))
    header, net = load_net(tmp_path / "model")
    assert [(spec.name, spec.value) for spec in header.classes] == [("background", 0), ("class 1", 1)]
    x = torch.rand(1, 1, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = plain(state, x).double().sigmoid()
        found = net.answer(x, "classes")
    assert np.abs((torch.cat([1 - wanted, wanted], dim=1) - found).numpy()).max() < 1e-5
    assert 0.01 < float(wanted.mean()) < 0.99


def test_what_does_not_fit_is_named(timm, tmp_path):
    state = state_dict()
    cases = (
        ({"checkpoint": state, "encoder": "mit_b0", "nc": 3}, "mit_b0"),
        ({k: v for k, v in state.items() if "blocks.2.conv1" not in k}, r"blocks\.2\.conv1"),
        ({k: v for k, v in state.items() if "segmentation" not in k}, "no U-Net"),
        ({k: v for k, v in state.items() if "layer3.1" not in k}, r"\(2, 2, 1, 2\)"),
        (state | {"decoder.blocks.0.conv2.0.weight": torch.zeros(256, 256, 1, 1)}, r"blocks\.0\.conv2"),
    )
    for content, words in cases:
        torch.save(content, tmp_path / "old.pt")
        with pytest.raises(BadFile, match=words):
            list(old.convert_from_job({"source": str(tmp_path / "old.pt"), "out": str(tmp_path / "model")}))
        assert not (tmp_path / "model").exists()


def test_without_the_extra_it_is_refused_with_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr("fieldmark.core.extras.find_spec", lambda _: None)
    torch.save(state_dict(), tmp_path / "old.pt")
    with pytest.raises(MissingExtra, match=r"pip install 'fieldmark\[backbones\]'"):
        list(old.convert_from_job({"source": str(tmp_path / "old.pt"), "out": str(tmp_path / "model")}))


def test_how_far_it_sees_is_no_less_than_the_gradient_shows(timm):
    net = old.OldUNet(1, old.OldUNetConfig(encoder="resnet18", out_channels=2)).eval()
    for parameter in net.parameters():
        parameter.data = parameter.abs() + 0.01  # so that nothing cancels
    x = torch.rand(1, 1, 64, 704, requires_grad=True)
    net(x)[0, 0, 32, 352].backward()
    seen = torch.nonzero(x.grad[0, 0].abs().sum(dim=0))[:, 0]
    assert int((seen - 352).abs().max()) <= net.radius
