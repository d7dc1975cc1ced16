"""What each filter of a model is for: how it answers where people marked, and what the head makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fieldmark.checkpoint import write_bundle
from fieldmark.core.events import Event
from fieldmark.core.seeds import derive_seed
from fieldmark.infer.forward import fit_to_net
from fieldmark.learn.jobs import samples_of
from fieldmark.learn.pixel_head import marked_features, thin_marks
from fieldmark.learn.run import check_channels
from fieldmark.models.build import load_net
from fieldmark.models.filters import FilterLayer, filter_layers, watching

if TYPE_CHECKING:
    from fieldmark.core.geometry import Tile
    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net

NAME = "inspect.json"
TILE = 512
SHOWN_SIDE = 128
"""Pictures of answers are thinned out to this many pixels a side."""
MOST_PER_STROKE = 100
"""Marked pixels of a stroke that the head is asked about."""


@dataclass(slots=True)
class _Layer:
    """What is gathered of one layer: answers under marks, and a picture around the pixel that each filter came from."""

    layer: FilterLayer
    rows: list[np.ndarray] = field(default_factory=list)
    answers: list[np.ndarray] = field(default_factory=list)
    pictures: dict[int, np.ndarray] = field(default_factory=dict)
    boxes: dict[int, list[int]] = field(default_factory=dict)


def inspect_from_job(job: dict[str, Any]) -> Iterator[Event]:
    """Write what is known of a model's filters as a bundle (see `fieldmark.workbench.flim.inspect`)."""
    header, net = load_net(Path(job["model"]))
    samples = samples_of(job["fit"])
    samples.preparation = header.preparation
    check_channels(samples)
    gathered = [_Layer(layer) for layer in filter_layers(net)]
    yield from _gather(net, samples, gathered)
    use = head_use(net, samples, [one.layer for one in gathered])
    values: dict[str, Any] = {"layers": []}
    tensors: dict[str, np.ndarray] = {}
    for number, one in enumerate(gathered):
        values["layers"].append(_described(one))
        tensors |= {f"{number}.{name}": array for name, array in _arrays(one, samples).items()}
        if one.layer.name in use:
            tensors[f"{number}.use"] = use[one.layer.name]
    write_bundle(Path(job["out"]), NAME, values, tensors)


def marker_contrast(answers: np.ndarray, klass: np.ndarray, stroke: np.ndarray, classes: int) -> np.ndarray:
    """How much stronger each filter answers on a class's marks than on all other marks.

    This is the importance that the labelled-marker decoder gives a filter: its answers are
    brought to 0..1 by their largest, averaged over a class with the same voice for each
    stroke, and compared to the average over the other classes. It needs no head.

    Args:
        answers: (N, K) never negative, at marked pixels.
        klass: (N,) class of each.
        stroke: (N,) stroke of each.
        classes: How many there are.

    Returns:
        (K, classes) in -1..1; NaN for a class without marks, and where all marks are of one class.
    """
    unit = answers / np.maximum(answers.max(axis=0, initial=0), 1e-12)
    found = np.full((answers.shape[1], classes), np.nan)
    for index in range(classes):
        own = klass == index
        if own.any() and not own.all():
            found[:, index] = _voices(unit[own], stroke[own]) - _voices(unit[~own], stroke[~own])
    return found


def head_use(net: Net, samples: Samples, layers: list[FilterLayer]) -> dict[str, np.ndarray]:
    """What the head makes of each filter: how much probability a class's marks lose without it.

    The filter's answers are replaced by their mean over the marks, and the head is asked
    again. Only for layers whose answers the head itself sees, under heads that judge pixel
    by pixel; the marks taught the head, so that this explains it and does not score it.

    Returns:
        By the layer's name: (K, classes) in -1..1, NaN for a class without marks.
    """
    head = net.head
    if head is None or head.rounds:
        return {}
    rows = thin_marks(samples, MOST_PER_STROKE, derive_seed(0, "inspect"))
    table, widths = marked_features(net, samples, rows)
    marks = samples.marks.where(rows)

    def shares(features: np.ndarray) -> np.ndarray:
        parts = torch.split(torch.from_numpy(features.T[None, :, :, None]), widths, dim=1)
        with torch.inference_mode():
            given: np.ndarray = head([part.contiguous() for part in parts], (len(features), 1))[0, :, :, 0].T.numpy()
        return np.asarray(given[np.arange(len(given)), marks.klass])

    before = shares(table)
    found = {}
    for layer, first in _columns(net, samples, layers, widths).items():
        count = next(len(one) for one in layers if one.name == layer)
        lost = [before - shares(_without(table, column, marks.stroke)) for column in range(first, first + count)]
        found[layer] = np.stack([_by_class(loss, marks.klass, marks.stroke, samples.classes) for loss in lost])
    return found


def _without(table: np.ndarray, column: int, stroke: np.ndarray) -> np.ndarray:
    """The features with one of them silenced: the same everywhere."""
    silenced = table.copy()
    silenced[:, column] = _voices(table[:, [column]], stroke)[0]
    return silenced


