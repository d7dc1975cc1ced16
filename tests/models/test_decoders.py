"""Every decoder against its formula, written out pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from math import exp

import numpy as np
import pytest
import torch
from skimage.filters import threshold_otsu

from fieldmark.models.decoders import AdaptiveHead
from fieldmark.models.heads import build_head, enlarge

SIZE = (12, 16)
KERNELS = np.array([0, 1, 1, 0, 1, 0])


def maps(seed: int, *, fine: bool = False) -> np.ndarray:
    """(6, y, x) of kernels of two classes, some empty in places, as after a ReLU."""
    rng = np.random.default_rng(seed)
    shape = SIZE if fine else (SIZE[0] // 4, SIZE[1] // 4)
    values = np.maximum(rng.normal(0.3, 1, (6, *shape)), 0) * rng.uniform(0.2, 5, (6, 1, 1))
    return values.astype(np.float32)


def tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))[None]


def full(values: np.ndarray) -> np.ndarray:
    return enlarge(tensor(values), SIZE)[0].numpy().astype(np.float64)


def stretched(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def head(decoder: str, *, background: int = 0, kernels: np.ndarray = KERNELS, classes: int = 2) -> AdaptiveHead:
    made = AdaptiveHead(decoder, 0, classes, background, "half")  # type: ignore[arg-type]
    made.kernel_class = torch.from_numpy(kernels)
    return made


def saliency(made: AdaptiveHead, values: np.ndarray, klass: int = 1) -> np.ndarray:
    return made([tensor(values)], SIZE)[0, klass].numpy()


def parted(band: np.ndarray) -> float:
    """The greatest value of the lower class of Otsu, by trying every cut; scikit-image's bins may cut a class."""
    values = np.sort(band, axis=None)
    cuts = [place for place in range(1, len(values)) if values[place] > values[place - 1]]
    spread = [place * (len(values) - place) * (values[:place].mean() - values[place:].mean()) ** 2 for place in cuts]
    return float(values[cuts[int(np.argmax(spread))] - 1])


def vanilla(values: np.ndarray, threshold_of: Callable[[np.ndarray], float] = threshold_otsu) -> np.ndarray:
    bands = [stretched(band) for band in full(values) if band.max() > band.min()]
    means = np.array([band.mean() for band in bands])
    threshold, spread = threshold_otsu(means), means.var()
    total = np.zeros(SIZE)
    for band, mean in zip(bands, means, strict=True):
        share = (band > threshold_of(band)).mean()
        if mean >= threshold + spread and share > 0.2:
            total -= band
        elif mean <= (threshold - spread if threshold > 0.1 else threshold) and share < 0.1:
            total += band
    return stretched(np.maximum(total, 0))


def around(values: np.ndarray, group: list[int], y: int, x: int) -> list[float]:
    height, width = values.shape[1:]
    found = []
    for dy, dx in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)):
        at = min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)
        found += [float(values[k][at]) for k in group]
    return found


def scaled(values: np.ndarray) -> np.ndarray:
    top = values.reshape(len(values), -1).max(axis=1).astype(np.float64)  # of the map itself, not of its enlargement
    return values.astype(np.float64) / np.where(top > 0, top, 1)[:, None, None]


def by_mean(values: np.ndarray, own: list[int], others: list[int]) -> np.ndarray:
    bands = scaled(values)
    total = np.zeros(values.shape[1:])
    for y, x in np.ndindex(*total.shape):
        mine = np.mean(around(bands, own, y, x)) if own else 0.0
        theirs = np.mean(around(bands, others, y, x)) if others else 0.0
        for k in range(len(bands)):
            if k in own and mine > theirs:
                total[y, x] += bands[k, y, x]
            if k in others and mine < theirs:
                total[y, x] -= bands[k, y, x]
    return stretched(full(np.maximum(total, 0)[None])[0])


def likelihood(value: float, samples: list[float]) -> float:
    if not samples:
        return 0.0
    mean, variance = np.mean(samples), np.var(samples)
    variance = 1.0 if variance < 1e-7 else variance
    return exp(-((value - mean) ** 2) / (2 * variance))


def by_likelihood(values: np.ndarray, own: list[int], others: list[int]) -> np.ndarray:
    bands = scaled(values)
    total = np.zeros(values.shape[1:])
    for y, x in np.ndindex(*total.shape):
        mine, theirs = around(bands, own, y, x), around(bands, others, y, x)
        for k in range(len(bands)):
            for_it, against = likelihood(bands[k, y, x], mine), likelihood(bands[k, y, x], theirs)
            if k in own and for_it > against:
                total[y, x] += bands[k, y, x]
            if k in others and for_it < against:
                total[y, x] -= bands[k, y, x]
    return stretched(full(np.maximum(total, 0)[None])[0])


