"""Export labels: plan every file first, refuse what would do harm, then write each whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.collection import ImageRecord
from fieldmark.collection.catalog import uri_of
from fieldmark.collection.naming import stem_of
from fieldmark.core.files import write_atomic
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.images import encode_png
from fieldmark.labels.exchange.answers import export_answers
from fieldmark.labels.exchange.markers import write_markers
from fieldmark.labels.exchange.points import export_points
from fieldmark.labels.exchange.reading import check_kind
from fieldmark.labels.exchange.rules import LEGEND, write_legend

if TYPE_CHECKING:
    from fieldmark.collection import Collection
    from fieldmark.labels.book import Labels


@dataclass(frozen=True, slots=True)
class _File:
    """A file to be written, and how its bytes are made when its turn comes."""

    path: Path
    data: Callable[[], bytes]


def export_folder(labels: Labels, path: Path, kind: str, collection: Collection, overwrite: bool) -> list[Path]:
    """See `Labels.export_folder`."""
    check_kind(kind)
    images = collection.all(include_excluded=True)
    if kind in {"answers", "points"}:
        file = path if path.suffix.lower() == ".csv" else path / f"{kind}.csv"
        export = export_answers if kind == "answers" else export_points
        files = [_File(file, partial(export, labels, collection))]
    else:
        files = list(_label_files(labels, path, kind, images))
    _refuse(files, files[0].path.parent if kind in {"answers", "points"} else path, images, overwrite)
    for one in files:
        write_atomic(one.path, one.data())
    return [one.path for one in files]


def _label_files(labels: Labels, path: Path, kind: str, images: Sequence[ImageRecord]) -> Iterator[_File]:
    places = {one.id: one.position for one in labels.classes()}
    labelled = set(labels.labelled_images(include_excluded=True))
    names = _file_names(images)
    for image in images:
        if image.id not in labelled:
            continue
        for suffix, planes in _files_of(kind, image, labels.planes(image.id)):
            stem = names[image.id] + suffix
            if kind == "markers":
                yield _File(path / f"{stem}-seeds.txt", partial(_markers, labels, image, planes, places))
            else:
                yield _File(path / f"{stem}.png", partial(_picture, labels, image, planes[0], places))
    yield _File(path / LEGEND, partial(write_legend, kind, labels.classes()))


def _files_of(
    kind: str, image: ImageRecord, planes: Sequence[tuple[int, int]]
) -> Iterator[tuple[str, Sequence[tuple[int, int]]]]:
    """How an image's labelled planes go into files: what is added to its name, and the planes."""
    if image.shape[0] == 1 and (image.shape[2] == 1 or kind == "markers"):
        yield "", planes
        return
    for t, z in planes:
        yield f"_t{t}_z{z}", [(t, z)]


def _file_names(images: Sequence[ImageRecord]) -> dict[int, str]:
    """The name of each image's file without suffix: the image's, with its own suffix where two would collide."""
    stems = [stem_of(image.name).casefold() for image in images]
    times = Counter(stems)
    return {
        image.id: image.name if times[stem] > 1 else stem_of(image.name)
        for image, stem in zip(images, stems, strict=True)
    }


def _plane(labels: Labels, image: ImageRecord, plane: tuple[int, int], places: dict[int, int]) -> np.ndarray:
    """The place of each pixel's class, 0 where unknown: int32 (height, width)."""
    classes = labels.class_ids(image.id, *plane, Box.whole(image.shape[3:]))
    table = np.zeros(max(places, default=0) + 1, dtype=np.int32)
    for class_id, position in places.items():
        table[class_id] = position
    values: np.ndarray = table[classes]
    return values


def _picture(labels: Labels, image: ImageRecord, plane: tuple[int, int], places: dict[int, int]) -> bytes:
    values = _plane(labels, image, plane, places)
    return encode_png(values.astype(np.uint8 if max(places.values()) < 256 else np.uint16))


def _markers(labels: Labels, image: ImageRecord, planes: Sequence[tuple[int, int]], places: dict[int, int]) -> bytes:
    _, _, depth, height, width = image.shape
    volume = depth > 1 and image.shape[0] == 1
    parts: list[np.ndarray] = [np.zeros((0, 5), dtype=np.int64)]
    for t, z in planes:
        values = _plane(labels, image, (t, z), places)
        y, x = np.nonzero(values)
        strokes = labels.stroke_ids(image.id, t, z, Box.whole((height, width)))[y, x]
        parts.append(np.column_stack([np.full(len(y), z if volume else 0), y, x, strokes, values[y, x]]))
    table = np.concatenate(parts)
    ids = np.unique(table[:, 3], return_inverse=True)[1].reshape(-1) + 1
    order = np.lexsort((table[:, 2], table[:, 1], table[:, 0], ids))
    size = (width, height, depth) if volume else (width, height)
    return write_markers(size, table[order, :3], ids[order], table[order, 4])


def _refuse(files: Sequence[_File], target: Path, images: Sequence[ImageRecord], overwrite: bool) -> None:
    """Refuse to write among the user's images, out of the folder, or over files.

    Raises:
        BadInput: With the reason.
    """
    folder = PurePosixPath(uri_of(target))
    for one in files:
        if not PurePosixPath(uri_of(one.path)).is_relative_to(folder):
            raise BadInput(f"{one.path}: this would be outside {target}; rename the image that it belongs to.")
    held = {PurePosixPath(image.uri).parent: image.name for image in images}
    for place in (target, *(one.path.parent for one in files)):
        if name := held.get(PurePosixPath(uri_of(place))):
            raise BadInput(
                f"{place}: this folder holds the image {name}, and image folders are never written into. "
                "Choose an empty folder."
            )
    there = [one.path for one in files if one.path.exists()]
    if there and not overwrite:
        raise BadInput(
            f"{there[0]}: this file is there already ({len(there)} in all). Choose an empty folder, or overwrite."
        )
