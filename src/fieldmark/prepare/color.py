"""Color spaces, over whole arrays."""

from __future__ import annotations

import numpy as np

# sRGB primaries to CIE XYZ under D65, linear: FLIM applies no gamma correction.
_RGB_TO_XYZ = np.array(
    [
        [0.4123955890, 0.3575834308, 0.1804926474],
        [0.2125862308, 0.7151703037, 0.0722004986],
        [0.0192972155, 0.1191838646, 0.9504971251],
    ],
    np.float32,
)
_WHITE = np.array([0.950456, 1.0, 1.088754], np.float32)
_LINEAR_BELOW = np.float32((6 / 29) ** 3)


def rgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    """Red, green, blue to L*a*b*, each mapped to about 0..1 as the FLIM reference maps it.

    Args:
        rgb: (3, ...) float32, 0..1.

    Returns:
        (3, ...) float32.
    """
    xyz = np.tensordot(_RGB_TO_XYZ, rgb, axes=1) / _WHITE.reshape((3,) + (1,) * (rgb.ndim - 1))
    linear = np.float32(841 / 108) * xyz + np.float32(4 / 29)
    fx, fy, fz = np.where(xyz >= _LINEAR_BELOW, np.cbrt(np.maximum(xyz, 0)), linear)
    lightness = (116 * fy - 16) / 99.998337
    green_red = (500 * (fx - fy) + 86.182236) / (86.182236 + 98.258614)
    blue_yellow = (200 * (fy - fz) + 107.867744) / (107.867744 + 94.481682)
    return np.stack([lightness, green_red, blue_yellow]).astype(np.float32)
