"""Data sets as the commands name them: a folder of `CLASS_ID.EXT`, and text files of names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldmark.errors import BadFile, BadInput
from fieldmark.images import find_images

_NUMBERED = re.compile(r"0*(\d{1,5})_")


@dataclass(frozen=True, slots=True)
class LidsImage:
    """An image of a data set and the class that its name says, from 1."""

    path: Path
    name: str
    klass: int


def read_dataset(folder: Path) -> list[LidsImage]:
    """The images directly in a folder, in natural order; those without a class number have class 0."""
    found = [(path, _class_of(path.name)) for path, _ in find_images(folder).images if path.parent == folder]
    return [LidsImage(path, path.name, klass) for path, klass in found]


def read_split(file: Path, dataset: list[LidsImage], folder: Path) -> list[LidsImage]:
    """The images that a split file names, one a line.

    Raises:
        BadFile: Names that the data set does not have, or images without a class; all are named in one error.
    """
    by_name = {one.name: one for one in dataset}
    names = [Path(line.strip()).name for line in _text(file).splitlines() if line.strip()]
    if missing := [name for name in names if name not in by_name]:
        raise BadFile(file, f"names {len(missing)} images that {folder} does not have: {', '.join(missing[:5])}.")
    chosen = [by_name[name] for name in dict.fromkeys(names)]
    if not chosen:
        raise BadFile(file, "names no image. Write one file name a line.")
    if bare := [one.name for one in chosen if not one.klass]:
        raise BadFile(file, f"names images whose names begin with no class number: {', '.join(bare[:5])}.")
    return chosen


def stratified(
    images: list[LidsImage], train: float, val: float | None, test: float | None, *, seed: int
) -> dict[str, list[LidsImage]]:
    """Training, validation and test with the same share of each class, as near as whole images allow.

    Args:
        images: Of the data set, each with its class.
        train: A share below 1, or a number of images; `val` and `test` alike.
        val: None for no such part.
        test: None for all that is left.
        seed: Decides the draw.
    """
    sizes = {"train": train, "val": val, "test": test}
    counts = {part: _count(part, size, len(images)) for part, size in sizes.items() if size is not None}
    if sum(counts.values()) > len(images):
        asked = " + ".join(f"{count} {part}" for part, count in counts.items())
        raise BadInput(f"{asked} are more than the data set's {len(images)} images. Ask for fewer.")
    if test is None:
        counts["test"] = len(images) - sum(counts.values())
    owner = _dealt([one.klass for one in images], list(counts.values()), seed)
    parts = list(counts)
    return {
        part: [one for one, own in zip(images, owner, strict=True) if own == place] for place, part in enumerate(parts)
    }


def _count(part: str, size: float, total: int) -> int:
    if not 0 <= size < float("inf") or (size >= 1 and size != int(size)):
        raise BadInput(f"The size of {part} is {size}; give a share below 1, or a whole number of images.")
    return round(size * total) if size < 1 else int(size)


def _dealt(classes: list[int], counts: list[int], seed: int) -> list[int]:
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


def _class_of(name: str) -> int:
    found = _NUMBERED.match(name)
    return int(found[1]) if found else 0


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(file, f"is not UTF-8 text (byte {error.start}). Write one file name a line.") from error
    except OSError as error:
        raise BadFile(file, f"cannot be read ({error.strerror}). Check its name.") from error
