"""What the layers of a FLIM architecture learn, against plain loops over pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fieldmark.core.fingerprint import file_hash
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput, NothingLabelled
from fieldmark.learn.flim_graph import flim_graph, importance, train_bias
from fieldmark.learn.run import run_fit
from fieldmark.learn.samples import Marks, SampleImage, Samples
from fieldmark.models.build import build, load_net
from fieldmark.models.flim_graph import FlimGraphNet
from fieldmark.recipes import FitRecipe
from fieldmark.recipes.flim_arch import ConvParams, ModuleParams
from fieldmark.testing.drawn import drawn_job


def layer(word: str, **params) -> dict:
    return {"operation": word, "params": params}


def samples_of(folder: Path, images: list[np.ndarray], rows: list[tuple[int, ...]]) -> Samples:
    """Images (c, y, x) or (c, z, y, x); rows of image, t, z, y, x, stroke, class."""
    told = []
    for number, image in enumerate(images):
        path = folder / f"{number}.npy"
        np.save(path, image[None] if image.ndim == 4 else image[None, :, None])
        told.append(SampleImage(path.name, path.as_posix(), file_hash(path)))
    table = np.array(rows, np.int64)
    return Samples(told, Marks(table[:, 0], table[:, 1:5], table[:, 5], table[:, 6]), 2)


def taught(samples: Samples, layers: dict, channels: int, **net) -> tuple[FlimGraphNet, list[dict]]:
    recipe = FitRecipe(family="flim-net", net={"arch": {"features": {"layers": layers}}, **net})
    graph = build("flim-net", recipe.net, channels)
    phase = flim_graph(graph, samples, recipe)
    return graph, [solver(graph.eval()) for solver in phase.solvers]


def unit(rows: list[np.ndarray]) -> np.ndarray:
    """Kernels as rows of unit length, in an order that does not depend on how they were found."""
    flat = np.array([row.ravel() / np.linalg.norm(row) for row in rows])
    return flat[np.lexsort(np.round(flat, 4).T)]


def window(image: np.ndarray, at: tuple[int, ...], size: int, dilation: int = 1) -> np.ndarray:
    """(C, size, ...) around a pixel of (C, ...), zero beyond the borders, by loops."""
    axes = image.ndim - 1
    found = np.zeros((len(image), *(size,) * axes))
    for step in np.ndindex(*(size,) * axes):
        place = tuple(p + (s - size // 2) * dilation for p, s in zip(at, step, strict=True))
        if all(0 <= p < n for p, n in zip(place, image.shape[1:], strict=True)):
            found[(slice(None), *step)] = image[(slice(None), *place)]
    return found


def convolved(image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(K, y, x): every window times every kernel, then ReLU."""
    maps = np.zeros((len(weight), *image.shape[1:]))
    for at in np.ndindex(*image.shape[1:]):
        maps[(slice(None), *at)] = (weight * window(image, at, weight.shape[-1])).reshape(len(weight), -1).sum(axis=1)
    return np.maximum(maps, 0)


