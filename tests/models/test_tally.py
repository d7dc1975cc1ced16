"""Statistics gathered tile by tile are those of the whole, and Otsu's threshold is scikit-image's."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import threshold_otsu

from fieldmark.models.tally import BINS, HALF, Tally, otsu

SCALES = st.sampled_from([1e-6, 0.3, 1.0, 700.0, 3e7])


@given(seed=st.integers(0, 1000), scale=SCALES, cuts=st.lists(st.integers(1, 199), min_size=1, max_size=6, unique=True))
@settings(max_examples=60, deadline=None)
def test_parts_in_any_order_are_the_whole(seed, scale, cuts):
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=(3, 200)) * scale * np.array([[1], [1e-3], [0]])).astype(np.float32)
    parts = [Tally.of(part) for part in np.split(values, sorted(cuts), axis=1)]
    whole = Tally.of(values)
    merged = reduce(Tally.__add__, (parts[i] for i in rng.permutation(len(parts))))
    assert merged.count == whole.count == 200
    for name in ("low", "high", "exponent", "histogram"):
        assert np.array_equal(getattr(merged, name), getattr(whole, name)), name
    assert np.allclose(merged.total, values.sum(axis=1, dtype=np.float64), rtol=1e-12, atol=1e-12 * scale)


@given(seed=st.integers(0, 1000), scale=SCALES)
@settings(max_examples=30, deadline=None)
def test_every_value_is_in_its_bin(seed, scale):
    values = (np.random.default_rng(seed).normal(size=50) * scale).astype(np.float32)
    tally = Tally.of(values[None])
    width = 2.0 ** int(tally.exponent[0])
    counts = np.zeros(BINS, int)
    for value in values.tolist():
        counts[int(np.floor(value / width)) + HALF] += 1
    assert np.array_equal(counts, tally.histogram[0])
    assert np.abs(values).max() >= HALF * width / 2


def test_otsu_of_two_heaps_lies_between_them():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(1, 0.1, 700), rng.normal(4, 0.1, 300)]).astype(np.float32)
    threshold, share = Tally.of(values[None]).otsu()
    assert share[0] == 0.3
    assert ((values >= threshold[0]) == (values > threshold_otsu(values))).all()


@pytest.mark.parametrize("seed", range(5))
def test_otsu_of_few_values_is_the_usual_one(seed):
    values = np.random.default_rng(seed).random(40)
    assert otsu(values) == pytest.approx(threshold_otsu(values))


def test_a_band_of_one_value_has_nothing_above():
    for value in (0.0, 5.0, -3.0):
        threshold, share = Tally.of(np.full((1, 9), value, np.float32)).otsu()
        assert share[0] == 0
        assert np.isfinite(threshold).all()
