"""L*a*b* as the FLIM papers normalize it, and colors for gray images, against loops over pixels."""

from __future__ import annotations

import time

import numpy as np
import pytest

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.prepare import apply, check, color_steps, lab_step, prepared_channels, whole_of

MATRIX = (
    (0.4123955890, 0.3575834308, 0.1804926474),
    (0.2125862308, 0.7151703037, 0.0722004986),
    (0.0192972155, 0.1191838646, 0.9504971251),
)


def lab_by_hand(r: float, g: float, b: float) -> tuple[float, float, float]:
    x, y, z = (m[0] * r + m[1] * g + m[2] * b for m in MATRIX)
    x, z = x / 0.950456, z / 1.088754
    fx, fy, fz = (t ** (1 / 3) if t >= 8.85645167903563082e-3 else 841 / 108 * t + 4 / 29 for t in (x, y, z))
    lightness, a, b = 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)
    return lightness / 99.998337, (a + 86.182236) / (86.182236 + 98.258614), (b + 107.867744) / (107.867744 + 94.481682)


def heat_by_hand(v: float, most: float) -> tuple[float, float, float]:
    v = 4 * v / most + 1
    red = max(0.0, (3 - abs(v - 4) - abs(v - 5)) / 2)
    green = max(0.0, (4 - abs(v - 2) - abs(v - 4)) / 2)
    return red, green, max(0.0, (3 - abs(v - 1) - abs(v - 2)) / 2)


def loop(pixels: np.ndarray, of_pixel) -> np.ndarray:
    out = np.zeros((3, *pixels.shape[1:]))
    for y, x in np.ndindex(pixels.shape[1:]):
        out[:, y, x] = of_pixel(*pixels[:, y, x].tolist())
    return out


def test_lab_is_the_formula_pixel_by_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 30, 40)).astype(np.uint8)
    pixels[:, :3] //= 40  # almost black: the straight part of the curve
    truth = loop(pixels / 255, lab_by_hand)
    np.testing.assert_allclose(apply(pixels, color_steps("lab", 3, by=255, integers=True)), truth, atol=2e-6)


def test_every_color_of_a_cube_lies_in_0_to_1():
    side = np.linspace(0, 1, 9)
    cube = np.stack(np.meshgrid(side, side, side)).reshape(3, 27, 27)
    lab = apply(cube, [lab_step()])
    assert lab.min() > -1e-3
    assert lab.max() < 1 + 1e-3
    assert np.ptp(lab.reshape(3, -1), axis=1).min() > 0.95


def test_gray_images_are_replicated():
    gray = np.random.default_rng(1).integers(0, 4000, (1, 8, 9)).astype(np.uint16)
    truth = loop(gray / 3999, lambda v: lab_by_hand(v, v, v))
    np.testing.assert_allclose(apply(gray, color_steps("lab", 1, by=3999, integers=True)), truth, atol=2e-6)


def test_gray_images_are_colored_by_name():
    gray = np.random.default_rng(2).integers(0, 1000, (1, 8, 9)).astype(np.uint16)
    truth = loop(gray, lambda v: lab_by_hand(*heat_by_hand(v, 999)))
    np.testing.assert_allclose(apply(gray, color_steps("lab-color-table", 1, by=999, integers=True)), truth, atol=5e-6)
    colors = apply(
        np.array([[[0.0, 0.25, 0.5, 0.75, 1.0]]]), color_steps("lab-color-table", 1, by=1, integers=False)[:2]
    )
    assert colors[:, 0].T.tolist() == [[0, 0, 1], [0, 1, 1], [0, 1, 0], [1, 1, 0], [1, 0, 0]]


def test_each_image_by_its_own_maximum_by_name_alone():
    pixels = np.random.default_rng(3).integers(0, 77, (3, 5, 6)).astype(np.uint8)
    steps = color_steps("lab-per-image", 3, by=255, integers=True)
    with pytest.raises(BadInput, match="which a tile does not know"):
        apply(pixels, steps)
    box = Box((0, 0, 0, 0), (1, 1, 5, 6))
    assert whole_of(pixels).maximum() == pixels.max()
    truth = loop(pixels / pixels.max(), lab_by_hand)
    np.testing.assert_allclose(apply(pixels, whole_of(pixels).at(steps, box)), truth, atol=2e-6)
    assert np.isfinite(apply(pixels * 0, whole_of(pixels * 0).at(steps, box))).all()


@pytest.mark.parametrize(
    ("color", "channels", "names", "seen"),
    [
        ("auto", 3, ["scale", "lab"], 3),
        ("auto", 1, ["scale"], 1),
        ("auto", 5, ["scale"], 5),
        ("raw", 3, ["scale"], 3),
        ("lab", 1, ["scale", "replicate", "lab"], 3),
        ("lab-per-image", 1, ["scale-per-image", "replicate", "lab"], 3),
        ("lab-color-table", 1, ["scale", "color-table", "lab"], 3),
    ],
)
def test_what_a_setting_stands_for(color, channels, names, seen):
    steps = color_steps(color, channels, by=2, integers=True)
    assert [step["step"] for step in steps] == names
    assert prepared_channels(steps, channels) == seen


def test_images_of_other_channels_are_refused():
    for color, channels, words in (
        ("lab", 5, "needs 3 channels; found 5"),
        ("lab-color-table", 3, "one channel; found 3"),
    ):
        with pytest.raises(BadInput, match=words):
            check(color_steps(color, channels, by=1, integers=True), channels)


def test_it_is_fast():
    """A loop over pixels took seconds for one image; a whole array takes less than one, also on a busy machine."""
    pixels = np.random.default_rng(4).random((3, 500, 1000)).astype(np.float32)
    begin = time.perf_counter()
    apply(pixels, [lab_step()])
    assert time.perf_counter() - begin < 1