def pooled(image: np.ndarray, size: int, stride: int) -> np.ndarray:
    """(C, y', x'): maxima, padded by size // 2 with nothing."""
    height, width = ((n + 2 * (size // 2) - size) // stride + 1 for n in image.shape[1:])
    found = np.zeros((len(image), height, width))
    for y, x in np.ndindex(height, width):
        low = [max(0, p * stride - size // 2) for p in (y, x)]
        high = [p * stride - size // 2 + size for p in (y, x)]
        found[:, y, x] = image[:, low[0] : high[0], low[1] : high[1]].max(axis=(1, 2))
    return found


PIXELS = [(0, 0), (3, 17), (9, 4), (12, 300), (16, 313)]


def test_every_layer_against_loops_also_beyond_255_and_at_borders(tmp_path):
    image = np.random.default_rng(0).normal(size=(2, 18, 316)).astype(np.float32)
    rows = [(0, 0, 0, y, x, n % 2, n % 2) for n, (y, x) in enumerate(PIXELS)]
    samples = samples_of(tmp_path, [image], rows)
    layers = {
        "norm": layer("m_norm2d", epsilon=0.05),
        "conv1": layer("conv2d", kernel_size=3, padding=1, number_of_kernels_per_marker=9),
        "relu": layer("relu"),
        "pool": layer("max_pool2d", kernel_size=3, stride=2, padding=1),
        "conv2": layer("conv2d", kernel_size=3, padding=2, dilation=2, number_of_kernels_per_marker=9),
    }
    net, told = taught(samples, layers, 2)
    values = np.array([image[:, y, x] for y, x in PIXELS], np.float64)
    mean, std = values.mean(axis=0), values.std(axis=0) + 0.05
    assert np.allclose(net.op("norm").mean, mean, atol=1e-6)
    assert np.allclose(net.op("norm").std, std, atol=1e-6)
    seen = (image - mean[:, None, None]) / std[:, None, None]
    first = unit([window(seen, at, 3) for at in PIXELS])
    assert np.allclose(unit(list(net.op("conv1").weight.numpy())), first, atol=1e-4)
    seen = pooled(convolved(seen, net.op("conv1").weight.numpy()), 3, 2)
    grid = [tuple(int(np.floor(p / 2 + 0.5)) for p in at) for at in PIXELS]  # samples lie at 0, 2, 4, ...
    second = unit([window(seen, at, 3, dilation=2) for at in grid])
    assert np.allclose(unit(list(net.op("conv2").weight.numpy())), second, atol=1e-4)
    assert [metrics["patches"] for metrics in told[1:]] == [5, 5]
    origin = {tuple(place) for place in net.op("conv2").place[:, 3:].tolist()}
    assert origin == set(PIXELS)
    assert set(zip(net.op("conv2").stroke.tolist(), net.op("conv2").klass.tolist(), strict=True)) == {(0, 0), (1, 1)}


@pytest.mark.parametrize("train", ["layer", "network"])
def test_atrous_learning_sees_the_map_that_no_pool_has_thinned(tmp_path, train):
    image = np.random.default_rng(1).normal(size=(1, 30, 34)).astype(np.float32)
    places = [(8, 9), (13, 20), (15, 15)]
    samples = samples_of(tmp_path, [image], [(0, 0, 0, y, x, 0, 0) for y, x in places])
    atrous = {"train_dilation": True} if train == "layer" else {}
    layers = {
        "pool": layer("max_pool2d", kernel_size=3, stride=2, padding=1),
        "conv": layer("conv2d", kernel_size=3, padding=1, number_of_kernels_per_marker=9, **atrous),
    }
    net, _ = taught(samples, layers, 1, **({} if train == "layer" else {"pooling": "atrous"}))
    dense = pooled(image, 3, 1)
    wanted = unit([window(dense, at, 3, dilation=2) for at in places])
    assert np.allclose(unit(list(net.op("conv").weight.numpy())), wanted, atol=1e-5)


def test_small_padding_shifts_the_marks_with_the_map(tmp_path):
    """Without padding, sample 0 of the map lies at pixel 2: patches are still centered on the marks."""
    image = np.random.default_rng(2).normal(size=(1, 20, 26)).astype(np.float32)
    inside, outside = [(9, 9), (5, 20), (12, 7)], [(2, 9), (19, 25)]
    rows = [(0, 0, 0, y, x, 0, 0) for y, x in inside + outside]
    layers = {
        "shrink": layer("avg_pool2d", kernel_size=5, stride=1),
        "conv": layer("conv2d", kernel_size=3, number_of_kernels_per_marker=9),
    }
    net, told = taught(samples_of(tmp_path, [image], rows), layers, 1)
    smooth = np.array([[image[0, y - 2 : y + 3, x - 2 : x + 3].mean() if 2 <= y < 18 and 2 <= x < 24 else np.nan
                        for x in range(26)] for y in range(20)])[None]  # fmt: skip
    assert told[0]["patches"] == len(inside)
    assert np.allclose(
        unit(list(net.op("conv").weight.numpy())), unit([window(smooth, at, 3) for at in inside]), atol=1e-4
    )


def test_volumes(tmp_path):
    volume = np.random.default_rng(3).normal(size=(2, 40, 12, 14)).astype(np.float32)
    places = [(0, 3, 4), (20, 11, 13), (33, 5, 6), (39, 0, 0)]
    samples = samples_of(tmp_path, [volume], [(0, 0, *at, n % 2, n % 2) for n, at in enumerate(places)])
    layers = {
        "norm": layer("m_norm3d", epsilon=0.1),
        "conv": layer("conv3d", kernel_size=3, padding=1, number_of_kernels_per_marker=9),
    }
    net, _ = taught(samples, layers, 2)
    values = np.array([volume[(slice(None), *at)] for at in places], np.float64)
    mean, std = (v[:, None, None, None] for v in (values.mean(axis=0), values.std(axis=0) + 0.1))
    wanted = unit([window((volume - mean) / std, at, 3) for at in places])
    assert np.allclose(unit(list(net.op("conv").weight.numpy())), wanted, atol=1e-4)


def test_a_marker_of_a_volume_goes_through_its_slices(tmp_path):
    """Kernels are made of a marker, and not of each slice of it, in which strokes are kept."""
    volume = np.random.default_rng(13).normal(size=(1, 12, 14, 16)).astype(np.float32)
    balls = [(3, 4, 4), (8, 9, 11)]
    rows = [
        (0, 0, z + dz, y + dy, x + dx, 3 * ball + dz + 1, ball)
        for ball, (z, y, x) in enumerate(balls)
        for dz, dy, dx in np.ndindex(3, 3, 3)
    ]
    conv = {"kernel_size": 3, "padding": 1, "number_of_kernels_per_marker": 2}
    net, _ = taught(samples_of(tmp_path, [volume], rows), {"conv": layer("conv3d", **conv)}, 1)
    assert net.op("conv").klass.tolist() == [0, 0, 1, 1]
    per_class, _ = taught(
        samples_of(tmp_path, [volume], rows), {"conv": layer("conv3d", **conv)}, 1, kernels={"grouping": "class"}
    )
    assert len(per_class.op("conv").weight) == 4


def test_groups_learn_of_their_own_channels(tmp_path):
    image = np.random.default_rng(4).normal(size=(4, 12, 12)).astype(np.float32)
    places = [(3, 3), (6, 7)]
    samples = samples_of(tmp_path, [image], [(0, 0, 0, y, x, 0, 0) for y, x in places])
    conv = layer("conv2d", kernel_size=3, padding=1, groups=2, out_channels=4, number_of_kernels_per_marker=2)
    net, _ = taught(samples, {"conv": conv}, 4)
    weight = net.op("conv").weight.numpy()
    for group in range(2):
        own = image[2 * group : 2 * group + 2]
        wanted = unit([window(own, at, 3) for at in places])
        assert np.allclose(unit(list(weight[2 * group : 2 * group + 2])), wanted, atol=1e-5)


def test_batch_norm_has_the_statistics_of_the_marked_images(tmp_path):
    rng = np.random.default_rng(5)
    images = [rng.normal(3 * n, 1 + n, (2, 20 + n, 31)).astype(np.float32) for n in range(3)]
    samples = samples_of(tmp_path, images, [(0, 0, 0, 1, 1, 0, 0), (1, 0, 0, 1, 1, 1, 1)])
    net, _ = taught(samples, {"norm": layer("batch_norm2d", eps=1e-3)}, 2)
    pixels = np.concatenate([image.reshape(2, -1) for image in images[:2]], axis=1)
    assert np.allclose(net.op("norm").mean, pixels.mean(axis=1), atol=1e-4)
    assert np.allclose(net.op("norm").variance, pixels.var(axis=1), rtol=1e-4)
    wanted = (images[2] - pixels.mean(axis=1)[:, None, None]) / np.sqrt(pixels.var(axis=1) + 1e-3)[:, None, None]
    with torch.inference_mode():
        found = net.features(torch.from_numpy(images[2])[None])[0].numpy()
    assert np.allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize("size", [(70, 61), (48, 24), (23, 130)])
def test_statistics_of_whole_images_are_gathered_tile_by_tile(tmp_path, monkeypatch, size):
    """Each sample of the map once: those of every tile, of the last one too, and none of a halo twice."""
    monkeypatch.setattr("fieldmark.learn.flim_graph.TILE", 24)
    rng = np.random.default_rng(14)
    height, width = size
    slope = np.linspace(0, 5, height)[:, None] + np.linspace(0, 9, width) ** 2  # no part is like another
    images = [(rng.normal(size=(2, height, width)) + slope).astype(np.float32) for _ in range(2)]
    images[1][:, -1, -1] = 500
    rows = [(n, 0, 0, 3 + n, 4, n, n) for n in range(2)]
    layers = {
        "smooth": layer("avg_pool2d", kernel_size=3, stride=1, padding=1),
        "pool": layer("max_pool2d", kernel_size=3, stride=2, padding=1),
    }
    net, _ = taught(samples_of(tmp_path, images, rows), layers | {"norm": layer("batch_norm2d")}, 2)
    maps = []
    for image in images:
        grown = np.pad(image, ((0, 0), (0, height % 2), (0, width % 2)), mode="reflect")
        padded = np.pad(grown, ((0, 0), (1, 1), (1, 1)))
        smooth = np.mean([padded[:, y : y + grown.shape[1], x : x + grown.shape[2]] for y, x in np.ndindex(3, 3)], 0)
        maps.append(pooled(smooth, 3, 2))
    values = np.concatenate([one.reshape(2, -1) for one in maps], axis=1)
    assert np.allclose(net.op("norm").mean, values.mean(axis=1), rtol=1e-5)
    assert np.allclose(net.op("norm").variance, values.var(axis=1), rtol=1e-3)
    net, _ = taught(samples_of(tmp_path, images, rows), layers | {"decode": layer("decoder", n_classes=2)}, 2)
    shares = np.array(
        [
            [
                (one[k, (3 + n + 1) // 2, 2] - one[k].min()) / (one[k].max() - one[k].min())  # 4 lies at sample 2
                for k in range(2)
            ]
            for n, one in enumerate(maps)
        ]
    )
    raw = np.array([shares[0] + 1 - shares[1], shares[1] + 1 - shares[0]])
    assert np.allclose(net.op("decode").weight, raw - raw.mean(axis=1, keepdims=True), atol=1e-5)


def test_the_decoder_weighs_channels_as_the_formula_says(tmp_path):
    rng = np.random.default_rng(6)
    images = [rng.uniform(0, n + 1, (3, 10, 11)).astype(np.float32) for n in range(2)]
    rows = [(n % 2, 0, 0, n, n + 1, n, n % 3 % 2) for n in range(6)]
    net, _ = taught(samples_of(tmp_path, images, rows), {"decode": layer("decoder", n_classes=2)}, 3)
    weight = np.zeros((2, 3))
    for klass in range(2):
        for k in range(3):
            bright, dark = [], []
            for image, _, _, y, x, _, own in rows:
                a = (images[image][k, y, x] - images[image][k].min()) / (
                    images[image][k].max() - images[image][k].min()
                )
                (bright if own == klass else dark).append(a if own == klass else 1 - a)
            weight[klass, k] = np.mean(bright) + np.mean(dark)
        weight[klass] -= weight[klass].mean()
    assert np.allclose(net.op("decode").weight, weight, atol=1e-5)
    with torch.inference_mode():
        found = net.features(torch.from_numpy(images[0])[None])[0].numpy()
    assert np.allclose(found, np.maximum(np.einsum("kc,cyx->kyx", weight, images[0]), 0), atol=1e-5)


def test_importance_of_a_class_without_marks():
    assert np.allclose(importance(np.array([[0.0, 1.0]]), np.array([0]), 2), [[-0.5, 0.5], [0.5, -0.5]])


def test_biases_tell_the_pseudo_classes_apart():
    rng = np.random.default_rng(7)
    kernels = np.eye(3, 6)
    patches = np.concatenate([kernel * 2 + rng.normal(0, 0.1, (20, 6)) for kernel in kernels])
    conv = ConvParams(kernel_size=1, out_channels=3, bias=True, wd=0.0, lr=0.05)
    weight, bias = train_bias(patches, kernels, conv, ModuleParams())
    assert np.allclose(np.linalg.norm(weight, axis=1), 1)
    assert np.abs(bias).max() > 0
    assert ((patches @ weight.T + bias).argmax(axis=1) == np.repeat([0, 1, 2], 20)).all()
    again = train_bias(patches, kernels, conv, ModuleParams())
    assert np.array_equal(again[0], weight)
    assert np.array_equal(again[1], bias)


def test_epochs_rate_and_decay_of_a_layer_or_else_of_the_module_around_it():
    """One step of Adam moves every weight by the learning rate, whatever the gradient."""
    rng = np.random.default_rng(11)
    kernels = np.eye(3, 6)
    patches = np.concatenate([kernel * 2 + rng.normal(0, 0.5, (20, 6)) for kernel in kernels])

    def learned(module: dict, **own) -> np.ndarray:
        return train_bias(patches, kernels, ConvParams(kernel_size=1, out_channels=3, **own), ModuleParams(**module))[1]

    once = learned({"epochs": 1, "lr": 0.01, "wd": 0.0})
    assert np.allclose(np.abs(once), 0.01, atol=1e-5)
    assert np.allclose(np.abs(learned({"epochs": 1, "lr": 0.01, "wd": 0.0}, lr=0.03)), 0.03, atol=1e-5)
    assert np.array_equal(learned({"epochs": 7, "lr": 0.5, "wd": 0.9}, epochs=1, lr=0.01, wd=0.0), once)
    more = learned({"epochs": 5, "lr": 0.01, "wd": 0.0})
    assert np.array_equal(more, learned({}, epochs=5, lr=0.01, wd=0.0))
    assert not np.array_equal(more, once)
    assert not np.array_equal(more, learned({"epochs": 5, "lr": 0.01, "wd": 0.9}))


def test_the_module_around_a_layer_tells_how_biases_are_learned(tmp_path):
    image = np.random.default_rng(12).normal(size=(1, 30, 30)).astype(np.float32)
    samples = samples_of(
        tmp_path, [image], [(0, 0, 0, y, x, y // 10, 0) for y in range(2, 28) for x in range(2, 28, 2)]
    )
    conv = {"kernel_size": 3, "padding": 1, "number_of_kernels_per_marker": 2, "bias": True}

    def biases(inner: dict, outer: dict, **own) -> np.ndarray:
        block = {"params": inner, "layers": {"conv": layer("conv2d", **conv, **own)}}
        recipe = FitRecipe(family="flim-net", net={"arch": {"features": {"params": outer, "layers": {"block": block}}}})
        net = build("flim-net", recipe.net, 1)
        for solver in flim_graph(net, samples, recipe).solvers:
            solver(net.eval())
        return net.op("block/conv").bias.numpy()

    slow, fast = {"epochs": 1, "lr": 0.001, "wd": 0.0}, {"epochs": 1, "lr": 0.02, "wd": 0.0}
    assert np.allclose(np.abs(biases(fast, slow)), 0.02, atol=1e-4)
    assert np.allclose(np.abs(biases(slow, fast)), 0.001, atol=1e-5)
    assert np.allclose(np.abs(biases(slow, fast, lr=0.02)), 0.02, atol=1e-4)


def test_reduced_kernels_are_the_principal_axes_of_all_or_none_of_the_images(tmp_path):
    from sklearn.decomposition import PCA

    image = np.random.default_rng(13).normal(size=(1, 40, 40)).astype(np.float32)
    places = [(y, x) for y in range(2, 38, 3) for x in range(2, 38, 4)]
    rows = [(0, 0, 0, *at, at[0] // 20, 0) for at in places]
    conv = {"kernel_size": 3, "padding": 1, "out_channels": 4, "number_of_kernels_per_marker": 500}
    samples = samples_of(tmp_path, [image], rows)
    net, _ = taught(samples, {"conv": layer("conv2d", **conv)}, 1)
    axes = PCA(4).fit(unit([window(image, at, 3) for at in places])).components_
    found = net.op("conv").weight.flatten(1).numpy()
    assert np.allclose(np.abs((axes * found).sum(axis=1)), 1, atol=1e-4)
    means, _ = taught(samples, {"conv": layer("conv2d", **conv, use_pca=False)}, 1)
    assert np.abs(means.op("conv").weight.flatten(1).numpy() @ axes.T).max() < 0.999
    drawn, _ = taught(samples, {"conv": layer("conv2d", **conv, use_random_kernels=True)}, 1)
    again, _ = taught(samples_of(tmp_path, [image * 3 + 1], rows[::2]),
                      {"conv": layer("conv2d", **conv, use_random_kernels=True)}, 1)  # fmt: skip
    assert torch.equal(drawn.op("conv").weight, again.op("conv").weight)
    products = drawn.op("conv").weight.flatten(1) @ drawn.op("conv").weight.flatten(1).T
    assert torch.allclose(products, torch.eye(4), atol=1e-5)


def test_a_norm_of_single_pixels_is_kept_with_its_epsilon(tmp_path):
    """Its window is taken and not used; what was learned is not learned anew from another epsilon."""
    job = drawn_job(
        tmp_path,
        FitRecipe(
            family="flim-net",
            net={"arch": {"features": {"layers": {"norm": layer("m_norm2d", kernel_size=5, dilation=2, epsilon=0.4)}}}},
            head={"kind": "none"},
        ),
    )
    for _ in run_fit(job):
        pass
    header, net = load_net(job.folder / "model")
    marks = job.samples.marks
    pixels = np.array(
        [
            job.samples.read(image, Box(tuple(place), tuple(place + 1)), spatial=2)[:, 0, 0]
            for image, place in zip(marks.image, marks.place, strict=True)
        ]
    )
    assert header.config["arch"]["features"]["layers"]["norm"]["params"]["epsilon"] == 0.4
    assert np.allclose(net.op("norm").mean, pixels.mean(axis=0), atol=1e-4)
    assert np.allclose(net.op("norm").std, pixels.std(axis=0) + 0.4, atol=1e-4)
    x = torch.rand(1, 3, 6, 7)
    wanted = (x[0].numpy() - pixels.mean(axis=0)[:, None, None]) / (pixels.std(axis=0) + 0.4)[:, None, None]
    with torch.inference_mode():
        assert np.allclose(net.features(x)[0], wanted, atol=1e-4)


def test_the_number_of_kernels(tmp_path):
    """Without a number: out_channels over the markers, rounded up; PCA or k-means bring them to out_channels."""
    image = np.random.default_rng(8).normal(size=(1, 40, 40)).astype(np.float32)
    rows = [(0, 0, 0, y, x, y // 14, 0) for y in range(1, 39) for x in range(1, 39, 3)]
    samples = samples_of(tmp_path, [image], rows)
    for conv, wanted in [
        ({"out_channels": 7}, 7),
        ({"number_of_kernels_per_marker": 4}, 12),
        ({"number_of_kernels_per_marker": 4, "out_channels": 5}, 5),
        ({"number_of_kernels_per_marker": 4, "out_channels": 5, "use_pca": False}, 5),
        ({"number_of_kernels_per_marker": 8, "out_channels": 6, "kernel_size": 3}, 6),
        ({"out_channels": 9, "use_random_kernels": True}, 9),
    ]:
        net, _ = taught(samples, {"conv": layer("conv2d", **({"kernel_size": 5, "padding": 2} | conv))}, 1)
        assert len(net.op("conv").weight) == wanted, conv
        assert np.allclose(net.op("conv").weight.flatten(1).norm(dim=1), 1, atol=1e-5)


def test_what_cannot_be_learned_says_so(tmp_path):
    image = np.random.default_rng(9).normal(size=(1, 12, 12)).astype(np.float32)
    samples = samples_of(tmp_path, [image], [(0, 0, 0, 4, 4, 0, 0), (0, 0, 0, 5, 5, 0, 0)])
    with pytest.raises(BadInput, match=r"features\.layers\.conv: 2 patches of 9 values gave 2 kernels.*wants 8"):
        taught(samples, {"conv": layer("conv2d", kernel_size=3, out_channels=8)}, 1)
    with pytest.raises(BadInput, match=r"in_channels: 3, but 1 come"):
        taught(samples, {"conv": layer("conv2d", kernel_size=3, out_channels=2, in_channels=3)}, 1)
    both = samples_of(tmp_path, [image], [(0, 0, 0, 4, 4, 0, 0), (0, 0, 0, 5, 5, 1, 1)])
    with pytest.raises(BadInput, match=r"decode\.params\.n_classes: 1, but there are marks of class 2"):
        taught(both, {"decode": layer("decoder", n_classes=1)}, 1)
    corner = samples_of(tmp_path, [image], [(0, 0, 0, 0, 0, 0, 0)])
    with pytest.raises(NothingLabelled, match=r"layers\.conv: every mark lies beyond the borders"):
        taught(corner, {"conv": layer("conv2d", kernel_size=3, out_channels=1)}, 1)
    nothing = Samples(samples.images, Marks.none(), 2)
    with pytest.raises(NothingLabelled, match="FLIM learns from strokes"):
        taught(nothing, {"conv": layer("conv2d", kernel_size=3, out_channels=1)}, 1)


def test_a_constant_image_stays_finite(tmp_path):
    samples = samples_of(tmp_path, [np.full((2, 10, 10), 3, np.float32)], [(0, 0, 0, 4, n, 0, 0) for n in range(2, 7)])
    layers = {
        "norm": layer("m_norm2d", epsilon=0),
        "conv": layer("conv2d", kernel_size=3, padding=1, number_of_kernels_per_marker=2),
    }
    net, _ = taught(samples, layers, 2)
    assert torch.isfinite(net.op("conv").weight).all()
    with torch.inference_mode():
        assert torch.isfinite(net.features(torch.full((1, 2, 10, 10), 3.0))).all()


def test_the_bag_of_points_serves_every_layer(tmp_path):
    image = np.random.default_rng(10).normal(size=(1, 30, 30)).astype(np.float32)
    rows = [(0, 0, 0, y, x, y // 15, y // 15) for y in range(3, 27, 3) for x in range(3, 27)]
    layers = {
        "conv1": layer("conv2d", kernel_size=3, padding=1, number_of_kernels_per_marker=4, activation="relu"),
        "conv2": layer("conv2d", kernel_size=3, padding=1, number_of_kernels_per_marker=4),
    }
    net, _ = taught(samples_of(tmp_path, [image], rows), layers, 1, kernels={"kind": "points"})
    assert net.op("conv1").place.tolist() == net.op("conv2").place.tolist()
    for place, kernel in zip(net.op("conv1").place.tolist(), net.op("conv1").weight.numpy(), strict=True):
        patch = window(image, tuple(place[3:]), 3)
        assert np.allclose(kernel, patch / np.linalg.norm(patch), atol=1e-5)


def test_the_documents_example_learns_and_runs(tmp_path):
    """Its features and its classifier, through the one path: a fit, a model folder, and the same features from it."""
    features = {
        "conv1": layer("conv2d", kernel_size=5, stride=1, padding=2, dilation=1, number_of_kernels_per_marker=8),
        "activation": layer("relu", inplace=True),
        "pool": layer("max_pool2d", kernel_size=3, stride=4, padding=0),
    }
    classifier = {
        "linear1": layer("linear", in_features=-1, out_features=512),
        "relu3": layer("relu", inplace=True),
        "linear2": layer("linear", in_features=512, out_features=512),
    }
    arch = {"features": {"type": "sequential", "layers": features}, "classifier": {"layers": classifier}}
    job = drawn_job(tmp_path, FitRecipe(family="flim-net", net={"arch": arch}))
    for _ in run_fit(job):
        pass
    header, net = load_net(job.folder / "model")
    assert header.stride == (1, 4, 4)
    x = torch.rand(2, 3, 92, 116)
    with torch.inference_mode():
        assert net.features(x).shape == (2, 32, 92, 116)  # 8 of each of 4 strokes
        maps = net.image_maps(x)[-1]
        assert maps.shape[2:] == torch.nn.functional.max_pool2d(x, 3, 4).shape[2:]
        assert net.own_classifier(tuple(maps.shape[1:]))(maps).shape == (2, 512)


@pytest.mark.parametrize("train", ["layer", "network"])
def test_a_dense_map_too_small_for_its_padding_is_refused_in_words(tmp_path, train):
    """Four samples can be reflected by 3; the 10 that no stride leaves out cannot by 12."""
    image = np.random.default_rng(0).random((1, 16, 16)).astype(np.float32)
    atrous = {"train_dilation": True} if train == "layer" else {}
    conv = {"kernel_size": 3, "padding": 3, "padding_mode": "reflect", "number_of_kernels_per_marker": 1}
    layers = {
        "pool": layer("max_pool2d", kernel_size=7, stride=4, ceil_mode=True),
        "conv": layer("conv2d", **conv, **atrous),
    }
    samples = samples_of(tmp_path, [image], [(0, 0, 0, 6, 6, 0, 0)])
    with pytest.raises(BadInput, match=r"a map of 10 samples cannot be padded by 12 \(reflect\)"):
        taught(samples, layers, 1, **({} if train == "layer" else {"pooling": "atrous"}))


@pytest.mark.parametrize("last", [layer("batch_norm2d"), layer("decoder", n_classes=1)])
def test_images_too_small_for_a_sample_are_refused_in_words(tmp_path, last):
    """The only sample of the last map lies at 7.5, beyond an image of 7 pixels; a mark at 6 is nearest to it."""
    image = np.random.default_rng(0).random((1, 7, 7)).astype(np.float32)
    pools = {"a": layer("max_pool2d", kernel_size=2), "b": layer("max_pool2d", kernel_size=8, stride=2)}
    samples = samples_of(tmp_path, [image], [(0, 0, 0, 6, 6, 0, 0)])
    with pytest.raises(BadInput, match=r"features\.layers\.last: a marked image is so small .* Use larger images"):
        taught(samples, pools | {"last": last}, 1)
