"""LIDS data sets: a folder of images named `CLASS_ID.EXT`, classes counted from 1, and text files that split them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

import numpy as np

from fieldmark.collection.importers import Plan, PlannedImage, read_text
from fieldmark.core.files import write_atomic
from fieldmark.errors import BadFile, BadInput, some
from fieldmark.images import find_images

MOST_CLASSES = 4096
"""Above it a number in front of `_` is taken for an id or a date, and refused where a class is needed."""

_NUMBERED = re.compile(r"0*(\d{1,9})_")
_SPLIT_FILE = re.compile(r"(?:(?P<name>.*)[-_])?(?P<part>train|val|test)(?:[-_]split)?\.txt", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LidsImage:
    """An image of a data set and the class that its name says, from 1; 0 where the name says none."""

    path: Path
    name: str
    klass: int


def class_of(name: str) -> int:
    """The class number at the beginning of a file's name, from 1; 0 for none: `000003_000012.png` gives 3."""
    found = _NUMBERED.match(name)
    return int(found[1]) if found else 0


def read_dataset(folder: Path) -> list[LidsImage]:
    """The images directly in a folder, in natural order; those whose name says no class have class 0."""
    found = (path for path, _ in find_images(folder).images if path.parent == folder)
    return [LidsImage(path, path.name, class_of(path.name)) for path in found]


def read_split(file: Path, dataset: Sequence[LidsImage], folder: Path) -> list[LidsImage]:
    """The images that a split file names, one file name a line; empty lines are skipped.

    Accents are the same however they are written: disks and editors differ in that.

    Args:
        file: The split file, UTF-8.
        dataset: The images of the data set.
        folder: Where they are, for errors.

    Raises:
        BadFile: Names that the data set does not have, or images without a class: all of a kind in one error.
    """
    by_name = {normalize("NFC", one.name): one for one in dataset} | {one.name: one for one in dataset}
    found = {name: by_name.get(name) or by_name.get(normalize("NFC", name)) for name in split_names(file)}
    if missing := [name for name, one in found.items() if one is None]:
        raise BadFile(
            file, f"it names {len(missing)} images that {folder} does not have: {some(missing)}. Correct the names."
        )
    chosen = list({one.name: one for one in found.values() if one is not None}.values())
    _require_classes(file, chosen)
    return chosen


def with_class(images: Sequence[LidsImage], folder: Path) -> list[LidsImage]:
    """The images whose names say a class. Raises BadFile where none does, or one says a class that cannot be."""
    named = [one for one in images if one.klass]
    if not named:
        raise BadFile(
            folder,
            "no image in it is named CLASS_ID.EXT, with classes from 1. Name them so, or add it as a plain folder.",
        )
    _require_classes(folder, named)
    return named


def split_names(file: Path) -> list[str]:
    """The file names in a split file, without folders; empty lines are skipped. Raises BadFile where there is none."""
    names = [Path(line.strip()).name for line in read_text(file).splitlines() if line.strip()]
    if not names:
        raise BadFile(file, "it names no image. Write one file name a line.")
    return names


def split_files(folder: Path, dataset: Sequence[LidsImage]) -> dict[str, Path]:
    """The files `NAME-train.txt`, `NAME-val.txt` and `NAME-test.txt` of a folder, by part; empty where there are none.

    Raises:
        BadFile: There are several sets of them.
    """
    stems = {one.name.partition(".")[0] for one in dataset}  # 3_test.txt beside 3_test.png marks that image
    texts = sorted(file for file in folder.iterdir() if file.stem not in stems)
    found = [(match, file) for file in texts if (match := _SPLIT_FILE.fullmatch(file.name))]
    sets = sorted({match["name"] or "" for match, _ in found})
    if len(sets) > 1:
        raise BadFile(
            folder, f"it holds several splits: {some([name or 'train' for name in sets])}. Name the files of one."
        )
    return {match["part"].lower(): file for match, file in found}


