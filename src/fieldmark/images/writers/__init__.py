"""Pixels out, tile by tile: OME-Zarr, TIFF, PNG and NumPy. Listing the formats imports nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from fieldmark.core.registry import Entry, Registry

if TYPE_CHECKING:
    import numpy as np

    from fieldmark.core.axes import PixelSize
    from fieldmark.core.geometry import Box

_HOME = "fieldmark.images.writers"

WRITERS = Registry(
    "output format",
    {
        "ome-zarr": Entry(f"{_HOME}.ome_zarr:OmeZarrWriter", "OME-Zarr 0.5 (or 0.4): any size, any axes, resumable"),
        "tiff": Entry(f"{_HOME}.tiff:TiffWriter", "tiled TIFF, with OME-XML where there is time, channel or depth"),
        "png": Entry(f"{_HOME}.png:PngWriter", "PNG of one plane with 1, 3 or 4 channels of 8 or 16 bits"),
        "npy": Entry(f"{_HOME}.npy:NpyWriter", "a NumPy array: any size and type, no scale and no names"),
    },
)
FORMAT_SUFFIX = {"ome-zarr": ".ome.zarr", "tiff": ".tif", "png": ".png", "npy": ".npy"}


class ImageWriter(Protocol):
    """An image that is being written."""

    def write(self, box: Box, values: np.ndarray) -> None:
        """Put pixels into a 5-D box; boxes may come in any order, and again.

        Not for several threads at once.

        Raises:
            BadInput: The box is not inside the image, or the values do not fit it or its type.
        """
        ...

    def finish(self) -> None:
        """Make the image complete. Until then nobody can take it for a finished one."""
        ...

    def abort(self) -> None:
        """Throw away what was written, unless it was finished.

        To go on later, stop writing instead, and create a writer with `resume`.
        """
        ...


def create_writer(
    path: str | Path,
    format: str,  # noqa: A002 -- the word that users type
    *,
    shape: Sequence[int],
    dtype: np.dtype | type | str,
    pixel_size: PixelSize | None = None,
    axes: str = "tczyx",
    channel_names: Sequence[str] | None = None,
    label_names: Mapping[int, str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    chunk: int | Sequence[int] = 512,
    levels: int = 1,
    version: str = "0.5",
) -> ImageWriter:
    """Begin to write an image.

    OME-Zarr is written in place and becomes an image when its metadata is written by `finish`. The
    others are collected in a hidden folder beside the file, which `finish` writes whole and renames: a
    file of that name is replaced in one step, and only then.

    Args:
        path: Where the image goes.
        format: One of `FORMAT_SUFFIX`.
        shape: (t, c, z, y, x) in pixels.
        dtype: Type of the values; bool becomes uint8.
        pixel_size: In micrometers. PNG does not keep it.
        axes: Those of `tczyx` that the file shall have; the others must be one long.
        channel_names: One for each channel.
        label_names: What the values of a label image mean; lower levels then keep single values.
        resume: Go on with what an earlier writer of the same shape and type left.
        overwrite: Remove an OME-Zarr image that stands there, before anything is written.
        chunk: Rows and columns of a tile, or all five sides of a chunk.
        levels: Pyramid levels of OME-Zarr, each half as large as the last.
        version: Of OME-Zarr, `0.5` or `0.4`.

    Raises:
        BadInput: The format cannot hold this image, or the path is taken.
        NotFound: There is no such format.
    """
    from fieldmark.images.writers.plan import plan_write

    writer = WRITERS.load(format)
    plan = plan_write(
        Path(path),
        shape=shape,
        dtype=dtype,
        pixel_size=pixel_size,
        axes=axes,
        channel_names=channel_names,
        label_names=label_names,
        resume=resume,
        overwrite=overwrite,
        chunk=chunk,
        levels=levels,
        version=version,
    )
    return cast(ImageWriter, writer(plan))
