"""Networks that no halo makes exact, in 2-D, 2.5-D and 3-D: equal bits, however predicted, and no steps."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from fieldmark.checkpoint import ClassSpec, Header
from fieldmark.core.geometry import Box, TilePlan
from fieldmark.images import ArraySource, open_image
from fieldmark.images.writers import create_writer
from fieldmark.infer import predict
from fieldmark.infer.blend import BlendPlan
from fieldmark.infer.predict import Model, forward_of, plan_for, predict_image
from fieldmark.infer.sinks import ArraySink
from fieldmark.infer.tiles import predict_tiles
from fieldmark.models.base import Net
from fieldmark.prepare import scale_step
from fieldmark.recipes import PredictRecipe

KINDS = ["2", "2.5", "3"]
CLASSES = 3


class Normed(Net):
    """Two convolutions with an instance norm between them, at half the size: it sees the whole tile.

    In 2.5-D it sees a window of 3 slices for each, the ends repeated.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(2)
        torch.manual_seed(1)
        solid = kind == "3"
        self.spatial, self.window = (2 if kind == "2" else 3), (3 if kind == "2.5" else 0)
        self.kind, self.stride, self.radius = kind, 2, 200
        conv, norm = (nn.Conv3d, nn.InstanceNorm3d) if solid else (nn.Conv2d, nn.InstanceNorm2d)
        self.first = conv(2 * max(1, self.window), 6, 3, padding=1, padding_mode="replicate")
        self.norm = norm(6)
        self.last = conv(6, CLASSES, 3, padding=1, padding_mode="replicate")

    @property
    def strides(self) -> tuple[int, int, int]:
        return (2 if self.kind == "3" else 1), 2, 2

    @property
    def radii(self) -> tuple[int, int, int]:
        return {"2": 0, "2.5": 1, "3": 40}[self.kind], 200, 200

    @property
    def tile_exact(self) -> bool:
        return False

    def levels(self, x: Tensor) -> list[Tensor]:
        return [x]

    def probabilities(self, x: Tensor) -> Tensor:
        if self.kind == "2.5":
            ends = pad(x, (0, 0, 0, 0, 1, 1), mode="replicate")
            slices = [self._shares(ends[:, :, z : z + 3].flatten(1, 2)) for z in range(x.shape[2])]
            return torch.stack(slices, dim=2)
        return self._shares(x)

    def _shares(self, x: Tensor) -> Tensor:
        pool = nn.functional.max_pool3d if x.ndim == 5 else nn.functional.max_pool2d
        maps = self.last(torch.relu(self.norm(self.first(pool(x, 2)))))
        scores = interpolate(maps, size=x.shape[2:], mode="trilinear" if x.ndim == 5 else "bilinear")
        return (3 * scores).softmax(dim=1)


def model_of(kind: str) -> Model:
    net = Normed(kind)
    header = Header(
        family="normed",
        config={},
        preparation=[scale_step(100.0)],
        outputs=("classes",),
        channels=2,
        stride=net.strides,
        halo=net.halo,
        tile_exact=False,
        classes=tuple(ClassSpec(id=n, name=f"c{n}", value=n) for n in range(CLASSES)),
    )
    return Model("normed", header, net)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that drawn images fall into many tiles."""
    for name, value in {"FIXED_TILE": 64, "FIXED_OVERLAP": 12, "STACK_TILE": 4, "FIXED_VOLUME": (8, 32)}.items():
        monkeypatch.setattr(predict, name, value)
    monkeypatch.setattr(predict, "VOLUME_OVERLAP", (4, 8))


def volume(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Smooth blobs, whose brightness drifts, on noise."""
    rng = np.random.default_rng(seed)
    y, x = shape[3:]
    blobs = gaussian_filter(rng.normal(0, 400, shape), (0, 0, 1, 6, 6))
    drift = np.linspace(-60, 60, x) + np.linspace(-40, 40, y)[:, None]
    return (100 + blobs + drift + rng.normal(0, 1, shape)).astype(np.float32)


def answers(kind: str, pixels: np.ndarray, recipe: PredictRecipe = PredictRecipe()) -> np.ndarray:  # noqa: B008
    source, model = ArraySource(pixels), model_of(kind)
    sink = ArraySink(pixels.shape, CLASSES)
    for _ in predict_tiles(forward_of(model, recipe), source, plan_for(model, source, recipe, "a"), sink):
        pass
    return sink.answers


@pytest.mark.parametrize("kind", KINDS)
def test_grids_are_anchored_at_the_image_and_tiles_overlap(kind):
    source = ArraySource(volume((1, 2, 20, 150, 170)))
    plan = plan_for(model_of(kind), source, PredictRecipe(), "a")
    assert isinstance(plan, BlendPlan)
    assert plan.tile == {"2": (1, 1, 64, 64), "2.5": (1, 4, 64, 64), "3": (1, 8, 32, 32)}[kind]
    assert plan.overlap == {"2": (0, 0, 12, 12), "2.5": (0, 0, 12, 12), "3": (0, 4, 8, 8)}[kind]
    assert plan.margin == {"2": (0, 0, 0, 0), "2.5": (0, 1, 0, 0), "3": (0, 0, 0, 0)}[kind]
    wide = plan_for(model_of(kind), source, PredictRecipe(overlap=3, overlap_z=2, blend="mean"), "a")
    assert isinstance(wide, BlendPlan)
    assert wide.overlap[2:] == (3, 3)
    assert wide.blend == "mean"
    exact = Model("m", model_of(kind).header, model_of(kind).net)
    assert not isinstance(plan_for(exact, source, PredictRecipe(), "a"), TilePlan)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_alone_gives_the_bits_that_it_gives_in_a_stack(kind):
    pixels = volume((2, 2, 9, 70, 90))
    both = answers(kind, pixels)
    assert np.array_equal(answers(kind, pixels[1:]), both[1:])
    if kind == "2":
        assert np.array_equal(answers(kind, pixels[1:, :, 4:5]), both[1:, :, 4:5])
    assert np.allclose(both.sum(axis=1), 1, atol=1e-5)


