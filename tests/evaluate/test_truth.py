"""Mask files: their values, their sizes, their partners."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.errors import BadInput
from fieldmark.evaluate.truth import coding_for, mask_values, pair_by_stem, read_truth

TWO = {"background": 1, "coin": 2}
THREE = {"background": 0, "cell": 1, "nucleus": 2}


def test_the_classes_own_values_are_kept_without_a_word():
    array = np.array([[1, 2], [2, 1]], np.uint8)
    truth = read_truth(array, TWO, name="a.png")
    assert (truth.labels == array).all()
    assert not truth.unknown.any()
    assert truth.note == ""


@pytest.mark.parametrize("top", [1, 255])
def test_plain_masks_are_first_and_last_class_and_say_so(top):
    array = np.array([[0, top], [top, 0]], np.uint8)
    truth = read_truth(array, TWO, name="a.png")
    assert truth.labels.tolist() == [[1, 2], [2, 1]]
    assert truth.note == f"Masks hold 0, read as 'background' and {top}, read as 'coin'."


def test_plain_masks_with_three_classes_name_what_they_cannot_show():
    truth = read_truth(np.array([[0, 255]], np.uint8), THREE, name="a.png")
    assert truth.labels.tolist() == [[0, 2]]
    assert "cannot show 'cell'" in truth.note


def test_an_empty_mask_beside_full_ones():
    empty = read_truth(np.zeros((2, 2), np.uint8), TWO, name="a.png")
    assert (empty.labels == 1).all()
    assert empty.note == "Masks hold only 0, read as 'background'."


def test_the_coding_is_decided_by_all_files_together():
    found = {"a.png": {1}, "b.png": {0, 1}}
    coding = coding_for(found, TWO)
    all_object = np.ones((2, 2), np.uint8)
    assert (read_truth(all_object, TWO, name="a.png", coding=coding).labels == 2).all()
    assert (read_truth(all_object, TWO, name="a.png").labels == 1).all()


def test_a_file_outside_the_coding_is_refused():
    coding = coding_for({"a.png": {0, 255}}, TWO)
    with pytest.raises(BadInput, match=r"b\.png: holds the values 7"):
        read_truth(np.array([[0, 7]]), TWO, name="b.png", coding=coding)


def test_ignored_pixels_are_unknown():
    truth = read_truth(np.array([[0, 128, 255]], np.uint8), TWO, name="a.png", ignore=128)
    assert truth.labels.tolist() == [[1, 0, 2]]
    assert truth.unknown.tolist() == [[False, True, False]]
    zero = read_truth(np.array([[0, 1, 2]], np.uint8), TWO, name="a.png", ignore=0)
    assert zero.unknown.tolist() == [[True, False, False]]
    assert zero.note == ""


def test_a_coding_remembers_what_is_ignored():
    array = np.array([[0, 1, 2]], np.uint8)
    coding = coding_for({"a.png": mask_values(array, "a.png")}, TWO, ignore=0)
    truth = read_truth(array, TWO, name="a.png", coding=coding)
    assert truth.unknown.tolist() == [[True, False, False]]
    assert truth.labels.tolist() == [[0, 1, 2]]


def test_values_that_no_class_has_are_named_with_their_file():
    with pytest.raises(BadInput, match=r"b\.png: holds the values 3, 9, .*1 \(background\), 2 \(coin\)"):
        coding_for({"a.png": {1, 2}, "b.png": {1, 3, 9}}, TWO)
    with pytest.raises(BadInput, match=r"and 92 more"):
        read_truth(np.arange(100)[None], {"a": 200}, name="a.png")
    with pytest.raises(BadInput):
        coding_for({"a.png": {0, 1}, "b.png": {0, 255}}, TWO)
    with pytest.raises(BadInput):
        coding_for({"a.png": {0, 255}}, {"only": 3})


def test_another_size_is_refused_by_name():
    with pytest.raises(BadInput, match=r"a\.png: is 3 x 2 pixels, but its image is 2 x 3"):
        read_truth(np.ones((2, 3), np.uint8), TWO, name="a.png", shape=(3, 2))


def test_gray_pictures_with_channels_and_colorful_ones():
    gray = np.array([[0, 255]], np.uint8)
    for channels in (1, 3):
        assert mask_values(np.repeat(gray[..., None], channels, axis=2), "a.png") == {0, 255}
    opaque = np.concatenate([np.repeat(gray[..., None], 3, axis=2), np.full((1, 2, 1), 255, np.uint8)], axis=2)
    assert mask_values(opaque, "a.png") == {0, 255}
    color = np.zeros((2, 2, 3), np.uint8)
    color[0, 0, 1] = 9
    with pytest.raises(BadInput, match=r"a\.png: is no mask"):
        mask_values(color, "a.png")
    with pytest.raises(BadInput, match="fractions"):
        mask_values(np.array([[0.5]]), "a.png")
    assert mask_values(np.array([[True, False]]), "a.png") == {0, 1}


def test_pairs_by_stem():
    pairing = pair_by_stem(["b.tif", "a.ome.tif", "c.png"], ["a.png", "b.png", "d.png"])
    assert pairing.pairs == (("b.tif", "b.png"), ("a.ome.tif", "a.png"))
    assert pairing.without_truth == ("c.png",)
    assert pairing.unused_truth == ("d.png",)


def test_nothing_is_guessed():
    pairing = pair_by_stem(["1.png"], ["1-mask.png", "10.png"])
    assert pairing.pairs == ()
    assert pairing.unused_truth == ("1-mask.png", "10.png")


def test_folders_count_where_both_sides_have_them():
    both = pair_by_stem(["a/1.png", "b/1.png"], ["b/1.tif", "a/1.tif"])
    assert both.pairs == (("a/1.png", "a/1.tif"), ("b/1.png", "b/1.tif"))
    assert pair_by_stem(["a/1.png"], ["b/1.png"]).pairs == ()
    assert pair_by_stem(["a/1.png", "b/2.png"], ["1.png", "2.png"]).pairs == (
        ("a/1.png", "1.png"),
        ("b/2.png", "2.png"),
    )
    assert pair_by_stem(["1.png"], ["deep/1.png"]).pairs == (("1.png", "deep/1.png"),)


def test_two_claims_are_refused_with_both_names():
    with pytest.raises(BadInput, match=r"a\.png and a\.tif"):
        pair_by_stem(["a.jpg"], ["a.tif", "a.png"])
    with pytest.raises(BadInput, match=r"x/1\.png and y/1\.png"):
        pair_by_stem(["x/1.png", "y/1.png"], ["1.png"])
    assert pair_by_stem(["x/1.png", "y/1.png"], ["2.png"]).without_truth == ("x/1.png", "y/1.png")


def test_accents_match_in_either_spelling():
    name = unicodedata.normalize("NFD", "zellkörper")
    assert len(pair_by_stem(["zellkörper.png"], [f"{name}.png"]).pairs) == 1


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_every_file_is_listed_once(images, truths):
    pairing = pair_by_stem([f"{i}.png" for i in images], [f"{i}.tif" for i in truths])
    assert {int(image[:-4]) for image, _ in pairing.pairs} == images & truths
    assert all(image[:-4] == truth[:-4] for image, truth in pairing.pairs)
    assert {int(name[:-4]) for name in pairing.without_truth} == images - truths
    assert {int(name[:-4]) for name in pairing.unused_truth} == truths - images
