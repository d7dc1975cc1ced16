"""Which file tells what an image should become: label maps, target images and masks, paired with a fit's images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.checkpoint import ClassSpec
from fieldmark.collection.columns import column_names, column_values
from fieldmark.collection.naming import (
    COPY_LINKS,
    ENDINGS,
    Below,
    look_below,
    pair_files,
    readings_of,
    refuse_links,
    stem_of,
)
from fieldmark.core.fingerprint import file_hash
from fieldmark.errors import BadFile, BadInput, some
from fieldmark.images import open_image
from fieldmark.images.decode import values_in
from fieldmark.images.find import order_of
from fieldmark.images.source import channel_dtypes
from fieldmark.labels.exchange.rules import read_legend
from fieldmark.recipes.data import COLUMN, MANY_CHANNELS, PLANES, WAYS
from fieldmark.workbench.numbers import attach_numbers

if TYPE_CHECKING:
    from fieldmark.collection import ImageRecord
    from fieldmark.labels.records import ClassRecord
    from fieldmark.recipes import DataConfig
    from fieldmark.recipes.data import SplitConfig

EMPTY: Mapping[int, int] = MappingProxyType({})
MOST_CLASSES = 256
"""A label map with more values is no map of classes, but of single objects."""


def facts_of(images: Sequence[ImageRecord], config: DataConfig) -> list[dict[str, Any]]:
    """What a job says of each image: name, file, hash, and the same of its target and mask.

    Raises BadInput where no image has a target, a file may belong to several, or the number of files differs where
    they are paired by order.
    """
    facts: list[dict[str, Any]] = [
        {
            "name": record.name,
            "uri": record.uri,
            "content_hash": record.content_hash,
            "group": record.group,
            "split": record.split,
            "column": column,
        }
        for record, column in zip(images, _columns(images, config.split), strict=True)
    ]
    if config.target.kind == "numbers":
        attach_numbers(facts, config.target)
        return facts
    folder, mask = config.target.folder, config.mask.folder if config.mask is not None else None
    if config.target.kind != "marks" and folder is not None:
        _attach(facts, Path(folder), "target", by_order=config.target.pair_by == "order")
    elif config.target.kind != "marks" and not config.target.channels:
        raise BadInput(
            "Targets need a folder, or channels of the images themselves. Name it: --set data.target.folder=FOLDER, or "
            "--set data.target.channels=[1]."
        )
    if mask is not None:
        _attach(facts, Path(mask), "mask", by_order=False)
        if bare := [fact["name"] for fact in facts if fact.get("target") and not fact.get("mask")]:
            raise BadInput(f"{mask}: has no mask for {some(bare, 3)}. Name masks as their images.")
    return facts


def _columns(images: Sequence[ImageRecord], split: SplitConfig) -> list[str]:
    """What the column says of each image that parts them; nothing, where something else does. Raises BadInput."""
    column = split.column
    if column is not None:
        return column_values(images, column, others=(*WAYS, *PLANES))
    if split.by in ("time", "slice") and split.by in column_names(images):
        raise BadInput(
            f"data.split.by={split.by}: images have a column of that name, and planes are parted so too. Say "
            f"{COLUMN}{split.by} for the column, or {split.by}_idx for the planes."
        )
    return [""] * len(images)


def _attach(facts: list[dict[str, Any]], folder: Path, what: str, *, by_order: bool) -> None:
    """Put the path and hash of each image's file into its facts."""
    own = {Path(fact["uri"]).resolve() for fact in facts}
    below = _below(folder)
    named = {name: path for name, path in below.files.items() if path.resolve() not in own}
    files = list(named.values())
    if by_order:
        refuse_any_link(folder, below.links)
        if len(files) != len(facts):
            raise BadInput(
                f"{folder} holds {len(files)} files and there are {len(facts)} images; they are paired in the order of "
                "their names. Give each image one file, or pair them by stem: --set data.target.pair_by=stem."
            )
        names = sorted((fact["name"] for fact in facts), key=order_of)
        refuse_crossed(names, files, folder)
        pairs = dict(zip(names, files, strict=True))
    else:
        pairs = pair_files([fact["name"] for fact in facts], named).files
        refuse_links([fact["name"] for fact in facts if fact["name"] not in pairs], below)
    if not pairs:
        raise BadInput(
            f"No file in {folder} has the stem of an image. Images: {some([fact['name'] for fact in facts], 3)}; "
            f"files: {some([path.name for path in files], 3)}. Name them alike, or pair them in order: "
            "--set data.target.pair_by=order."
        )
    for fact in facts:
        if fact["name"] in pairs:
            path = pairs[fact["name"]]
            fact |= {what: str(path.resolve()), f"{what}_hash": file_hash(path)}


