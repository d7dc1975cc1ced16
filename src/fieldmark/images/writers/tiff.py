"""TIFF: tiled, deflated, BigTIFF where needed; OME-XML where there is more than one plane."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.core.geometry import Box, round_up
from fieldmark.errors import BadInput
from fieldmark.images.source import ImageSource
from fieldmark.images.writers.draft import DraftWriter
from fieldmark.images.writers.plan import WritePlan

_CLASSIC_BYTES = 2**32 - 2**25
"""Most bytes of pixels that surely fit into a classic TIFF, with its directories."""
_OME_TYPES = frozenset({"int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64"})
_TILE_STEP = 16  # the format's rule for the sides of a tile


class TiffWriter(DraftWriter):
    """Writes one TIFF file.

    One plane of 3 or 4 unnamed channels of 8 or 16 bits becomes an RGB or RGBA image; any other
    image with several time points, channels or slices becomes an OME-TIFF.
    """

    def __init__(self, plan: WritePlan) -> None:
        if _is_ome(plan) and plan.dtype.name not in _OME_TYPES:
            raise BadInput(
                f"{plan.path}: OME-TIFF has no {plan.dtype} values. Write it as ome-zarr, or convert the values."
            )
        sides = (round_up(plan.chunk[3], _TILE_STEP), round_up(plan.chunk[4], _TILE_STEP))
        super().__init__(replace(plan, chunk=(1, _samples(plan), 1, *sides)))

    def _encode(self, source: ImageSource, part: Path) -> None:
        import tifffile

        plan = self._plan
        big = prod(plan.shape) * plan.dtype.itemsize > _CLASSIC_BYTES
        with tifffile.TiffWriter(part, bigtiff=big, ome=_is_ome(plan)) as out:
            out.write(self._tiles(source), **self._facts())

    def _tiles(self, source: ImageSource) -> Iterator[np.ndarray]:
        """Every tile of every plane in the file's order: (y, x) or (y, x, samples), filled up with zeros."""
        t, c, z, height, width = source.shape
        samples, rows, columns = _samples(self._plan), *self._plan.chunk[3:]
        planes = product(range(t), range(0, c, samples), range(z), range(0, height, rows), range(0, width, columns))
        for at in planes:
            stop = (at[0] + 1, at[1] + samples, at[2] + 1, min(at[3] + rows, height), min(at[4] + columns, width))
            pixels = np.moveaxis(source.read(Box(at, stop))[0, :, 0], 0, -1)
            tile = np.zeros((rows, columns, samples), self._plan.dtype)
            tile[: pixels.shape[0], : pixels.shape[1]] = pixels
            yield tile if samples > 1 else tile[..., 0]

    def _facts(self) -> dict[str, Any]:
        plan = self._plan
        samples = _samples(plan)
        rgb = samples > 1
        size = plan.pixel_size
        plain = (*plan.shape[3:], samples) if rgb else plan.shape[3:]
        facts: dict[str, Any] = {
            "shape": plan.kept_shape if _is_ome(plan) else plain,
            "dtype": plan.dtype,
            "tile": plan.chunk[3:],
            "compression": "zlib",
            "predictor": plan.dtype.kind in "iu" and plan.dtype.itemsize < 8,
            "photometric": "rgb" if rgb else "minisblack",
            "metadata": _ome_notes(plan) if _is_ome(plan) else None,
            "software": "fieldmark",
        }
        if samples == 4:
            facts["extrasamples"] = ["unassalpha"]
        if size.y and size.x:
            facts |= {"resolution": (1e4 / size.x, 1e4 / size.y), "resolutionunit": "CENTIMETER"}
        return facts


def _samples(plan: WritePlan) -> int:
    """Channels that are samples of one pixel: those of a color image, else one."""
    t, c, z, *_ = plan.shape
    colored = c in {3, 4} and plan.dtype.name in {"uint8", "uint16"} and plan.channel_names is None
    return c if colored and t == z == 1 else 1


def _is_ome(plan: WritePlan) -> bool:
    return _samples(plan) == 1 and (max(plan.shape[:3]) > 1 or plan.channel_names is not None)


def _ome_notes(plan: WritePlan) -> dict[str, Any]:
    notes: dict[str, Any] = {"axes": plan.axes.upper()}
    for axis in "zyx":
        if size := getattr(plan.pixel_size, axis):
            notes |= {f"PhysicalSize{axis.upper()}": size, f"PhysicalSize{axis.upper()}Unit": "µm"}
    if plan.channel_names is not None:
        notes["Channel"] = {"Name": list(plan.channel_names)}
    return notes
