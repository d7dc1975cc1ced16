from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.images import ArraySource
from fieldmark.infer.forward import pad_to_stride, require_numbers
from fieldmark.infer.sinks import ArraySink, ClassSink
from fieldmark.infer.tiles import VOLUME_READ, plan_tiles, predict_tiles, with_channels

SHAPES = st.tuples(*[st.integers(1, n) for n in (2, 3, 3, 40, 40)])


class Blur:
    """A forward with a known answer: the mean over 5 x 5 pixels of the whole plane, borders reflected."""

    stride = (1, 1, 1)
    halo = (0, 2, 2)

    def __init__(self) -> None:
        self.largest = 0

    def __call__(self, block: np.ndarray) -> np.ndarray:
        self.largest = max(self.largest, block.size)
        mean = uniform_filter(block.astype(np.float64), (1, 1, 1, 5, 5), mode="reflect")
        return np.concatenate([mean, -mean], axis=1).astype(np.float32)


def image(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 200, shape).astype(np.uint8)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.sampled_from([8, 16, 64]))
def test_tiles_equal_the_whole(shape, tile):
    pixels, forward = image(shape), Blur()
    plan = plan_tiles(shape, tile=tile, stride=forward.stride, halo=forward.halo)
    sink = ArraySink(shape, 2 * shape[1])
    tiles = list(predict_tiles(forward, ArraySource(pixels), plan, sink))
    assert len(tiles) == len(plan)
    whole = uniform_filter(pixels.astype(np.float64), (1, 1, 1, 5, 5), mode="reflect")
    assert np.allclose(sink.answers[:, : shape[1]], whole, atol=1e-4)
    assert np.allclose(sink.answers[:, shape[1] :], -whole, atol=1e-4)


class Smear(Blur):
    """The mean over a box that is another one along each axis; it takes blocks that begin at its strides alone."""

    def __init__(self, halo: tuple[int, int, int]) -> None:
        super().__init__()
        self.halo = halo
        self.sides = (1, 1, *(2 * side + 1 for side in halo))

    def __call__(self, block: np.ndarray) -> np.ndarray:
        self.largest = max(self.largest, block.size)
        return uniform_filter(block.astype(np.float64), self.sides, mode="reflect").astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.just(1), st.just(1), st.integers(1, 12), st.integers(1, 40), st.integers(1, 40)),
    st.permutations([0, 1, 4]),
    st.sampled_from([(1, 1, 1), (1, 2, 4), (2, 4, 1)]),
    st.sampled_from([8, 12]),
)
def test_tiles_of_models_that_see_farther_along_one_axis_equal_the_whole(shape, halo, stride, tile):
    pixels, forward = image(shape), Smear(tuple(halo))
    # of a depth that is given: left to itself, so small a volume is one tile
    plan = plan_tiles(shape, tile=tile, stride=stride, halo=forward.halo, depth=4)
    sink = ArraySink(shape, 1)
    for done in predict_tiles(forward, ArraySource(pixels), plan, sink):
        assert all(start % step == 0 for start, step in zip(done.read.start[1:], stride, strict=True))
    whole = uniform_filter(pixels.astype(np.float64), forward.sides, mode="reflect")
    assert np.allclose(sink.answers, whole, atol=1e-3)


def test_a_tile_of_a_model_that_sees_slices_has_several():
    assert plan_tiles((1, 1, 20, 64, 64), tile=64, stride=(1, 1, 1), halo=(1, 0, 0)).tile[1] > 1
    assert plan_tiles((1, 1, 20, 64, 64), tile=64, stride=(1, 1, 1), halo=(0, 1, 1)).tile[1] == 1
    assert plan_tiles((1, 1, 20, 64, 90), tile=10, stride=(1, 2, 4), halo=(0, 0, 0)).tile == (1, 1, 10, 12)


@given(SHAPES, st.sampled_from([1, 2, 8]), st.integers(0, 20))
def test_plans_follow_stride_and_halo_and_take_slices_one_by_one(shape, stride, halo):
    plan = plan_tiles(shape, tile=20, stride=(1, stride, stride), halo=(0, halo, halo))
    assert plan.shape == (shape[0], *shape[2:])
    for tile in plan:
        assert tile.core.shape[:2] == (1, 1)
        assert tile.read.shape[:2] == (1, 1)
        assert tile.read.start[2] % stride == tile.read.start[3] % stride == 0
        for axis in (2, 3):
            assert tile.core.start[axis] - tile.read.start[axis] >= min(halo, tile.core.start[axis])


