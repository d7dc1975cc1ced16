"""The layers of the `flim` family against plain loops over marked pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fieldmark.core.geometry import Box
from fieldmark.errors import NothingLabelled
from fieldmark.learn import marked_maps
from fieldmark.learn.flim import flim_layers
from fieldmark.learn.marked_maps import around, first_of_each
from fieldmark.learn.run import run_fit
from fieldmark.learn.samples import Marks, SampleImage, Samples
from fieldmark.models.build import build, load_net
from fieldmark.models.flim import FlimNet
from fieldmark.recipes import FitRecipe, HeadConfig
from fieldmark.testing.drawn import drawn_job

EPSILON = 0.01
MARKS = [  # image, t, z, y, x, stroke, class
    (0, 0, 0, 0, 0, 4, 0),
    (0, 0, 0, 0, 1, 4, 0),
    (0, 0, 0, 1, 1, 4, 0),
    (0, 0, 0, 6, 10, 4, 0),
    (0, 0, 0, 20, 41, 8, 1),
    (0, 0, 0, 22, 300, 8, 1),
    (0, 0, 0, 22, 699, 8, 1),
    (1, 0, 0, 12, 8, 2, 1),
    (1, 0, 0, 3, 5, 2, 1),
    (1, 0, 0, 3, 9, 2, 1),
]
LAYERS = [
    {"kernel_size": 3, "kernels_per_marker": 9, "out_channels": 50, "pool": "max"},
    {"kernel_size": 5, "dilation": 2, "kernels_per_marker": 9, "out_channels": 50, "pool": "avg"},
    {"kernel_size": 3, "kernels_per_marker": 9, "out_channels": 50, "centered": True},
]


def samples(folder: Path) -> Samples:
    """Two images of different sizes, one wider than a tile, with marks to the corner."""
    rng = np.random.default_rng(0)
    images = []
    for name, shape in (("wide.npy", (2, 23, 700)), ("small.npy", (2, 13, 10))):
        np.save(folder / name, rng.normal(size=shape).cumsum(axis=2).astype(np.float32)[None, :, None])
        images.append(SampleImage(name, (folder / name).as_posix(), name))
    table = np.array(MARKS)
    return Samples(images, Marks(table[:, 0], table[:, 1:5], table[:, 5], table[:, 6]), 2)


def learn(learned_from: Samples, layers: list[dict], **settings: object) -> FlimNet:
    net_settings = {"branches": [{"layers": layers}], "scales": [], "epsilon": EPSILON, **settings}
    recipe = FitRecipe(family="flim", net=net_settings)
    net = build("flim", recipe.net, 2).eval()
    for solver in flim_layers(net, learned_from, recipe).solvers:
        solver(net)
    return net


def pixel(image: np.ndarray, y: int, x: int) -> np.ndarray:
    height, width = image.shape[1:]
    return image[:, min(max(y, 0), height - 1), min(max(x, 0), width - 1)]


def patch(image: np.ndarray, y: int, x: int, layer: dict) -> np.ndarray:
    reach, step = layer["kernel_size"] // 2, layer.get("dilation", 1)
    offsets = [step * i for i in range(-reach, reach + 1)]
    return np.array([[pixel(image, y + dy, x + dx) for dx in offsets] for dy in offsets]).transpose(2, 0, 1)


def pooled(image: np.ndarray, how: str | None) -> np.ndarray:
    if how is None:
        return image
    channels, height, width = image.shape
    blocks = image[:, : height // 2 * 2, : width // 2 * 2].reshape(channels, height // 2, 2, width // 2, 2)
    return blocks.max(axis=(2, 4)) if how == "max" else blocks.mean(axis=(2, 4))


def by_loops(images: list[np.ndarray], layers: list[dict]) -> list[list[tuple[np.ndarray, tuple[int, ...]]]]:
    """For each layer, its (unit patch, mark) pairs: as many kernels as patches are wanted, so nothing is clustered.

    Images are padded to the stride as inference does; statistics give each stroke one voice.
    """
    found, stride = [], 1
    for layer in layers:
        seen: dict[tuple, tuple] = {}
        for mark in MARKS:
            at = (mark[0], mark[3] // stride, mark[4] // stride)
            seen.setdefault((mark[5], *at), (mark, at))
        strokes = sorted({mark[5] for mark in MARKS})
        voices = {s: [images[a[0]][:, a[1], a[2]] for m, a in seen.values() if m[5] == s] for s in strokes}
        mean = np.mean([np.mean(values, axis=0) for values in voices.values()], axis=0)
        std = np.sqrt(np.mean([np.mean([(v - mean) ** 2 for v in own], axis=0) for own in voices.values()], axis=0))
        std = std + EPSILON * std.mean() + 1e-6
        kernels = []
        for stroke in strokes:
            for mark, (image, y, x) in (pair for key, pair in seen.items() if key[0] == stroke):
                own = (patch(images[image], y, x, layer) - mean[:, None, None]) / std[:, None, None]
                if layer.get("centered"):
                    own = own - own.mean(axis=(1, 2), keepdims=True)
                kernels.append((own / np.sqrt((own**2).sum()), mark))
        found.append(kernels)
        weights = np.array([kernel for kernel, _ in kernels])
        images = [pooled(convolved(image, weights, mean, std, layer), layer.get("pool")) for image in images]
        stride *= 2 if layer.get("pool") else 1
    return found


def convolved(image: np.ndarray, weights: np.ndarray, mean: np.ndarray, std: np.ndarray, layer: dict) -> np.ndarray:
    own = (image - mean[:, None, None]) / std[:, None, None]
    reach, step = layer["kernel_size"] // 2, layer.get("dilation", 1)
    height, width = image.shape[1:]
    padded = np.pad(own, ((0, 0), (reach * step,) * 2, (reach * step,) * 2), mode="edge")
    answer = np.zeros((len(weights), height, width))
    for i in range(2 * reach + 1):
        for j in range(2 * reach + 1):
            window = padded[:, i * step : i * step + height, j * step : j * step + width]
            answer += np.einsum("kc,cyx->kyx", weights[:, :, i, j], window)
    return np.maximum(answer, 0)


def padded_to(image: np.ndarray, stride: int) -> np.ndarray:
    height, width = image.shape[1:]
    return np.pad(image, ((0, 0), (0, -height % stride), (0, -width % stride)), mode="reflect").astype(np.float64)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return samples(tmp_path_factory.mktemp("flim"))


@pytest.fixture(scope="module")
def truth(given: Samples) -> list:
    images = [np.load(image.uri, allow_pickle=False)[0, :, 0] for image in given.images]
    return by_loops([padded_to(image, 4) for image in images], LAYERS)


@pytest.mark.parametrize("kind", ["centers", "nearest"])
@pytest.mark.parametrize("kept_bytes", [0, 1 << 28])
def test_three_layers_are_what_loops_over_the_marks_make(given, truth, kind, kept_bytes, monkeypatch):
    """Where nothing is to cluster, every kernel is one patch: coordinates, borders, statistics and pools show."""
    monkeypatch.setattr(marked_maps, "KEPT_BYTES", kept_bytes)
    net = learn(given, LAYERS, kernels={"kind": kind})
    for layer, wanted in enumerate(truth):
        block = net.block(0, layer)
        found = {
            tuple(place): (w, k, s)
            for place, w, k, s in zip(
                block.place.tolist(), block.weight.numpy(), block.klass.tolist(), block.stroke.tolist(), strict=True
            )
        }
        assert len(found) == len(wanted) == len(block.weight)
        for kernel, mark in wanted:
            weight, klass, stroke = found[mark[:5]]
            assert np.allclose(weight, kernel, atol=2e-4), (layer, mark)
            assert (klass, stroke) == (mark[6], mark[5])


def test_feature_points_are_the_same_marks_in_every_layer(given, truth):
    few = [layer | {"kernels_per_marker": 2} for layer in LAYERS[:1]] + LAYERS[1:]
    net = learn(given, few, kernels={"kind": "points"})
    first = {tuple(place) for place in net.block(0, 0).place.tolist()}
    assert len(first) == 6
    assert [sorted(net.block(0, 0).stroke.tolist()).count(stroke) for stroke in (2, 4, 8)] == [2, 2, 2]
    for layer in (1, 2):
        assert {tuple(place) for place in net.block(0, layer).place.tolist()} <= first
    wanted = {mark[:5]: kernel for kernel, mark in truth[0]}
    for place, weight in zip(net.block(0, 0).place.tolist(), net.block(0, 0).weight.numpy(), strict=True):
        assert np.allclose(weight, wanted[tuple(place)], atol=2e-4)


def test_no_feature_point_is_lost_where_pooled_marks_meet(given):
    """After two pools several marks of a stroke lie on one pixel of the map; it stands for the point among them."""
    run = np.array([(0, 0, 0, y, x, 1 + y // 9, y // 9) for y in (5, 6, 14, 15) for x in range(101, 131)])
    drawn = Samples(given.images, Marks(run[:, 0], run[:, 1:5], run[:, 5], run[:, 6]), 2)
    layers = [{"kernels_per_marker": 4, "out_channels": 64, "pool": "max"}] * 3
    net = learn(drawn, layers, kernels={"kind": "points"})
    bag = net.block(0, 0)
    for layer in (1, 2):
        block, jump = net.block(0, layer), 2**layer
        cells = [
            {(stroke, place[0], place[3] // jump, place[4] // jump) for stroke, place in zip(*own, strict=True)}
            for own in ((b.stroke.tolist(), b.place.tolist()) for b in (bag, block))
        ]
        assert cells[0] == cells[1]
        assert {tuple(place) for place in block.place.tolist()} <= {tuple(place) for place in bag.place.tolist()}


def test_random_kernels_take_statistics_alone_from_marks(given):
    net = learn(given, [LAYERS[0] | {"out_channels": 6}], kernels={"kind": "random"})
    assert net.block(0, 0).weight.shape == (6, 2, 3, 3)
    assert net.block(0, 0).klass.shape == net.block(0, 0).stroke.shape == (0,)
    assert net.block(0, 0).place.shape == (0, 5)
    assert np.allclose(net.block(0, 0).mean, learn(given, LAYERS[:1]).block(0, 0).mean)


def test_without_marks_nothing_is_learned(given):
    empty = Samples(given.images, Marks.none(), 2)
    with pytest.raises(NothingLabelled, match="no image of this project"):
        learn(empty, LAYERS)


@pytest.mark.parametrize("kind", ["centers", "nearest", "points", "random"])
def test_a_saved_model_keeps_where_its_kernels_came_from(tmp_path, kind):
    recipe = FitRecipe(
        family="flim",
        head=HeadConfig(kind="none"),
        net={"branches": [{"layers": [{"kernels_per_marker": 4, "out_channels": 7}]}], "scales": [],
             "kernels": {"kind": kind, "reduction": "pca"}},
    )  # fmt: skip
    job = drawn_job(tmp_path, recipe)
    for _ in run_fit(job):
        pass
    _, net = load_net(job.folder / "model")
    assert isinstance(net, FlimNet)
    block = net.block(0, 0)
    assert len(block.klass) == len(block.stroke) == len(block.place) == (0 if kind == "random" else len(block.weight))
    assert set(block.klass.tolist()) <= {0, 1}
    assert torch.allclose((block.weight**2).sum(dim=(1, 2, 3)), torch.ones(len(block.weight)), atol=1e-5)


def test_a_part_holds_all_that_its_marks_see_and_lies_on_the_grid():
    read = Box((0, 0, 0, 64), (1, 1, 300, 377))
    places = np.array([[0, 0, 100, 200], [0, 0, 120, 260]])
    box = around(places, read, 10, 8)
    assert box == Box((0, 0, 88, 184), (1, 1, 136, 272))
    assert around(places, read, 1000, 8) == read


def test_the_first_mark_of_a_stroke_on_a_pixel_stands_for_the_others():
    strokes = np.array([900, 5, 900, 900, 5])
    at = np.array([[1, 2], [1, 2], [1, 2], [2, 1], [1, 3]])
    assert first_of_each(strokes, at, (4, 5)).tolist() == [0, 1, 3, 4]
