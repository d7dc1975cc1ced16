"""Which file belongs to which image, by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from fieldmark.collection import ImageRecord
from fieldmark.collection.catalog import uri_of
from fieldmark.errors import BadFile
from fieldmark.images import is_image_name
from fieldmark.images.find import natural_key

ENDINGS = {
    "markers": ("-seeds", "_seeds", "-markers", "_markers"),
    "masks": ("-mask", "_mask", "-masks", "_masks", "-label", "_label", "-labels", "_labels", "-seg", "_seg"),
    "scribbles": ("-scribble", "_scribble", "-scribbles", "_scribbles"),
}
"""What may stand between an image's name and the suffix of its label file."""

_LONG_SUFFIXES = (".ome.zarr", ".ome.tif", ".ome.tiff", ".nii.gz")
_PLANE = re.compile(r"_t(\d{1,9})_z(\d{1,9})$")


@dataclass(frozen=True, slots=True)
class Paired:
    """A label file and the image that it is about."""

    path: Path
    shown: str
    image: ImageRecord
    plane: tuple[int, int] | None
    """The (t, z) that the file is of, where its name says."""

    @property
    def is_text(self) -> bool:
        return self.path.suffix.lower() == ".txt"


@dataclass(frozen=True, slots=True)
class Pairing:
    """Files with their images; (name, reason) of files without one; and what is ambiguous."""

    pairs: list[Paired]
    left_out: list[tuple[str, str]]
    bad: list[BadFile]


def pair(path: Path, kind: str, images: Sequence[ImageRecord]) -> Pairing:
    """Find the label files at `path` (a folder, or one file) and their images.

    A file of the name of an image, with or without the image's own suffix and one of `ENDINGS`, belongs to that image;
    `_t0_z3` behind it names a plane. The images themselves are passed over. Markers are text files and pictures; where
    text files belong to images, only pictures whose name ends like a marker file's are taken, as the others may be
    copies of the images.

    Raises:
        BadFile: There is no such file or folder.
    """
    if not path.exists():
        raise BadFile(path, "there is no such file or folder. Check the name.")
    root = path if path.is_dir() else path.parent
    own = {image.uri for image in images}
    finder = _Finder(images)
    found = Pairing([], [], [])
    taken: dict[tuple[int, object], str] = {}
    for file in _files(path, kind):
        if _is_doubtful(file, path, kind) and any(one.is_text for one in found.pairs):
            continue
        if uri_of(file) in own and path.is_dir():
            continue
        key, plane = _key(file.relative_to(root).as_posix(), ENDINGS[kind])
        matches = finder.matches(key, ENDINGS[kind])
        if not matches:
            found.left_out.append((str(file), "no image of the project has its name"))
        elif len(matches) > 1:
            names = " and ".join(image.name for image in matches[:3])
            found.bad.append(BadFile(file, f"it could belong to {names}. Put it into a folder like the image's."))
        elif (matches[0].id, plane) in taken:
            other = taken[matches[0].id, plane]
            found.bad.append(BadFile(file, f"{other} is about the same image, {matches[0].name}. Keep one of them."))
        else:
            taken[matches[0].id, plane] = str(file)
            found.pairs.append(Paired(file, str(file), matches[0], plane))
    return found


def stem_of(name: str) -> str:
    """An image's name without its suffix: `a/b.ome.tif` gives `a/b`."""
    lower = name.lower()
    for suffix in _LONG_SUFFIXES:
        if lower.endswith(suffix):
            return name[: -len(suffix)]
    return str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).suffix else name


class _Finder:
    """Looks images up by full name, by name without suffix, and by the last part of that."""

    def __init__(self, images: Sequence[ImageRecord]) -> None:
        self.whole: dict[str, list[ImageRecord]] = {}
        self.last: dict[str, list[ImageRecord]] = {}
        self.folders = {_plain(image.name).rpartition("/")[0] for image in images} - {""}
        for image in images:
            for name in {_plain(image.name), _plain(stem_of(image.name))}:
                self.whole.setdefault(name, []).append(image)
                self.last.setdefault(name.rpartition("/")[2], []).append(image)

    def matches(self, key: str, endings: Sequence[str]) -> list[ImageRecord]:
        """The images that a file name without its suffix may mean; the most exact way of reading it wins.

        In one of the images' own folders, a file is of an image there or of none.
        """
        key = _plain(key)
        readings = _readings(key, endings)
        lasts = [] if key.rpartition("/")[0] in self.folders else [name.rpartition("/")[2] for name in readings]
        for table, names in ((self.whole, readings), (self.last, lasts)):
            for name in names:
                if name in table:
                    return table[name]
        return []


def _files(path: Path, kind: str) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    inside = (
        file for file in path.rglob("*") if not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    wanted = (file for file in inside if _is_wanted(file, kind))
    yield from sorted(wanted, key=lambda file: (is_image_name(file.name), natural_key(file.as_posix())))


def _is_wanted(file: Path, kind: str) -> bool:
    right = is_image_name(file.name) or (kind == "markers" and file.suffix.lower() == ".txt")
    return right and file.is_file()


def _is_doubtful(file: Path, path: Path, kind: str) -> bool:
    """Whether a picture in a folder of markers may as well be an image."""
    return kind == "markers" and path.is_dir() and is_image_name(file.name) and not _ends(file, ENDINGS[kind])


def _ends(file: Path, endings: Sequence[str]) -> bool:
    stem = stem_of(file.name)
    found = _PLANE.search(stem)
    return (stem[: found.start()] if found else stem).endswith(tuple(endings)) or stem.endswith(tuple(endings))


def _key(relative: str, endings: Sequence[str]) -> tuple[str, tuple[int, int] | None]:
    """A label file's name without suffix and plane, and the plane."""
    stem = stem_of(relative)
    for reading in _readings(stem, endings):
        if found := _PLANE.search(reading):
            return reading[: found.start()], (int(found[1]), int(found[2]))
    return stem, None


def _plain(name: str) -> str:
    """A name in one spelling: accents are the same however they are written."""
    return normalize("NFC", name)


def _readings(key: str, endings: Sequence[str]) -> list[str]:
    """A name as it is, and without each ending that it has."""
    return [key, *(key.removesuffix(ending) for ending in endings if key.endswith(ending))]
