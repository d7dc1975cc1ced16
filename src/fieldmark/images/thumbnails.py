"""Small pictures of images of any size and kind."""

from __future__ import annotations

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.images.decode import pieces
from fieldmark.images.source import ImageSource

_LOW, _HIGH = 0.5, 99.5
"""Percentiles that become black and white."""
_OVERSAMPLING = 2
"""Pixels kept along each side of a thumbnail pixel, to be averaged."""
_BYTE = np.dtype(np.uint8)


def thumbnail(source: ImageSource, side: int = 512, t: int = 0, z: int | None = None) -> np.ndarray:
    """A picture of one plane, in memory bounded by `side` and the file's own pieces.

    Three channels or more show the first three as red, green and blue; two show magenta and
    green; one shows gray. Values that are not 8-bit are stretched, channel by channel, between
    percentiles; unknown (NaN) pixels are black.

    Args:
        source: The image.
        side: Longest side of the thumbnail in pixels; smaller images keep their size.
        t: Time point.
        z: Slice; the middle one if None.

    Returns:
        (h, w, 3) uint8.

    Raises:
        BadInput: There is no such time point or slice, or `side` is less than 1.
    """
    level = _adequate_level(source, side)
    shape = source.levels[level]
    z = shape[2] // 2 if z is None else z
    if side < 1 or not 0 <= t < shape[0] or not 0 <= z < shape[2]:
        raise BadInput(
            f"A thumbnail of t={t}, z={z}, side={side} was asked for; the image has {shape[0]} time points "
            f"and {shape[2]} slices, and the side is at least 1."
        )
    return _composite(_stretched(shrink(_sampled(source, level, side, t, z), side), source.dtype))


def shrink(planes: np.ndarray, side: int) -> np.ndarray:
    """Average (c, y, x) float planes down until no side is longer than `side`; never enlarges."""
    _, height, width = planes.shape
    scale = max(height, width) / side
    if scale <= 1:
        return planes
    for axis, size in ((1, height), (2, width)):
        planes = _binned(planes, axis, max(1, round(size / scale)))
    return planes


def _binned(values: np.ndarray, axis: int, bins: int) -> np.ndarray:
    edges = np.arange(bins) * values.shape[axis] // bins
    counts = np.diff(np.append(edges, values.shape[axis]))
    shape = [1] * values.ndim
    shape[axis] = bins
    summed: np.ndarray = np.add.reduceat(values, edges, axis=axis)
    return summed / counts.reshape(shape)


def _adequate_level(source: ImageSource, side: int) -> int:
    """The smallest level that is still at least as large as the thumbnail."""
    large_enough = [i for i, shape in enumerate(source.levels) if max(shape[3:]) >= side]
    return large_enough[-1] if large_enough else 0


def _sampled(source: ImageSource, level: int, side: int, t: int, z: int) -> np.ndarray:
    """Every n-th pixel of a plane as (c, y, x) float32, read piece by piece."""
    _, channels, _, height, width = source.levels[level]
    shown = min(channels, 3)
    step = max(1, max(height, width) // (_OVERSAMPLING * side))
    kept = np.empty((shown, -(-height // step), -(-width // step)), np.float32)
    plane = Box((t, 0, z, 0, 0), (t + 1, shown, z + 1, height, width))
    for box in pieces(source, level, within=plane):
        first = [-(-a // step) for a in box.start[3:]]
        pixels = source.read(box, level)[0, :, 0, first[0] * step - box.start[3] :: step]
        pixels = pixels[..., first[1] * step - box.start[4] :: step]
        rows, columns = pixels.shape[1:]
        channel = slice(box.start[1], box.stop[1])
        kept[channel, first[0] : first[0] + rows, first[1] : first[1] + columns] = pixels
    return kept


def _stretched(planes: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """(c, y, x) in 0..255."""
    if dtype == _BYTE:
        return planes
    known = np.where(np.isfinite(planes), planes, np.nan)
    out = np.zeros_like(planes)
    for channel, target in zip(known, out, strict=True):
        if np.isnan(channel).all():
            continue
        low, high = np.nanpercentile(channel, (_LOW, _HIGH))
        if high <= low:
            low, high = np.nanmin(channel), np.nanmax(channel)
        if high > low:
            target[:] = np.nan_to_num((channel - low) / (high - low) * 255)
    return out


def _composite(planes: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 from one, two or three planes in 0..255."""
    order = {1: (0, 0, 0), 2: (0, 1, 0)}.get(len(planes), (0, 1, 2))
    picture = np.stack([planes[i] for i in order], axis=-1)
    bytes_: np.ndarray = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return bytes_
