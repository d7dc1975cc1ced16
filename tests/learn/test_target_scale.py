"""The scale of target images that a model keeps, by what the network answers and where the loss looks."""

from __future__ import annotations

import numpy as np
import pytest

from fieldmark.core.geometry import Box
from fieldmark.learn.run import prepared_net
from fieldmark.prepare import apply, inverse
from fieldmark.recipes import FitRecipe
from fieldmark.testing.drawn import drawn_job


def steps_of(folder, **changes: object) -> tuple[list[dict], np.ndarray, np.ndarray]:
    """The steps of the targets, and all raw and prepared values of the first image's."""
    values = {
        "family": "unet",
        "net": {"filters": [4, 8]},
        "data": {"inputs": [1], "target": {"kind": "image", "channels": [0]}, "split": {"train": 1, "validation": 0}},
    }
    for key, value in changes.items():
        values[key] = values.get(key, {}) | value
    job = drawn_job(folder, FitRecipe(**values))
    prepared_net(job)
    raw = job.samples.source(0).read(Box((0, 0, 0, 0, 0), (1, 1, 1, 93, 117)))[0]
    steps = job.samples.target_preparation
    return steps, raw, apply(raw, steps)


@pytest.mark.parametrize("data", [{}, {"mask": {"channel": 2}}])
def test_targets_have_zero_center_and_unit_spread_with_a_mask_too(tmp_path, data):
    _, raw, ready = steps_of(tmp_path, data=data)
    assert abs(ready.mean()) < 0.2
    assert 0.8 < ready.std() < 1.25
    assert np.allclose(apply(ready, inverse(steps_of(tmp_path / "again", data=data)[0])), raw, atol=1e-2)


def test_shares_are_targets_over_their_maximum(tmp_path):
    steps, raw, ready = steps_of(tmp_path, net={"final_activation": "sigmoid"})
    assert [step["step"] for step in steps] == ["scale"]
    assert ready.min() >= 0
    assert 0.9 < ready.max() <= 1.1
    assert np.allclose(ready / np.where(raw == 0, 1, raw), ready.max() / raw.max(), atol=1e-6)


def test_median_and_quartiles_where_that_is_asked(tmp_path):
    normalize = {"normalize": {"statistic": "median-iqr"}}
    _, _, ready = steps_of(tmp_path, prepare=normalize)
    low, middle, high = np.percentile(ready, (25, 50, 75))
    assert abs(middle) < 0.2
    assert 0.8 < high - low < 1.25


def test_raw_where_that_is_asked(tmp_path):
    steps, raw, ready = steps_of(tmp_path, prepare={"normalize": {"targets": False}})
    assert steps == []
    assert np.array_equal(raw, ready)
