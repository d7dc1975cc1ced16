"""Networks that see images at another size: answers lie in the image's own grid, tiled as whole."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from fieldmark.checkpoint import ClassSpec, Header
from fieldmark.errors import BadInput
from fieldmark.images import ArraySource
from fieldmark.images.resized import scaled_size
from fieldmark.infer.answers import see_image
from fieldmark.infer.predict import Model, forward_of, own_side, plan_for
from fieldmark.infer.sinks import ArraySink
from fieldmark.infer.tiles import predict_tiles
from fieldmark.models.build import build
from fieldmark.prepare import resize_step, standardize_each_step, standardize_step
from fieldmark.recipes import PredictRecipe

SHAPE = (1, 1, 1, 150, 187)


def image(shape=SHAPE) -> np.ndarray:
    rng = np.random.default_rng(4)
    return rng.integers(0, 60_000, shape).astype(np.uint16)


def model_of(
    factor: float | tuple[float, ...], *, norm: str = "batch", dims: float = 2, steps: list | None = None
) -> Model:
    config = {"dims": str(dims), "filters": [4, 6], "out_channels": 3, "task": "segment", "norm": norm}
    net = build("unet", config | ({"depth": 3} if dims == 2.5 else {}), 1, seed=3).eval()
    header = Header(
        family="unet",
        config=config,
        preparation=[resize_step(factor), *(steps or [standardize_step([30_000.0], [10_000.0])])],
        outputs=("classes",),
        channels=1,
        stride=net.strides,
        halo=net.halo,
        tile_exact=net.tile_exact,
        classes=tuple(ClassSpec(id=n, name=f"{n}", value=n) for n in range(3)),
    )
    return Model("resized", header, net)


def predicted(model: Model, pixels: np.ndarray, tile: int) -> tuple[np.ndarray, int]:
    """Probabilities (t, k, z, y, x), and of how many tiles."""
    source, recipe = ArraySource(pixels), PredictRecipe(tile=tile)
    sink, plan = ArraySink(pixels.shape, 3), plan_for(model, source, recipe, "it")
    for _ in predict_tiles(forward_of(model, recipe, source=source), source, plan, sink):
        pass
    return sink.answers, len(plan)


@pytest.mark.parametrize("factor", [0.5, 0.37, 1.6])
def test_answers_are_those_of_the_resized_image_brought_back(factor):
    """Against torch's own resizing, there and back."""
    model, pixels = model_of(factor), image()
    new = [scaled_size(n, factor) for n in SHAPE[3:]]
    small = interpolate(torch.from_numpy(pixels[0].astype(np.float32)), new, mode="bilinear", antialias=True).round()
    with torch.inference_mode():
        ready = (small - 30_000) / 10_000
        beyond = [-n % s for n, s in zip(new, model.header.stride[1:], strict=True)]
        grown = np.pad(ready.numpy(), ((0, 0), (0, 0), (0, beyond[0]), (0, beyond[1])), mode="reflect")
        answers = model.net.probabilities(torch.from_numpy(grown))[..., : new[0], : new[1]]
        truth = interpolate(answers, SHAPE[3:], mode="bilinear", antialias=True)[0].numpy()
    found, _ = predicted(model, pixels, 4096)
    assert found.shape == (1, 3, 1, 150, 187)
    assert np.abs(found[0, :, 0] - truth).max() < 2e-3
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("factor", [0.5, 0.37, 1.6])
@pytest.mark.parametrize("dims", [2, 2.5])
def test_tiles_equal_the_whole(factor, dims):
    pixels = image((1, 1, 4 if dims == 2.5 else 1, 290, 333))
    steps = [standardize_each_step("slice", "mean-std")]  # statistics of whole planes, of the resized image
    model = model_of(factor, dims=dims, steps=steps)
    assert model.header.tile_exact
    whole, one = predicted(model, pixels, 4096)
    tiled, many = predicted(model, pixels, 64)
    assert many > one
    assert np.abs(tiled - whole).max() <= 1e-5


