"""ONNX graphs answer as we do: for sizes they were not traced with, from raw pixels on."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from fieldmark.errors import BadInput
from fieldmark.infer.forward import NetForward
from fieldmark.infer.predict import in_target_units
from fieldmark.models.onnx import to_onnx
from fieldmark.recipes import FitRecipe
from fieldmark.testing.families import fitted

onnxruntime = pytest.importorskip("onnxruntime", reason="the onnx runtime is not installed")
NET = {
    "branches": [{"layers": [{"out_channels": 6, "pool": "max"}, {"out_channels": 5, "pool": "avg", "pool_size": 3}]}],
    "scales": [1.0, 3.0],
}
SIZES = [(61, 75), (32, 48), (3, 2), (1, 1), (130, 40)]


def ours_and_theirs(folder, recipe: FitRecipe, output: str, size: tuple[int, int]):
    model = fitted(folder, recipe)
    session = onnxruntime.InferenceSession(to_onnx(model.net, model.header, output))
    pixels = np.random.default_rng(3).integers(0, 256, (3, *size)).astype(np.uint8)
    ours = NetForward(model.net, model.header.preparation, output).plane(pixels)
    (theirs,) = session.run([output], {"pixels": pixels[None].astype(np.float32)})
    return session, ours, theirs[0]


@pytest.fixture(scope="module", params=["raw", "lab"])
def features(request, tmp_path_factory):
    recipe = FitRecipe(family="flim", net=NET | {"color": request.param}, head={"kind": "none"})
    model = fitted(tmp_path_factory.mktemp("onnx"), recipe)
    return model, onnxruntime.InferenceSession(to_onnx(model.net, model.header, "features"))


@pytest.mark.parametrize("size", SIZES)
def test_features_equal_ours_at_any_size(features, size):
    model, session = features
    pixels = np.random.default_rng(1).integers(0, 256, (3, *size)).astype(np.uint8)
    ours = NetForward(model.net, model.header.preparation, "features").plane(pixels)
    (theirs,) = session.run(None, {"pixels": pixels[None].astype(np.float32)})
    assert theirs.shape[1:] == ours.shape
    assert np.abs(theirs[0] - ours).max() <= 1e-5 * max(1, np.abs(ours).max())


def test_a_batch_equals_its_images(features):
    _, session = features
    pixels = np.random.default_rng(1).uniform(0, 255, (3, 3, 20, 30)).astype(np.float32)
    (together,) = session.run(None, {"pixels": pixels})
    alone = [session.run(None, {"pixels": one[None]})[0][0] for one in pixels]
    assert np.allclose(together, alone, atol=1e-5)


def test_a_logistic_head_and_its_facts(tmp_path):
    recipe = FitRecipe(family="flim", net=NET, head={"kind": "logistic", "refine": "none"})
    session, ours, theirs = ours_and_theirs(tmp_path, recipe, "classes", (61, 75))
    assert np.abs(ours - theirs).max() < 1e-3
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == [{"name": "ground", "value": 1}, {"name": "disc", "value": 2}]
    assert facts["family"] == "flim"


def test_a_gray_image_is_answered_as_three_equal_channels_are(tmp_path):
    recipe = FitRecipe(family="flim", net=NET | {"color": "lab"}, head={"kind": "logistic", "refine": "none"})
    model = fitted(tmp_path, recipe)
    scale, *rest = model.header.preparation
    gray = replace(model.header, channels=1, preparation=[scale, {"step": "replicate"}, *rest])
    session = onnxruntime.InferenceSession(to_onnx(model.net, gray, "classes"))
    pixels = np.random.default_rng(3).integers(0, 256, (1, 61, 75)).astype(np.uint8)
    (theirs,) = session.run(None, {"pixels": pixels[None].astype(np.float32)})
    ours = NetForward(model.net, model.header.preparation).plane(np.concatenate([pixels] * 3))
    assert np.abs(ours - theirs[0]).max() < 1e-3


def test_walks_are_left_out_and_the_graph_says_so(tmp_path):
    recipe = FitRecipe(family="flim", net=NET, head={"kind": "logistic", "refine": "random-walker"})
    model = fitted(tmp_path, recipe)
    session = onnxruntime.InferenceSession(to_onnx(model.net, model.header, "classes"))
    pixels = np.random.default_rng(3).integers(0, 256, (3, 61, 75)).astype(np.uint8)
    (theirs,) = session.run(None, {"pixels": pixels[None].astype(np.float32)})
    refined = NetForward(model.net, model.header.preparation).plane(pixels)
    model.net.refiner = None
    plain = NetForward(model.net, model.header.preparation).plane(pixels)
    assert np.abs(plain - theirs[0]).max() < 1e-3 < np.abs(refined - theirs[0]).max()
    assert session.get_modelmeta().custom_metadata_map["refined"].startswith("no")


def test_a_forest_answers_alike_but_for_pixels_on_the_edge_of_a_split(tmp_path):
    recipe = FitRecipe(family="flim", net=NET, head={"kind": "forest", "trees": 3, "max_depth": 4, "refine": "none"})
    _, ours, theirs = ours_and_theirs(tmp_path, recipe, "classes", (61, 75))
    assert np.allclose(theirs.sum(axis=0), 1, atol=1e-5)
    assert (np.abs(ours - theirs) < 1e-4).mean() > 0.999


def test_an_autoencoder(tmp_path):
    recipe = FitRecipe(
        family="autoencoder",
        net={"width": 4, "depth": 2, "latent": 4},
        descend={"epochs": 1, "crops_per_epoch": 2, "batch_size": 2, "crop": 16},
        head={"kind": "none"},
    )
    _, ours, theirs = ours_and_theirs(tmp_path, recipe, "features", (33, 41))
    assert np.abs(ours - theirs).max() <= 1e-4 * max(1, np.abs(ours).max())


def graph(conv: dict, pool: dict) -> FitRecipe:
    layers = {
        "norm": {"operation": "m_norm2d", "params": {}},
        "conv": {"operation": "conv2d", "params": {"kernel_size": 3, "out_channels": 4} | conv},
        "act": {"operation": "relu", "params": {}},
        "pool": {"operation": "max_pool2d", "params": {"kernel_size": 2, "stride": 2} | pool},
    }
    net = {"arch": {"features": {"type": "sequential", "layers": layers}}}
    return FitRecipe(family="flim-net", net=net, head={"kind": "none"})


def test_a_network_of_an_architecture_at_another_size(tmp_path):
    _, ours, theirs = ours_and_theirs(tmp_path, graph({"padding": 1}, {}), "features", (37, 52))
    assert np.abs(ours - theirs).max() <= 1e-5 * max(1, np.abs(ours).max())


@pytest.mark.parametrize(
    ("conv", "pool"),
    [
        ({"padding": 0}, {}),
        ({"kernel_size": 5, "padding": 2}, {"kernel_size": 3, "stride": 4}),  # as in FLIM's document
        ({"padding": 2, "stride": 3, "dilation": 2}, {"ceil_mode": True}),
        ({"padding": [0, 3]}, {"kernel_size": [1, 3], "stride": [1, 2]}),
    ],
)
def test_maps_that_lie_elsewhere_are_brought_onto_images_of_any_size(tmp_path, conv, pool):
    for size in ((37, 52), (64, 31), (90, 130)):
        _, ours, theirs = ours_and_theirs(tmp_path / str(size), graph(conv, pool), "features", size)
        assert np.abs(ours - theirs).max() <= 1e-5 * max(1, np.abs(ours).max())


def test_branches_on_different_grids(tmp_path):
    conv = {"operation": "conv2d", "params": {"kernel_size": 3, "out_channels": 3, "stride": 2}}
    other = {"operation": "conv2d", "params": {"kernel_size": 7, "out_channels": 3, "stride": 3, "padding": 1}}
    layers = {"both": {"type": "parallel", "layers": {"p": conv, "q": other}}}
    recipe = FitRecipe(family="flim-net", net={"arch": {"features": {"layers": layers}}}, head={"kind": "none"})
    for size in ((37, 52), (64, 31)):
        _, ours, theirs = ours_and_theirs(tmp_path / str(size), recipe, "features", size)
        assert np.abs(ours - theirs).max() <= 1e-5 * max(1, np.abs(ours).max())


def test_adaptive_pools_are_refused(tmp_path):
    recipe = graph({"padding": 1}, {})
    layers = recipe.net["arch"]["features"]["layers"]
    layers["pool"] = {"operation": "adap_avg_pool2d", "params": {"output_size": 4}}
    model = fitted(tmp_path, recipe)
    with pytest.raises(BadInput, match="adaptive pool"):
        to_onnx(model.net, model.header, "features")


def test_what_cannot_be_exported_says_what_can(features):
    model, _ = features
    with pytest.raises(BadInput, match=r"no head, .* --output features"):
        to_onnx(model.net, model.header, "classes")
    with pytest.raises(BadInput, match="classes or features, not 'image'"):
        to_onnx(model.net, model.header, "image")


def test_nothing_is_said_on_the_way(features):
    model, _ = features
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_onnx(model.net, model.header, "features")


def taught(**settings) -> FitRecipe:
    train = {"epochs": 1, "crops_per_epoch": 2, "batch_size": 2, "crop": (32, 32)}
    return FitRecipe(**{"family": "unet", "train": train, "net": {"filters": (4, 8)}} | settings)


@pytest.mark.parametrize(
    "net",
    [
        {"filters": (4, 8)},
        {"filters": (8, 12), "norm": "instance", "pool": "average", "up": "transposed"},
        {"encoder": "efficientnet-lite0"},
        {"encoder": "resnet18"},
    ],
)
def test_a_network_of_targets_gives_classes_at_any_size(tmp_path, net):
    for size in ((61, 75), (3, 2), (130, 40)):
        session, ours, theirs = ours_and_theirs(tmp_path / str(size), taught(net=net), "classes", size)
        assert theirs.shape == ours.shape == (2, *size)
        assert np.abs(ours - theirs).max() < 1e-4
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"])[1]["name"] == "disc"


def test_a_predicted_image_is_in_the_units_of_its_targets(tmp_path):
    data = {"inputs": (2, 0), "target": {"kind": "image", "channels": (1,)}}
    normalize = {"scheme": "dataset", "statistic": "median-iqr", "clip": (5, 95)}
    model = fitted(tmp_path, taught(data=data, prepare={"normalize": normalize}))
    assert {"channels", "clip"} <= {step["step"] for step in model.header.preparation}
    session = onnxruntime.InferenceSession(to_onnx(model.net, model.header, "image"))
    pixels = np.random.default_rng(3).integers(0, 256, (3, 61, 75)).astype(np.uint8)
    answers = NetForward(model.net, model.header.preparation, "image").plane(pixels)
    ours = in_target_units(model.header, answers[None, :, None])[0, :, 0]
    (theirs,) = session.run(["image"], {"pixels": pixels[None].astype(np.float32)})
    assert np.ptp(ours) > 1
    assert np.abs(ours - theirs[0]).max() <= 1e-4 * np.abs(ours).max()
    with pytest.raises(BadInput, match="image or features, not 'classes'"):
        to_onnx(model.net, model.header, "classes")


def test_preparations_that_look_at_an_image_say_what_to_leave_out(tmp_path):
    model = fitted(tmp_path, taught(prepare={"normalize": {"scheme": "slice"}}))
    with pytest.raises(BadInput, match=r"prepare\.normalize\.scheme=dataset"):
        to_onnx(model.net, model.header, "classes")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda own, x: own(x), None),
        (
            lambda own, x: torch.cat([own(x[place : place + 1]) for place in range(len(x))]),
            r"answers one image, and not two at once .*Let forward count or loop over no images in Python",
        ),
        (lambda own, x: own(x) * len(x), "not two at once"),
        (lambda own, x: own(x) * int(x.shape[3]), "images of other sizes, .*nothing in Python from the size"),
        (lambda own, x: own(x) * int(x.shape[2]), "images of other sizes"),
    ],
)
def test_a_network_of_ones_own_is_traced_for_any_number_and_size_of_images(tmp_path, monkeypatch, answer, said):
    model = fitted(tmp_path, taught())
    own = model.net.answer
    monkeypatch.setattr(model.net, "answer", lambda x, output: answer(lambda some: own(some, output), x))
    typed = replace(model.header, family="my_lab.nets:Net")
    if said is None:
        assert to_onnx(model.net, typed, "classes")
        return
    with pytest.raises(BadInput, match=said):
        to_onnx(model.net, typed, "classes")


def test_a_network_of_volumes_is_not_sent_where_it_is_refused_too(tmp_path):
    model = fitted(tmp_path, taught(net={"filters": (4, 8), "dims": "2.5", "depth": 3}))
    with pytest.raises(BadInput, match="This model reads volumes") as refused:
        to_onnx(model.net, model.header, "classes")
    assert "libift" not in str(refused.value)
