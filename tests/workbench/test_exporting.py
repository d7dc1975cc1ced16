"""Exported files, read back by what reads them elsewhere."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fieldmark.checkpoint import load
from fieldmark.errors import BadInput, NotFound
from fieldmark.models.libift import read_layers
from fieldmark.testing.worker import run_here
from fieldmark.workbench.exporting import export


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    monkeypatch.setattr("fieldmark.workbench.exporting.run_job", run_here)


def test_kernel_folders_hold_the_model_exactly(bench, tmp_path):
    told = list(export(bench, "tiny", "libift", tmp_path / "out"))
    events = [event for event in told if event.phase == "export"]
    header, weights = load(bench.project.models / "tiny")
    scale, lab, given = header.preparation
    assert (lab["step"], given["step"]) == ("lab", "standardize")
    assert told[0].message.endswith(f"--color lab --scale {scale['by']:g}")
    assert len(events) == 4 * 4 + 1 + 4 + 1  # four layers and one, four files each, and their architectures
    for branch, count in ((0, 4), (1, 1)):
        folder = tmp_path / "out" / f"branch{branch + 1}"
        layers = read_layers(folder, 3)
        assert len(layers) == count
        for number, layer in enumerate(layers):
            own = {name: weights[f"branches.{branch}.{number}.{name}"] for name in ("weight", "bias", "mean", "std")}
            if number == 0:  # the image is standardized before the first layer, and the folder has one place for both
                own["mean"] = [m + s * one for m, s, one in zip(given["mean"], given["std"], own["mean"], strict=True)]
                own["std"] = [s * one for s, one in zip(given["std"], own["std"], strict=True)]
            for name, values in own.items():
                assert np.allclose(getattr(layer, name), values, rtol=1e-6, atol=0), name


def test_the_architecture_says_what_the_layers_do(bench, tmp_path):
    list(export(bench, "tiny", "libift", tmp_path / "out"))
    layers = json.loads((tmp_path / "out" / "branch1" / "arch.json").read_text())["features"]["layers"]
    assert list(layers)[:4] == ["norm1", "conv1", "activation1", "pool1"]
    assert layers["conv1"]["params"]["kernel_size"] == 3
    assert layers["pool1"] == {"operation": "max_pool2d", "params": {"kernel_size": 2, "stride": 2, "padding": 0}}


def test_one_graph(bench, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    (event,) = export(bench, "tiny", "onnx", tmp_path / "tiny.onnx", "features")
    assert event.message == str(tmp_path / "tiny.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "tiny.onnx")
    assert session.run(None, {"pixels": np.zeros((1, 3, 20, 33), np.float32)})[0].shape[2:] == (20, 33)


def test_a_copy_of_the_folder(bench, tmp_path):
    list(export(bench, "tiny", "fieldmark", tmp_path / "taken"))
    assert load(tmp_path / "taken")[0] == load(bench.project.models / "tiny")[0]


def test_what_is_refused(bench, tmp_path):
    with pytest.raises(NotFound, match=r"'onyx'.*Did you mean 'onnx'"):
        list(export(bench, "tiny", "onyx", tmp_path / "out"))
    with pytest.raises(BadInput, match="exists already"):
        list(export(bench, "tiny", "onnx", tmp_path))
    with pytest.raises(BadInput, match="--output"):
        list(export(bench, "tiny", "libift", tmp_path / "out", "features"))
    images = bench.collection.find("drawn0.png").path.parent
    with pytest.raises(BadInput, match="originals are only read"):
        list(export(bench, "tiny", "onnx", images / "tiny.onnx"))
