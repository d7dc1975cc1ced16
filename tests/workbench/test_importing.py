"""Weights from elsewhere become models that give the same features."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fieldmark.errors import BadFile, BadInput, BadRecipe
from fieldmark.infer.forward import NetForward
from fieldmark.models.build import load_net
from fieldmark.workbench.exporting import export
from fieldmark.workbench.importing import import_weights


@pytest.fixture
def folder(bench, tmp_path):
    """The kernels of the model `tiny`, a folder for each branch."""
    exported(bench, "tiny", tmp_path / "kernels")
    return tmp_path / "kernels"


def exported(bench, name: str, out) -> dict[str, object]:
    """Export, and what the note says that an import must be told."""
    (note,) = [event.message for event in export(bench, name, "libift", out) if event.phase == "note"]
    _, color, _, scale = note.rpartition(": ")[2].split()
    return {"color": color, "scale": float(scale)}


def features(path, pixels: np.ndarray) -> np.ndarray:
    header, net = load_net(path)
    return NetForward(net, header.preparation, "features").plane(pixels)


def test_exported_kernels_come_back_as_the_same_features(bench, folder):
    """The second branch stands at the end of the features of `tiny`; its first layer holds the data set's spread."""
    scale = load_net(bench.project.models / "tiny")[0].preparation[0]["by"]
    list(import_weights(bench, folder / "branch2", "back", scale=scale))
    back, _ = load_net(bench.project.models / "back")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 48, 64)).astype(np.uint8)  # multiples of both strides
    ours, theirs = (features(bench.project.models / name, pixels) for name in ("tiny", "back"))
    assert np.abs(theirs - ours[-len(theirs) :]).max() < 1e-4 * np.abs(ours).max()
    assert (back.family, back.outputs) == ("flim-net", ("features",))
    assert [step["step"] for step in back.preparation] == ["scale", "lab"]


ENCODER = {
    "conv1": {"operation": "conv2d", "params": {"kernel_size": 3, "padding": 1, "number_of_kernels_per_marker": 2}},
    "activation": {"operation": "relu", "params": {"inplace": True}},
    "pool": {"operation": "max_pool2d", "params": {"kernel_size": 3, "stride": 2, "padding": 1}},
    "conv2": {"operation": "conv2d", "params": {"kernel_size": 3, "padding": 1, "number_of_kernels_per_marker": 2}},
}
NORM = {"norm": {"operation": "m_norm2d", "params": {"epsilon": 0.1}}}
NESTED = {"part": {"layers": ENCODER}}
BRANCHES = {"sides": {"type": "parallel", "layers": {"a": ENCODER["conv1"], "b": ENCODER["conv2"]}}}


@pytest.mark.parametrize("layers", [ENCODER, NORM | ENCODER, NESTED], ids=["plain", "norm", "nested"])
def test_what_images_are_standardized_by_goes_with_the_kernels(bench, tmp_path, layers):
    """A stranger is told what pixels are divided by, and gets the very maps, borders included."""
    net = {"arch": {"features": {"layers": layers}}}
    _, events = bench.fit("flim-net", name="learned", overrides=(f"net={json.dumps(net)}", "head.kind=none"))
    list(events)
    told = exported(bench, "learned", tmp_path / "kernels")
    assert told["color"] == "lab"
    list(import_weights(bench, tmp_path / "kernels", "back", **told))
    pixels = np.random.default_rng(1).integers(0, 256, (3, 48, 64)).astype(np.uint8)
    ours, theirs = (features(bench.project.models / name, pixels) for name in ("learned", "back"))
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-3 * np.abs(ours).max()


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        ({"first": ENCODER["activation"]} | NORM | ENCODER, "norm normalizes what is not the image"),
        (BRANCHES, "one layer after the other"),
    ],
)
def test_what_kernel_folders_cannot_hold_is_told(bench, tmp_path, layers, told):
    net = {"arch": {"features": {"layers": layers}}}
    _, events = bench.fit("flim-net", name="learned", overrides=(f"net={json.dumps(net)}", "head.kind=none"))
    list(events)
    with pytest.raises(BadInput, match=told):
        list(export(bench, "learned", "libift", tmp_path / "kernels"))


def test_a_stack_with_pools_comes_back(bench, folder):
    list(import_weights(bench, folder / "branch1", "back"))
    header, net = load_net(bench.project.models / "tiny")
    _, back = load_net(bench.project.models / "back")
    x = torch.rand(1, 3, 48, 64)
    (standardized,) = [step for step in header.preparation if step["step"] == "standardize"]
    mean, std = (torch.tensor(standardized[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        wanted = net.before(0, 4, (x - mean) / std)
        (found,) = back.levels(x)
    assert torch.allclose(found, wanted, atol=1e-5 * float(wanted.abs().max()))


def test_an_imported_model_is_exported_as_it_came(bench, folder, tmp_path):
    list(import_weights(bench, folder / "branch1", "back"))
    list(export(bench, "back", "libift", tmp_path / "again"))
    for path in sorted((folder / "branch1").glob("conv*")):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_what_is_refused(bench, folder, tmp_path):
    with pytest.raises(BadInput, match="exists already"):
        list(import_weights(bench, folder / "branch1", "tiny"))
    with pytest.raises(BadInput, match="does not say its architecture"):
        list(import_weights(bench, folder, "other"))
    with pytest.raises(BadInput, match="no such file"):
        list(import_weights(bench, tmp_path / "nothing", "other"))
    with pytest.raises(BadInput, match="--order 'z'"):
        list(import_weights(bench, folder / "branch1", "other", order="z"))
    with pytest.raises(BadInput, match="--scale"):
        list(import_weights(bench, folder / "branch1", "other", scale=0))
    with pytest.raises(BadRecipe, match="color"):
        list(import_weights(bench, folder / "branch1", "other", color="loud"))
    (folder / "branch1" / "conv4-kernels.npy").unlink()
    with pytest.raises(BadInput, match="kernels of 3 layers, the architecture has 4"):
        list(import_weights(bench, folder / "branch1", "other"))
    assert not (bench.project.models / "other").exists()


def test_a_file_that_is_no_weights(bench, folder, tmp_path):
    (tmp_path / "model.pt").write_bytes(b"hello")
    with pytest.raises(BadFile, match="no archive of weights"):
        list(import_weights(bench, tmp_path / "model.pt", "other", arch=folder / "branch1" / "arch.json"))