def members(klass: int) -> tuple[list[int], list[int]]:
    return [k for k, c in enumerate(KERNELS) if c == klass], [k for k, c in enumerate(KERNELS) if c != klass]


@pytest.mark.parametrize("seed", range(6))
def test_vanilla(seed):
    values = maps(seed, fine=True)
    values[0] = 0
    values[0, 2:4, 3:6] = 2  # a small thing
    values[1] = 6 - values[1]  # and a wide one
    values[2] = 4
    expected = vanilla(values)
    assert np.allclose(saliency(head("vanilla"), values), expected, atol=1e-5)
    assert expected.max() == 1


@pytest.mark.parametrize("faint", [1.0, 0.05])
def test_vanilla_of_things_of_all_sizes(faint):
    """Maps that are bright on a share of the image, from hardly anything to a half; faint: hardly above the ground."""
    told = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        values = rng.random((12, *SIZE)) * 0.02
        for band in values:
            band[rng.random(SIZE) < rng.uniform(0.01, 0.5)] += rng.uniform(0.2, 1) * faint
            band[0, 0] = 1.0
        expected = vanilla(values, parted)
        made = head("vanilla")
        made.kernel_class = torch.zeros(12, dtype=torch.int64)
        assert np.allclose(saliency(made, values), expected, atol=1e-4), seed
        told += expected.max() == 1
    assert told > 5