def stratified(
    images: Sequence[LidsImage], train: float, val: float | None, test: float | None, *, seed: int
) -> dict[str, list[LidsImage]]:
    """Training, validation and test with the same share of each class, as near as whole images allow.

    Args:
        images: Of the data set, each with its class.
        train: A share below 1, or a number of images; `val` and `test` alike.
        val: None for no such part.
        test: None for all that is left.
        seed: Decides the draw.

    Raises:
        BadInput: More is asked for than there is, or a size is neither a share nor a whole number.
    """
    sizes = {"train": train, "val": val, "test": test}
    counts = _counts({part: size for part, size in sizes.items() if size is not None}, len(images))
    if sum(counts.values()) > len(images):
        asked = " + ".join(f"{count} {part}" for part, count in counts.items())
        raise BadInput(f"{asked} are more than the data set's {len(images)} images. Ask for fewer.")
    if test is None:
        counts["test"] = len(images) - sum(counts.values())
    owner = _dealt([one.klass for one in images], list(counts.values()), seed)
    return {
        part: [one for one, own in zip(images, owner, strict=True) if own == place] for place, part in enumerate(counts)
    }


def write_splits(name: Path, parts: dict[str, list[LidsImage]]) -> dict[str, Path]:
    """Write `NAME-PART.txt` for each part that has images, one file name a line; the files by part."""
    files = {part: split_file(name, part) for part, own in parts.items() if own}
    for part, file in files.items():
        write_atomic(file, "".join(f"{one.name}\n" for one in parts[part]).encode())
    return files


def split_file(name: Path, part: str) -> Path:
    """`NAME-PART.txt`."""
    return name.with_name(f"{name.name}-{part}.txt")


def from_lids(path: Path) -> Plan:
    """The images of a LIDS folder with their classes, and their split where the folder holds one set of split files.

    A split file instead of a folder names the images beside it that belong to its part.

    Raises:
        BadFile: No such folder or file, no image with a class, several sets of split files, missing names, or an
            image that is in two parts.
    """
    if path.is_dir():
        return _folder(path)
    match = _SPLIT_FILE.fullmatch(path.name)
    if not match:
        raise BadFile(path, "it is neither a LIDS folder nor a split file (NAME-train.txt, -val.txt or -test.txt).")
    part = match["part"].lower()
    images = [_planned(one, path.parent, part) for one in read_split(path, read_dataset(path.parent), path.parent)]
    return Plan(images, [])


def _folder(folder: Path) -> Plan:
    dataset = read_dataset(folder)
    named = with_class(dataset, folder)
    part_of: dict[str, str] = {}
    for part, file in split_files(folder, dataset).items():
        for one in read_split(file, dataset, folder):
            if part_of.setdefault(one.name, part) != part:
                raise BadFile(file, f"it names {one.name}, which is in the part {part_of[one.name]!r} too. Keep one.")
    images = [_planned(one, folder, part_of.get(one.name, "")) for one in named]
    found, taken = find_images(folder), {one.path for one in named}
    why = "its name is not CLASS_ID.EXT, directly in the folder"
    return Plan(images, [*found.left_out, *((shown, why) for place, shown in found.images if place not in taken)])


def _planned(one: LidsImage, folder: Path, part: str) -> PlannedImage:
    return PlannedImage(one.path, str(folder / one.name), one.name, split=part, klass=one.klass)


def _require_classes(source: Path, images: Sequence[LidsImage]) -> None:
    bad = [one.name for one in images if not 1 <= one.klass <= MOST_CLASSES]
    if bad:
        raise BadFile(
            source,
            f"{len(bad)} images have names that begin with no class from 1 to {MOST_CLASSES}: {some(bad)}. "
            "Name them CLASS_ID.EXT.",
        )


def _counts(sizes: dict[str, float], total: int) -> dict[str, int]:
    """Images of each part. Shares are rounded together: where they add up to 1, the images are as many as there are."""
    counts, share, given = {}, 0.0, 0
    for part, size in sizes.items():
        if not 0 <= size < float("inf") or (size >= 1 and size != int(size)):
            raise BadInput(f"The size of {part} is {size}; give a share below 1, or a whole number of images.")
        if size >= 1:
            counts[part] = int(size)
            continue
        share += size
        counts[part] = round(share * total) - given
        given += counts[part]
    return counts


def _dealt(classes: Sequence[int], counts: Sequence[int], seed: int) -> list[int]:
    """The part that each image goes into, -1 for none: images of one class after another are dealt out evenly.

    Images are put in order by class, at random within; a part with n of N images takes every (N / n)-th of those that
    are left, so that of each class it gets its share but for less than one image.
    """
    draw = np.random.default_rng(seed).permutation(len(classes))
    queue = sorted(draw.tolist(), key=lambda place: classes[place])
    owner = [-1] * len(classes)
    for part, count in enumerate(counts):
        taken = {n * len(queue) // count for n in range(count)}
        for place in taken:
            owner[queue[place]] = part
        queue = [one for place, one in enumerate(queue) if place not in taken]
    return owner
