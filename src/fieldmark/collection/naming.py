"""Which file belongs to which image, by name: label maps, markers, masks, true images, rows of tables."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fieldmark.collection.frames import listings_in
from fieldmark.errors import BadInput, some
from fieldmark.images import find_images
from fieldmark.images.find import link_reason

ENDINGS = {
    "markers": ("-seeds", "_seeds", "-markers", "_markers"),
    "masks": ("-mask", "_mask", "-masks", "_masks", "-label", "_label", "-labels", "_labels", "-seg", "_seg"),
    "scribbles": ("-scribble", "_scribble", "-scribbles", "_scribbles"),
}
"""What may stand between an image's name and the suffix of its label file."""

_WELL = re.compile(r"(?:^|/)(A[A-F]|[A-P])/?0?(\d{1,2})$")
"""The folder of a well, `B/3`, `B3` or `B03`."""
_PLANE = re.compile(r"_t(\d{1,9})_z(\d{1,9})$")
_LONG_SUFFIXES = (".ome.zarr", ".ome.tif", ".ome.tiff", ".nii.gz")


COPY_LINKS = "Put the file itself there, or name the folder that holds it."
"""What to do about a link that is not followed."""

Planes = dict[tuple[int, int], Path]
"""The file of each plane (t, z)."""


@dataclass(frozen=True, slots=True)
class FilePairs:
    """The file of each image that has one, in the order of the images; and the names of files without an image.

    Images whose planes have files of their own are in `files` with the first of these, and in `planes` with all.
    """

    files: dict[str, Path]
    unused: tuple[str, ...]
    planes: dict[str, Planes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Folder:
    """That of an image or a file: its parts, and the row and column of the well that it is named after."""

    parts: tuple[str, ...]
    well: tuple[str, ...]

    @classmethod
    def of(cls, name: str) -> _Folder:
        folder = name.rpartition("/")[0]
        well = _WELL.search(folder)
        return cls(tuple(part for part in folder.split("/") if part), well.groups() if well else ())


class ImageNames:
    """Looks images up by their whole name, by that without suffix, and by the last part of either.

    An accent may be written as one character or as two, and systems differ in which they store: both are one name here.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._whole: dict[str, list[str]] = {}
        self._last: dict[str, list[str]] = {}
        self._folders: set[str] = set()
        self._places: dict[str, tuple[_Folder, bool]] = {}
        for name in names:
            whole, stem = _composed(name), stem_of(name)
            self._folders.add(whole.rpartition("/")[0])
            self._places[name] = (_Folder.of(whole), stem == whole and whole.rpartition("/")[2].isdecimal())
            for key in {whole, stem}:
                self._whole.setdefault(key, []).append(name)
                self._last.setdefault(key.rpartition("/")[2], []).append(name)
        self._folders.discard("")

    def meant_by(self, key: str, endings: Sequence[str] = ()) -> list[str]:
        """The images that a file may be of, by its name without suffix; the most exact way of reading it wins.

        In one of the images' own folders, a file is of an image there or of none; in another one the last part counts
        where that folder may stand for the image's (`_agree`).

        Args:
            key: Folders with `/`.
            endings: What may stand behind the image's name (`ENDINGS`).
        """
        readings = readings_of(_composed(key), endings)
        for name in readings:
            if name in self._whole:
                return self._whole[name]
        if readings[0].rpartition("/")[0] in self._folders:
            return []
        folder = _Folder.of(readings[0])
        lasts = (self._agreeing(name.rpartition("/")[2], folder) for name in readings)
        return next((found for found in lasts if found), [])

    def _agreeing(self, last: str, folder: _Folder) -> list[str]:
        """The images of that last part whose folders are not at odds with a file's."""
        found = []
        for name in self._last.get(last, ()):
            own, is_field = self._places[name]
            if _agree(own, folder, is_field=is_field):
                found.append(name)
        return found


def pair_files(
    images: Sequence[str],
    files: Mapping[str, Path],
    endings: Sequence[str] = ENDINGS["masks"],
    *,
    by_plane: bool = False,
) -> FilePairs:
    """The file of each image: named as the image, with or without an ending such as `_mask`.

    `a/1.png` belongs to `a/1.tif`, not to `b/1.tif`; where one side has no folders, the last part of names counts, and
    so it does where folders differ in one part, other than the well of a plate.

    Args:
        images: Names, folders with `/`.
        files: Their names relative to their folder, with `/`, and where they are.
        endings: What may stand between an image's name and the suffix of its file.
        by_plane: An image may have a file for each plane, named by it (`NAME_t0_z3`), instead of one.

    Raises:
        BadInput: A file may belong to several images, or an image has several files; the message names them.
    """
    names = ImageNames(images)
    owned: dict[str, Planes] = {}
    whole: set[str] = set()
    unused = []
    for name, path in sorted(files.items()):
        key, plane = stem_of(name), None
        meant = names.meant_by(key, endings)
        if not meant and by_plane:
            key, plane = plane_of(key, endings)
            meant = names.meant_by(key, endings) if plane is not None else []
        if len(meant) > 1:
            raise BadInput(f"{path} could belong to {' and '.join(meant[:3])}. Put it into a folder like the image's.")
        if not meant:
            unused.append(name)
            continue
        there = owned.setdefault(meant[0], {})
        other = next(iter(there.values()), None) if plane is None or meant[0] in whole else there.get(plane)
        if other is not None:
            raise BadInput(f"{other} and {path} are both of {meant[0]}. Keep one of them.")
        there[plane or (0, 0)] = path
        whole |= set() if plane is not None else {meant[0]}
    found = {image: owned[image] for image in images if image in owned}
    planes = {image: dict(sorted(files.items())) for image, files in found.items() if image not in whole}
    return FilePairs({image: files[min(files)] for image, files in found.items()}, tuple(unused), planes)


def pair_folder(images: Mapping[str, Path], folder: Path, what: str, *, by_plane: bool = False) -> FilePairs:
    """The file of each image in a folder of pictures or of listings of frames; the images themselves may lie there too.

    Args:
        images: Names, folders with `/`, and where they are.
        folder: Searched with its subfolders.
        what: What the files are, for errors.
        by_plane: See `pair_files`.

    Raises:
        BadInput: There is no such folder, no file is of an image, or as `pair_files`.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder. Name a folder of {what}.")
    own = {path.resolve() for path in images.values()}
    below = look_below(folder)
    files = {name: path for name, path in below.files.items() if path.resolve() not in own}
    pairs = pair_files(list(images), files, by_plane=by_plane)
    refuse_links([name for name in images if name not in pairs.files], below, by_plane=by_plane)
    if not pairs.files:
        raise BadInput(
            f"No file in {folder} has the stem of an image. Images: {some(images, 3)}; {what}: {some(files, 3)}. "
            f"Name the {what} as their images."
        )
    return pairs


@dataclass(frozen=True, slots=True)
class Below:
    """Pictures and listings of frames in a folder and its subfolders, named relative to it, each where it stands."""

    folder: Path
    files: dict[str, Path]
    links: dict[str, str]
    """Those that are links which are not followed, and why; not among the files."""


def look_below(folder: Path) -> Below:
    """What lies in a folder and its subfolders; of links only those to files inside of it."""
    found, listings = find_images(folder), listings_in(folder)
    reasons = {listing: link_reason(listing, folder.resolve()) for listing in listings if listing.is_symlink()}
    files = [*(path for path, _ in found.images), *(listing for listing in listings if not reasons.get(listing))]
    links = [*((Path(name), why) for name, why in found.links), *reasons.items()]
    return Below(
        folder,
        {path.relative_to(folder).as_posix(): path.absolute() for path in files},
        {path.relative_to(folder).as_posix(): why for path, why in links if why},
    )


def refuse_links(images: Sequence[str], below: Below, *, by_plane: bool = False) -> None:
    """Raise BadInput where the file of an image is a link that is not followed.

    Args:
        images: Names of those that have no other file.
        below: What lies in the folder of files.
        by_plane: See `pair_files`.
    """
    links = {name: below.folder / name for name in below.links}
    for image, path in pair_files(images, links, by_plane=by_plane).files.items():
        why = below.links[path.relative_to(below.folder).as_posix()]
        raise BadInput(f"{path}, which is named as {image}, is {why}. {COPY_LINKS}")


def stem_of(name: str) -> str:
    """A name without its suffix, `a/b` for `a/b.ome.tif`; each accent and its letter are one character."""
    name = _composed(name)
    lower = name.lower()
    for suffix in _LONG_SUFFIXES:
        if lower.endswith(suffix):
            return name[: -len(suffix)]
    return str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).suffix else name


def readings_of(key: str, endings: Sequence[str]) -> list[str]:
    """A name as it is, and without each ending that it has."""
    return [key, *(key.removesuffix(ending) for ending in endings if key.endswith(ending))]


def plane_of(key: str, endings: Sequence[str]) -> tuple[str, tuple[int, int] | None]:
    """A file's name without the plane behind it, as of `NAME_t0_z3` or `NAME_t0_z3_mask`; and the plane (t, z)."""
    for reading in readings_of(key, endings):
        if found := _PLANE.search(reading):
            return reading[: found.start()], (int(found[1]), int(found[2]))
    return key, None


def _agree(own: _Folder, other: _Folder, *, is_field: bool) -> bool:
    """Whether a file of a folder may be of an image of another one by the last part of its name.

    One part may differ, as in `images/day1` and `labels/day1`; that is never the well.

    Args:
        own: The image's folder.
        other: The file's.
        is_field: The image is a field of a plate, whose wells may be numbered: `1/1`.
    """
    if not own.parts or not other.parts:
        return True
    if is_field and len(other.parts) > 1:
        return own.parts[-2:] == other.parts[-2:]
    if own.well and other.well:
        return own.well == other.well
    return _in_common(own.parts, other.parts) >= min(len(own.parts), len(other.parts)) - 1


def _in_common(own: Sequence[str], other: Sequence[str]) -> int:
    """How many parts two folders have in common, in their order."""
    longest = [0] * (len(other) + 1)
    for part in own:
        before = longest[:]
        for place, theirs in enumerate(other, start=1):
            longest[place] = before[place - 1] + 1 if part == theirs else max(before[place], longest[place - 1])
    return longest[-1]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
