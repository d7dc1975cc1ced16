"""From finished working copies to the files that the user wants, in the format that was asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.infer.sinks import quantized, rounded

if TYPE_CHECKING:
    from fieldmark.images import ImageSource

CHUNK = 512

Change = Callable[[np.ndarray], np.ndarray]
Numbers = Sequence[Sequence[int]]
COUNTED: Numbers = ((), ())
"""Times and slices that are called 0, 1, 2, ..."""


def place(made: Path, target: Path, form: str, names: list[str] | None = None, numbers: Numbers = COUNTED) -> None:
    """Bring a working copy to its target; OME-Zarr is moved, other formats are written from it.

    Args:
        made: The copy, an OME-Zarr image that is not needed any more.
        target: Where it goes.
        form: The format.
        names: Of its channels.
        numbers: Of its times and slices.
    """
    if form != "ome-zarr":
        convert(made, target, form, names=names, numbers=numbers)
        return
    if target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    made.replace(target)


def place_copy(
    made: Path,
    target: Path,
    form: str,
    dtype: np.dtype,
    names: list[str] | None,
    numbers: Numbers = COUNTED,
) -> None:
    """Write a predicted image to its target in another type, rounded; the working copy stays."""
    change = partial(rounded, dtype=dtype)
    convert(made, target, form, dtype=dtype, names=names, change=change, numbers=numbers)


def place_probabilities(
    made: Path, targets: list[Path], form: str, dtype: np.dtype, names: list[str], numbers: Numbers = COUNTED
) -> None:
    """Bring probabilities to one file, in the type that was asked for, or as PNG to one picture a class.

    PNG holds no fractions and few channels: there 65535 is certain by itself.
    """
    if form == "png":
        whole = dtype if dtype.kind == "u" else np.dtype(np.uint16)
        for channel, target in enumerate(targets):
            convert(made, target, form, dtype=whole, channels=(channel, channel + 1), numbers=numbers)
        return
    for target in targets:
        if _dtype_of(made) == dtype:
            place(made, target, form, names)
        else:
            convert(made, target, form, dtype=dtype, names=names)


def write_saliency(made: Path, target: Path, form: str, background: int, numbers: Numbers = COUNTED) -> None:
    """One minus the probability of the background, 255 for certain."""
    convert(
        made,
        target,
        form,
        dtype=np.dtype(np.uint8),
        channels=(background, background + 1),
        change=lambda values: quantized(1 - as_shares(values), np.dtype(np.uint8)),
        numbers=numbers,
    )


def place_instances(made: Path, target: Path, form: str, count: int, numbers: Numbers = COUNTED) -> None:
    """Bring an instance map to its target. PNG holds numbers up to 65535: raises BadInput where there are more."""
    if form != "png":
        place(made, target, form)
        return
    if count > np.iinfo(np.uint16).max:
        raise BadInput(f"{target}: {count} objects do not fit into a PNG image. Write them as ome-zarr, tiff or npy.")
    whole = np.dtype(np.uint16)
    convert(made, target, form, dtype=whole, change=lambda ids: ids.astype(whole), numbers=numbers)


def convert(
    made: Path,
    target: Path,
    form: str,
    *,
    dtype: np.dtype | None = None,
    channels: tuple[int, int] | None = None,
    change: Change | None = None,
    names: list[str] | None = None,
    numbers: Numbers = COUNTED,
) -> None:
    """Copy tile by tile from a working copy into a format; memory follows the tile, for PNG the plane.

    A stack becomes as many PNG files as it has planes (see `images.writers.planes`).

    Args:
        made: An OME-Zarr image.
        target: The file; what stands there is replaced.
        form: Its format.
        dtype: Of the file; by itself the copy's. Shares become whole numbers of it.
        channels: The first, and the one after the last; all where None.
        change: From the copy's values to the file's, instead.
        names: Of the file's channels.
        numbers: Of its times and slices, in the names of PNG files.
    """
    from fieldmark.images import open_image
    from fieldmark.images.writers.planes import plane_files

    if form == "ome-zarr" and target.exists():
        shutil.rmtree(target)
    with open_image(made) as source:
        t, c, z, y, x = source.shape
        first, last = channels or (0, c)
        wanted = dtype or source.dtype
        copied = partial(_copied, source, form=form, dtype=wanted, change=change or partial(_as, dtype=wanted))
        if form != "png":
            copied(Box((0, first, 0, 0, 0), (t, last, z, y, x)), target, names=names)
            return
        for file in plane_files(target, (t, last - first, z, y, x), numbers):
            start = (file.t, first + file.first, file.z, 0, 0)
            copied(Box(start, (file.t + 1, first + file.last, file.z + 1, y, x)), file.path)


def _copied(
    source: ImageSource,
    part: Box,
    target: Path,
    *,
    form: str,
    dtype: np.dtype,
    change: Change,
    names: list[str] | None = None,
) -> None:
    """Write a part of an image into a file, piece by piece."""
    from fieldmark.images.decode import pieces
    from fieldmark.images.writers import create_writer

    options: dict[str, Any] = {"pixel_size": source.pixel_size, "axes": source.axes, "chunk": CHUNK}
    writer = create_writer(target, form, shape=part.shape, dtype=dtype, channel_names=names, **options)
    for box in pieces(source, within=part):
        writer.write(box.shifted([-low for low in part.start]), change(source.read(box)))
    writer.finish()


def _as(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if values.dtype == dtype:
        return values
    return quantized(as_shares(values), dtype)


def as_shares(values: np.ndarray) -> np.ndarray:
    """Shares in 0..1, float32, of shares or of whole numbers whose largest stands for 1."""
    if values.dtype.kind == "f":
        return values
    return values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)


def _dtype_of(made: Path) -> np.dtype:
    from fieldmark.images import open_image

    with open_image(made) as source:
        return source.dtype
