"""Pictures for a page, as arrays: labels over an image, kernels, several side by side. numpy only."""

from __future__ import annotations

from math import ceil, sqrt
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fieldmark.core.colors import RGB

_COLD = np.array([33, 102, 172], np.float64)
_WARM = np.array([178, 24, 43], np.float64)
_WHITE = np.array([247, 247, 247], np.float64)
_BETWEEN: RGB = (150, 150, 150)


def displayable(image: np.ndarray) -> np.ndarray:
    """An image of any kind as something to look at; for the eye only, never for a measurement.

    Args:
        image: (h, w), (h, w, 1) or (h, w, 3) of uint8, which is kept, or of another real
            type, which is stretched from its 1st to its 99th percentile over all channels;
            what is not finite is black. Of two or more than three channels the first is shown.

    Returns:
        (h, w, 3) uint8.

    Raises:
        BadInput: It has another number of axes.
    """
    if image.ndim not in (2, 3):
        raise BadInput(f"A picture has the axes (h, w) or (h, w, channels); got shape {image.shape}.")
    if image.ndim == 3 and image.shape[2] != 3:
        image = image[..., 0]
    gray = image if image.dtype == np.uint8 else _stretched(image)
    return gray.copy() if gray.ndim == 3 else np.repeat(gray[..., None], 3, axis=2)


def _stretched(image: np.ndarray) -> np.ndarray:
    finite = np.isfinite(image)
    if not finite.any():
        return np.zeros(image.shape, np.uint8)
    low, high = np.percentile(image[finite].astype(np.float64), [1, 99])
    unit = (np.where(finite, image, low).astype(np.float64) - low) / max(high - low, 1e-12)
    stretched: np.ndarray = (np.clip(unit, 0, 1) * 255).round().astype(np.uint8)
    return stretched


def overlay(
    image: np.ndarray,
    labels: np.ndarray,
    colors: Mapping[int, RGB],
    *,
    alpha: float = 0.45,
    outline: bool = True,
) -> np.ndarray:
    """Labels tinted over an image.

    Args:
        image: (h, w, 3) uint8.
        labels: (h, w) integers; a label without a color (usually 0, unknown) is left clear.
        colors: The color of each label to show.
        alpha: Strength of the tint, 0 to 1.
        outline: Draw the pixels of a label that touch another label in the full color.

    Returns:
        (h, w, 3) uint8, a new array.

    Raises:
        BadInput: The sizes differ.
    """
    if image.shape != (*labels.shape, 3):
        raise BadInput(f"Labels of shape {labels.shape} do not fit a picture of shape {image.shape}.")
    strength = np.full(labels.shape, alpha)
    if outline:
        strength[edges(labels)] = 1.0
    picture = image.astype(np.float64)
    for label, color in colors.items():
        here = labels == label
        share = strength[here][:, None]
        picture[here] = picture[here] * (1 - share) + np.array(color, np.float64) * share
    return picture.round().astype(np.uint8)


def edges(labels: np.ndarray) -> np.ndarray:
    """Pixels with another label above, below, left or right of them. (h, w) bool."""
    found = np.zeros(labels.shape, bool)
    down = labels[1:] != labels[:-1]
    right = labels[:, 1:] != labels[:, :-1]
    found[1:] |= down
    found[:-1] |= down
    found[:, 1:] |= right
    found[:, :-1] |= right
    return found


def signed_picture(values: np.ndarray, limit: float | None = None) -> np.ndarray:
    """Signed values in blue (negative), white (zero) and red (positive).

    Args:
        values: (h, w) real.
        limit: The magnitude of the full color; the largest magnitude where None.

    Returns:
        (h, w, 3) uint8; the scale is symmetrical, so that white is always zero.
    """
    top = float(np.abs(values).max(initial=0)) if limit is None else limit
    unit = np.clip(values / (top or 1.0), -1, 1)[..., None]
    end = np.where(unit < 0, _COLD, _WARM)
    picture: np.ndarray = (_WHITE + (end - _WHITE) * np.abs(unit)).round().astype(np.uint8)
    return picture


def kernel_picture(kernel: np.ndarray, scale: int = 8) -> np.ndarray:
    """A convolution kernel as a picture on a symmetrical scale.

    A kernel of three channels is shown in color, with middle gray for zero. One of a single
    channel is blue, white and red. One of more channels is a sheet of such panels, row by
    row, all on the same scale.

    Args:
        kernel: (c, h, w) real.
        scale: Side of each weight in the picture, in pixels.

    Returns:
        uint8, (h * scale, w * scale, 3) for one or three channels; larger for a sheet.

    Raises:
        BadInput: The kernel has other axes than (c, h, w), or none of them is long.
    """
    if kernel.ndim != 3 or 0 in kernel.shape:
        raise BadInput(f"A kernel has the axes (channels, h, w), none of them empty; got shape {kernel.shape}.")
    top = float(np.abs(kernel).max()) or 1.0
    if len(kernel) == 3:
        small = (127.5 + 127.5 * kernel.transpose(1, 2, 0) / top).round().astype(np.uint8)
        return enlarged(small, scale)
    panels = [enlarged(signed_picture(channel, top), scale) for channel in kernel]
    return panels[0] if len(panels) == 1 else sheet(panels, ceil(sqrt(len(panels))), scale, _BETWEEN)


def filter_picture(weight: np.ndarray, side: int) -> np.ndarray:
    """A kernel of an image or of a volume, as a picture of at most about `side` pixels a side.

    Args:
        weight: (c, h, w), or (c, d, h, w): then each slice of each channel is a panel.
        side: In pixels; each weight takes at least one.

    Returns:
        (H, W, 3) uint8, as `kernel_picture` draws it.
    """
    flat = weight if weight.ndim == 3 else weight.reshape(-1, *weight.shape[-2:])
    if len(flat) in (1, 3) and weight.ndim == 3:
        return kernel_picture(flat, max(1, side // max(flat.shape[1:])))
    columns = ceil(sqrt(len(flat)))
    panels = [signed_picture(panel, float(np.abs(flat).max()) or 1.0) for panel in flat]
    scale = max(1, side // (columns * (flat.shape[2] + 1)))
    return enlarged(sheet(panels, columns, 1, _BETWEEN), scale)


def enlarged(picture: np.ndarray, scale: int) -> np.ndarray:
    """Each pixel as a square of `scale` x `scale`. (h, w, 3) to (h * scale, w * scale, 3)."""
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def side_by_side(pictures: Sequence[np.ndarray], gap: int = 4, background: RGB = (255, 255, 255)) -> np.ndarray:
    """Pictures in one row, aligned at the top.

    Args:
        pictures: (h, w, 3) uint8 each; sizes may differ.
        gap: Pixels between two.
        background: The color of gaps and of what lies below shorter pictures.
    """
    return sheet(pictures, max(1, len(pictures)), gap, background)


def sheet(pictures: Sequence[np.ndarray], columns: int, gap: int = 4, background: RGB = (255, 255, 255)) -> np.ndarray:
    """Pictures in rows of `columns`, in cells as large as the largest of them. (H, W, 3) uint8.

    Raises:
        BadInput: There is no picture.
    """
    if not pictures:
        raise BadInput("There is no picture to put on a sheet. Give at least one.")
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    rows = ceil(len(pictures) / columns)
    out = np.empty((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), np.uint8)
    out[:] = background
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        y, x = row * (height + gap), column * (width + gap)
        out[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return out
