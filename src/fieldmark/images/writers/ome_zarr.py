"""OME-Zarr, written in place chunk by chunk; it is an image once `finish` has written its metadata."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import zarr

from fieldmark.core.axes import AXES
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.images.pyramid import halve
from fieldmark.images.writers.ome_metadata import group_attributes
from fieldmark.images.writers.plan import WritePlan, check_block
from fieldmark.images.zarr_folders import is_zarr_folder, ome_attributes

_FORMAT = {"0.4": 2, "0.5": 3}


class OmeZarrWriter:
    """Writes one OME-Zarr image."""

    def __init__(self, plan: WritePlan) -> None:
        self._plan = plan
        self._finished = False
        if plan.path.exists() and not (plan.resume and is_zarr_folder(plan.path)):
            _make_room(plan)
        self._group = zarr.open_group(str(plan.path), mode="a", zarr_format=_FORMAT[plan.version])
        self._array = self._reopened() if "0" in self._group else self._level(0, plan.kept_shape)

    def write(self, box: Box, values: np.ndarray) -> None:
        check_block(self._plan, box, values)
        _put(self._array, self._plan.axes, box, values.astype(self._plan.dtype, copy=False))

    def finish(self) -> None:
        above = self._array
        for level in range(1, self._plan.levels):
            above = self._half(level, above)
        self._group.update_attributes(group_attributes(self._plan))
        self._finished = True

    def abort(self) -> None:
        if not self._finished:
            shutil.rmtree(self._plan.path, ignore_errors=True)

    def _level(self, level: int, shape: tuple[int, ...]) -> Any:
        plan = self._plan
        chunks = _sides(plan, shape)
        facts: dict[str, Any] = {"dimension_names": list(plan.axes)} if plan.version == "0.5" else {}
        if plan.version == "0.4":
            facts["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
        return self._group.create_array(
            str(level), shape=shape, chunks=chunks, dtype=plan.dtype, fill_value=0, overwrite=level > 0, **facts
        )

    def _reopened(self) -> Any:
        """The pixels that an earlier writer left.

        Raises:
            BadInput: They are another image's.
        """
        plan = self._plan
        array: Any = self._group["0"]
        wanted = (plan.kept_shape, plan.dtype, _sides(plan, plan.kept_shape))
        if (array.shape, array.dtype, array.chunks) != wanted:
            raise BadInput(
                f"{plan.path} holds {array.shape} {array.dtype} in chunks of {array.chunks}; to go on with it takes "
                f"{wanted[0]} {wanted[1]} in chunks of {wanted[2]}. Delete it, or choose another name."
            )
        self._finished = "multiscales" in ome_attributes(plan.path, str(plan.path))
        return array

    def _half(self, level: int, above: Any) -> Any:
        """Write the next level from the one above it, a chunk at a time."""
        plan = self._plan
        *outer, height, width = above.shape
        below = self._level(level, (*outer, -(-height // 2), -(-width // 2)))
        for box in _chunk_boxes(below.shape, below.chunks):
            rows, columns = (slice(2 * s.start, 2 * s.stop) for s in box.slices[-2:])
            block = np.asarray(above[(*box.slices[:-2], rows, columns)])
            below[box.slices] = halve(block, single=plan.label_names is not None)
        return below


def _sides(plan: WritePlan, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The chunk of a level, no larger than the level."""
    return tuple(min(a, b) for a, b in zip(plan.kept_chunk, shape, strict=True))


def _put(array: Any, axes: str, box: Box, values: np.ndarray) -> None:
    place = tuple(box.slices[AXES.index(axis)] for axis in axes)
    array[place] = values.reshape([s.stop - s.start for s in place])


def _chunk_boxes(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Iterator[Box]:
    for corner in product(*(range(0, n, step) for n, step in zip(shape, chunks, strict=True))):
        yield Box(corner, tuple(min(a + s, n) for a, s, n in zip(corner, chunks, shape, strict=True)))


def _make_room(plan: WritePlan) -> None:
    """Remove an image that may be overwritten.

    Raises:
        BadInput: It may not, or what stands there is no zarr folder.
    """
    if plan.path.is_dir() and not any(plan.path.iterdir()):
        return
    if not plan.overwrite:
        raise BadInput(f"{plan.path} exists already. Choose another name, resume it, or allow it to be overwritten.")
    if not is_zarr_folder(plan.path):
        raise BadInput(f"{plan.path} is no zarr folder, so it is not overwritten. Choose another name.")
    shutil.rmtree(plan.path)
