"""Features picked at pixels equal those of the enlarged maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fieldmark.learn.sampling import features_at
from fieldmark.models.heads import enlarge, enlarged_at
from fieldmark.recipes import FitRecipe
from fieldmark.testing.drawn import drawn_job
from fieldmark.testing.families import fitted


@pytest.mark.parametrize(("own", "full"), [((5, 7), (20, 28)), ((5, 7), (18, 25)), ((1, 1), (8, 8)), ((9, 4), (9, 4))])
def test_pixels_of_a_map_as_if_it_was_enlarged(own, full):
    level = torch.from_numpy(np.random.default_rng(0).normal(size=(3, *own)).astype(np.float32))
    at = np.argwhere(np.ones(full))
    whole = enlarge(level[None], full)[0].numpy()
    assert np.allclose(enlarged_at(level, torch.from_numpy(at), full), whole[:, at[:, 0], at[:, 1]].T, atol=1e-6)


def test_pixels_of_a_volume():
    level = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32))
    at = np.argwhere(np.ones((6, 12, 10)))
    whole = enlarge(level[None], (6, 12, 10))[0].numpy()
    assert np.allclose(enlarged_at(level, torch.from_numpy(at), (6, 12, 10)), whole[:, *at.T].T, atol=1e-6)


def test_features_come_in_the_order_that_was_asked_for(tmp_path):
    job = drawn_job(tmp_path, FitRecipe(family="autoencoder"))
    model = fitted(tmp_path / "model", FitRecipe(family="flim", net={"branches": [{"layers": [{}]}], "scales": [2.0]}))
    job.samples.preparation = model.header.preparation
    images = np.array([1, 0, 1, 0])
    places = np.array([[0, 0, 5, 90], [0, 0, 5, 90], [0, 0, 70, 3], [0, 0, 0, 0]])
    features, widths = features_at(model.net, job.samples, images, places)
    for row, (image, place) in enumerate(zip(images, places, strict=True)):
        alone, _ = features_at(model.net, job.samples, np.array([image]), place[None])
        assert np.array_equal(features[row], alone[0])
    assert features.shape == (4, sum(widths))
    assert not np.array_equal(features[0], features[1])


@pytest.mark.parametrize("family", ["flim", "autoencoder"])
def test_levels_at_pixels_are_the_levels_of_the_image_there(tmp_path, family):
    net = {"branches": [{"layers": [{"pool": "max"}, {"pool": "avg"}]}, {"layers": [{}]}], "scales": [0.5, 16.0]}
    recipe = FitRecipe(family=family, net=net if family == "flim" else {}, head={"kind": "none"})
    model = fitted(tmp_path / "model", recipe)
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(1, model.net.channels, 72, 104)).astype(np.float32))
    at = np.concatenate([np.argwhere(np.ones((3, 104))), [[71, 103], [71, 0], [0, 103], [40, 17]]])
    with torch.inference_mode():
        whole = [enlarge(level, x.shape[2:])[0].numpy() for level in model.net.levels(x)]
        single = model.net.levels_at(x, torch.from_numpy(at))
    for level, found in zip(whole, single, strict=True):
        assert np.abs(found.numpy() - level[:, at[:, 0], at[:, 1]].T).max() < 1e-4 * np.abs(level).max()
