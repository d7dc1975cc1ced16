"""Some planes of an OME-Zarr image, such as a field of a plate, named by a listing, as one image.

A listing is a text file of ours: `# fieldmark planes 1`, a line of columns, and one line that says which image and
which of its planes. The folder that the image lies in is the one line of `folder.txt` beside it, as for frames.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from io import StringIO

from fieldmark.errors import BadFile
from fieldmark.images.picked import PickedSource
from fieldmark.images.readers import PLANES_MAGIC, OpenRequest
from fieldmark.images.readers.frames import frames_folder, is_inside

COLUMNS = ("image", "sha256", "times", "channels", "slices")
_MOST_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Planes:
    """Planes of an image: the full grid of some of its times, channels and slices, by their places."""

    image: str
    """Relative to the folder of images, with forward slashes."""
    sha256: str
    """Of the image's files: another content is another listing."""
    times: tuple[int, ...]
    channels: tuple[int, ...]
    slices: tuple[int, ...]


def planes_listing(planes: Planes) -> bytes:
    """The listing of these planes."""
    text = StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    places = (" ".join(map(str, own)) for own in (planes.times, planes.channels, planes.slices))
    lines.writerow((planes.image, planes.sha256, *places))
    return PLANES_MAGIC + b" 1\n" + text.getvalue().encode()


def open_planes(ask: OpenRequest) -> PickedSource:
    """Open a listing.

    Raises:
        BadFile: The listing is damaged, or the image is gone or has fewer planes than it had.
    """
    from fieldmark.images.opening import open_image

    planes = _parse(ask)
    path = frames_folder(ask.path, ask.shown) / planes.image
    if not path.is_dir():
        raise BadFile(ask.shown, f"{path} is not there any more. Put it back, or name the folder where it is now.")
    source = open_image(path, max_bytes=ask.max_bytes, shown=ask.shown)
    picked = planes.times, planes.channels, planes.slices
    if any(own[-1] >= count for own, count in zip(picked, source.shape, strict=False)):
        t, c, z = source.shape[:3]
        source.close()
        raise BadFile(ask.shown, f"{path} has {t} times, {c} channels and {z} slices, and had more. Put it back.")
    return PickedSource(source, *picked)


def _parse(ask: OpenRequest) -> Planes:
    damaged = BadFile(ask.shown, "its listing is damaged. Add the folder of images again.")
    if ask.path.stat().st_size > _MOST_BYTES:
        raise damaged
    try:
        (row,) = csv.DictReader(ask.path.read_text(encoding="utf-8").splitlines()[1:])
        times, channels, slices = (tuple(map(int, row[name].split())) for name in COLUMNS[2:])
        planes = Planes(row["image"], row["sha256"], times, channels, slices)
    except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise damaged from error
    if not all(own and own[0] >= 0 and own == tuple(sorted(set(own))) for own in (times, channels, slices)):
        raise damaged
    if not is_inside(planes.image):
        raise BadFile(ask.shown, f"its listing names {planes.image!r}, which leads out of the folder of images.")
    return planes