def refuse_crossed(names: Sequence[str], maps: Sequence[Path], folder: Path) -> None:
    """Raise BadInput where the order gives an image another file than the one of its name, or one of another's name.

    That is so where one map is missing and another is too many: every image between them had its neighbor's.

    Args:
        names: Of the images, in order.
        maps: Their files, in order.
        folder: Of the files.
    """
    last = [stem_of(name).rpartition("/")[2] for name in names]
    own = set(last)
    meant = [_meant(path, own) for path in maps]
    for name, stem, path, said in zip(names, last, maps, meant, strict=True):
        if said != stem and (stem in meant or said in own):
            raise BadInput(
                f"{folder}: in the order of their names, {path.name} would be the label map of {name}"
                f"{told_odd(names, maps)}. Give each image one label map, and name all of them alike."
            )


def told_odd(names: Sequence[str], maps: Sequence[Path]) -> str:
    """The first few stems that only the images, or only their files, have; empty for none."""
    own = {stem_of(name).rpartition("/")[2] for name in names}
    odd = sorted(own ^ {_meant(path, own) for path in maps})[:5]
    return f" (only in one of them: {', '.join(odd)})" if odd else ""


def _meant(label_map: Path, images: Collection[str]) -> str:
    """The stem of the image that a label map is named after, `cell` for `cell_mask.png` too; else the map's own."""
    stem = stem_of(label_map.name)
    return next((name for name in readings_of(stem, ENDINGS["masks"]) if name in images), stem)


def _below(folder: Path) -> Below:
    """The files of a folder, in order."""
    if not folder.is_dir():
        raise BadFile(folder, "there is no such folder. Correct data.target.folder or data.mask.folder.")
    below = look_below(folder)
    if not below.files:
        refuse_any_link(folder, below.links)
        raise BadInput(f"{folder} holds no image. Correct data.target.folder or data.mask.folder.")
    ordered = sorted(below.files.items(), key=lambda item: order_of(item[1].as_posix()))
    return replace(below, files=dict(ordered))


def refuse_any_link(folder: Path, links: Mapping[str, str]) -> None:
    """Raise BadInput where a picture is a link that is not followed: by their order, all those behind had another's.

    Args:
        folder: Where it lies.
        links: Names and why.
    """
    for name, why in links.items():
        raise BadInput(f"{folder / name} is {why}. {COPY_LINKS}")


def by_legend(config: DataConfig, classes: Sequence[ClassRecord]) -> tuple[DataConfig, dict[int, int]]:
    """What label maps that a project has exported mean: their legend says which value is which class, or unknown.

    What the recipe itself says of unknown pixels comes first.

    Returns:
        The settings, and class ids by values; nothing by values where there is no legend.
    """
    target = config.target
    if target.kind != "labels" or target.folder is None or target.objects or target.classes is not None:
        return config, {}
    found = (read_legend(Path(target.folder), kind, classes) for kind in ("masks", "scribbles"))
    rule = next((one for one in found if one is not None), None)
    if rule is None:
        return config, {}
    ignore = min(rule.unknown, default=None) if target.ignore is None else target.ignore
    return config.model_copy(update={"target": target.model_copy(update={"ignore": ignore})}), rule.class_of


def classes_for(
    facts: Sequence[dict[str, Any]], config: DataConfig, own: Sequence[ClassSpec], legend: Mapping[int, int] = EMPTY
) -> tuple[ClassSpec, ...]:
    """The classes of a fit.

    For strokes those of the project. For label maps the values that they hold (or `data.target.classes` says), named
    by the legend of the maps; without one, with as many classes in the project, these give the names, in their order.

    Args:
        facts: The images, with their targets.
        config: What is taught.
        own: The project's classes.
        legend: Class ids by values; see `by_legend`.
    """
    target = config.target
    if target.kind == "marks":
        return tuple(own)
    if target.kind in ("image", "numbers"):
        return ()
    if target.objects:
        values = [0, 1]
    elif target.classes is not None:
        values = list(range(target.classes))
    else:
        values = _values(facts, config)
        _require_known(values, target.ignore)
    return named_classes(values, own, legend)


