from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.errors import BadInput
from fieldmark.prepare import apply, check, lab_step, scale_step, standardize_step


def test_steps_by_hand():
    pixels = np.array([[[0, 255]], [[51, 102]]], np.uint8)
    steps = [scale_step(255), standardize_step([0.5, 0.2], [0.5, 0.1])]
    assert np.allclose(apply(pixels, steps), [[[-1, 1]], [[0, 2]]], atol=1e-6)
    assert apply(pixels, []).dtype == np.float32
    assert np.array_equal(apply(pixels, []), pixels)


def test_lab_is_that_of_the_standard_without_gamma():
    """Against scikit-image, whose input is made linear beforehand, so that its own gamma undoes ours."""
    from skimage.color import rgb2lab

    linear = np.random.default_rng(0).uniform(0.02, 1, (3, 8, 9))
    srgb = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    expected = np.moveaxis(rgb2lab(np.moveaxis(srgb, 0, -1)), -1, 0)
    lightness, a, b = apply(linear, [lab_step()])
    assert np.allclose(lightness * 99.998337, expected[0], atol=0.05)
    assert np.allclose(a * (86.182236 + 98.258614) - 86.182236, expected[1], atol=0.05)
    assert np.allclose(b * (107.867744 + 94.481682) - 107.867744, expected[2], atol=0.05)


def test_known_colors():
    """White, black and mid gray lie on the axis of grays; red is on the red side, blue on the blue one."""
    colors = np.array([[1, 0, 0.5, 1, 0], [1, 0, 0.5, 0, 0], [1, 0, 0.5, 0, 1]], np.float32)[:, None]
    lightness, a, b = apply(colors, [lab_step()])[:, 0]
    assert lightness[0] == pytest.approx(1, abs=1e-3)
    assert lightness[1] == pytest.approx(0, abs=1e-3)
    assert np.ptp(a[:3]) < 1e-3
    assert a[3] > a[0]
    assert b[4] < b[0]


@given(st.integers(1, 6), st.integers(1, 6))
def test_preparation_is_pointwise(height, width):
    pixels = np.random.default_rng(height * 7 + width).integers(0, 255, (3, 12, 12)).astype(np.uint16)
    steps = [scale_step(255), lab_step(), standardize_step([0.1, 0.2, 0.3], [0.5, 2, 1])]
    assert np.array_equal(apply(pixels[:, :height, :width], steps), apply(pixels, steps)[:, :height, :width])


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"step": "blur"}], "Unknown preparation"),
        ([{}], "Unknown preparation"),
        ([{"step": ["scale"]}], "Unknown preparation"),
        ([{"step": "scale"}], "lacks its numbers"),
        ([{"step": "scale", "by": "x"}], "lacks its numbers"),
        ([{"step": "scale", "by": 0}], "divides by zero"),
        ([{"step": "scale", "by": None}], "not finite"),
        ([{"step": "standardize", "mean": [0], "std": [1]}], "1 channels met an image with 2"),
        ([{"step": "standardize", "mean": [0, 0], "std": [1, 0]}], None),
        ([{"step": "standardize", "mean": [1, 1], "std": [1, 0]}], "divides by zero"),
        ([{"step": "standardize", "mean": [0, 10**400], "std": [1, 1]}], "lacks its numbers"),
        ([{"step": "standardize", "mean": "ab", "std": [1, 1]}], "lacks its numbers"),
        ([{"step": "lab"}], "needs 3 channels; found 2"),
    ],
)
def test_steps_that_cannot_be_are_refused_before_an_image_is_read(steps, words):
    with pytest.raises(BadInput, match=words or "divides by zero"):
        check(steps, 2)
