"""Which device a recipe means, and that all of a prediction follows the network there. No GPU is needed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fieldmark.core.events import Event
from fieldmark.errors import BadInput
from fieldmark.images import open_image
from fieldmark.infer import predict
from fieldmark.infer.cam import explain_image
from fieldmark.infer.device import device_for, device_of
from fieldmark.infer.layers import last_layer, layer_maps, map_layers
from fieldmark.infer.predict import Model, model_of
from fieldmark.infer.vectors import image_vector
from fieldmark.learn.engine import make_engine
from fieldmark.learn.run import run_fit
from fieldmark.models.scale_space import ScaleSpace
from fieldmark.recipes import ClassifyConfig, FitRecipe, HeadConfig, ImageHeadConfig
from fieldmark.testing.drawn import draw_discs
from fieldmark.testing.elsewhere import elsewhere
from fieldmark.testing.families import drawn_job, fitted
from fieldmark.workbench import worker


@pytest.fixture
def machine(monkeypatch):
    """A machine with these GPUs; what is set for them is put back."""

    def has(*kinds: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in kinds)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in kinds)

    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
    yield has
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = before


@pytest.mark.parametrize(
    ("accelerator", "gpus", "device"),
    [
        ("auto", [], "cpu"),
        ("auto", ["cuda", "mps"], "cuda"),
        ("auto", ["mps"], "cpu"),
        ("cpu", ["cuda"], "cpu"),
        ("gpu", ["cuda", "mps"], "cuda"),
        ("gpu", ["mps"], "mps"),
        ("mps", ["cuda", "mps"], "mps"),
    ],
)
def test_an_accelerator_is_a_device_of_this_machine(machine, accelerator, gpus, device):
    machine(*gpus)
    assert device_for(accelerator) == torch.device(device)


@pytest.mark.parametrize(("accelerator", "gpus", "found"), [("gpu", [], "no GPU"), ("cuda", ["mps"], "only mps")])
def test_a_gpu_that_is_not_there_is_said(machine, accelerator, gpus, found):
    machine(*gpus)
    with pytest.raises(BadInput, match=f"accelerator: {accelerator} was asked for, and torch finds {found}"):
        device_for(accelerator)
    phase = type("Phase", (), {"descends": True})()
    with pytest.raises(BadInput, match=f"accelerator: {accelerator} was asked for"):
        make_engine(FitRecipe(family="unet", accelerator=accelerator), [phase])


def test_on_cuda_convolutions_are_exact_and_the_same_each_time(machine):
    machine("cuda")
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = True, False
    device_for("cpu")
    assert torch.backends.cudnn.allow_tf32
    device_for("auto")
    assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.deterministic
    assert torch.get_float32_matmul_precision() == "highest"


def test_tensors_of_two_devices_do_not_meet_elsewhere():
    """What the checks below rely on."""
    ours = torch.arange(6.0).view(2, 3)
    with elsewhere() as device:
        there = ours.to(device)
        assert torch.equal((there + 1).cpu(), ours + 1)
        there += torch.ones(2, 3, device=device)
        assert torch.equal(there.cpu(), ours + 1)
        assert torch.equal((there * torch.tensor(2.0)).cpu(), 2 * (ours + 1))
        for wrong in (lambda: there + ours, there.numpy, lambda: torch.cat([ours, there])):
            with pytest.raises((RuntimeError, TypeError)):
                wrong()


@pytest.fixture(scope="module")
def sorter(tmp_path_factory) -> Model:
    """A model that answers whole images, with layers to look into."""
    net = {"branches": [{"layers": [{"kernel_size": 5, "out_channels": 16, "pool": "max"}]}], "scales": [1.0]}
    head = ImageHeadConfig(kind="dense", descend=ClassifyConfig(epochs=1, batch_size=1))
    recipe = FitRecipe(family="flim", net=net, head=HeadConfig(kind="logistic"), image_head=head)
    return fitted(tmp_path_factory.mktemp("sorter"), recipe)


def test_vectors_layers_and_explanations_follow_the_network(sorter, tmp_path):
    np.save(tmp_path / "one.npy", draw_discs(61, 75).image.transpose(2, 0, 1)[None, :, None])
    layers = map_layers(sorter.net)
    told = []
    with elsewhere() as device:
        for place in (torch.device("cpu"), device):
            sorter.net.to(place)
            assert device_of(sorter.net) == place
            with open_image(tmp_path / "one.npy") as source:
                cam = explain_image(sorter, source, "one", layer=last_layer(sorter.net))
                told.append(
                    [image_vector(sorter, source, "one"), cam.heat, *layer_maps(sorter, source, "one", layers).values()]
                )
        sorter.net.to("cpu")
    assert all(np.array_equal(*pair) for pair in zip(*told, strict=True))


def test_a_job_says_what_computes_and_by_itself_the_processor(sorter, tmp_path, monkeypatch):
    from fieldmark.checkpoint import save
    from fieldmark.models.tensors import arrays_of

    save(tmp_path / "model", sorter.header, arrays_of(sorter.net))
    asked = []
    monkeypatch.setattr(predict, "device_for", lambda name: asked.append(name) or torch.device("cpu"))
    for more in ({}, {"accelerator": "gpu"}):
        model_of({"model": str(tmp_path / "model"), "name": "tiny", **more})
    assert asked == ["cpu", "gpu"]


def test_a_full_gpu_is_said_with_what_helps(monkeypatch, tmp_path):
    def fills(job: dict) -> object:
        yield Event("predict", 1, 2)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    said: list[dict] = []
    monkeypatch.setattr(worker, "start", fills)
    monkeypatch.setattr(worker, "_own_output", lambda: said.append)
    monkeypatch.setattr(worker, "_stop_signal", type("Never", (), {"is_set": lambda self: False}))
    Path(tmp_path / "job.json").write_text(json.dumps({"kind": "predict"}))
    assert worker.main(tmp_path / "job.json") == 1
    assert "The GPU has no memory left" in said[-1]["error"]["message"]
    assert "--accelerator cpu" in said[-1]["error"]["message"]


def test_scale_spaces_are_smoothed_by_the_same_numbers_everywhere():
    """Their kernels are added up on the processor, in one order."""
    x = torch.rand(1, 2, 9, 13)
    with elsewhere() as device:
        there = [level.cpu() for level in ScaleSpace([1.0, 4.0])(x.to(device))]
    assert all(torch.equal(*pair) for pair in zip(there, ScaleSpace([1.0, 4.0])(x), strict=True))


@pytest.mark.parametrize(("accelerator", "said"), [("gpu", True), ("auto", False)])
def test_a_closed_form_says_that_it_uses_no_gpu(machine, tmp_path, accelerator, said):
    machine()
    recipe = FitRecipe(family="flim", accelerator=accelerator)
    messages = [event.message for event in run_fit(drawn_job(tmp_path, recipe))]
    assert any("gpu is not used" in message for message in messages) == said
