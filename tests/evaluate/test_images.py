"""Metrics of images against loops, scikit-image and closed forms; orientations; tables; lines fitted to pixels."""

from __future__ import annotations

import csv
import math
import re
import warnings

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from fieldmark.errors import BadInput, NotFound
from fieldmark.evaluate.images import METRICS, score_values
from fieldmark.evaluate.orientations import ORIENTATIONS, Measure, mean_row, score_volume, views, write_rows
from fieldmark.evaluate.regression import LinearFit


def pair(shape=(40, 50), seed=0, noise=0.5):
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    truth = gaussian_filter(rng.normal(size=shape), 2) * 500 + 100
    return truth + rng.normal(size=shape) * noise * truth.std(), truth


def by_hand(said, right, mask):
    """A loop over the pixels that count."""
    pairs = [(float(a), float(b)) for a, b, m in zip(said.ravel(), right.ravel(), mask.ravel(), strict=True) if m]
    n = len(pairs)
    mean_a, mean_b = math.fsum(a for a, _ in pairs) / n, math.fsum(b for _, b in pairs) / n
    cov = math.fsum((a - mean_a) * (b - mean_b) for a, b in pairs)
    var_a = math.fsum((a - mean_a) ** 2 for a, _ in pairs)
    var_b = math.fsum((b - mean_b) ** 2 for _, b in pairs)
    cut = (min(b for _, b in pairs) + max(b for _, b in pairs)) / 2
    tp = sum(a > cut and b > cut for a, b in pairs)
    fp = sum(a > cut and b <= cut for a, b in pairs)
    fn = sum(a <= cut and b > cut for a, b in pairs)
    mse = math.fsum((a - b) ** 2 for a, b in pairs) / n
    return {
        "r2": 1 - n * mse / var_b,
        "corr": cov / math.sqrt(var_a * var_b),
        "mae": math.fsum(abs(a - b) for a, b in pairs) / n,
        "mse": mse,
        "dice": 2 * tp / (2 * tp + fp + fn),
        "iou": tp / (tp + fp + fn),
        "acc": (n - fp - fn) / n,
    }


@pytest.mark.parametrize("masked", [False, True])
def test_numbers_equal_a_loop(masked):
    said, right = pair()
    mask = np.random.default_rng(1).random(right.shape) < 0.3 if masked else np.ones(right.shape, bool)
    found = score_values(said, right, mask=mask if masked else None)
    assert list(found) == list(METRICS)
    for metric, value in by_hand(said, right, mask).items():
        assert found[metric] == pytest.approx(value, rel=1e-9), metric


@pytest.mark.parametrize("shape", [(40, 50), (14, 20, 30)])
def test_ssim_is_scikit_images_over_all_pixels(shape):
    said, right = pair(shape)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
    _, full = structural_similarity(right, said, data_range=np.ptp(right), **options)
    assert score_values(said, right)["ssim"] == pytest.approx(full.mean(), rel=1e-6)
    mask = np.zeros(shape, bool)
    mask[..., :13] = True
    assert score_values(said, right, mask=mask)["ssim"] == pytest.approx(full[mask].mean(), rel=1e-6)


