"""Folders of images and of label maps, as OpenFIBSEM lays them out."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fieldmark.errors import BadFile, BadInput
from fieldmark.images import find_images
from fieldmark.images.find import order_of
from fieldmark.workbench.targets import refuse_any_link, refuse_crossed, told_odd

_PLACES = (("images", "labels"), ("train/images", "train/labels"), (".", "labels"), ("train", "train/labels"))
"""Where images and label maps lie below a data folder; the first that is there counts."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """A folder of images and the one of their label maps: the n-th file of one belongs to the n-th of the other."""

    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    folder: Path
    """Of the label maps."""


def pairs_below(data: Path) -> Pairs:
    """The images and label maps of a data folder.

    Raises:
        BadFile: There is no such folder.
        BadInput: No folder of labels is where one could be, the counts differ, or names say other pairs than their
            order.
    """
    if not data.is_dir():
        raise BadFile(data, "there is no such folder. Correct data_dir.")
    for images, labels in _PLACES:
        if (data / labels).is_dir() and (data / images).is_dir() and files_in(data / images):
            return pairs_in(data / images, data / labels)
    raise BadInput(
        f"{data}: found no images with label maps beside. Put them into {data / 'images'} and {data / 'labels'}, "
        f"or into {data / 'train/images'} and {data / 'train/labels'}."
    )


def pairs_in(images: Path, labels: Path) -> Pairs:
    """The images and label maps of two folders. Raises as `pairs_below`."""
    for folder in (images, labels):
        if not folder.is_dir():
            raise BadFile(folder, "there is no such folder. Correct the path.")
    own, maps = files_in(images), files_in(labels)
    if not own:
        raise BadInput(f"{images}: no image is in there. Correct the path.")
    names = [path.name for path in own]
    if len(own) != len(maps):
        raise BadInput(
            f"{images} holds {len(own)} images and {labels} {len(maps)} label maps{told_odd(names, maps)}. "
            "They are paired in the order of their names: give each image one label map."
        )
    refuse_crossed(names, maps, labels)
    return Pairs(tuple(own), tuple(maps), labels)


def files_in(folder: Path) -> list[Path]:
    """The images directly in a folder, sorted by name. Raises BadInput for links that are not followed."""
    found = find_images(folder)
    refuse_any_link(folder, {Path(name).name: why for name, why in found.links if Path(name).parent == folder})
    own = [path for path, _ in found.images if path.parent == folder]
    return sorted(own, key=lambda path: order_of(path.name))


def stands_alone(pairs: Sequence[Pairs]) -> bool:
    """Whether one folder of label maps, as it is, holds all of them and nothing else."""
    return len(pairs) == 1 and len(find_images(pairs[0].folder).images) == len(pairs[0].labels)


def gather(pairs: Sequence[Pairs], names: Sequence[str], folder: Path) -> None:
    """Copies of label maps of several folders in one, in the order of their images' names.

    Args:
        pairs: The folders.
        names: Of all their images, as the project knows them.
        folder: Where copies are put.
    """
    maps = [path for one in pairs for path in one.labels]
    folder.mkdir(parents=True, exist_ok=True)
    for place, (_, path) in enumerate(sorted(zip(names, maps, strict=True), key=lambda pair: order_of(pair[0]))):
        shutil.copyfile(path, folder / f"map-{place:06d}{path.suffix}")
