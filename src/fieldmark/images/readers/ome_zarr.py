"""OME-Zarr 0.4 and 0.5: the metadata is checked by hand, the chunks are read by zarr."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.core.axes import AXES, PixelSize
from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile
from fieldmark.images.faults import decoding
from fieldmark.images.readers import OpenRequest
from fieldmark.images.readers.ome_multiscales import Multiscale, parse_multiscales
from fieldmark.images.readers.zarr_arrays import check_array_metadata, read_array_metadata
from fieldmark.images.source import BaseSource, readable_dtype, shape_tczyx
from fieldmark.images.zarr_folders import check_inside, ome_attributes, read_metadata


class OmeZarrSource(BaseSource):
    """An open OME-Zarr image."""

    def __init__(self, arrays: list[Any], **facts: Any) -> None:
        self._arrays = arrays
        super().__init__(levels=[shape_tczyx(a.shape, facts["axes"]) for a in arrays], **facts)

    def grain(self, level: int = 0) -> tuple[int, ...]:
        """5-D shape of the chunks (shards, where there are some) of a level."""
        array = self._arrays[level]
        return shape_tczyx(array.shards or array.chunks, self._axes)

    def _read(self, box: Box, level: int) -> np.ndarray:
        place = tuple(box.slices[AXES.index(axis)] for axis in self._axes)
        with decoding(self.shown, "OME-Zarr image"):
            pixels: np.ndarray = np.asarray(self._arrays[level][place])
        return pixels.reshape(box.shape)

    def close(self) -> None:
        super().close()
        self._arrays = []


def open_ome_zarr(ask: OpenRequest) -> OmeZarrSource:
    """Open an OME-Zarr image of version 0.4 or 0.5 with all its levels.

    Raises:
        BadFile: Its metadata is missing, contradicts itself or leads out of the folder.
        TooLarge: One of its chunks alone exceeds `ask.max_bytes`.
    """
    found = ome_attributes(ask.path, ask.shown)
    if "multiscales" not in found:
        raise BadFile(ask.shown, _no_image(ask.path, found, ask.shown))
    with decoding(ask.shown, "OME-Zarr image"):
        plan = parse_multiscales(found["multiscales"], ask.shown)
    arrays = [_open_array(ask, name, len(plan.axes)) for name, _ in plan.datasets]
    _check_levels(arrays, plan, ask.shown)
    dtype = readable_dtype(arrays[0].dtype, ask.shown)
    return OmeZarrSource(
        arrays, shown=ask.shown, dtype=dtype, axes=plan.axes, pixel_size=PixelSize(**plan.pixel_size())
    )


def _no_image(folder: Path, found: dict[str, Any], shown: str) -> str:
    if "plate" in found or "well" in found:
        return "it is a plate or well of many images. Name one of its fields, or the folder above it with `add`."
    if (folder / ".zarray").is_file() or read_metadata(folder, "zarr.json", shown).get("node_type") == "array":
        return "it is a bare zarr array without OME-Zarr metadata. Name the folder above it, or export it as OME-Zarr."
    return "it has no multiscales metadata, so it is no finished OME-Zarr image. Name one of the images inside it."


def _open_array(ask: OpenRequest, name: str, ndim: int) -> Any:
    """One level, with its chunks bounded; nothing outside the image's folder is ever opened."""
    folder = ask.path / name
    if not folder.is_dir():
        raise BadFile(ask.shown, f"its metadata names a level {name!r} that is not there. Copy or export it again.")
    check_inside(folder, ask.path, ask.shown)
    with decoding(ask.shown, "OME-Zarr image"):
        meta = read_array_metadata(folder, name, ask.shown)
        check_array_metadata(meta, name, ndim, ask)
        from fieldmark.images.readers.zarr_guard import open_guarded

        return open_guarded(ask.path, name, ask.shown)


def _check_levels(arrays: list[Any], plan: Multiscale, shown: str) -> None:
    first = arrays[0]
    for array, (name, _) in zip(arrays, plan.datasets, strict=True):
        if array.dtype != first.dtype or any(n > m for n, m in zip(array.shape, first.shape, strict=True)):
            raise BadFile(
                shown,
                f"level {name!r} is {array.shape} {array.dtype}, the full level is {first.shape} {first.dtype}. "
                "Export it again.",
            )
        if array.shape[:-2] != first.shape[:-2] and "z" not in plan.axes:
            raise BadFile(shown, f"level {name!r} has other channels or time points than the full level.")