def _require_known(values: Sequence[int], ignore: int | None) -> None:
    """Raise BadInput where label maps hold fewer than two values beside what `data.target.ignore` says is unknown."""
    if len(values) >= 2:
        return
    if ignore is None:
        if not values:
            raise BadInput(
                "The label maps hold negative values alone, which mean unknown: nothing is left to learn from. Write "
                "classes as numbers from 0 on."
            )
        return
    held = f"the value {values[0]} alone" if values else "nothing"
    raise BadInput(
        f"The label maps hold {held} beside {ignore}, which data.target.ignore says is unknown; a network learns to "
        "tell two classes or more apart. Correct data.target.ignore, or leave it out if that is a class."
    )


def _values(facts: Sequence[dict[str, Any]], config: DataConfig) -> list[int]:
    """Every value that label maps hold, in order, but negative ones, which are unknown.

    They are read piece by piece, until there are too many.
    """
    found: set[int] = set()
    channel = (*config.target.channels, 0)[0]
    for fact in [fact for fact in facts if fact.get("target")] or facts:
        with open_image(Path(fact.get("target") or fact["uri"]), expand_palette=False) as source:
            c = source.shape[1]
            if channel >= c:
                raise BadInput(f"{source_name(fact)}: data.target.channels names channel {channel}, and it has {c}.")
            if c > 1 and not config.target.channels:
                raise BadInput(f"{source_name(fact)}: {MANY_CHANNELS.format(c)}")
            if (dtype := channel_dtypes(source)[channel]).kind not in "ui":
                raise BadInput(
                    f"{source_name(fact)}: holds {dtype} values; label maps hold whole numbers. For images as targets: "
                    "--set data.target.kind=image."
                )
            found |= values_in(source, [channel], lambda pixels: pixels.astype(np.int64))
        if len(found) > MOST_CLASSES:
            break
    return sorted(value for value in found - {config.target.ignore} if value >= 0)


def source_name(fact: dict[str, Any]) -> str:
    """The name of an image's target, for errors."""
    return f"{Path(fact['target']).name} (of {fact['name']})" if fact.get("target") else str(fact["name"])


def named_classes(
    values: Sequence[int], own: Sequence[ClassSpec] = (), legend: Mapping[int, int] = EMPTY
) -> tuple[ClassSpec, ...]:
    """Classes by the values of label maps, each written as its value.

    A legend gives class ids by values, where there is one. Without:
    The project's classes give the names, in their order, where there are as many; or as many as values but 0, which is
    then `background`. Else they are `background` and `class 1`, `class 2`, and so on.

    Raises BadInput for too many values, or none that could be told apart.
    """
    if len(values) > MOST_CLASSES:
        raise BadInput(
            f"The label maps hold {len(values)} values: these are single objects, not classes. Give maps of classes, "
            "or say that they are objects: --set data.target.objects=true."
        )
    if len(values) < 2:
        held = f"only the value {values[0]}" if values else "no value"
        raise BadInput(f"The label maps hold {held}; a network learns to tell two classes or more apart.")
    ids = {spec.id: spec for spec in own}
    named = {value: ids[klass] for value, klass in legend.items() if klass in ids} or _names(values, own)
    strange = 1 + max((spec.id for spec in own), default=0)
    return tuple(
        ClassSpec(id=spec.id, name=spec.name, value=int(value))
        if (spec := named.get(value)) is not None
        else ClassSpec(id=strange + place, name="background" if value == 0 else f"class {value}", value=int(value))
        for place, value in enumerate(values)
    )


def _names(values: Sequence[int], own: Sequence[ClassSpec]) -> dict[int, ClassSpec]:
    """The class of the project for each value that one is for."""
    if len(own) == len(values):
        return dict(zip(values, own, strict=True))
    shown = [value for value in values if value != 0]
    if len(own) == len(shown) and all(spec.name != "background" for spec in own):
        return dict(zip(shown, own, strict=True))
    return {}
