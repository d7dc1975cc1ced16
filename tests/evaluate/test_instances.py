"""Objects against loops over pixels and objects: overlaps, precision, quality, splits and merges, splitting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.errors import BadInput
from fieldmark.evaluate.instances import (
    METRICS,
    THRESHOLDS,
    average_precision,
    find_fits,
    objects_of,
    panoptic_quality,
    score_objects,
    variation,
)


def squares(*boxes, shape=(40, 40)):
    labels = np.zeros(shape, np.uint16)
    for number, (top, left, bottom, right) in enumerate(boxes, start=1):
        labels[top:bottom, left:right] = 7 * number
    return labels


def loops(prediction, truth, threshold):
    """TP, FP, FN and the overlaps of what fits, by sets of pixels."""

    def objects(labels):
        return {n: {tuple(at) for at in np.argwhere(labels == n).tolist()} for n in np.unique(labels) if n > 0}

    said, right = objects(prediction), objects(truth)
    fits = [len(a & b) / len(a | b) for a in said.values() for b in right.values()]
    fits = [iou for iou in fits if iou > threshold]
    return len(fits), len(said) - len(fits), len(right) - len(fits), sum(fits)


def random_labels(seed):
    """Two maps of boxes, the second like the first but moved, with some objects lost and some new."""
    rng = np.random.default_rng(seed)
    maps = np.zeros((2, 14, 16), np.int64)
    for number in range(1, rng.integers(1, 7)):
        top, left = rng.integers(0, 10, 2)
        high, wide = rng.integers(1, 6, 2)
        for place in range(2):
            if rng.random() < 0.85:
                dy, dx = rng.integers(0, 2, 2) * place
                maps[place, top + dy : top + dy + high, left + dx : left + dx + wide] = number * 300 + place
    return maps


@given(st.integers(0, 2**32 - 1).map(random_labels))
@settings(max_examples=60, deadline=None)
def test_all_ratios_equal_loops_over_sets_of_pixels(maps):
    prediction, truth = maps
    fits = find_fits(prediction, truth)
    for threshold in THRESHOLDS:
        tp, fp, fn, _ = loops(prediction, truth, threshold)
        expected = tp / (tp + fp + fn) if tp + fp + fn else None
        assert average_precision(fits, threshold) == pytest.approx(expected)
    tp, fp, fn, total = loops(prediction, truth, 0.5)
    pq, sq, rq = panoptic_quality(fits)
    assert pq == (pytest.approx(total / (tp + fp / 2 + fn / 2)) if tp + fp + fn else None)
    assert sq == (pytest.approx(total / tp) if tp else None)
    assert rq == (pytest.approx(tp / (tp + fp / 2 + fn / 2)) if tp + fp + fn else None)
    scores = score_objects(prediction, truth)
    assert list(scores) == list(METRICS)
    known = [average_precision(fits, threshold) for threshold in THRESHOLDS]
    assert scores["ap"] == (None if known[0] is None else pytest.approx(np.mean(known)))


def test_thresholds_are_those_of_the_data_science_bowl():
    assert THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def test_an_overlap_of_exactly_one_half_does_not_fit():
    truth, prediction = squares((0, 0, 1, 2)), squares((0, 0, 1, 1))
    assert find_fits(prediction, truth).iou.tolist() == []
    assert score_objects(prediction, truth)["ap50"] == 0.0


def test_an_overlap_counts_at_the_thresholds_below_it():
    truth, prediction = squares((0, 0, 10, 25)), squares((0, 0, 10, 18))  # 0.72
    scores = score_objects(prediction, truth)
    assert (scores["ap50"], scores["ap75"], scores["ap"]) == (1.0, 0.0, 0.5)
    assert (scores["pq"], scores["sq"], scores["rq"]) == pytest.approx((0.72, 0.72, 1.0))


def test_one_object_that_covers_two_is_one_extra_and_two_missed():
    truth = squares((0, 0, 10, 10), (0, 10, 10, 20))
    merged = squares((0, 0, 10, 20))
    scores = score_objects(merged, truth)
    assert (scores["ap50"], scores["pq"], scores["sq"]) == (0.0, 0.0, None)
    assert scores["vi_merge"] == pytest.approx(1.0)  # one bit: which of two equal halves
    assert scores["vi_split"] == pytest.approx(0.0)
    scores = score_objects(truth, merged)
    assert (scores["vi_split"], scores["vi_merge"]) == pytest.approx((1.0, 0.0))


def test_nothing_is_no_number_and_a_false_alarm_is_zero():
    nothing, one = squares(), squares((2, 2, 6, 6))
    assert score_objects(nothing, nothing) == dict.fromkeys(METRICS)
    assert score_objects(one, nothing)["ap"] == 0.0
    assert score_objects(nothing, one)["ap50"] == 0.0
    assert score_objects(nothing, one)["pq"] == 0.0
    assert score_objects(one, one) == pytest.approx(dict.fromkeys(METRICS, 1.0) | {"vi_split": 0.0, "vi_merge": 0.0})


def test_what_nobody_knows_counts_for_nobody():
    truth = squares((0, 0, 10, 10), (20, 20, 30, 30))
    unknown = np.zeros((40, 40), bool)
    unknown[20:40] = True
    # one right, one in the unknown, one that reaches in with a third of its pixels
    prediction = squares((0, 0, 10, 10), (22, 0, 30, 8), (18, 30, 24, 36))
    fits = find_fits(prediction, truth, unknown)
    assert (fits.predicted, fits.true, fits.right(0.5)) == (1, 1, 1)
    # of one that lies there by half, nobody says that it is wrong; of one that lies there by less, it is
    for rows, predicted in ((4, 1), (5, 2)):
        prediction = squares((0, 0, 10, 10), (20 - rows, 30, 24, 36))
        assert find_fits(prediction, truth, unknown).predicted == predicted
    # an object that fits by the part that is known stays, though most of it is unknown
    truth, prediction = squares((16, 0, 20, 10)), squares((16, 0, 26, 10))
    fits = find_fits(prediction, truth, unknown)
    assert (fits.predicted, fits.true, fits.right(0.5)) == (1, 1, 1)


def entropies(prediction, truth):
    """Conditional entropies by counting, in bits: prediction given truth, truth given prediction."""
    pairs = list(zip(prediction.ravel().tolist(), truth.ravel().tolist(), strict=True))
    n = len(pairs)

    def given(key, value):
        total = 0.0
        for k in {key(p) for p in pairs}:
            inside = [value(p) for p in pairs if key(p) == k]
            for v in set(inside):
                share = inside.count(v) / len(inside)
                total -= len(inside) / n * share * math.log2(share)
        return total

    return given(lambda p: p[1], lambda p: p[0]), given(lambda p: p[0], lambda p: p[1])


def test_variation_equals_entropies_by_counting():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(1, 5, (2, 12, 12))
    assert variation(prediction, truth) == pytest.approx(entropies(prediction, truth))


def test_objects_may_have_any_numbers():
    """Such as colors packed into 32 bits: what is asked for is no table as wide as the largest number."""
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 5, (2, 12, 12))
    wide = np.array([0, 3, 300_000_001, 4_000_000_000, 2**32 - 1], np.uint32)
    expected = score_objects(prediction, truth)
    assert score_objects(wide[prediction], wide[truth]) == pytest.approx(expected)
    # a signed copy of such numbers
    signed = wide.astype(np.int32)
    assert variation(signed[prediction], truth) == pytest.approx((expected["vi_split"], expected["vi_merge"]))


def test_variation_looks_at_true_objects_alone_and_forgives_borders():
    truth = np.ones((20, 41), int)
    truth[:, 20], truth[:, 21:] = 0, 2
    wide = truth.copy()
    wide[:, 17:24] = 0
    assert variation(wide, truth) == pytest.approx((0.0, 0.0))
    unknown = np.zeros(truth.shape, bool)
    unknown[:, :21] = True
    cut = np.where(np.arange(41) < 10, 5, wide)
    assert variation(cut, truth)[0] > 0.4
    assert variation(cut, truth, unknown) == pytest.approx((0.0, 0.0))
    assert variation(np.zeros_like(truth), truth) == pytest.approx((0.0, 1.0))
    assert variation(truth, np.zeros_like(truth)) is None


def test_shapes_must_agree():
    with pytest.raises(BadInput, match=r"truth has \(3, 4\)"):
        score_objects(np.zeros((3, 3), int), np.zeros((3, 4), int))


def discs(*centers, radius=8, shape=(40, 60)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.any([(y - cy) ** 2 + (x - cx) ** 2 <= radius**2 for cy, cx in centers], axis=0)


def test_components_touch_by_corners_too():
    mask = np.zeros((6, 6), bool)
    mask[0, 0] = mask[1, 1] = mask[5, 5] = True
    labels = objects_of(mask)
    assert labels.max() == 2
    assert labels[0, 0] == labels[1, 1] != labels[5, 5]


def test_specks_are_left_out():
    mask = np.zeros((8, 8), bool)
    mask[0, 0] = mask[2:4, 2:4] = mask[6, 5:8] = True
    assert [objects_of(mask, 0, area).max() for area in (0, 1, 2, 3, 4, 5)] == [3, 3, 2, 2, 1, 0]
    assert objects_of(mask, 3, 4)[2, 2] == 1


def test_touching_discs_are_split_and_one_disc_is_not():
    mask = discs((20, 15), (20, 29), (20, 50))
    assert objects_of(mask).max() == 2
    labels = objects_of(mask, split=7)
    assert labels.max() == 3
    assert ((labels > 0) == mask).all()
    truth = np.zeros(mask.shape, int)
    for number, cx in enumerate((15, 29, 50), start=1):
        truth[discs((20, cx)) & (truth == 0)] = number
    assert score_objects(labels, truth)["ap75"] == 1.0
    long = np.zeros((40, 60), bool)
    long[15:25, 5:55] = True  # a bar has many middles but no neck
    assert objects_of(long, split=7).max() == 1


def test_objects_that_the_image_cuts_are_split_too():
    """Their middles lie at its border; of one slice, or a thin volume, all do."""
    half = discs((0, 15), (0, 29))
    assert objects_of(half, split=7).max() == 2
    thin = np.stack([discs((20, 15), (20, 29))] * 3)
    assert objects_of(thin[:1], split=7).max() == objects_of(thin, split=7).max() == 2


def test_splitting_keeps_small_objects_and_empty_or_full_masks():
    mask = discs((20, 15), (20, 29))
    mask[0, 0] = True
    labels = objects_of(mask, split=7)
    assert labels.max() == 3
    assert ((labels > 0) == mask).all()
    assert objects_of(np.zeros((9, 9), bool), split=5).max() == 0
    full = objects_of(np.ones((9, 9), bool), split=5)
    assert full.min() == full.max() == 1


def test_volumes_are_split_and_scored():
    z, y, x = np.mgrid[:20, :20, :36]
    near = ((z - 10) ** 2 + (y - 10) ** 2 + (x - 10) ** 2 <= 49) * 1
    far = ((z - 10) ** 2 + (y - 10) ** 2 + (x - 23) ** 2 <= 49) * 2
    truth = np.where(near > 0, near, far)
    labels = objects_of(truth > 0, split=5)
    assert labels.max() == 2
    assert score_objects(labels, truth)["ap75"] == 1.0


def test_objects_are_those_of_prediction(tmp_path):
    """The same rule as `predict --instances`, on an image of one block."""
    from fieldmark.core.geometry import Box
    from fieldmark.images import open_image
    from fieldmark.images.writers import create_writer
    from fieldmark.infer.instances import ObjectRule, write_objects

    rng = np.random.default_rng(3)
    mask = np.any(
        [
            discs(tuple(c), radius=r, shape=(120, 140))
            for c, r in zip(rng.integers(5, 115, (30, 2)), rng.integers(4, 10, 30), strict=True)
        ],
        axis=0,
    )
    whole = Box((0, 0, 0, 0, 0), (1, 1, 1, 120, 140))
    writer = create_writer(tmp_path / "m.ome.zarr", "ome-zarr", shape=whole.shape, dtype="uint8")
    writer.write(whole, mask[None, None, None].astype(np.uint8))
    writer.finish()
    for split in (0, 7):
        write_objects(tmp_path / "m.ome.zarr", tmp_path / "o.ome.zarr", ObjectRule(1, solid=False, split=split))
        with open_image(tmp_path / "o.ome.zarr") as source:
            theirs = source.read(whole)[0, 0, 0]
        ours = objects_of(mask, split=split)
        assert score_objects(ours, theirs)["ap75"] > (0.85 if split else 0.999)