def test_answers_of_a_volume_come_back_in_its_own_slices():
    """A 3-D network that sees twice as many slices and half the columns; against torch's own resizing."""
    shape, factors = (1, 1, 5, 16, 24), (2.0, 1.0, 0.5)
    model, pixels = model_of(factors, dims=3), image(shape)
    small = pixels[0].astype(np.float32)
    new = [scaled_size(n, by) for n, by in zip(shape[2:], factors, strict=True)]
    narrow = interpolate(torch.from_numpy(small), (16, new[2]), mode="bilinear", antialias=True)
    seen = interpolate(narrow[None], new, mode="trilinear").round()
    with torch.inference_mode():
        ready = (seen - 30_000) / 10_000
        beyond = [-n % s for n, s in zip(new, model.header.stride, strict=True)]
        grown = np.pad(ready.numpy(), ((0, 0), (0, 0), *((0, n) for n in beyond)), mode="reflect")
        answers = model.net.probabilities(torch.from_numpy(grown))[..., : new[0], : new[1], : new[2]]
    # five slices of ten, each the mean of neighbors by a triangle two slices wide
    weights = np.zeros((5, 10))
    for z in range(5):
        for tap in range(10):
            weights[z, tap] = max(0, 1 - abs(tap - (2 * z + 0.5)) / 2)
    weights /= weights.sum(axis=1, keepdims=True)
    thin = np.einsum("zt,ktyx->kzyx", weights, answers[0].numpy())
    truth = interpolate(torch.from_numpy(thin), (16, 24), mode="bilinear").numpy()
    found, _ = predicted(model, pixels, 4096)
    assert found.shape == (1, 3, *shape[2:])
    assert np.abs(found[0] - truth).max() < 2e-3


@pytest.mark.parametrize("dims", [2, 2.5, 3])
@pytest.mark.parametrize("factors", [(2.0, 1.0, 1.0), (0.6, 0.5, 0.7)])
def test_tiles_equal_the_whole_where_slices_are_scaled(dims, factors, monkeypatch):
    pixels = image((1, 1, 13, 70, 150))
    model = model_of(factors, dims=dims, steps=[standardize_each_step("volume", "mean-std")])
    assert model.header.tile_exact
    monkeypatch.setattr("fieldmark.infer.predict.STACK_TILE", 64)
    monkeypatch.setattr("fieldmark.infer.predict.FIXED_VOLUME", (64, 512))
    whole, one = predicted(model, pixels, 4096)
    assert one == 1
    monkeypatch.setattr("fieldmark.infer.predict.STACK_TILE", 4)
    monkeypatch.setattr("fieldmark.infer.predict.FIXED_VOLUME", (4, 24))
    tiled, many = predicted(model, pixels, 64)
    assert many >= 8
    assert np.abs(tiled - whole).max() <= 1e-5


def test_volumes_and_norms_over_space_give_equal_bits_after_a_stop():
    for dims, norm, shape, by in (
        (2, "instance", (1, 1, 1, 700, 2300), 0.5),
        (3, "batch", (1, 1, 9, 60, 70), 0.5),
        (3, "instance", (1, 1, 40, 60, 70), (1.5, 1, 1)),
        (2.5, "instance", (1, 1, 9, 60, 70), (2, 1, 1)),
    ):
        model, pixels = model_of(by, dims=dims, norm=norm), image(shape)
        first, tiles = predicted(model, pixels, 512)
        source, recipe = ArraySource(pixels), PredictRecipe()
        plan = plan_for(model, source, recipe, "it")
        assert tiles == len(plan)
        for stop in range(1, len(plan)):
            sink = Logged(shape, 3)
            for limit in (stop, None):
                forward = forward_of(model, recipe, source=source)
                list(islice(predict_tiles(forward, source, plan, sink), limit))
            assert np.array_equal(sink.answers, first)


class Logged(ArraySink):
    """Answers in memory, with a log of finished tiles."""

    def __init__(self, shape: tuple[int, ...], channels: int) -> None:
        super().__init__(shape, channels)
        self.done: set[int] = set()

    def is_done(self, index: int) -> bool:
        return index in self.done

    def mark_done(self, index: int) -> None:
        self.done.add(index)


def test_tiles_fill_chunks_of_files():
    assert [own_side(512, factor) for factor in (0.5, 0.37, 1.6, 0.05)] == [1024, 1536, 320, 2048]


def test_what_sees_images_as_they_are_refuses():
    model = model_of(0.5)
    with pytest.raises(BadInput, match=r"resizes images by 0\.5 first"):
        see_image(model.net, image()[0, :, 0], model.header.preparation)
    with pytest.raises(BadInput, match=r"prepare\.resize"):
        forward_of(model, PredictRecipe())(image())