def test_memory_follows_the_tile():
    forward = Blur()
    shape = (1, 1, 2, 200, 300)
    plan = plan_tiles(shape, tile=32, stride=forward.stride, halo=forward.halo)
    list(predict_tiles(forward, ArraySource(image(shape)), plan, ArraySink(shape, 2)))
    assert forward.largest <= 36 * 36


SIDES = st.integers(1, 300)


@given(st.tuples(SIDES, SIDES, SIDES), st.integers(0, 40), st.sampled_from([1, 2, 4, 8]), st.sampled_from([8, 64, 512]))
def test_tiles_of_volumes_fit_in_memory(sizes, halo, stride, tile):
    plan = plan_tiles((1, 1, *sizes), tile=tile, stride=(stride,) * 3, halo=(max(1, halo), halo, halo))
    depth, side = plan.tile[1:3]
    assert plan.tile[3] == side <= max(tile, stride)
    largest = max(prod(tile.read.shape) for tile in plan)
    assert largest <= VOLUME_READ or (depth, side) == (16, min(16, tile))


def test_flat_volumes_are_cut_into_wide_tiles_and_deep_ones_into_cubes():
    def cores(shape):
        return plan_tiles((1, 1, *shape), tile=512, stride=(4, 4, 4), halo=(29, 29, 29)).tile[1:]

    assert cores((32, 1024, 1024)) == (32, 256, 256)  # 32 * 320 * 320 pixels are read, 16 pixels more would not fit
    depth, side, _ = cores((600, 600, 600))
    assert 0.5 < depth / side < 2


def test_finished_tiles_are_not_predicted_again():
    class Half(ArraySink):
        marked: list[int]

        def is_done(self, index: int) -> bool:
            return index % 2 == 0

        def mark_done(self, index: int) -> None:
            self.marked = [*getattr(self, "marked", []), index]

    shape = (1, 1, 1, 40, 40)
    plan = plan_tiles(shape, tile=16, stride=(1, 1, 1), halo=(0, 2, 2))
    sink = Half(shape, 2)
    list(predict_tiles(Blur(), ArraySource(np.full(shape, 9, np.uint8)), plan, sink))
    assert sink.marked == [1, 3, 5, 7]
    first, second = list(plan)[:2]
    assert not sink.answers[with_channels(first.core, 2).slices].any()
    assert sink.answers[with_channels(second.core, 1).slices].all()


def test_channels_are_put_between_time_and_depth():
    assert with_channels(Box((1, 2, 3, 4), (5, 6, 7, 8)), 3) == Box((1, 0, 2, 3, 4), (5, 3, 6, 7, 8))


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2, 4, 8]))
def test_padding_reflects_below_and_to_the_right(height, width, stride):
    pixels = np.arange(height * width, dtype=np.float32).reshape(1, height, width)
    padded = pad_to_stride(pixels, stride)
    mirror = lambda n: [*range(n), *range(n - 2, 0, -1)]  # noqa: E731 - one period of a reflection
    rows = [mirror(height)[i % max(1, 2 * height - 2)] for i in range(padded.shape[1])]
    columns = [mirror(width)[i % max(1, 2 * width - 2)] for i in range(padded.shape[2])]
    assert padded.shape[1] % stride == padded.shape[2] % stride == 0
    assert padded.shape[1] - height < stride
    assert np.array_equal(padded[0], pixels[0][np.ix_(rows, columns)])


class Writer:
    def __init__(self) -> None:
        self.written: list[tuple[Box, np.ndarray]] = []

    def write(self, box: Box, values: np.ndarray) -> None:
        self.written.append((box, values))


def test_classes_are_written_as_their_values():
    labels, probabilities = Writer(), Writer()
    sink = ClassSink(labels, np.array([3, 200], np.uint8), set(), probabilities)  # type: ignore[arg-type]
    answers = np.array([[0.9, 0.2], [0.1, 0.8]], np.float32).reshape(1, 2, 1, 1, 2)
    sink.write(Box((0, 4, 5, 6), (1, 5, 6, 8)), answers)
    ((box, values),) = labels.written
    assert box == Box((0, 0, 4, 5, 6), (1, 1, 5, 6, 8))
    assert values.ravel().tolist() == [3, 200]
    assert values.dtype == np.uint8
    assert probabilities.written[0][0] == Box((0, 0, 4, 5, 6), (1, 2, 5, 6, 8))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_name_the_image(bad):
    pixels = np.zeros((1, 3, 3), np.float32)
    require_numbers(pixels, "a.tif")
    pixels[0, 1, 1] = bad
    with pytest.raises(BadInput, match=r"^a\.tif: holds pixels that are NaN or infinite"):
        require_numbers(pixels, "a.tif")