def test_ssim_equals_a_loop_at_corner_and_center():
    said, right = pair((23, 23))
    from fieldmark.evaluate.images import _similarity

    found, _ = _similarity(said, right, np.ptp(right))
    steps = np.arange(-5, 6)
    line = np.exp(-(steps**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    a, b = (np.pad(part, 5, mode="symmetric") for part in (said, right))
    c1, c2 = (0.01 * np.ptp(right)) ** 2, (0.03 * np.ptp(right)) ** 2
    for y, x in [(0, 0), (11, 11), (22, 3)]:
        p, q = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
        mp, mq = (window * p).sum(), (window * q).sum()
        vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
        cov = (window * (p - mp) * (q - mq)).sum()
        expected = (2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2))
        assert found[y, x] == pytest.approx(expected, rel=1e-6)


def ms_ssim_by_formula(said, right, scales, mask=None):
    """The product over scales, of means over a mask that shrinks with the images."""
    from scipy.ndimage import gaussian_filter

    expected, a, b = 1.0, said, right
    share = np.ones(right.shape) if mask is None else mask.astype(float)
    span = np.ptp(right)
    weights = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333][:scales]
    for scale, weight in enumerate(weights):
        _, full = structural_similarity(
            b, a, data_range=span, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
        )
        mean = np.average(full, weights=share)
        if scale < scales - 1:  # contrast and structure alone: divide the luminance away
            ma, mb = (gaussian_filter(part, 1.5, truncate=3.5) for part in (a, b))
            c1 = (0.01 * span) ** 2
            mean = np.average(full / ((2 * ma * mb + c1) / (ma**2 + mb**2 + c1)), weights=share)
            a, b, share = (
                part[: part.shape[0] // 2 * 2, : part.shape[1] // 2 * 2]
                .reshape(part.shape[0] // 2, 2, part.shape[1] // 2, 2)
                .mean(axis=(1, 3))
                for part in (a, b, share)
            )
        expected *= mean ** (weight / sum(weights))
    return expected


@pytest.mark.parametrize(
    ("shape", "scales"), [((200, 180), 5), ((400, 352), 5), ((44, 60), 3), ((43, 43), 2), ((22, 22), 2), ((21, 21), 1)]
)
def test_ms_ssim_equals_its_formula_over_as_many_scales_as_fit(shape, scales):
    said, right = pair(shape, noise=0.3)
    assert score_values(said, right)["ms_ssim"] == pytest.approx(ms_ssim_by_formula(said, right, scales), rel=1e-6)
    mask = np.zeros(shape, bool)
    mask[: shape[0] // 3, 3:] = True
    found = score_values(said, right, mask=mask)["ms_ssim"]
    assert found == pytest.approx(ms_ssim_by_formula(said, right, scales, mask), rel=1e-6)


def test_what_is_the_opposite_is_not_alike_at_all():
    _, right = pair((64, 64))
    found = score_values(2 * right.mean() - right, right, metrics=("ssim", "ms_ssim"))
    assert found["ssim"] < 0
    assert found["ms_ssim"] == 0.0


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (5, 64, 64), (300, 7)])
def test_thin_images_are_measured_too(shape):
    said, right = pair(shape) if shape != (1, 1) else (np.ones(shape), np.zeros(shape))
    found = score_values(said, right)
    if shape == (1, 1):
        assert found == {
            "r2": None, "corr": None, "ssim": None, "ms_ssim": None, "mae": 1.0, "mse": 1.0,
            "dice": 0.0, "iou": 0.0, "acc": 0.0,
        }  # fmt: skip
    else:
        assert all(value is not None for value in found.values())
        assert 0 < found["ssim"] < 1


def test_a_right_image_is_perfect_and_noise_makes_it_worse():
    _, right = pair((64, 64))
    perfect = score_values(right, right)
    assert perfect == pytest.approx(dict.fromkeys(METRICS, 1.0) | {"mae": 0.0, "mse": 0.0})
    rows = [score_values(pair((64, 64), noise=noise)[0], right) for noise in (0.1, 0.5, 2.0)]
    for metric in ("r2", "corr", "ssim", "ms_ssim", "dice", "iou", "acc"):
        values = [1.0, *(row[metric] for row in rows)]
        assert values == sorted(values, reverse=True), metric


def test_constant_images_have_no_correlation_and_no_nan():
    flat, other = np.full((20, 20), 7.3), np.full((20, 20), 9.1)
    assert score_values(other, flat)["mae"] == pytest.approx(1.8)
    for said in (flat, other, pair((20, 20))[0]):
        found = score_values(said, flat)
        assert [found[m] for m in ("r2", "corr", "ssim", "ms_ssim")] == [None] * 4
    varied = pair((20, 20))[1]
    found = score_values(flat, varied)
    assert found["corr"] is None
    assert found["r2"] < 0
    assert found["ssim"] is not None
    # the best constant
    assert score_values(np.full((20, 20), varied.mean()), varied)["r2"] == pytest.approx(0)


def test_nothing_known_is_null():
    said, right = pair()
    nothing = np.zeros(right.shape, bool)
    assert score_values(said, right, mask=nothing) == dict.fromkeys(METRICS)
    assert score_values(said, np.full(right.shape, np.nan)) == dict.fromkeys(METRICS)


def test_unknown_truth_counts_nowhere():
    said, right = pair()
    hole = np.zeros(right.shape, bool)
    hole[3:9, 30:44] = True
    found = score_values(said, np.where(hole, np.nan, right))
    for junk in (1e6, -5.0):
        assert score_values(np.where(hole, junk, said), np.where(hole, np.nan, right)) == pytest.approx(found)
    for metric, value in by_hand(said, right, ~hole).items():
        assert found[metric] == pytest.approx(value, rel=1e-9)


def test_structure_is_compared_where_no_window_sees_a_hole():
    """The values that were there before the hole are the truth: far enough from it they give the same."""
    said, right = pair()
    hole = np.zeros(right.shape, bool)
    hole[14:17, 30:34] = True
    far = np.ones(right.shape, bool)
    far[14 - 5 : 17 + 5, 30 - 5 : 34 + 5] = False
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
    _, full = structural_similarity(right, said, data_range=np.ptp(right[~hole]), **options)
    found = score_values(said, np.where(hole, np.nan, right), metrics=("ssim",))["ssim"]
    assert found == pytest.approx(full[far].mean(), rel=1e-6)


def test_a_mask_of_the_last_row_alone_has_a_structure_too():
    """A last row of an odd number is left out where the image is halved."""
    said, right = pair((23, 40))
    mask = np.zeros(right.shape, bool)
    mask[-1] = True
    found = score_values(said, right, mask=mask)
    assert found["ms_ssim"] == pytest.approx(found["ssim"])
    assert found["ssim"] > 0


def test_differences_whose_squares_are_nothing_are_no_spread():
    truth = np.array([[0.0, 1e-200], [0.0, 0.0]])
    assert score_values(np.zeros((2, 2)), truth, metrics=("r2", "mae")) == {"r2": None, "mae": 2.5e-201}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is divided by nothing on the way
        found = score_values(truth[::-1], truth, metrics=("r2", "corr", "ssim", "ms_ssim"))
    assert set(found.values()) == {None}


def test_the_threshold_can_be_named():
    truth = np.array([[0.0, 1.0, 2.0, 10.0]])
    said = np.array([[0.0, 2.0, 2.0, 1.0]])
    assert score_values(said, truth, metrics=("dice", "acc"))["dice"] == 0.0
    assert score_values(said, truth, metrics=("dice", "acc"), threshold=1.5) == {"dice": 0.5, "acc": 0.5}
    assert score_values(said, truth, metrics=("iou",), threshold=50) == {"iou": None}


def test_what_cannot_be_compared_is_refused():
    said, right = pair()
    with pytest.raises(BadInput, match=r"\(40, 50\).*\(40, 49\)"):
        score_values(said, right[:, :-1])
    with pytest.raises(BadInput, match="not finite"):
        score_values(np.full(right.shape, np.nan), right)
    with pytest.raises(NotFound, match="ssim"):
        score_values(said, right, metrics=("ssin",))


def test_integers_do_not_wrap():
    said, right = np.zeros((9, 9), np.uint8), np.full((9, 9), 200, np.uint8)
    right[0, 0] = 100
    assert score_values(said, right, metrics=("mae",))["mae"] == pytest.approx((80 * 200 + 100) / 81)


@pytest.mark.parametrize(("orientation", "count"), [("xy", 3), ("xz", 12), ("yz", 15), ("xyz", 1)])
def test_planes_of_a_volume(orientation, count):
    said, right = pair((3, 12, 15))
    rows = list(score_volume("im", said, right, orientation))
    assert len(rows) == count
    assert [row["pred_name"] for row in rows][:2] == (
        [f"im_{orientation}0", f"im_{orientation}1"][:count] if count > 1 else ["im"]
    )
    cuts = {"xy": lambda v: v[1], "xz": lambda v: v[:, 1], "yz": lambda v: v[:, :, 1], "xyz": lambda v: v}
    expected = score_values(cuts[orientation](said), cuts[orientation](right))
    row = rows[min(1, count - 1)]
    assert {metric: row[metric] for metric in METRICS} == pytest.approx(expected)


def test_slices_are_counted_from_the_first_and_other_planes_from_zero():
    said, right = pair((2, 4, 5))
    for orientation, first in (("xy", 7), ("xz", 0), ("yz", 0)):
        rows = list(score_volume("im", said, right, orientation, first=7, measure=Measure(("mae",))))
        assert [row["pred_name"] for row in rows[:2]] == [f"im_{orientation}{first}", f"im_{orientation}{first + 1}"]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("shape", [(2, 12, 15), (3, 11, 15), (3, 12, 14)])
def test_volumes_of_other_sizes_are_refused_and_no_plane_is_dropped(orientation, shape):
    said, right = pair((3, 12, 15))
    other = tuple(slice(side) for side in shape)
    for pieces in ((said[other], right, None), (said, right[other], None), (said, right, np.ones(shape, bool))):
        with pytest.raises(BadInput, match=re.escape(str(shape))):
            list(score_volume("im", *pieces[:2], orientation, mask=pieces[2]))


def test_every_orientation_sees_every_pixel_once():
    volume = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    for orientation in ORIENTATIONS:
        seen = np.concatenate([part.ravel() for _, part in views(volume, orientation)])
        assert sorted(seen) == list(range(24))
    with pytest.raises(NotFound, match="'xw'"):
        list(views(volume, "xw"))


def test_a_table_with_a_mask(tmp_path):
    said, right = pair((3, 12, 15))
    mask = np.zeros(right.shape, bool)
    mask[0, :6], mask[1] = True, True
    measure = Measure(metrics=("corr", "mae"))
    rows = list(score_volume("im", said, right, "xy", mask=mask, measure=measure))
    write_rows(tmp_path / "metrics_xy.csv", rows)
    with (tmp_path / "metrics_xy.csv").open() as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == ["pred_name", "corr", "mae", "vol_frac", "corr_masked", "mae_masked"]
    assert [float(row["vol_frac"]) for row in read] == [0.5, 1.0, 0.0]
    assert read[2]["corr_masked"] == ""
    assert float(read[0]["mae_masked"]) == pytest.approx(np.abs(said - right)[0, :6].mean())
    assert float(read[1]["mae_masked"]) == float(read[1]["mae"])
    means = mean_row(rows)
    assert means["mae"] == pytest.approx(np.mean([row["mae"] for row in rows]))
    assert means["mae_masked"] == pytest.approx(np.mean([row["mae_masked"] for row in rows[:2]]))
    assert mean_row([]) == {}


def test_a_line_equals_least_squares_whatever_the_pieces():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(3, 40, 30)) * 50 + 30_000
    target = np.stack([image[0] * 2 - image[2], image[1] + 5]) + rng.normal(size=(2, 40, 30))
    fit = LinearFit(3, 2)
    for rows in (slice(0, 7), slice(7, 30), slice(30, 40)):
        fit.add(image[:, rows], target[:, rows])
    design = np.column_stack([image.reshape(3, -1).T, np.ones(1200)])
    solution = np.linalg.lstsq(design, target.reshape(2, -1).T, rcond=None)[0]
    np.testing.assert_allclose(fit.predict(image).reshape(2, -1), (design @ solution).T, rtol=1e-6)
    np.testing.assert_allclose(fit.mean, target.mean(axis=(1, 2)))
    np.testing.assert_allclose(
        fit.predict_mean(image), np.broadcast_to(target.mean(axis=(1, 2))[:, None, None], (2, 40, 30))
    )


def test_a_line_leaves_the_unknown_out_and_takes_channels_that_are_alike():
    rng = np.random.default_rng(0)
    image = np.repeat(rng.normal(size=(1, 20, 20)), 2, axis=0)
    target = 3 * image[:1] + 1
    target[0, :5] = np.nan
    mask = np.ones((20, 20), bool)
    mask[5:8] = False
    broken = np.where(mask, target, 1e9)
    fit = LinearFit(2, 1)
    fit.add(image, broken, mask)
    assert fit.count == 12 * 20
    np.testing.assert_allclose(fit.predict(image), 3 * image[:1] + 1, atol=1e-6)
    with pytest.raises(BadInput, match="channels"):
        fit.add(image[:1], target)


def test_a_line_without_spread_is_its_mean():
    fit = LinearFit(1, 1)
    fit.add(np.full((1, 4, 4), 5.0), np.full((1, 4, 4), 2.0))
    np.testing.assert_allclose(fit.predict(np.full((1, 2, 2), 9.0)), 2.0)
