"""Predicted numbers against true ones: scikit-learn's and scipy's formulas, unknown cells, and what does not exist."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from fieldmark.errors import BadInput, NotFound
from fieldmark.evaluate.numbers import METRICS, score_numbers


def rows(count: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Numbers in other units, and guesses that are off."""
    rng = np.random.default_rng(seed)
    right = rng.normal([1000, 0.1, 7], [200, 0.02, 3], (count, 3))
    return right + rng.normal(0, [100, 0.02, 1], (count, 3)), right


def test_each_number_and_all_of_them_are_what_the_libraries_say():
    said, right = rows()
    found = score_numbers(said, right, ["dose", "shift", "count"])
    for place, name in enumerate(("dose", "shift", "count")):
        ours, true = said[:, place], right[:, place]
        assert found[name]["images"] == 40
        assert found[name]["r2"] == pytest.approx(r2_score(true, ours))
        assert found[name]["corr"] == pytest.approx(pearsonr(true, ours)[0])
        assert found[name]["mae"] == pytest.approx(mean_absolute_error(true, ours))
        assert found[name]["mse"] == pytest.approx(mean_squared_error(true, ours))
    assert found["all"]["r2"] == pytest.approx(r2_score(right, said))
    assert found["all"]["mae"] == pytest.approx(mean_absolute_error(right, said))
    assert found["all"]["mse"] == pytest.approx(mean_squared_error(right, said))
    assert found["all"]["corr"] == pytest.approx(np.mean([pearsonr(said[:, n], right[:, n])[0] for n in range(3)]))


def test_what_nobody_knows_counts_nowhere():
    said, right = rows()
    right[3:9, 1] = np.nan
    right[5] = np.nan
    found = score_numbers(said, right, ["a", "b", "c"])
    known = np.isfinite(right[:, 1])
    assert (found["a"]["images"], found["b"]["images"], found["all"]["images"]) == (39, 34, 39)
    assert found["b"]["r2"] == pytest.approx(r2_score(right[known, 1], said[known, 1]))
    said[5] = 1e9
    assert score_numbers(said, right, ["a", "b", "c"]) == found


def test_intervals_hold_the_number_and_shrink_with_more_images():
    wide, narrow = (score_numbers(*rows(count), ["a", "b", "c"]) for count in (12, 400))
    for found in (wide, narrow):
        for name in ("a", "b", "c", "all"):
            for metric in METRICS:
                low, high = found[name][f"{metric}_interval"]
                assert low <= found[name][metric] <= high
    spans = [np.diff(found["a"]["mae_interval"])[0] for found in (wide, narrow)]
    assert spans[1] < spans[0] / 3
    assert score_numbers(*rows(12), ["a", "b", "c"]) == wide
    assert score_numbers(*rows(4), ["a", "b", "c"])["all"]["mae_interval"] is None


def test_what_does_not_exist_is_none():
    said, right = rows(6)
    right[:, 0] = 0.1 + 0.2
    said[:, 2] = 4.0
    found = score_numbers(said, right, ["a", "b", "c"])
    assert (found["a"]["r2"], found["a"]["corr"]) == (None, None)
    assert found["a"]["mae"] > 0
    assert found["c"]["corr"] is None
    assert found["c"]["r2"] < 0.5
    assert found["all"]["corr"] == pytest.approx(found["b"]["corr"]), "a mean over those that exist"
    none = score_numbers(np.zeros((0, 1)), np.zeros((0, 1)), ["a"])
    assert none == {"a": {"images": 0, **{m: None for n in METRICS for m in (n, f"{n}_interval")}}}
    assert "all numbers" in score_numbers(said, right, ["all", "b", "c"])


def test_what_cannot_be_compared_is_refused():
    said, right = rows(6)
    with pytest.raises(NotFound, match=r"metric of numbers.*ssim"):
        score_numbers(said, right, ["a", "b", "c"], metrics=["ssim"])
    with pytest.raises(BadInput, match="2 names"):
        score_numbers(said, right, ["a", "b"])
    said[0, 0] = np.nan
    with pytest.raises(BadInput, match="not finite"):
        score_numbers(said, right, ["a", "b", "c"])


@pytest.mark.parametrize("value", [0.1, 1 / 3, 7.3])
def test_one_answer_for_all_has_no_correlation(value):
    """Whatever rounding leaves of its differences from its mean."""
    right = np.random.default_rng(0).normal(size=(7, 1))
    (row,) = score_numbers(np.full((7, 1), value), right, ["a"]).values()
    assert row["corr"] is None
    assert row["r2"] is not None
