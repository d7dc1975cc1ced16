"""`prepare --config FILE` of microDL's preprocessing YAML: measured on the frames as they lie, without a project.

Nothing is copied but what was asked for. Into `output_dir` go the flat fields, masks and weight maps, tables of frames,
of chosen tiles and of statistics, the steps as a model would keep them, and at last `preprocessing_info.json`, by which
`fit --config` finds all this. Stopped, the same command goes on; finished, it is taken as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark import __version__
from fieldmark.collection.frames import META
from fieldmark.core.axes import AS_IS
from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.core.fingerprint import fingerprint
from fieldmark.errors import BadRecipe
from fieldmark.images.source import name_of
from fieldmark.prepare.estimate import Estimated, Ground, Plane, count_planes, estimate
from fieldmark.prepare.flat_field import surface_at
from fieldmark.prepare.pipeline import resize_step
from fieldmark.prepare.tiling import require_depth, share_of, slices_measured, tiles_of
from fieldmark.prepare.weights import border_weights
from fieldmark.prepare.whole import Whole
from fieldmark.recipes import load_recipe, validate
from fieldmark.recipes.dialects import microdl_prepare
from fieldmark.recipes.dialects.keys import ForeignPrepare, dialect_of, grouped
from fieldmark.recipes.dialects.microdl_channels import masks_folder, weights_folder
from fieldmark.recipes.loading import with_overrides
from fieldmark.recipes.prepare import PrepareConfig, TilesConfig
from fieldmark.workbench.loose.frame_set import FrameSet, frame_set, own_labels, own_masks, place_of, placed
from fieldmark.workbench.loose.frames import info_runs
from fieldmark.workbench.loose.images import HIDDEN
from fieldmark.workbench.loose.prepare_state import (
    FIELDS,
    INFO,
    STATISTICS,
    STEPS,
    TILES,
    alone_at,
    begin,
    finish,
    is_done,
    nothing_prepared,
    refuse_replaced,
    refuse_strangers,
)
from fieldmark.workbench.loose.prepared_files import (
    Chosen,
    MaskFolder,
    TileCopies,
    Where,
    frame_name,
    write_array,
    write_frames_meta,
    write_tile_list,
)
from fieldmark.workbench.loose.prepared_tables import Looked, numbers_of, told_of_masks, write_meta, write_statistics
from fieldmark.workbench.originals import refuse_inside

VERBS = {"microdl-fit": "fit", "openfibsem": "fit", "microdl-predict": "predict"}

FOUND_MASKS = "Look with --preview, and change mask_type, channels or str_elem_radius of masks."
OWN_MASKS = "Look at the files in masks.mask_dir: what is not 0 is foreground."


@dataclass(frozen=True, slots=True)
class Plan:
    """A preparation that is about to begin.

    Args:
        values: The file's, with paths that begin nowhere.
        asked: What it means.
        config: Its steps; channels by their numbers in names.
        tiles: How tiles are cut; None where the file has none.
        copies: Whether tiles are copied.
    """

    values: dict[str, Any]
    asked: ForeignPrepare
    config: PrepareConfig
    tiles: TilesConfig | None
    copies: bool = False


def is_foreign(config: Path | None) -> bool:
    """Whether a file is another system's, which needs no project."""
    return config is not None and dialect_of(load_recipe(config)) is not None


SET_HINT = "Beside a preprocessing file --set takes the file's own keys, such as normalize.normalize_im=slice."


