"""What filters answer under marks, against loops and against the network itself."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from fieldmark.checkpoint import read_bundle, write_bundle
from fieldmark.core.geometry import Box
from fieldmark.infer.forward import fit_to_net
from fieldmark.learn.inspect import inspect_from_job, marker_contrast
from fieldmark.learn.run import run_fit
from fieldmark.models.build import load_net
from fieldmark.recipes import FitRecipe
from fieldmark.recipes.layers import layer_name
from fieldmark.testing.drawn import drawn_job

LAYERS = {
    "norm": {"operation": "m_norm2d", "params": {}},
    "conv1": {
        "operation": "conv2d",
        "params": {"kernel_size": 3, "padding": 0, "out_channels": 5, "number_of_kernels_per_marker": 3},
    },
    "act": {"operation": "relu", "params": {}},
    "pool": {"operation": "max_pool2d", "params": {"kernel_size": 3, "stride": 2, "padding": 1}},
    "conv2": {
        "operation": "conv2d",
        "params": {"kernel_size": 3, "padding": 1, "out_channels": 4, "number_of_kernels_per_marker": 2},
    },
}
RECIPES = {
    "flim": FitRecipe(
        family="flim",
        net={
            "branches": [{"layers": [{"out_channels": 6, "pool": "max"}, {"out_channels": 4}]}],
            "scales": [1.0],
        },
        head={"kind": "logistic"},
    ),
    "flim-net": FitRecipe(
        family="flim-net",
        net={"arch": {"features": {"type": "sequential", "layers": LAYERS}}},
        head={"kind": "logistic"},
    ),
}


@pytest.fixture(scope="module", params=list(RECIPES))
def inspected(request, tmp_path_factory):
    """The network, the samples, and what an inspection wrote."""
    job = drawn_job(tmp_path_factory.mktemp("inspect"), RECIPES[request.param])
    list(run_fit(job))
    write_bundle(job.folder, "marks.json", {}, job.samples.marks.arrays())
    fit = {
        "folder": str(job.folder),
        "images": [asdict(image) for image in job.samples.images],
        "classes": [asdict(item) for item in job.classes],
        "recipe": {},
    }
    out = job.folder / "out"
    events = list(inspect_from_job({"model": str(job.folder / "model"), "fit": fit, "out": str(out)}))
    assert len(events) == 2
    header, net = load_net(job.folder / "model")
    job.samples.preparation = header.preparation
    return net, job.samples, *read_bundle(out, "inspect.json")


def test_contrast_by_a_loop():
    rng = np.random.default_rng(0)
    answers = rng.uniform(0, 4, (30, 3))
    stroke = np.repeat([5, 6, 7], [4, 16, 10])
    klass = np.repeat([0, 0, 2], [4, 16, 10])
    found = marker_contrast(answers, klass, stroke, 3)
    for k in range(3):
        unit = answers[:, k] / answers[:, k].max()
        first = (np.mean([unit[stroke == 5].mean(), unit[stroke == 6].mean()])) - unit[stroke == 7].mean()
        assert found[k] == pytest.approx([first, np.nan, -first], nan_ok=True)


def test_one_class_alone_has_no_contrast():
    assert np.isnan(marker_contrast(np.ones((3, 2)), np.zeros(3, int), np.arange(3), 2)).all()


def test_silent_filters_have_no_contrast():
    assert (marker_contrast(np.zeros((4, 1)), np.array([0, 0, 1, 1]), np.arange(4), 2) == 0).all()


def test_names_of_layers():
    assert layer_name("branches.0.2") == "branch1/layer3"
    assert layer_name("graph.block.conv1") == "block/conv1"


def test_every_layer_is_there_with_its_filters(inspected):
    net, _, values, tensors = inspected
    wanted = {"FlimNet": ["branch1/layer1", "branch1/layer2"], "FlimGraphNet": ["conv1", "conv2"]}[type(net).__name__]
    assert [one["name"] for one in values["layers"]] == wanted
    for number, one in enumerate(values["layers"]):
        assert np.array_equal(tensors[f"{number}.weight"], net.state_dict()[f"{one['path']}.weight"].numpy())


def test_answers_under_marks_are_those_of_the_network(inspected):
    """At the pixel that a kernel came from, the picture holds what the layer gives there, found by hand."""
    net, samples, values, tensors = inspected
    for layer, one in enumerate(values["layers"]):
        for number, (index, _, _, y, x) in enumerate(tensors[f"{layer}.place"].tolist()):
            map_, at = _by_hand(net, samples, index, one["name"], y, x)
            top, left, bottom, right = one["boxes"][number]
            picture = tensors[f"{layer}.picture.{number}"]
            assert (top, left) == (0, 0)
            assert picture.shape == (bottom, right)
            assert picture[y, x] == pytest.approx(max(0.0, float(map_[(number, *at)])), abs=1e-5)


def _by_hand(net, samples, index: int, name: str, y: int, x: int):
    """A layer's map of a whole image, and the place on it that a pixel falls on."""
    shape = samples.source(index).shape
    prepared = fit_to_net(samples.read(index, Box((0, 0, 0, 0), (1, 1, *shape[3:]))), net)
    with torch.inference_mode():
        batch = torch.from_numpy(prepared)[None]
        if type(net).__name__ == "FlimNet":
            layer = int(name[-1]) - 1
            return net.before(0, layer + 1, batch)[0].numpy(), (y // 2, x // 2)
        map_ = net.maps(batch, [name])[name][0].numpy()
    if name == "conv1":  # no padding: the map begins one pixel inside
        return map_, (np.clip(y - 1, 0, map_.shape[1] - 1), np.clip(x - 1, 0, map_.shape[2] - 1))
    # the pool's windows are centered on conv1's even samples, which are the odd pixels
    return map_, tuple(
        np.clip(int(np.floor((at - 1) / 2 + 0.5)), 0, n - 1) for at, n in zip((y, x), map_.shape[1:], strict=True)
    )


def test_use_by_asking_the_head_pixel_by_pixel(inspected):
    net, samples, values, tensors = inspected
    last = len(values["layers"]) - 1
    if f"{last}.use" not in tensors:
        assert type(net).__name__ == "FlimGraphNet"  # its map is interpolated before the head sees it
        return
    marks, use = samples.marks, tensors[f"{last}.use"]
    table, widths = _features(net, samples)
    voices = np.array([1 / (marks.stroke == stroke).sum() for stroke in marks.stroke])
    silent = np.average(table, axis=0, weights=voices)
    for number in (0, len(use) - 1):
        denied = table.copy()
        denied[:, number - len(use)] = silent[number - len(use)]
        rows = zip(table, denied, marks.klass, strict=True)
        lost = [_share(net, widths, before, k) - _share(net, widths, after, k) for before, after, k in rows]
        for klass in (0, 1):
            own = marks.klass == klass
            assert use[number, klass] == pytest.approx(np.average(np.array(lost)[own], weights=voices[own]), abs=1e-5)


def _features(net, samples):
    """(N, F) features under the marks, from whole images, and the width of each level."""
    found, widths = np.zeros((len(samples.marks), 0), np.float32), []
    for index in np.unique(samples.marks.image):
        shape = samples.source(int(index)).shape
        prepared = torch.from_numpy(fit_to_net(samples.read(int(index), Box((0, 0, 0, 0), (1, 1, *shape[3:]))), net))
        with torch.inference_mode():
            features = net.features(prepared[None])[0].numpy()
            widths = [level.shape[1] for level in net.levels(prepared[None])]
        own = samples.marks.image == index
        found = np.zeros((len(own), len(features)), np.float32) if not found.size else found
        found[own] = features[:, *samples.marks.place[own, 2:].T].T
    return found, widths


def _share(net, widths: list[int], row: np.ndarray, klass: int) -> float:
    levels = torch.split(torch.from_numpy(row)[None, :, None, None], widths, dim=1)
    with torch.inference_mode():
        return float(net.head(list(levels), (1, 1))[0, klass, 0, 0])


def test_it_is_json_that_any_reader_takes(inspected):
    json.dumps(inspected[2], allow_nan=False)
