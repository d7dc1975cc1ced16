"""Which file belongs to which image, by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fieldmark.collection import ImageRecord
from fieldmark.collection.catalog import uri_of
from fieldmark.collection.naming import ENDINGS, ImageNames, plane_of, stem_of
from fieldmark.errors import BadFile
from fieldmark.images import is_image_name
from fieldmark.images.find import natural_key


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
    named = {image.name: image for image in images}
    names = ImageNames(named)
    found = Pairing([], [], [])
    taken: dict[tuple[int, object], str] = {}
    for file in _files(path, kind):
        if _is_doubtful(file, path, kind) and any(one.is_text for one in found.pairs):
            continue
        if uri_of(file) in own and path.is_dir():
            continue
        key, plane = plane_of(stem_of(file.relative_to(root).as_posix()), ENDINGS[kind])
        matches = [named[name] for name in names.meant_by(key, ENDINGS[kind])]
        if not matches:
            found.left_out.append((str(file), "no image of the project has its name"))
        elif len(matches) > 1:
            several = " and ".join(image.name for image in matches[:3])
            found.bad.append(BadFile(file, f"it could belong to {several}. Put it into a folder like the image's."))
        elif (matches[0].id, plane) in taken:
            other = taken[matches[0].id, plane]
            found.bad.append(BadFile(file, f"{other} is about the same image, {matches[0].name}. Keep one of them."))
        else:
            taken[matches[0].id, plane] = str(file)
            found.pairs.append(Paired(file, str(file), matches[0], plane))
    return found


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
    return plane_of(stem, ())[0].endswith(tuple(endings)) or stem.endswith(tuple(endings))