def plan_prepare(config: Path, *, overrides: tuple[str, ...] = (), copies: bool = False) -> Plan:
    """Read microDL's preprocessing file, and refuse what could not be written.

    Args:
        config: The file, as the user typed it.
        overrides: `KEY=VALUE` for keys of the file.
        copies: Whether tiles are copied to disk.

    Raises:
        BadRecipe: An unknown key, a wrong value, or a file for another command.
        BadInput: `output_dir` lies among the originals, holds what Fieldmark has not written, or would replace what is
            read.
    """
    values = load_recipe(config)
    dialect = dialect_of(values)
    if dialect in VERBS:
        raise BadRecipe(f"{config}: is no file for prepare. Give it to: fieldmark {VERBS[dialect]} --config {config}.")
    beside = config.resolve().parent
    if overrides:
        microdl_prepare.prepare_of(values, beside=beside, source=config)  # what is wrong then was typed
    values = with_overrides(values, overrides)
    try:
        asked = microdl_prepare.prepare_of(values, beside=beside, source="--set" if overrides else config)
    except BadRecipe as error:
        raise BadRecipe(f"{error} {SET_HINT}" if overrides else str(error)) from None
    prepare = validate(PrepareConfig, asked.recipe["prepare"], where="prepare", source=config)
    if copies and asked.tiles is None:
        raise BadRecipe(f"{config}: says nothing of tiles, so there are none to be written. Add tile: {{...}}.")
    tiles = None if asked.tiles is None else validate(TilesConfig, asked.tiles, where="tile", source=config)
    own = prepare.foreground.folder if prepare.foreground is not None else None
    refuse_inside(asked.out, [asked.images, *([Path(own)] if own else [])])
    refuse_strangers(asked.out)
    refuse_replaced(asked.out, [("input_dir", asked.images), *([("masks.mask_dir", Path(own))] if own else [])])
    return Plan(microdl_prepare.absolute(values, beside), asked, prepare, tiles, copies)


def follow_prepare(plan: Plan) -> Iterator[Event]:
    """Prepare into `plan.asked.out`. Raises InUse where somebody else does."""
    with nothing_prepared(plan.asked.out), alone_at(plan.asked.out):
        yield from (_note(text) for text in grouped(plan.asked.notes))
        out = plan.asked.out
        frames, table = frame_set(plan.asked, plan.config, out / HIDDEN / "frames")
        for shown, why in table.left_out:
            yield _note(f"left out {shown}: {why}")
        work = Work(plan, frames)
        made_from = work.made_from()
        if is_done(out, made_from):
            yield _note("The same was prepared before; it is taken as it is.")
            return
        begin(out, made_from, keep=work.fields_read)
        yield from work.run()
        _append_info(plan, work.estimated)
        finish(out, made_from)


