"""Mask files: their values, their sizes."""

from __future__ import annotations

import numpy as np
import pytest

from fieldmark.errors import BadInput
from fieldmark.evaluate.truth import coding_for, mask_values, read_truth

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
