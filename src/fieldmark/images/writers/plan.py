"""What is to be written, checked once for every format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldmark.core.axes import AXES, PixelSize
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.images.source import Shape5, is_subset, readable_dtype

_VERSIONS = ("0.5", "0.4")


@dataclass(frozen=True, slots=True)
class WritePlan:
    """An image to be written; the fields are those of `create_writer`, checked."""

    path: Path
    shape: Shape5
    dtype: np.dtype
    pixel_size: PixelSize
    axes: str
    channel_names: tuple[str, ...] | None
    label_names: dict[int, str] | None
    resume: bool
    overwrite: bool
    chunk: Shape5
    levels: int
    version: str

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """Pixels along the axes that the file has."""
        return tuple(self.shape[AXES.index(axis)] for axis in self.axes)

    @property
    def kept_chunk(self) -> tuple[int, ...]:
        """Sides of a chunk along the axes that the file has."""
        return tuple(self.chunk[AXES.index(axis)] for axis in self.axes)


def plan_write(
    path: Path,
    *,
    shape: Sequence[int],
    dtype: np.dtype | type | str,
    pixel_size: PixelSize | None,
    axes: str,
    channel_names: Sequence[str] | None,
    label_names: Mapping[int, str] | None,
    resume: bool,
    overwrite: bool,
    chunk: int | Sequence[int],
    levels: int,
    version: str,
) -> WritePlan:
    """Check what `create_writer` was given.

    Raises:
        BadInput: Something in it cannot be meant.
    """
    full = _five(shape, path)
    _check_axes(axes, full, path)
    if channel_names is not None and len(channel_names) != full[1]:
        raise BadInput(f"{path}: {len(channel_names)} channel names for {full[1]} channels; give one for each.")
    if version not in _VERSIONS or levels < 1:
        raise BadInput(f"{path}: OME-Zarr {version!r} with {levels} levels; versions are {_VERSIONS}, levels from 1.")
    sides = _five([1, 1, 1, chunk, chunk] if isinstance(chunk, int) else chunk, path)
    t, c, z, y, x = (min(a, b) for a, b in zip(sides, full, strict=True))
    return WritePlan(
        path=path,
        shape=full,
        dtype=readable_dtype(np.dtype(dtype), str(path)),
        pixel_size=pixel_size or PixelSize(),
        axes=axes,
        channel_names=None if channel_names is None else tuple(channel_names),
        label_names=None if label_names is None else dict(label_names),
        resume=resume,
        overwrite=overwrite,
        chunk=(t, c, z, y, x),
        levels=levels,
        version=version,
    )


def check_block(plan: WritePlan, box: Box, values: np.ndarray) -> None:
    """Refuse pixels that do not fit their box, the image or its type.

    Raises:
        BadInput: They do not.
    """
    if box.ndim != len(AXES) or not Box.whole(plan.shape).contains(box):
        raise BadInput(f"{plan.path}: the box {box.start}..{box.stop} is not inside {plan.shape} ({AXES}).")
    if values.shape != box.shape:
        raise BadInput(f"{plan.path}: values of shape {values.shape} for a box of {box.shape}; they must be the same.")
    both_real = values.dtype.kind == plan.dtype.kind == "f"
    if not both_real and not np.can_cast(values.dtype, plan.dtype, "safe"):
        raise BadInput(f"{plan.path}: {values.dtype} values do not fit an image of {plan.dtype}; convert them first.")


def _five(sizes: Sequence[int], path: Path) -> Shape5:
    if len(sizes) != len(AXES) or min(sizes) < 1:
        raise BadInput(f"{path}: {tuple(sizes)} is no shape; give {len(AXES)} sizes of at least 1, in order {AXES}.")
    t, c, z, y, x = (int(n) for n in sizes)
    return t, c, z, y, x


def _check_axes(axes: str, shape: Shape5, path: Path) -> None:
    if not is_subset(axes) or not axes.endswith("yx"):
        raise BadInput(f"{path}: axes {axes!r}; give some of {AXES!r} in that order, with y and x.")
    lost = [axis for axis, size in zip(AXES, shape, strict=True) if size > 1 and axis not in axes]
    if lost:
        raise BadInput(f"{path}: axes {axes!r} leave out {', '.join(lost)}, which is longer than 1 in {shape}.")