class Work:
    """One run: measured, then plane by plane masks, weight maps and tiles, then the tables.

    Args:
        plan: What was asked.
        frames: Of what.
    """

    def __init__(self, plan: Plan, frames: FrameSet) -> None:
        self.plan, self.frames, self.out = plan, frames, plan.asked.out
        self.config = placed(plan.config, frames.channels)
        self.estimated = Estimated()
        self.own = own_masks(plan.asked, plan.config, frames)
        self.labels = own_labels(plan.asked, frames)
        self.masks = self._mask_folder()
        self.weights = self._weight_folder()
        self.places: list[Looked] = []
        self.tiles: list[Chosen] = []
        self.copied = {} if plan.tiles is None else _copied(plan.tiles, plan.asked.frames.channels, frames)
        self.copies: TileCopies | None = None

    @property
    def fields_read(self) -> Path | None:
        """The folder of flat fields that are read instead of estimated."""
        flat = self.plan.config.flat_field
        return Path(flat.folder) if flat is not None and flat.method == "file" and flat.folder else None

    def made_from(self) -> str:
        """The fingerprint of all that decides what is written: settings, and the content of every file."""
        listed = self.frames.content
        own = [planes.content() for planes in (self.own, self.labels) if planes is not None]
        flat = self.plan.config.flat_field
        fields = flat.fingerprint() if flat is not None else ""
        settings = json.dumps(self.plan.values, sort_keys=True)
        return fingerprint([__version__, settings, self.plan.copies, listed, own, fields])

    def run(self) -> Iterator[Event]:
        """All of it."""
        images = self.frames.opened()
        self.estimated = yield from estimate(images, self.config, names=self.frames.channels, masks=self._given_mask)
        self._write_fields()
        self.copies = self._tile_copies() if self.plan.copies else None
        total, number = count_planes(images), 0
        for index, opened in enumerate(images):
            with opened() as source:
                whole = Whole(lambda source=source: source)  # type: ignore[misc]
                for t in range(source.shape[0]):
                    volume = [Plane(index, t, z, source, whole) for z in range(source.shape[2])]
                    for _ in self._volume(volume):
                        number += 1
                        yield Event("planes", number, total)
        self._write_tables()
        instead = OWN_MASKS if self.own is not None else FOUND_MASKS
        yield from (_note(f"{text} {instead}") for text in told_of_masks(self.places))

    def _volume(self, planes: Sequence[Plane]) -> Iterator[None]:
        """The planes of one time of one position, and the tiles of them that show enough."""
        rule = self.plan.tiles
        shares: list[dict[tuple[int, ...], float]] = []
        for plane in planes:
            mask = self._plane(plane)
            shares.append({} if rule is None else _shares(mask, plane, rule))
            yield
        if rule is None:
            return
        wheres = [self.frames.place(plane) for plane in planes]
        y, x = planes[0].source.shape[3:]
        for box in tiles_of((len(planes), y, x), rule):
            measured = [shares[z][box.start[1:]] for z in slices_measured(box, rule, len(planes))]
            share = float(np.mean(measured))
            if share >= rule.min_fraction:
                tile = Chosen(wheres[box.start[0]], box, share)
                self.tiles.append(tile)
                if self.copies is not None:
                    self.copies.write(tile, planes, [where[2] for where in wheres])

    def _plane(self, plane: Plane) -> np.ndarray | None:
        """The mask (y, x) of a plane, written where it was computed; its weight map and numbers besides."""
        where = self.frames.place(plane)
        mask = None
        if self.masks is not None or self.own is not None:
            mask = self._given_mask(plane, Ground(self.estimated.ground, self.estimated.first))
        if self.weights is not None:
            self._write_weights(plane, where, mask)
        last = self.estimated.steps[-1:]
        numbers = None
        if last and last[0]["step"] == "standardize-each":
            numbers = plane.whole.numbers(self.estimated.steps, plane.t, plane.z)
        self.places.append(Looked(where, None if mask is None else float(mask.mean()), numbers))
        return mask

    def _given_mask(self, plane: Plane, ground: Ground) -> np.ndarray:
        """(y, x) bool: a person's, or the one that is kept."""
        if self.own is not None:
            return self.own.mask(plane)
        if self.masks is None:
            return ground.found(plane)
        return self.masks.of(plane, self.frames.place(plane), ground)

    def _mask_folder(self) -> MaskFolder | None:
        ground = self.plan.config.foreground
        if ground is None or ground.method == "folder":
            return None
        name = masks_folder(ground.channels or self.frames.channels)
        return MaskFolder(self.out / name, self.frames.most + 1, self.plan.asked.mask_ext)

    def _weight_folder(self) -> Path | None:
        if self.plan.asked.weights is None:
            return None
        ground = self.plan.config.foreground
        channels = self.plan.asked.weights or (ground.channels if ground is not None else ()) or self.frames.channels
        return self.out / weights_folder(channels)

    def _write_weights(self, plane: Plane, where: Where, mask: np.ndarray | None) -> None:
        path = self._weights_path(where)
        if path is None or path.is_file():
            return
        labels = mask if self.labels is None else self.labels.labels(plane)
        if labels is not None:
            write_array(path, border_weights(labels).astype(np.float32))

    def _weights_path(self, where: Where) -> Path | None:
        return None if self.weights is None else self.weights / frame_name(self._weight_channel(), where, ".npy")

    def _weight_channel(self) -> int:
        return self.frames.most + (1 if self.masks is None else 2)

    def _tile_copies(self) -> TileCopies | None:
        rule = self.plan.tiles
        if rule is None:
            return None
        masks = self.masks if rule.masks else None
        return TileCopies(self.out / tile_folder(rule), rule, self.copied, self.estimated.steps, masks)

    def _write_fields(self) -> None:
        """Flat fields as microDL keeps them: (y, x) over their mean, a file for each channel that is corrected."""
        step = next((step for step in self.estimated.first if step["step"] == "flat-field"), None)
        folder, read = self.out / FIELDS, self.fields_read
        if step is None or (read is not None and read.resolve() == folder.resolve()):
            return
        with self.frames.sources[0]() as source:
            y, x = source.shape[3:]  # as the frames are: surfaces fit any size
        for channel, surface in zip(self.frames.channels, step["surfaces"], strict=True):
            if surface is not None:
                field = surface_at(surface, np.arange(y), np.arange(x), (y, x))
                write_array(folder / f"flat-field_channel-{channel}.npy", field)

    def _write_tables(self) -> None:
        places = [looked.where for looked in self.places]
        if self.masks is not None:
            self.masks.finish(places)
        if self.weights is not None:
            write_frames_meta(self.weights, self._weight_channel(), "weights", places, ".npy")
        if self.plan.tiles is not None:
            write_tile_list(self.out / TILES, self.tiles, self.plan.tiles.depth)
        if self.copies is not None:
            self.copies.finish()
        normalize = self.plan.config.normalize
        numbers = numbers_of(self.estimated.steps, self.places) if normalize is not None else {}
        if normalize is not None and numbers:
            write_statistics(self.out / STATISTICS, normalize, self.frames.channels, numbers)
        write_meta(self.out / META, self.frames, numbers, normalize, self.places)
        first = [] if self.frames.resize == AS_IS else [resize_step(self.frames.resize)]
        steps = {"steps": [*first, *self.estimated.steps]}
        write_atomic(self.out / STEPS, json.dumps(steps, indent=2).encode())


