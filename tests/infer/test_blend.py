"""Blended tiles: weights that sum to one, no steps, little memory, and the same bits after a restart."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from fieldmark.core.geometry import Box
from fieldmark.images import ArraySource
from fieldmark.infer import tiles
from fieldmark.infer.blend import BlendPlan, Cell, Waiting, ramp, votes
from fieldmark.infer.sinks import ArraySink
from fieldmark.infer.tiles import plan_blend, predict_tiles

SHAPES = st.tuples(*[st.integers(1, n) for n in (2, 2, 9, 40, 40)])
SHARES = ["linear", "gaussian", "mean"]


class TileMean:
    """A forward that no halo makes exact: every pixel less the mean of all that is read, as an instance norm does."""

    stride = (1, 1, 1)
    halo = (0, 0, 0)

    def __init__(self) -> None:
        self.largest = self.calls = 0

    def __call__(self, block: np.ndarray) -> np.ndarray:
        self.largest, self.calls = max(self.largest, block.size), self.calls + 1
        return (block - block.mean(dtype=np.float64)).astype(np.float32)


class Constant:
    """The same answer everywhere; the channels are 1, 2 and 3."""

    stride = (1, 1, 1)
    halo = (0, 0, 0)

    def __call__(self, block: np.ndarray) -> np.ndarray:
        t, _, z, y, x = block.shape
        return np.broadcast_to(np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1, 1), (t, 3, z, y, x))


class Kept(ArraySink):
    """Answers in memory that remember which tiles are done, and how often each pixel was written."""

    def __init__(self, shape: tuple[int, ...], channels: int) -> None:
        super().__init__(shape, channels)
        self.answers[:] = np.nan
        self.done: list[int] = []
        self.times = np.zeros((shape[0], *shape[2:]), int)

    def is_done(self, index: int) -> bool:
        return index in self.done

    def write(self, core: Box, answers: np.ndarray) -> None:
        super().write(core, answers)
        self.times[core.slices] += 1

    def mark_done(self, index: int) -> None:
        assert index not in self.done
        self.done.append(index)


def plan_of(shape: tuple[int, ...], tile=(4, 12, 16), overlap=(1, 3, 5), **options) -> BlendPlan:
    return plan_blend(shape, tile=tile, overlap=overlap, stride=options.pop("stride", (1, 1, 1)), **options)


def run(pixels: np.ndarray, plan: BlendPlan, forward=None, channels: int | None = None) -> Kept:
    sink = Kept(pixels.shape, channels or pixels.shape[1])
    list(predict_tiles(forward or TileMean(), ArraySource(pixels), plan, sink))
    return sink


def image(shape: tuple[int, ...], seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.sampled_from(SHARES), st.tuples(st.integers(0, 2), st.integers(0, 6), st.integers(0, 8)))
def test_weights_sum_to_one_and_every_pixel_is_written_once(shape, blend, overlap):
    plan = plan_of(shape, overlap=overlap, blend=blend)
    total, cells = np.zeros(plan.shape), {}
    for tile in plan:
        for cell in plan.cells(tile):
            weight = np.ones(cell.box.shape) if cell.weight is None else np.broadcast_to(cell.weight, cell.box.shape)
            assert tile.read.contains(cell.box)
            assert cell.first <= tile.index <= cell.last
            total[cell.box.slices] += weight
            cells[cell.box] = (cell.first, cell.last)
    assert np.allclose(total, 1, atol=1e-6)
    covered = np.zeros(plan.shape, int)
    for box in cells:
        covered[box.slices] += 1
    assert (covered == 1).all()
    for tile in plan:
        ending = np.zeros(plan.shape, bool)
        for cell in plan.cells(tile):
            ending[cell.box.slices] |= cell.last == tile.index
        whole = plan.finished(tile)
        assert ending[whole.slices].all()
        assert ending.sum() == whole.size
        assert all(start % side == 0 for start, side in zip(whole.start, plan.tile, strict=True))
    sink = run(image(shape), plan, Constant(), 3)
    assert (sink.times == 1).all()
    assert np.allclose(sink.answers, np.array([1, 2, 3]).reshape(1, 3, 1, 1, 1), atol=1e-6)
    assert sink.done == list(range(len(plan)))


def by_hand(pixels: np.ndarray, tile: int, overlap: int) -> np.ndarray:
    """One row blended with two accumulators as large as the image, and a ramp written from its definition."""
    size = pixels.shape[-1]
    answers, weights = np.zeros(size), np.zeros(size)
    edges = [0, *(edge for edge in range(tile + overlap, size, tile)), size]
    for number, (start, stop) in enumerate(pairwise(edges)):
        low = max(0, min(number * tile, size - tile))
        high = min(size, number * tile + tile + 2 * overlap)
        values = pixels[low:high] - pixels[low:high].mean()
        for x in range(low, high):
            up = 1.0 if start == 0 else min(1.0, max(0.0, (x + 0.5 - (start - overlap)) / (2 * overlap)))
            down = 1.0 if stop == size else min(1.0, max(0.0, 1 - (x + 0.5 - (stop - overlap)) / (2 * overlap)))
            answers[x] += values[x - low] * up * down
            weights[x] += up * down
    assert np.allclose(weights, 1)
    return answers


@given(st.integers(1, 90), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_a_row_is_what_large_accumulators_give(size, overlap):
    pixels = image((1, 1, 1, 1, size))
    sink = run(pixels, plan_of(pixels.shape, tile=(1, 1, 16), overlap=(0, 0, overlap)))
    assert np.allclose(sink.answers.ravel(), by_hand(pixels.ravel().astype(float), 16, overlap), atol=1e-4)


@given(SHAPES, st.integers(0, 40), st.sampled_from([*SHARES, "max"]))
@settings(max_examples=40, deadline=None)
def test_a_stopped_prediction_goes_on_to_the_same_bits(shape, stop, blend):
    pixels, plan = image(shape), plan_of(shape, blend=blend)
    unbroken = run(pixels, plan)
    sink = Kept(shape, shape[1])
    list(islice(predict_tiles(TileMean(), ArraySource(pixels), plan, sink), stop))
    list(predict_tiles(TileMean(), ArraySource(pixels), plan, sink))
    assert np.array_equal(sink.answers, unbroken.answers)
    assert sorted(sink.done) == list(range(len(plan)))


def test_only_tiles_at_the_open_front_are_computed_again():
    pixels = image((1, 1, 1, 160, 160))
    plan = plan_of(pixels.shape, tile=(1, 16, 16), overlap=(0, 4, 4))
    sink, forward = Kept(pixels.shape, 1), TileMean()
    list(islice(predict_tiles(forward, ArraySource(pixels), plan, sink), 55))  # five rows and a half
    before = forward.calls
    list(predict_tiles(forward, ArraySource(pixels), plan, sink))
    assert forward.calls - before <= 45 + 10 + 1 + 1


def test_an_image_is_blended_alone_as_in_its_stack():
    pixels = image((2, 1, 3, 40, 50))
    tile, overlap = (1, 16, 16), (0, 4, 4)
    stack = run(pixels, plan_of(pixels.shape, tile=tile, overlap=overlap)).answers
    alone = pixels[1:, :, 2:]
    assert np.array_equal(run(alone, plan_of(alone.shape, tile=tile, overlap=overlap)).answers, stack[1:, :, 2:])


def largest_step(plane: np.ndarray, columns: list[int]) -> float:
    """Mean absolute difference between neighbors over the columns, in shares of the mean over all columns."""
    steps = np.abs(np.diff(plane.astype(np.float64), axis=1)).mean(axis=0)
    return float(steps[np.array(columns) - 1].max() / steps.mean())


@pytest.mark.parametrize("blend", ["linear", "gaussian"])
def test_there_is_no_step_at_borders_of_tiles(blend):
    """Smooth pixels whose brightness drifts: every tile has another mean, which a hard cut shows as a step."""
    y, x = np.mgrid[:64, :200]
    noise = uniform_filter(np.random.default_rng(0).normal(0, 40, (64, 200)), 5)
    pixels = (40 * np.sin(x / 60) + 30 * np.cos(y / 40) + noise).astype(np.float32)[None, None, None]
    options = {"tile": (1, 64, 32), "blend": blend}
    edges = list(range(32, 200, 32))
    seams = list(range(48, 200, 32))
    hard = run(pixels, plan_of(pixels.shape, overlap=(0, 0, 0), **options)).answers[0, 0, 0]
    assert largest_step(hard, edges) > 3
    soft = run(pixels, plan_of(pixels.shape, overlap=(0, 0, 16), **options)).answers[0, 0, 0]
    raw = largest_step(pixels[0, 0, 0], edges)
    for places in (seams, [e - 16 for e in seams], [e + 16 for e in seams if e + 16 < 200]):
        assert largest_step(soft, places) < max(1.5, 1.2 * raw)


def test_seams_of_about_one_row_of_tiles_wait():
    shape, tile, overlap = (1, 2, 1, 400, 600), (1, 40, 40), (0, 6, 6)
    plan, waiting, forward = plan_of(shape, tile=tile, overlap=overlap), Waiting("linear"), TileMean()
    for one in plan:
        for cell in plan.cells(one):
            waiting.add(one.index, cell, np.zeros((1, 2, *cell.box.shape[1:]), np.float32))
    row = 2 * (12 * 600 + 12 * 40) * 4
    assert waiting.peak_bytes <= 1.2 * row
    run(image(shape), plan, forward)
    assert forward.largest <= 2 * 52 * 52


@pytest.mark.parametrize("blend", ["linear", "max"])
def test_seams_without_room_wait_on_disk_to_the_same_bits(tmp_path, monkeypatch, blend):
    pixels = image((1, 2, 9, 60, 70))
    plan = plan_of(pixels.shape, blend=blend)
    roomy = run(pixels, plan).answers
    kept = []

    class Narrow(Waiting):
        def __init__(self, *arguments):
            super().__init__(*arguments, most_bytes=5000)
            kept.append(self)

    monkeypatch.setattr(tiles, "Waiting", Narrow)
    sink = Kept(pixels.shape, 2)
    for _ in predict_tiles(TileMean(), ArraySource(pixels), plan, sink, tmp_path):
        aside = list(tmp_path.rglob("*.npy"))
    assert np.array_equal(sink.answers, roomy)
    assert kept[0].peak_bytes <= 5000
    assert aside == []
    stopped = predict_tiles(TileMean(), ArraySource(pixels), plan, Kept(pixels.shape, 2), tmp_path)
    list(islice(stopped, 20))
    assert list(tmp_path.rglob("*.npy"))
    stopped.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("blend", SHARES)
def test_ramps_rise_and_are_their_own_mirror(blend):
    for length in (0, 2, 10, 64):
        weights = ramp(blend, length)
        assert len(weights) == length
        assert (np.diff(weights) >= 0).all()
        assert np.allclose(weights + weights[::-1], 1, atol=1e-6)


def test_the_ramps_are_those_of_the_books():
    from scipy.stats import norm

    assert np.allclose(ramp("linear", 4), [0.125, 0.375, 0.625, 0.875])
    assert np.allclose(ramp("mean", 4), 0.5)
    places = 4 * (np.arange(10) + 0.5) / 10 - 2
    whole = norm.cdf(2) - norm.cdf(-2)
    assert np.allclose(ramp("gaussian", 10), (norm.cdf(places) - norm.cdf(-2)) / whole, atol=1e-6)


def test_the_larger_value_and_any_object_win():
    low, high = Cell(Box((0,) * 4, (1,) * 4), 0, 1, None), np.full((1, 2, 1, 1, 1), 0.25, np.float32)
    waiting = Waiting("max")
    assert waiting.add(0, low, high) is None
    assert waiting.add(1, low, high * np.array([2, 0.5], np.float32).reshape(1, 2, 1, 1, 1)).ravel().tolist() == [
        0.5,
        0.25,
    ]
    shares = np.array([[0.7, 0.3], [0.4, 0.6]], np.float32).T.reshape(1, 2, 1, 1, 2)
    assert votes(shares).reshape(2, 2).tolist() == [[0.5, 0], [0, 1]]
    joined = np.maximum(votes(shares), votes(shares[..., ::-1]))  # each pixel is an object to one of the tiles
    assert joined.argmax(axis=1).ravel().tolist() == [1, 1]
    assert votes(np.array([0.2, 0.7], np.float32).reshape(1, 1, 1, 1, 2)).ravel().tolist() == [0, 1]


@given(st.integers(1, 300), st.sampled_from([1, 4, 16]), st.integers(0, 20))
def test_tiles_are_read_from_multiples_of_the_stride_and_never_a_sliver(size, stride, overlap):
    plan = plan_of((1, 1, 1, size, size), tile=(1, 64, 64), overlap=(0, overlap, overlap), stride=(1, stride, stride))
    reads = [tile.read for tile in plan if tile.core.start[2] == 0]  # the first row
    for read in reads:
        assert read.start[3] % stride == 0
        assert read.shape[3] >= min(size, 64)
    assert all(after.stop[3] > before.stop[3] or after.stop[3] == size for before, after in pairwise(reads))


@pytest.mark.parametrize(
    "wrong",
    [{"tile": (1, 1, 8, 9)}, {"overlap": (0, 0, 5, 0)}, {"overlap": (1, 0, 0, 0)}, {"shape": (1, 1, 1)}],
)
def test_plans_that_cannot_be_are_refused(wrong):
    sides = {
        "shape": (2, 1, 9, 9),
        "tile": (2, 1, 8, 8),
        "overlap": (0, 0, 2, 2),
        "margin": (0, 0, 0, 0),
        "stride": (1, 1, 2, 2),
    }
    with pytest.raises(ValueError, match=r"needs|multiples|half|Times"):
        BlendPlan(**(sides | wrong))


@pytest.mark.parametrize("background", [0, 1])
def test_an_object_that_one_tile_sees_is_there_whatever_the_background(background):
    """The class of a pixel is its own tile's choice: the second tile of two sees an object in the seam."""

    class OneSees:
        stride, halo = (1, 1, 1), (0, 0, 0)
        calls = 0

        def __call__(self, block: np.ndarray) -> np.ndarray:
            self.calls += 1
            shares = np.zeros((1, 3, *block.shape[2:]), np.float32)
            shares[:, background] = 0.6
            shares[:, 2] = 0.4
            if self.calls == 2:
                shares[:, [background, 2]] = shares[:, [2, background]]
            return shares

    shape = (1, 1, 1, 4, 28)
    plan = plan_blend(shape, tile=(1, 4, 16), overlap=(0, 0, 4), stride=(1, 1, 1), blend="any", background=background)
    assert len(plan) == 2
    sink = ArraySink(shape, 3)
    list(predict_tiles(OneSees(), ArraySource(np.zeros(shape, np.uint8)), plan, sink))
    first_seam = 16
    assert (sink.answers[0, :, 0, :, :first_seam].argmax(axis=0) == background).all()
    assert (sink.answers[0, :, 0, :, first_seam:].argmax(axis=0) == 2).all()


@given(st.integers(1, 60), st.sampled_from([1, 2, 4]), st.integers(0, 4), st.integers(0, 3))
def test_tiles_see_their_margin_on_both_sides_of_what_they_answer(size, stride, overlap, margins):
    margin = margins * stride
    whole = (1, 1, 1, 3, size)
    plan = plan_blend(whole, tile=(1, 4, 16), overlap=(0, 0, overlap), stride=(1, 1, stride), margin=(0, 0, margin))
    for tile in plan:
        cells = [cell.box for cell in plan.cells(tile)]
        start, stop = min(box.start[3] for box in cells), max(box.stop[3] for box in cells)
        assert tile.read.start[3] <= max(0, start - margin)
        assert tile.read.stop[3] >= min(size, stop + margin)