@pytest.mark.parametrize("seed", range(4))
def test_flat_neighborhoods_have_the_variance_of_the_formula(seed):
    """Kernels of the class that agree in and around a pixel have no variance; it is taken for 1, not for nothing."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 1, (6, 12, 16))
    values[KERNELS == 1] = np.kron(rng.uniform(0.2, 0.8, (3, 4)), np.ones((4, 4)))
    values[:, 0, 0] = 1
    found = saliency(head("probabilistic"), values.astype(np.float32))
    assert np.allclose(found, by_likelihood(values, *members(1)), atol=2e-5)
    assert 0 < found.mean() < 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("background", [0, 1])
@pytest.mark.parametrize(("decoder", "formula"), [("mean", by_mean), ("probabilistic", by_likelihood)])
def test_decoders_of_classes(decoder, formula, background, seed):
    values = maps(seed)
    object_ = 1 - background
    found = saliency(head(decoder, background=background), values, object_)
    assert np.allclose(found, formula(values, *members(object_)), atol=2e-5)
    swapped = formula(values, *members(background))
    assert np.abs(found - swapped).max() > 0.1


@pytest.mark.parametrize(("decoder", "formula"), [("mean", by_mean), ("probabilistic", by_likelihood)])
def test_a_class_without_kernels(decoder, formula):
    values = maps(1)
    ours = head(decoder, kernels=np.ones(6, np.int64))
    assert np.allclose(saliency(ours, values), formula(values, list(range(6)), []), atol=1e-5)
    none = head(decoder, kernels=np.zeros(6, np.int64))
    assert (saliency(none, values) == 0).all()


def labelled(weights: np.ndarray, classes: int = 2, background: int = 0) -> AdaptiveHead:
    made = head("labelled", classes=classes, background=background)
    made.importance = torch.from_numpy(weights.astype(np.float32))
    return made


def test_labelled():
    values, weights = maps(2), np.random.default_rng(2).normal(size=(2, 6))
    total = np.zeros(values.shape[1:])
    for k in range(6):
        total += weights[1, k] * values[k]
    expected = stretched(np.maximum(full(total[None])[0], 0))
    assert np.allclose(saliency(labelled(weights), values), expected, atol=1e-5)


def test_importance_by_loops():
    from fieldmark.learn.decoders import importance

    rng = np.random.default_rng(3)
    marks, classes = rng.random((20, 4)), rng.integers(0, 3, 20)
    expected = np.zeros((4, 4))
    for c in range(3):
        for k in range(4):
            own = [marks[i, k] for i in range(20) if classes[i] == c]
            rest = [1 - marks[i, k] for i in range(20) if classes[i] != c]
            expected[c, k] = sum(own) / len(own) + sum(rest) / len(rest)
        expected[c] -= sum(expected[c]) / 4
    assert np.allclose(importance(marks, classes, 4), expected)
    assert np.allclose(importance(marks, np.zeros(20, int), 1)[0], marks.mean(axis=0) - marks.mean())


def test_three_classes_are_one_against_the_rest_and_sum_to_one():
    values, weights = maps(4), np.random.default_rng(4).normal(size=(3, 6))
    shares = labelled(weights, 3, background=1)([tensor(values)], SIZE)[0].numpy()
    alone = {}
    for klass in (0, 2):
        total = np.maximum(full(np.tensordot(weights[klass], values, axes=1)[None])[0], 0)
        alone[klass] = stretched(total)
    ground = 1 - np.maximum(alone[0], alone[2])
    expected = np.stack([alone[0], ground, alone[2]]) / (alone[0] + ground + alone[2])
    assert np.allclose(shares, expected, atol=1e-5)


@pytest.mark.parametrize("decoder", ["vanilla", "mean", "probabilistic", "labelled"])
def test_a_batch_of_two_is_each_alone(decoder):
    made = labelled(np.random.default_rng(5).normal(size=(2, 6))) if decoder == "labelled" else head(decoder)
    one, two = tensor(maps(6)), tensor(maps(7) * 9)
    together = made([torch.cat([one, two])], SIZE)
    assert torch.equal(together, torch.cat([made([one], SIZE), made([two], SIZE)]))


@pytest.mark.parametrize("decoder", ["vanilla", "mean", "probabilistic", "labelled"])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_maps_of_one_value_are_background(decoder, value):
    made = labelled(np.ones((2, 6))) if decoder == "labelled" else head(decoder)
    made.threshold = "otsu"
    shares = made([tensor(np.full((6, 3, 4), value))], SIZE)[0].numpy()
    assert (shares[0] == 1).all()
    assert (shares[1] == 0).all()


@pytest.mark.parametrize("decoder", ["mean", "labelled"])
def test_one_half_is_otsu_threshold(decoder):
    values = maps(8)
    made = labelled(np.random.default_rng(8).normal(size=(2, 6))) if decoder == "labelled" else head(decoder)
    raw = saliency(made, values)
    made.threshold = "otsu"
    found = saliency(made, values)
    wanted = raw > threshold_otsu(raw, nbins=2048)
    assert ((found > 0.5) != wanted).mean() <= 0.01
    order = np.argsort(raw, axis=None)
    assert (np.diff(found.ravel()[order]) >= -1e-6).all()


@pytest.mark.parametrize("decoder", ["vanilla", "mean", "probabilistic", "labelled"])
def test_a_survey_in_parts_is_that_of_the_whole(decoder):
    made = labelled(np.random.default_rng(9).normal(size=(2, 6))) if decoder == "labelled" else head(decoder)
    levels = [tensor(maps(9))]
    seen = ()
    for _ in range(made.rounds):
        total = None
        for rows, columns in [(slice(8, 12), slice(0, 16)), (slice(0, 8), slice(0, 4)), (slice(0, 8), slice(4, 16))]:
            part = made.survey(levels, SIZE, (rows, columns), seen)
            total = part if total is None else total + part
        seen = (*seen, total)
    for parts, whole in zip(seen, made.survey_whole(levels, SIZE), strict=True):
        assert np.array_equal(parts.histogram, whole.histogram)
        assert np.array_equal(parts.high, whole.high)
        assert np.allclose(parts.total, whole.total, rtol=1e-12)


def test_volumes_have_six_neighbors():
    values = np.maximum(np.random.default_rng(10).normal(0.3, 1, (6, 3, 4, 5)), 0).astype(np.float32)
    shares = head("mean")([tensor(values)], values.shape[1:])[0].numpy()
    bands = values / values.reshape(6, -1).max(axis=1)[:, None, None, None]
    padded = np.pad(bands, ((0, 0), (1, 1), (1, 1), (1, 1)), mode="edge")
    inner = (slice(None), slice(1, -1), slice(1, -1), slice(1, -1))
    turned = [np.roll(padded, step, axis) for axis in (1, 2, 3) for step in (-1, 1)]
    moved = [one[inner] for one in (padded, *turned)]
    mine = np.mean([m[KERNELS == 1] for m in moved], axis=(0, 1))
    theirs = np.mean([m[KERNELS == 0] for m in moved], axis=(0, 1))
    total = (mine > theirs) * bands[KERNELS == 1].sum(axis=0) - (mine < theirs) * bands[KERNELS == 0].sum(axis=0)
    assert np.allclose(shares[1], stretched(np.maximum(total, 0)), atol=1e-5)


def test_a_head_is_built_from_its_config():
    made = head("mean", background=1)
    again = build_head(made.config())
    assert isinstance(again, AdaptiveHead)
    assert again.config() == made.config()


@pytest.mark.parametrize("change", [{"decoder": "best"}, {"background": 2}, {"threshold": "third"}])
def test_a_config_that_makes_no_sense_is_refused(change):
    with pytest.raises(ValueError, match="no decoder"):
        build_head(head("mean").config() | change)


@pytest.mark.parametrize("decoder", ["mean", "labelled"])
def test_tensors_of_another_level_are_refused(decoder):
    made = labelled(np.ones((2, 5))) if decoder == "labelled" else head(decoder, kernels=KERNELS[:5])
    with pytest.raises(ValueError, match=r"5 .*the level has 6"):
        made([tensor(maps(0))], SIZE)
