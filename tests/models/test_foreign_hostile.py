"""State dicts from elsewhere: taken by name and shape, and nothing of them is run."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fieldmark.errors import BadFile
from fieldmark.models.build import build
from fieldmark.models.foreign import channels_of, read_state, take_state

ARCH = {
    "features": {
        "type": "sequential",
        "layers": {
            "norm1": {"operation": "m_norm2d", "params": {"epsilon": 0.5}},
            "conv1": {"operation": "conv2d", "params": {"kernel_size": 3, "padding": 1, "out_channels": 4}},
            "act": {"operation": "relu", "params": {}},
            "inner": {
                "type": "sequential",
                "layers": {
                    "conv2": {"operation": "conv2d", "params": {"kernel_size": 5, "padding": 2, "out_channels": 2}},
                    "bn": {"operation": "batch_norm2d", "params": {}},
                },
            },
        },
    }
}


def state(prefix: str = "feature_extractor.", **changes: torch.Tensor | None) -> OrderedDict:
    made = torch.Generator().manual_seed(0)
    rand = lambda *shape: torch.rand(shape, generator=made)  # noqa: E731
    found = OrderedDict(
        {
            "norm1.mean_by_channel": rand(1, 3, 1, 1),
            "norm1.std_by_channel": rand(1, 3, 1, 1) + 0.1,
            "conv1.weight": rand(4, 3, 3, 3),
            "inner.conv2._conv.weight": rand(2, 4, 5, 5),
            "inner.conv2._conv.bias": rand(2),
            "inner.bn.weight": rand(2),
            "inner.bn.bias": rand(2),
            "inner.bn.running_mean": rand(2),
            "inner.bn.running_var": rand(2) + 0.5,
            "inner.bn.num_batches_tracked": torch.tensor(3),
        }
    )
    for name, value in changes.items():
        found[name.replace("__", ".")] = value
    return OrderedDict((prefix + name, value) for name, value in found.items() if value is not None)


def saved(folder: Path, value: object) -> Path:
    torch.save(value, folder / "model.pt")
    return folder / "model.pt"


def net():
    return build("flim-net", {"arch": ARCH}, 3)


@pytest.mark.parametrize("prefix", ["feature_extractor.", "module.feature_extractor.", "features.", ""])
def test_features_are_those_of_the_formulas(tmp_path, prefix):
    path = saved(tmp_path, state(prefix))
    values, built = read_state(path), net()
    assert channels_of(values, path) == 3
    assert take_state(built, values, path) == []
    x = torch.rand(1, 3, 12, 10)
    s = {name.removeprefix(prefix): value for name, value in state(prefix).items()}
    y = (x - s["norm1.mean_by_channel"]) / (s["norm1.std_by_channel"] + 0.5)
    y = functional.relu(functional.conv2d(y, s["conv1.weight"], padding=1))
    y = functional.conv2d(y, s["inner.conv2._conv.weight"], s["inner.conv2._conv.bias"], padding=2)
    names = ("running_mean", "running_var", "weight", "bias")
    y = functional.batch_norm(y, *(s[f"inner.bn.{name}"] for name in names))
    with torch.inference_mode():
        (found,) = built.levels(x)
    assert torch.allclose(found, y, atol=1e-5)


def test_a_checkpoint_that_wraps_a_state_dict(tmp_path):
    assert set(read_state(saved(tmp_path, {"state_dict": state(), "epoch": 3}))) == set(state())


def test_the_classifier_is_left_out_and_named(tmp_path):
    values = {**state(), "classifier.linear1.weight": torch.zeros(2, 9)}
    path = saved(tmp_path, values)
    assert take_state(net(), read_state(path), path) == ["classifier.linear1.weight"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"conv1__weight": None}, r"missing conv1\.weight; unknown none"),
        ({"conv9__weight": torch.zeros(1)}, r"missing none; unknown feature_extractor\.conv9\.weight"),
        ({"norm1__std_by_channel": None}, r"missing norm1\.std_by_channel"),
        ({"conv1__weight": torch.zeros(4, 3, 5, 5)}, r"conv1\.weight is \(4, 3, 5, 5\).* wants 4 kernels of 3 x 3"),
        ({"conv1__weight": torch.zeros(5, 3, 3, 3)}, r"conv1\.weight is \(5, 3, 3, 3\)"),
        ({"conv1__weight": torch.zeros(4, 2, 3, 3)}, "do not fit each other"),
        ({"inner__bn__running_mean": torch.zeros(7)}, "do not fit each other"),
        ({"conv1__weight": torch.full((4, 3, 3, 3), float("nan"))}, "NaN or infinite"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, changes, said):
    path = saved(tmp_path, state(**changes))
    with pytest.raises(BadFile, match=said):
        take_state(net(), read_state(path), path)


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("shape", ["alone", "inside"])
def test_a_file_that_would_run_code_is_refused_and_not_run(tmp_path, shape):
    trap = Trap(tmp_path / "ran")
    path = saved(tmp_path, trap if shape == "alone" else {**state(), "conv1.weight": trap})
    with pytest.raises(BadFile, match="nothing of it was run") as caught:
        read_state(path)
    assert not (tmp_path / "ran").exists()
    assert not re.search("weights_only|torch.load|can still be loaded", str(caught.value)), "no word of how to run it"
    assert "it names " in str(caught.value)


def test_a_plain_pickle_is_refused_and_not_run(tmp_path):
    (tmp_path / "model.pt").write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    with pytest.raises(BadFile, match="no archive of weights"):
        read_state(tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()


def test_a_whole_model_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(BadFile, match=r"Save its state_dict\(\) alone"):
        read_state(saved(tmp_path, nn.Linear(2, 2)))


@pytest.mark.parametrize("value", [[1, 2], {}, {"a": 1}, {"a": {"b": torch.zeros(1)}}, {1: torch.zeros(1)}, 3])
def test_other_contents_are_refused(tmp_path, value):
    with pytest.raises(BadFile, match="no state dict"):
        read_state(saved(tmp_path, value))


def test_damaged_archives_are_refused(tmp_path):
    path = saved(tmp_path, state())
    data = path.read_bytes()
    for cut in (10, len(data) // 2, len(data) - 30):
        path.write_bytes(data[:cut])
        with pytest.raises(BadFile, match=r"model\.pt"):
            read_state(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "x")
    with pytest.raises(BadFile, match=r"model\.pt"):
        read_state(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(BadFile, match="cannot be read"):
        read_state(tmp_path / "nothing.pt")


def test_half_precision_becomes_single(tmp_path):
    path = saved(tmp_path, {name: value.half() for name, value in state().items()})
    assert all(value.dtype == np.float32 for value in read_state(path).values())