def _copied(rule: TilesConfig, chosen: Sequence[int], frames: FrameSet) -> dict[int, tuple[int, int]]:
    """Number of each channel that tiles are copied of, to its place along the channel axis and the slices of a stack.

    Raises:
        BadRecipe: There is no such channel, or not as many depths as channels.
        BadInput: A position has fewer slices than a stack.
    """
    known = chosen or frames.channels
    if len(rule.depths) > 1 and len(rule.depths) != len(known):
        raise BadRecipe(f"tile.depths has {len(rule.depths)} numbers, for {len(known)} channels. Give one for each.")
    for opened in frames.opened():
        with opened() as source:
            require_depth(source.shape[2], rule, name_of(source))
    depths = dict(zip(known, rule.depths, strict=True)) if len(rule.depths) > 1 else {}
    return {
        channel: (place_of(channel, frames.channels, "tile.channels"), depths.get(channel, rule.depth))
        for channel in rule.channels or known
    }


def tile_folder(rule: TilesConfig) -> str:
    """The folder of copies of tiles, as microDL calls it."""
    size, step = ((*sides[1:], *sides[:1]) if rule.size[0] > 1 else sides[1:] for sides in (rule.size, rule.step))
    return f"tiles_{'-'.join(map(str, size))}_step_{'-'.join(map(str, step))}"


def _shares(mask: np.ndarray | None, plane: Plane, rule: TilesConfig) -> dict[tuple[int, ...], float]:
    """The share of foreground of each tile of a plane, by its first row and column; 1 where there are no masks."""
    boxes = tiles_of((1, *plane.source.shape[3:]), rule.model_copy(update={"size": (1, *rule.size[1:]), "depths": ()}))
    return {box.start[1:]: 1.0 if mask is None else share_of(mask, box) for box in boxes}


def _append_info(plan: Plan, estimated: Estimated) -> None:
    """One more run in `preprocessing_info.json`, as microDL writes it; with the place of the flat fields."""
    run: dict[str, Any] = {"processing_time": datetime.now(UTC).isoformat(timespec="seconds"), "config": plan.values}
    if any(step["step"] == "flat-field" for step in estimated.first):
        run["flat_fields"] = FIELDS
    before = info_runs(plan.asked.out / INFO)
    if before and isinstance(before[-1], dict) and before[-1].get("config") == plan.values:
        before.pop()  # the same again, or stopped just after this
    runs = [*before, run]
    write_atomic(plan.asked.out / INFO, json.dumps(runs, indent=2).encode())


def _note(text: str) -> Event:
    return Event("note", 0, 0, message=text)