def test_slices_of_windows_are_exact_along_z(monkeypatch):
    pixels = volume((1, 2, 11, 50, 60))
    tiled = answers("2.5", pixels)
    monkeypatch.setattr(predict, "STACK_TILE", 16)
    whole = answers("2.5", pixels)
    assert np.abs(tiled - whole).max() <= 1e-5


def classes_on_disk(model: Model, source: ArraySource, folder: Path, stop_after: int = 0) -> tuple[np.ndarray, bytes]:
    """Labels, and the bytes of probabilities, of a prediction that is stopped and taken up again."""
    t, _, z, y, x = source.shape
    for limit in (stop_after, None):
        if limit == 0:
            continue
        options = {"resume": True, "chunk": (1, CLASSES, z, y, x)}
        labels = create_writer(folder / "l.ome.zarr", "ome-zarr", shape=(t, 1, z, y, x), dtype="u1", **options)
        shares = create_writer(folder / "p.ome.zarr", "ome-zarr", shape=(t, CLASSES, z, y, x), dtype="f4", **options)
        events = predict_image(
            model,
            source,
            PredictRecipe(),
            image="a",
            labels=labels,
            probabilities=shares,
            done=folder / "done.log",
            made_from="x",
        )
        list(islice(events, limit))
        events.close()  # type: ignore[attr-defined]
    labels.finish()
    shares.finish()
    with open_image(folder / "l.ome.zarr") as one, open_image(folder / "p.ome.zarr") as two:
        return one.read(Box.whole(one.shape)), two.read(Box.whole(two.shape)).tobytes()


@pytest.mark.parametrize(("kind", "stop"), [("2", 4), ("2.5", 5), ("3", 1), ("3", 13)])
def test_a_stopped_prediction_ends_in_the_same_bits(tmp_path, kind, stop):
    source, model = ArraySource(volume((1, 2, 14, 100, 80))), model_of(kind)
    unbroken = classes_on_disk(model, source, tmp_path / "whole")
    resumed = classes_on_disk(model, source, tmp_path / "broken", stop_after=stop)
    assert np.array_equal(resumed[0], unbroken[0])
    assert resumed[1] == unbroken[1]
    assert unbroken[0].std() > 0


def test_a_prediction_that_was_cut_otherwise_begins_again(tmp_path, monkeypatch):
    """As one of another version may be: its tiles of the same numbers lie elsewhere."""
    source, model = ArraySource(volume((1, 2, 1, 100, 80))), model_of("2")
    unbroken = classes_on_disk(model, source, tmp_path / "whole")
    monkeypatch.setattr(predict, "FIXED_TILE", 32)
    classes_on_disk(model, source, tmp_path / "broken")
    monkeypatch.setattr(predict, "FIXED_TILE", 64)
    again = classes_on_disk(model, source, tmp_path / "broken")
    assert np.array_equal(again[0], unbroken[0])
    assert again[1] == unbroken[1]


def steps(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean absolute difference of neighbors along an axis of (t, k, z, y, x), place by place."""
    change = np.abs(np.diff(values.astype(np.float64), axis=axis))
    return change.mean(axis=tuple(n for n in range(5) if n != axis))


@pytest.mark.parametrize("kind", KINDS)
def test_no_step_at_borders_stands_out_of_the_noise(kind):
    """Gradients over the ends of seams and over borders of cores, beside those elsewhere; a hard cut is seen."""
    pixels = volume((1, 2, 20, 200, 230), seed=4)
    hard = answers(kind, pixels, PredictRecipe(overlap=0, overlap_z=0))
    soft = answers(kind, pixels)
    for axis, tile, over in [(4, 64, 12), (3, 64, 12)] if kind != "3" else [(4, 32, 8), (3, 32, 8)]:
        size = pixels.shape[axis]
        edges = np.arange(tile, size, tile)
        near = np.unique([edge + shift for edge in edges for shift in (0, over, 2 * over) if edge + shift < size]) - 1
        cut, blended = steps(hard, axis), steps(soft, axis)
        usual = np.delete(blended, near)
        assert cut[edges - 1].max() > 1.3 * np.percentile(cut, 90)
        assert blended[near].max() <= 1.1 * usual.max()
        assert blended[near].mean() <= usual.mean() + 2 * usual.std()


def test_any_and_max_keep_objects_that_one_tile_saw():
    pixels = volume((1, 2, 1, 100, 130))
    linear, most = answers("2", pixels), answers("2", pixels, PredictRecipe(blend="max"))
    assert (most >= linear - 1e-6).all()
    any_object = answers("2", pixels, PredictRecipe(blend="any")).argmax(axis=1) > 0
    alone = linear.argmax(axis=1) > 0
    assert any_object.sum() > 0
    assert (alone & ~any_object).mean() < 0.01
