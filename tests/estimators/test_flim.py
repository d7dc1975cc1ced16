"""`fieldmark.FLIM`: scikit-learn's conventions, and the same answers as the command line."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags

import fieldmark
from fieldmark.errors import BadInput, InputMismatch, NothingLabelled
from fieldmark.testing.drawn import draw_discs

SMALL = {"branches": [{"layers": [{"kernel_size": 3, "out_channels": 4, "kernels_per_marker": 2}]}], "scales": [1.0]}


def small(**settings) -> fieldmark.FLIM:
    return fieldmark.FLIM(net=SMALL, **{"head": "logistic"} | settings)


@pytest.fixture(scope="module")
def drawn():
    """Two images (y, x, 3) of discs, markers 2 (ground) and 7 (disc) on the first alone, and the truth."""
    one, two = draw_discs(61, 75, seed=0), draw_discs(61, 75, seed=1)
    marker = np.zeros((61, 75), np.uint8)
    for value, place in ((2, 0), (7, 1)):
        at = np.argwhere(one.mask == place)[40:140]
        marker[tuple(at.T)] = value
    return [one.image, two.image], [marker, None], [one.mask, two.mask]


@pytest.fixture(scope="module")
def fitted(drawn):
    return small().fit(drawn[0], drawn[1])


def test_parameters_are_scikit_learns(drawn):
    first = small(random_state=3)
    assert first.get_params()["random_state"] == 3
    copy = clone(first).set_params(random_state=4)
    assert (first.random_state, copy.random_state) == (3, 4)
    assert copy.net == SMALL


def test_random_states_are_scikit_learns(drawn):
    def weights(state) -> np.ndarray:
        made = fieldmark.FLIM(net=SMALL | {"kernels": {"kind": "random"}}, head="none", random_state=state)
        return made.fit(drawn[0], drawn[1]).transform(drawn[0][:1])[0]

    assert np.array_equal(weights(5), weights(np.int64(5)))
    assert np.array_equal(weights(np.random.RandomState(5)), weights(np.random.RandomState(5)))
    generator = np.random.RandomState(5)
    assert not np.array_equal(weights(generator), weights(generator))
    assert not np.array_equal(weights(None), weights(None))


def test_images_of_different_sizes_in_an_array_of_objects(drawn, fitted):
    """As scikit-learn's splitters and NumPy's indexing hand them on."""
    images = np.empty(2, object)
    images[:] = [drawn[0][0], drawn[0][1][:40, :50]]
    found = fitted.predict(images)
    assert [one.shape for one in found] == [(61, 75), (40, 50)]
    assert np.array_equal(found[1], fitted.predict(list(images))[1])


def test_markers_are_needed(drawn):
    with pytest.raises(BadInput, match="FLIM learns from markers"):
        small().fit(drawn[0])


def test_it_must_be_fitted_first(drawn):
    for method in ("transform", "predict", "predict_proba"):
        with pytest.raises(NotFittedError):
            getattr(small(), method)(drawn[0])
    with pytest.raises(NotFittedError):
        small().save("nowhere")


def test_fit_returns_itself_and_tells_what_it_saw(drawn, fitted):
    again = small()
    assert again.fit(drawn[0], drawn[1]) is again
    assert again.n_features_in_ == 3
    assert again.classes_.tolist() == [2, 7]
    assert all(np.array_equal(a, b) for a, b in zip(again.transform(drawn[0]), fitted.transform(drawn[0]), strict=True))


def test_features_and_classes_lie_on_the_images(drawn, fitted):
    images, _, truth = drawn
    features, classes = fitted.transform(images), fitted.predict(images)
    assert [one.shape[:2] for one in features] == [(61, 75), (61, 75)]
    assert features[0].dtype == np.float32
    found = classes[1] == 7
    assert set(np.unique(classes[1])) <= {2, 7}
    assert 2 * (found & (truth[1] == 1)).sum() / (found.sum() + (truth[1] == 1).sum()) > 0.8
    assert np.allclose(fitted.predict_proba(images)[0].sum(axis=-1), 1, atol=1e-5)


def test_an_array_gives_an_array(drawn, fitted):
    stack = np.stack(drawn[0])
    assert np.array_equal(fitted.transform(stack), np.stack(fitted.transform(drawn[0])))
    assert fitted.predict(stack).shape == (2, 61, 75)
    assert fitted.predict([]) == []


def test_gray_images_of_different_sizes(drawn):
    images, _, _ = drawn
    gray = [images[0][:, :, 0], images[1][:40, :50, 0].astype(np.uint16)]
    marker = np.zeros((61, 75), int)
    marker[5:9, 5:9], marker[30:34, 30:34] = 1, 2
    model = small().fit(gray, [marker, None])
    assert model.n_features_in_ == 1
    assert [one.shape for one in model.predict(gray)] == [(61, 75), (40, 50)]


def test_a_saved_model_gives_the_same_bits(drawn, fitted, tmp_path):
    fitted.save(tmp_path / "model")
    again = fieldmark.FLIM.load(tmp_path / "model")
    assert np.array_equal(again.predict_proba(drawn[0])[1], fitted.predict_proba(drawn[0])[1])
    assert again.classes_.tolist() == [2, 7]
    assert (tmp_path / "model/model.json").is_file()


def test_the_seed_decides(drawn, fitted):
    other = small(random_state=1).fit(drawn[0], drawn[1])
    assert not np.array_equal(other.transform(drawn[0])[0], fitted.transform(drawn[0])[0])


def test_features_alone(drawn):
    model = small(head="none").fit(drawn[0], drawn[1])
    assert model.transform(drawn[0])[0].ndim == 3
    with pytest.raises(BadInput, match="features"):
        model.predict(drawn[0])


def test_what_cannot_be_learned_from_is_refused(drawn):
    images, markers, _ = drawn
    with pytest.raises(NothingLabelled, match="above 0"):
        small().fit(images, [None, None])
    with pytest.raises(BadInput, match="2 images and 1 markers"):
        small().fit(images, markers[:1])
    with pytest.raises(BadInput, match=r"marker 0 has shape \(3, 3\)"):
        small().fit(images, [np.ones((3, 3), int), None])
    with pytest.raises(BadInput, match="marker 0 holds float64"):
        small().fit(images, [markers[0] / 2, None])
    with pytest.raises(BadInput, match="goes into a list"):
        small().fit(images[0], markers)
    with pytest.raises(BadInput, match="3 channels: image 0; 2 channels: image 1"):
        small().fit([images[0], images[1][:, :, :2]], markers)
    with pytest.raises(InputMismatch, match="image 0"):
        small().fit(images, markers).transform([images[0][:, :, :2]])


def test_the_score_is_the_share_of_marked_pixels_that_are_right(drawn, fitted):
    images, _, masks = drawn
    truth = [np.where(mask == 1, 7, 2) for mask in masks]
    truth[1][:, :40] = 0
    found = fitted.predict(images)
    hits = [found[i][y, x] == truth[i][y, x] for i in (0, 1) for y, x in np.argwhere(truth[i] > 0)]
    assert fitted.score(images, truth) == pytest.approx(sum(hits) / len(hits))
    assert fitted.score(images, [np.full_like(one, 9) for one in truth]) == 0
    with pytest.raises(NothingLabelled, match="right about"):
        fitted.score(images, [None, None])


def test_a_grid_search_takes_it(drawn):
    images, markers, _ = drawn
    both = [images[0], images[0][:, ::-1].copy()], [markers[0], markers[0][:, ::-1].copy()]
    search = GridSearchCV(small(), {"head": ["logistic", "forest"]}, cv=2).fit(*both)
    assert search.best_score_ > 0.9
    assert "FLIM(" in repr(search.best_estimator_)


def test_an_adaptive_decoder_as_a_head(drawn):
    images, markers, masks = drawn
    model = small(head={"kind": "adaptive", "decoder": "mean"}).fit(images, markers)
    found = model.predict(images)[1] == 7
    assert (found & (masks[1] == 1)).sum() / (found | (masks[1] == 1)).sum() > 0.5


def test_values_of_classes_that_no_label_map_can_hold_are_refused_before_anything_is_learned():
    image, marks = np.zeros((8, 8)), np.zeros((8, 8), np.uint64)
    for value in (1 << 32, (1 << 63) + 5):
        marks[2, 2] = value
        with pytest.raises(BadInput, match=f"marker 0 holds {value}; the values of classes go up to 4294967295"):
            small().fit([image], [marks])


def test_volumes_are_refused_with_what_takes_them():
    volume = np.zeros((4, 8, 8))
    with pytest.raises(BadInput, match=r"marker 0 has shape \(4, 8, 8\).*fieldmark flim train"):
        small().fit([volume], [np.ones((4, 8, 8), int)])
    with pytest.raises(BadInput, match=r"image 0 has shape \(4, 8, 8, 1\).*fieldmark flim train"):
        small().fit([volume[..., None]], [np.ones((4, 8, 8), int)])


def test_a_fit_that_fails_leaves_what_was_learned(drawn):
    model = small().fit(drawn[0], drawn[1])
    before = model.predict(drawn[0])[1]
    for images, markers in ((drawn[0], [None, None]), ([drawn[0][0], drawn[0][1][:, :, :1]], [drawn[1][0] + 1, None])):
        with pytest.raises(BadInput):
            model.fit(images, markers)
        assert np.array_equal(model.predict(drawn[0])[1], before)
    assert model.classes_.tolist() == [2, 7]


@pytest.mark.parametrize("arch", [None, {"features": {"layers": {"conv1": {"operation": "conv2d", "params": {
    "kernel_size": 3, "padding": 1, "out_channels": 5, "number_of_kernels_per_marker": 5}},
    "pool1": {"operation": "max_pool2d", "params": {"kernel_size": 3, "stride": 2, "padding": 1}}}}}])  # fmt: skip
def test_features_have_names(drawn, arch):
    model = fieldmark.FLIM(arch, net=SMALL if arch is None else None, head="none")
    with pytest.raises(NotFittedError):
        model.get_feature_names_out()
    count = model.fit(drawn[0], drawn[1]).transform(drawn[0])[0].shape[-1]
    assert model.get_feature_names_out().tolist() == [f"flim{place}" for place in range(count)]
    assert Pipeline([("flim", model)]).get_feature_names_out().tolist() == model.get_feature_names_out().tolist()


def test_features_stay_maps_where_tables_are_asked_for(drawn, fitted):
    """Maps of pixels are no table: what other steps give may be, in one process with this one."""
    with config_context(transform_output="pandas"):
        assert fitted.transform(drawn[0])[0].shape[:2] == (61, 75)
    assert not hasattr(fitted, "set_output")


def test_it_says_what_it_takes():
    tags = get_tags(small())
    assert tags.target_tags.required
    assert (tags.input_tags.two_d_array, tags.input_tags.three_d_array) == (False, True)
    assert not is_classifier(small())


def test_copies_answer_alike(drawn, fitted, tmp_path):
    fitted.save(tmp_path / "model")
    expected = fitted.predict_proba(drawn[0])[1]
    loaded = fieldmark.FLIM.load(tmp_path / "model")
    for copy in (deepcopy(fitted), loaded, deepcopy(loaded)):
        assert np.array_equal(copy.predict_proba(drawn[0])[1], expected)
    assert not hasattr(clone(fitted), "classes_")
    assert "FLIM" in fitted._repr_html_()


def test_a_pipeline_fits_and_answers(drawn):
    images, markers, _ = drawn
    two = [image[:, :, :2] for image in images]
    line = clone(Pipeline([("bands", FunctionTransformer(_two_bands)), ("flim", small())])).fit(images, markers)
    assert np.array_equal(line.predict(images)[1], small().fit(two, markers).predict(two)[1])
    assert line.named_steps["flim"].n_features_in_ == 2
    both = [images[0], images[0][:, ::-1].copy()], [markers[0], markers[0][:, ::-1].copy()]
    search = GridSearchCV(line, {"flim__random_state": [1, 2]}, cv=2).fit(*both)
    assert search.best_score_ > 0.9
    assert search.best_estimator_.predict(images)[0].shape == (61, 75)


def _two_bands(images):
    return [image[:, :, :2] for image in images]
