"""Pictures for the page."""

from __future__ import annotations

import numpy as np
import pytest

from fieldmark.core.colors import CLASS_COLORS, class_color, hex_color
from fieldmark.errors import BadInput
from fieldmark.report import pictures


def test_eight_bit_images_are_shown_as_they_are():
    gray = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert (pictures.displayable(gray) == gray[..., None]).all()
    color = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    shown = pictures.displayable(color)
    assert (shown == color).all()
    assert shown is not color


def test_other_types_are_stretched_and_holes_are_black():
    image = np.linspace(-5, 5, 100).reshape(10, 10)
    image[9, 9] = np.nan
    shown = pictures.displayable(image)
    assert shown.dtype == np.uint8
    assert shown[0, 0, 0] == 0
    assert shown[9, 8, 0] == 255
    assert shown[9, 9, 0] == 0
    assert (pictures.displayable(np.full((2, 2), np.nan)) == 0).all()
    assert pictures.displayable(np.zeros((4, 5, 7), np.uint16)).shape == (4, 5, 3)
    with pytest.raises(BadInput, match="axes"):
        pictures.displayable(np.zeros(3))


def test_overlay_tints_the_labels_it_has_colors_for():
    image = np.full((3, 4, 3), 100, np.uint8)
    labels = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2]])
    out = pictures.overlay(image, labels, {1: (200, 0, 100)}, alpha=0.5, outline=False)
    assert (out[labels != 1] == 100).all()
    assert (out[labels == 1] == (150, 50, 100)).all()
    assert (image == 100).all()


def test_the_outline_is_drawn_where_labels_meet():
    labels = np.zeros((5, 5), int)
    labels[1:4, 1:4] = 1
    out = pictures.overlay(np.zeros((5, 5, 3), np.uint8), labels, {1: (200, 200, 200)}, alpha=0.5)
    expected = np.zeros((5, 5), int)
    expected[1:4, 1:4] = 200
    expected[2, 2] = 100
    assert (out[..., 0] == expected).all()


def test_overlay_refuses_another_size():
    with pytest.raises(BadInput, match=r"\(2, 3\)"):
        pictures.overlay(np.zeros((3, 2, 3), np.uint8), np.zeros((2, 3), int), {})


def test_zero_is_white_and_signs_are_opposite():
    shown = pictures.signed_picture(np.array([[-2.0, 0.0, 1.0, 2.0]])).astype(int)
    assert (shown[0, 1] == 247).all()
    assert shown[0, 0, 2] > shown[0, 0, 0]
    assert shown[0, 3, 0] > shown[0, 3, 2]
    assert shown[0, 2, 2] > shown[0, 3, 2]
    assert (pictures.signed_picture(np.zeros((2, 2))) == 247).all()


def test_kernel_pictures():
    kernel = np.zeros((3, 2, 2))
    kernel[0, 0, 0], kernel[1, 1, 1] = 2.0, -2.0
    shown = pictures.kernel_picture(kernel, 4)
    assert shown.shape == (8, 8, 3)
    assert tuple(shown[0, 0]) == (255, 128, 128)
    assert tuple(shown[7, 7]) == (128, 0, 128)
    assert (shown[:4, :4] == shown[0, 0]).all()
    assert pictures.kernel_picture(np.ones((1, 3, 5)), 2).shape == (6, 10, 3)
    assert pictures.kernel_picture(np.ones((5, 3, 3)), 2).shape == (2 * 6 + 2, 3 * 6 + 4, 3)
    with pytest.raises(BadInput, match="channels, h, w"):
        pictures.kernel_picture(np.ones((3, 3)))


def test_a_sheet_has_every_picture_in_its_cell():
    parts = [np.full((2 + i, 3, 3), i, np.uint8) for i in range(3)]
    out = pictures.sheet(parts, 2, gap=1, background=(9, 9, 9))
    assert out.shape == (2 * 4 + 1, 2 * 3 + 1, 3)
    assert (out[0:2, 0:3] == 0).all()
    assert (out[0:3, 4:7] == 1).all()
    assert (out[5:9, 0:3] == 2).all()
    assert (out == 9).all(axis=2).sum() == 9 * 7 - (2 + 3 + 4) * 3
    assert pictures.side_by_side(parts, gap=1).shape == (4, 11, 3)
    with pytest.raises(BadInput):
        pictures.sheet([], 2)


def test_class_colors_differ_and_never_end():
    seen = [class_color(i) for i in range(24)]
    assert len(set(seen)) == 24
    assert tuple(seen[:8]) == CLASS_COLORS
    assert hex_color((0, 128, 255)) == "#0080ff"