def _by_class(values: np.ndarray, klass: np.ndarray, stroke: np.ndarray, classes: int) -> np.ndarray:
    means = np.full(classes, np.nan)
    for index in np.unique(klass):
        own = klass == index
        means[index] = _voices(values[own, None], stroke[own])[0]
    return means


def _voices(values: np.ndarray, stroke: np.ndarray) -> np.ndarray:
    """(N, K) to the (K,) mean over strokes of their means."""
    _, inverse, counts = np.unique(stroke, return_inverse=True, return_counts=True)
    weights = 1.0 / counts[inverse] / len(counts)
    return np.asarray(weights @ values)


def _columns(net: Net, samples: Samples, layers: list[FilterLayer], widths: list[int]) -> dict[str, int]:
    """The first column of each layer's answers among the features, for layers that the head sees as they are."""
    smallest = torch.zeros(1, net.channels, *net.least)
    with torch.inference_mode(), watching(layers, net.least) as seen:
        levels = net.levels(smallest)
    firsts = np.cumsum([0, *widths])
    places = {name: [n for n, level in enumerate(levels) if level is answers.values] for name, answers in seen.items()}
    return {name: int(firsts[found[0]]) for name, found in places.items() if found}


def _gather(net: Net, samples: Samples, gathered: list[_Layer]) -> Iterator[Event]:
    """Run the network on every marked tile once; one event a tile."""
    rows = np.zeros(len(samples.marks), bool)
    rows[thin_marks(samples, MOST_PER_STROKE, derive_seed(0, "inspect"))] = True
    tiles = samples.marked_tiles(tile=TILE, stride=net.strides, radius=net.radii)
    for count, (index, tile, inside) in enumerate(tiles, start=1):
        prepared = fit_to_net(samples.read(index, tile.read, spatial=net.spatial), net)
        with torch.inference_mode(), watching([one.layer for one in gathered], prepared.shape[1:]) as seen:
            net.levels(torch.from_numpy(prepared)[None])
        for one in gathered:
            answers = _OnTile(tile, np.maximum(seen[one.layer.name].values[0].numpy(), 0), seen[one.layer.name].axes)
            _take_marks(one, answers, samples, inside[rows[inside]])
            _take_pictures(one, answers, index)
        yield Event("inspect", count, 0, message=samples.images[index].name)


@dataclass(frozen=True, slots=True)
class _OnTile:
    """A layer's answers (K, (z,) y, x) on what a tile reads, none negative; and where they lie in it."""

    tile: Tile
    values: np.ndarray
    axes: tuple[tuple[float, float], ...]

    def nearest(self, axis: int, places: np.ndarray) -> np.ndarray:
        """(N,) pixels of the image along t, z, y or x to places on the map, as far as it reaches."""
        own = axis - 4 + len(self.axes)
        start, jump = self.axes[own]
        at = np.floor((places - self.tile.read.start[axis] - start) / jump + 0.5 + 1e-9).astype(np.int64)
        return np.clip(at, 0, self.values.shape[1 + own] - 1)

    def plane(self, number: int, z: int) -> np.ndarray:
        """(y, x) answers of one filter; in volumes those at the depth z."""
        depth = () if len(self.axes) == 2 else (self.nearest(1, np.array([z]))[0],)
        plane: np.ndarray = self.values[(number, *depth)]
        return plane


def _take_marks(one: _Layer, answers: _OnTile, samples: Samples, rows: np.ndarray) -> None:
    places = samples.marks.place[rows]
    at: list[Any] = [answers.nearest(axis, places[:, axis]) for axis in range(4 - len(answers.axes), 4)]
    one.rows.append(rows)
    one.answers.append(answers.values[(slice(None), *at)].T)


def _take_pictures(one: _Layer, answers: _OnTile, index: int) -> None:
    """Answers on the tile's core, of the filters that came from it."""
    core, places = answers.tile.core, one.layer.array("place")
    low, high = np.array(core.start), np.array(core.stop)
    inside = (places[:, 0] == index) & ((places[:, 1:] >= low) & (places[:, 1:] < high)).all(axis=1)
    step = max(1, -(-int((high - low)[2:].max()) // SHOWN_SIDE))
    y, x = (answers.nearest(axis, np.arange(low[axis], high[axis], step)) for axis in (2, 3))
    for number in np.flatnonzero(inside).tolist():
        plane = answers.plane(number, int(places[number, 2]))
        one.pictures[number] = plane[np.ix_(y, x)]
        one.boxes[number] = [*core.start[2:], *core.stop[2:]]


def _described(one: _Layer) -> dict[str, Any]:
    boxes = [one.boxes.get(number) for number in range(len(one.layer))]
    return {"name": one.layer.name, "path": one.layer.path, "boxes": boxes}


def _arrays(one: _Layer, samples: Samples) -> dict[str, np.ndarray]:
    marks = samples.marks.where(np.concatenate(one.rows))
    answers = np.concatenate(one.answers)
    pictures = {f"picture.{number}": np.ascontiguousarray(picture) for number, picture in one.pictures.items()}
    return pictures | {
        "weight": one.layer.array("weight").copy(),
        "stroke": one.layer.array("stroke").copy(),
        "place": one.layer.array("place").copy(),
        "contrast": marker_contrast(answers, marks.klass, marks.stroke, samples.classes),
    }
