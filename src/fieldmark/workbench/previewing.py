"""A preparation as a page of pictures: of a project's recipe, or of another system's file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from fieldmark import __version__
from fieldmark.core.axes import AS_IS, Factors, factors_of
from fieldmark.core.events import Event
from fieldmark.errors import BadInput
from fieldmark.images import open_image
from fieldmark.prepare.estimate import Estimated, Opened, Plane, count_planes, estimate
from fieldmark.prepare.preview import Shown, preview_section
from fieldmark.prepare.whole import Whole
from fieldmark.report.page import Block, Notice, Page, Section, Table, Text, write_page
from fieldmark.workbench.loose.frame_set import at_size, frame_set, own_labels, own_masks, placed
from fieldmark.workbench.originals import refuse_originals

if TYPE_CHECKING:
    from fieldmark.images import ImageSource
    from fieldmark.recipes import FitRecipe
    from fieldmark.recipes.prepare import ForegroundConfig, PrepareConfig
    from fieldmark.workbench.bench import Workbench
    from fieldmark.workbench.loose.prepare import Plan

PAGE = "preview.html"
MOST_IMAGES = 64
"""Images of a project that are measured for its preview."""
_FOLDER = (
    "prepare.foreground.method is 'folder': a fit pairs these masks with its images. Here they are not shown, and "
    "statistics are of whole planes."
)
SHOWN = 3
"""Planes that are drawn."""


def preview_plan(plan: Plan) -> Iterator[Event]:
    """Write the preview of microDL's file into its `output_dir`; nothing else is written there."""
    with TemporaryDirectory() as folder:  # listings of frames
        yield from _preview_frames(plan, Path(folder))


def _preview_frames(plan: Plan, listings: Path) -> Iterator[Event]:
    frames, _ = frame_set(plan.asked, plan.config, listings)
    config = placed(plan.config, frames.channels)
    own, labels = own_masks(plan.asked, config, frames), own_labels(plan.asked, frames)
    mask = own.mask if own is not None else None
    given = None if own is None else lambda plane, _: own.mask(plane)
    estimated = yield from estimate(frames.opened(), config, names=frames.channels, masks=given)
    names = [str(channel) for channel in frames.channels]
    shown = Shown(
        names=names,
        tiles=plan.tiles,
        mask=mask,
        labels=labels.labels if labels is not None else None,
        weights=plan.asked.weights is not None,
    )
    titles = [f"position {position}" for position in frames.positions]
    _write(plan.asked.out / PAGE, frames.opened(), titles, config, estimated, shown)


def preview_project(bench: Workbench, recipe: FitRecipe, out: Path) -> Iterator[Event]:
    """Write the preview of what a recipe's `prepare` does to the images of a project into a file.

    Raises:
        BadInput: There is no image, or `out` lies where originals are.
    """
    records = bench.collection.all()
    if not records:
        raise BadInput(f"Project {bench.project.name!r} has no images. Add some: fieldmark add FOLDER.")
    refuse_originals(bench, [out.parent])
    chosen = [records[n] for n in _spread(len(records), MOST_IMAGES)]
    config = _computed(recipe.prepare)
    images: list[Opened] = [partial(_open, record.path, record.name, factors_of(config.resize)) for record in chosen]
    estimated = yield from estimate(images, config)
    channels = max(record.shape[1] for record in chosen)
    shown = Shown(names=[str(channel) for channel in range(channels)])
    notice = "" if config == recipe.prepare else _FOLDER
    _write(out, images, [record.name for record in chosen], config, estimated, shown, notice)


def _computed(config: PrepareConfig) -> PrepareConfig:
    """Without masks in a folder: the fit pairs them with its images."""
    ground, normalize = config.foreground, config.normalize
    if ground is None or ground.method != "folder":
        return config
    if normalize is not None:
        normalize = normalize.model_copy(update={"min_fraction": 0.0})
    return config.model_copy(update={"foreground": None, "normalize": normalize})


def _open(path: Path, name: str, resize: Factors) -> ImageSource:
    return at_size(open_image(path, shown=name), resize)


def _spread(count: int, most: int) -> list[int]:
    """Places among `count`, the first and the last included."""
    return sorted({round(n) for n in np.linspace(0, count - 1, min(count, most))})


def _write(
    path: Path,
    images: Sequence[Opened],
    titles: Sequence[str],
    config: PrepareConfig,
    estimated: Estimated,
    shown: Shown,
    notice: str = "",
) -> None:
    sections = [_summary(images, config, estimated, shown.names)]
    if notice:
        sections.insert(0, Section("Not shown", (Notice(notice),)))
    for index in _spread(len(images), SHOWN):
        with images[index]() as source:
            plane = Plane(index, 0, source.shape[2] // 2, source, Whole(lambda source=source: source))  # type: ignore[misc]
            title = f"{titles[index]}, slice {plane.z}" if source.shape[2] > 1 else titles[index]
            sections.append(preview_section(title, plane, estimated, shown))
    footer = f"Made by Fieldmark {__version__}. Nothing was changed in the folder of images."
    write_page(path, Page("Preparation", tuple(sections), footer=footer))


def _summary(images: Sequence[Opened], config: PrepareConfig, estimated: Estimated, names: Sequence[str]) -> Section:
    """The steps in words, and their numbers."""
    told = f"Measured on {count_planes(images)} planes of {len(images)} images."
    blocks: list[Block] = [Text(told), _steps_table(config)]
    last = estimated.steps[-1] if estimated.steps else {}
    if last.get("step") == "standardize":
        rows = tuple(
            (f"channel {name}", float(center), float(spread))
            for name, center, spread in zip(names, last["mean"], last["std"], strict=False)
        )
        blocks.append(Table(("of the data set", "center", "spread"), rows))
    return Section("Steps", tuple(blocks))


def _steps_table(config: PrepareConfig) -> Table:
    flat, normalize, ground = config.flat_field, config.normalize, config.foreground
    rows = [
        ("resize", _resize_words(factors_of(config.resize))),
        ("flat field", "no" if flat is None else _flat_words(flat.method, flat.order, flat.block)),
        ("foreground", "no" if ground is None else _ground_words(ground)),
        ("normalization", "the family's own" if normalize is None else f"{normalize.scheme}, {normalize.statistic}"),
    ]
    return Table(("step", "how"), tuple(rows))


def _resize_words(factors: Factors) -> str:
    z, y, x = factors
    return "no" if factors == AS_IS else f"{y:g} along y and {x:g} along x" + ("" if z == 1 else f", {z:g} along z")


def _ground_words(ground: ForegroundConfig) -> str:
    element = "ball" if ground.by == "volume" else "disk"
    return f"{ground.method} of each {ground.by}, opened by a {element} of {ground.radius} pixels"


def _flat_words(method: str, order: int, block: int) -> str:
    how = {"basic": "BaSiC's estimate", "file": "from files"}
    return how.get(method, f"polynomial of order {order} through medians of {block} x {block}")
