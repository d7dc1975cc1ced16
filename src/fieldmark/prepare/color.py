"""Color spaces, over whole arrays."""

from __future__ import annotations

import numpy as np

# sRGB primaries to CIE XYZ under D65, linear: FLIM applies no gamma correction.
RGB_TO_XYZ = np.array(
    [
        [0.4123955890, 0.3575834308, 0.1804926474],
        [0.2125862308, 0.7151703037, 0.0722004986],
        [0.0192972155, 0.1191838646, 0.9504971251],
    ],
    np.float32,
)
WHITE = np.array([0.950456, 1.0, 1.088754], np.float32)
LAB_RANGE = np.array([99.998337, 86.182236 + 98.258614, 107.867744 + 94.481682])
LINEAR_BELOW = np.float32((6 / 29) ** 3)


def rgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    """Red, green, blue to L*a*b*, each mapped to about 0..1 as the FLIM reference maps it (its "LABNorm2").

    Args:
        rgb: (3, ...) float32, 0..1.

    Returns:
        (3, ...) float32.
    """
    own = (3,) + (1,) * (rgb.ndim - 1)
    x, y, z = _responses(np.tensordot(RGB_TO_XYZ / WHITE[:, None], rgb, axes=1))
    lab = np.empty((3, *rgb.shape[1:]), np.float32)  # filled in place: every temporary of an image's size costs as much
    lab[0] = y
    np.subtract(x, y, out=lab[1])
    np.subtract(y, z, out=lab[2])
    lab *= (np.array([116, 500, 200]) / LAB_RANGE).astype(np.float32).reshape(own)
    lab += (np.array([-16, 86.182236, 107.867744]) / LAB_RANGE).astype(np.float32).reshape(own)
    return lab


def _responses(xyz: np.ndarray) -> np.ndarray:
    """The cube root of X, Y, Z, and a straight line where they are almost black."""
    responses: np.ndarray = np.power(np.maximum(xyz, 0), np.float32(1 / 3))  # half the time of cbrt, as exact
    dark = xyz < LINEAR_BELOW
    if dark.any():
        responses[dark] = np.float32(841 / 108) * xyz[dark] + np.float32(4 / 29)
    return responses


def blue_to_red(gray: np.ndarray) -> np.ndarray:
    """The color table of libIFT: gray values from blue (0) over green to red (1).

    Args:
        gray: (1, ...) float32, 0..1.

    Returns:
        (3, ...) float32, 0..1: red, green, blue.
    """
    place = 4 * gray[0] + 1
    red = (3 - np.abs(place - 4) - np.abs(place - 5)) / 2
    green = (4 - np.abs(place - 2) - np.abs(place - 4)) / 2
    blue = (3 - np.abs(place - 1) - np.abs(place - 2)) / 2
    colors: np.ndarray = np.maximum(np.stack([red, green, blue]), 0).astype(np.float32)
    return colors
