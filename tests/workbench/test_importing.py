"""Weights from elsewhere become models that give the same features."""

from __future__ import annotations

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
    list(export(bench, "tiny", "libift", tmp_path / "kernels"))
    return tmp_path / "kernels"


def features(path, pixels: np.ndarray) -> np.ndarray:
    header, net = load_net(path)
    return NetForward(net, header.preparation, "features").plane(pixels)


def test_exported_kernels_come_back_as_the_same_features(bench, folder):
    """The second branch stands at the end of the features of `tiny`."""
    list(import_weights(bench, folder / "branch2", "back", color="raw", scale=1.0))
    header, _ = load_net(bench.project.models / "tiny")
    back, net = load_net(bench.project.models / "back")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 48, 64)).astype(np.uint8)  # multiples of both strides
    ours = features(bench.project.models / "tiny", pixels)
    theirs = NetForward(net, header.preparation, "features").plane(pixels)
    assert np.abs(theirs - ours[-len(theirs) :]).max() < 1e-4
    assert (back.family, back.outputs) == ("flim-net", ("features",))
    assert back.preparation == [{"step": "scale", "by": 1.0}]


def test_a_stack_with_pools_comes_back(bench, folder):
    list(import_weights(bench, folder / "branch1", "back"))
    _, net = load_net(bench.project.models / "tiny")
    _, back = load_net(bench.project.models / "back")
    x = torch.rand(1, 3, 48, 64)
    with torch.inference_mode():
        wanted = net.before(0, 4, x)
        (found,) = back.levels(x)
    assert torch.allclose(found, wanted, atol=1e-5)


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
