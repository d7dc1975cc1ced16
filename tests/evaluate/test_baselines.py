"""Baselines: what they answer, and that they answer the same twice."""

from __future__ import annotations

import numpy as np
import pytest

from fieldmark.errors import NothingLabelled
from fieldmark.evaluate.baselines import class_shares, forest, forest_features, majority, random, random_walker


@pytest.fixture(scope="module")
def discs():
    """A bright disc on dark noise, twice, with a stroke for each class; truth is 2 on the disc, 5 off it."""
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[:64, :64]
    truth = np.where(np.hypot(yy - 30, xx - 34) < 15, 2, 5)
    images = [(np.where(truth == 2, 0.7, 0.3) + rng.normal(0, 0.05, truth.shape))[..., None] for _ in range(2)]
    strokes = np.zeros(truth.shape, int)
    strokes[29:31, 25:42] = 2
    strokes[4:6, 5:55] = strokes[56:58, 5:55] = 5
    return images, strokes, truth


def test_shares():
    values, shares = class_shares([np.array([[0, 3, 3]]), np.array([[7, 3, 0]])])
    assert values.tolist() == [3, 7]
    assert shares.tolist() == [0.75, 0.25]
    with pytest.raises(NothingLabelled):
        class_shares([np.zeros((2, 2), int)])
    with pytest.raises(NothingLabelled):
        class_shares([])


def test_majority_answers_one_class():
    answer = majority([np.array([[0, 0, 0, 3, 7, 7]])]).predict(np.zeros((2, 3, 1)), "a")
    assert answer.labels.tolist() == [[7] * 3] * 2


def test_random_keeps_the_shares_and_repeats_itself():
    method = random([np.array([[3, 3, 3, 7]])], seed=1)
    first = method.predict(np.zeros((200, 200, 1)), "a").labels
    assert (first == 3).mean() == pytest.approx(0.75, abs=0.01)
    assert set(np.unique(first)) == {3, 7}
    assert (first == method.predict(np.zeros((200, 200, 1)), "a").labels).all()
    assert (first != method.predict(np.zeros((200, 200, 1)), "b").labels).any()


def test_forest_finds_the_disc_in_the_other_image(discs):
    images, strokes, truth = discs
    method = forest([images[0]], [strokes], classes=[2, 5])
    answer = method.predict(images[1], "b")
    assert (answer.labels == truth).mean() > 0.95
    assert answer.probabilities.shape == (2, 64, 64)
    np.testing.assert_allclose(answer.probabilities.sum(axis=0), 1, atol=1e-6)
    assert (np.array([2, 5])[answer.probabilities.argmax(axis=0)] == answer.labels).mean() > 0.99


def test_forest_repeats_itself_and_skips_images_without_strokes(discs):
    images, strokes, _ = discs
    first = forest([images[0]], [strokes]).predict(images[1], "b")
    second = forest([images[1], images[0]], [np.zeros_like(strokes), strokes]).predict(images[1], "b")
    assert (first.probabilities == second.probabilities).all()


def test_forest_keeps_the_wanted_order_with_a_class_nobody_drew(discs):
    images, strokes, _ = discs
    plain = forest([images[0]], [strokes]).predict(images[1], "b").probabilities
    ordered = forest([images[0]], [strokes], classes=[5, 9, 2]).predict(images[1], "b").probabilities
    assert (ordered[[2, 0]] == plain).all()
    assert (ordered[1] == 0).all()


def test_forest_features_are_the_gallerys():
    from skimage.feature import multiscale_basic_features

    image = np.random.default_rng(0).random((40, 40, 2))
    expected = multiscale_basic_features(
        image, intensity=True, edges=False, texture=True, sigma_min=1, sigma_max=16, channel_axis=-1
    )
    assert (forest_features(image) == expected).all()
    assert expected.shape == (40, 40, 30)


def test_random_walker_spreads_the_strokes(discs):
    images, strokes, truth = discs
    answer = random_walker(images[0], strokes)
    assert (answer.labels == truth).mean() > 0.95
    assert (answer.labels[strokes > 0] == strokes[strokes > 0]).all()
    assert 0 <= answer.probabilities.min() <= answer.probabilities.max() <= 1


def test_random_walker_with_one_class_or_none():
    one = random_walker(np.zeros((4, 4, 1)), np.array([[3, 0, 0, 0]] * 4))
    assert (one.labels == 3).all()
    with pytest.raises(NothingLabelled):
        random_walker(np.zeros((4, 4, 1)), np.zeros((4, 4), int))
