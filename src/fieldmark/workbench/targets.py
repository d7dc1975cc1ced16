"""Which file tells what an image should become: label maps, target images and masks, paired with a fit's images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.checkpoint import ClassSpec
from fieldmark.core.fingerprint import file_hash
from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile, BadInput
from fieldmark.images import find_images, open_image
from fieldmark.labels.exchange.pairing import stem_of

if TYPE_CHECKING:
    from fieldmark.collection import ImageRecord
    from fieldmark.recipes import DataConfig

MOST_CLASSES = 256
"""A label map with more values is no map of classes, but of single objects."""


def facts_of(images: Sequence[ImageRecord], config: DataConfig) -> list[dict[str, Any]]:
    """What a job says of each image: name, file, hash, and the same of its target and mask.

    Raises BadInput where no image has a target, or the number of files differs where they are paired by order.
    """
    facts: list[dict[str, Any]] = [
        {
            "name": record.name,
            "uri": record.uri,
            "content_hash": record.content_hash,
            "group": record.group,
            "split": record.split,
        }
        for record in images
    ]
    folder, mask = config.target.folder, config.mask.folder if config.mask is not None else None
    if config.target.kind != "marks" and folder is not None:
        _attach(facts, Path(folder), "target", by_order=config.target.pair_by == "order")
    elif config.target.kind == "labels":
        raise BadInput("Label maps need a folder. Name it: --set data.target.folder=FOLDER.")
    if mask is not None:
        _attach(facts, Path(mask), "mask", by_order=False)
        if bare := [fact["name"] for fact in facts if fact.get("target") and not fact.get("mask")]:
            raise BadInput(f"{mask}: has no mask for {_some(bare)}. Name masks as their images.")
    return facts


def _attach(facts: list[dict[str, Any]], folder: Path, what: str, *, by_order: bool) -> None:
    """Put the path and hash of each image's file into its facts."""
    files = _files(folder)
    if by_order:
        if len(files) != len(facts):
            raise BadInput(
                f"{folder} holds {len(files)} files and there are {len(facts)} images; they are paired in the order of "
                "their names. Give each image one file, or pair them by stem: --set data.target.pair_by=stem."
            )
        pairs = dict(zip(sorted(fact["name"] for fact in facts), files, strict=True))
    else:
        by_stem = {stem_of(path.name): path for path in files}
        pairs = {fact["name"]: by_stem[stem] for fact in facts if (stem := stem_of(Path(fact["name"]).name)) in by_stem}
    if not pairs:
        raise BadInput(
            f"No file in {folder} has the stem of an image. Images: {_some([fact['name'] for fact in facts])}; files: "
            f"{_some([path.name for path in files])}. Name them alike."
        )
    for fact in facts:
        if fact["name"] in pairs:
            path = pairs[fact["name"]]
            fact |= {what: str(path.resolve()), f"{what}_hash": file_hash(path)}


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise BadFile(folder, "there is no such folder. Correct data.target.folder or data.mask.folder.")
    return sorted((path for path, _ in find_images(folder).images), key=lambda path: path.as_posix())


def classes_for(facts: Sequence[dict[str, Any]], config: DataConfig, own: Sequence[ClassSpec]) -> tuple[ClassSpec, ...]:
    """The classes of a fit.

    For strokes those of the project. For label maps the values that they hold (or `data.target.classes` says); with as
    many classes in the project, these give the names, in their order.
    """
    target = config.target
    if target.kind == "marks":
        return tuple(own)
    if target.kind == "image":
        return ()
    if target.objects:
        values = [0, 1]
    elif target.classes is not None:
        values = list(range(target.classes))
    else:
        values = _values([fact for fact in facts if fact.get("target")], target.ignore)
    found = named_classes(values)
    if len(own) == len(found):
        return tuple(ClassSpec(id=o.id, name=o.name, value=f.value) for o, f in zip(own, found, strict=True))
    return found


def _values(facts: Sequence[dict[str, Any]], ignore: int | None) -> list[int]:
    """Every value that label maps hold, in order; they are read plane by plane, until there are too many."""
    found: set[int] = set()
    for fact in facts:
        with open_image(Path(fact["target"])) as source:
            if source.dtype.kind not in "ui":
                raise BadInput(f"{source_name(fact)}: holds {source.dtype} values; label maps hold whole numbers.")
            t, _, z, y, x = source.shape
            for at in np.ndindex(t, z):
                box = Box((at[0], 0, at[1], 0, 0), (at[0] + 1, 1, at[1] + 1, y, x))
                found.update(np.unique(source.read(box)).tolist())
        if len(found) > MOST_CLASSES:
            break
    return sorted(found - {ignore})


def source_name(fact: dict[str, Any]) -> str:
    """The name of an image's target, for errors."""
    return f"{Path(fact['target']).name} (of {fact['name']})"


def named_classes(values: Sequence[int]) -> tuple[ClassSpec, ...]:
    """Classes by the values of label maps: `background` for 0, `class 1` for 1. Raises BadInput for too many."""
    if len(values) > MOST_CLASSES:
        raise BadInput(
            f"The label maps hold {len(values)} values: these are single objects, not classes. Give maps of classes, "
            "or say that they are objects: --set data.target.objects=true."
        )
    return tuple(
        ClassSpec(id=place + 1, name="background" if value == 0 else f"class {value}", value=int(value))
        for place, value in enumerate(values)
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
