"""Estimate FLIM's kernels and run them, beside the same estimation written with scikit-image and scikit-learn."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import flim_reference as reference
from benchmarks.machine import bf16_units
from benchmarks.rows import Row, spread
from fieldmark.learn.samples import Marks, SampleImage, Samples
from fieldmark.models.flim import FlimNet

CLAIM = (
    "Estimation is about twice as fast with equal starts and more than ten times as fast with our defaults, "
    "with an inertia within 2 %."
)
PEER = "`benchmarks/flim_reference.py`: `view_as_windows`, scikit-learn's KMeans for each marker, one thread for both."
DATA = Path(os.environ.get("FIELDMARK_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
REPEATS = 7
ALL = 1_000_000
EVERY_KERNEL = 8192


@dataclass(frozen=True, slots=True)
class Case:
    """Images, the marked pixels (N, 2) y, x of each, their markers (from 1, over all images), classes, layers."""

    name: str
    paths: list[Path]
    places: list[np.ndarray]
    markers: list[np.ndarray]
    classes: list[np.ndarray]
    layers: list[reference.Layer]
    scale: float

    def fit_peer(self, n_init: int) -> list[reference.Learned]:
        return reference.fit(self.paths, self.places, self.markers, self.layers, n_init=n_init)

    def learner(self, kind: str, **settings: Any) -> Callable[[], FlimNet]:
        """What learns from the files to the kernels, as a fit does; `settings` are those of `FlimConfig`."""
        from fieldmark.learn.flim import flim_layers
        from fieldmark.models.build import build
        from fieldmark.recipes import FitRecipe

        config: dict[str, Any] = {"branches": [{"layers": self.our_layers()}], "scales": [], "kernels": {"kind": kind}}
        recipe = FitRecipe(family="flim", net=config | settings)
        net = build("flim", recipe.net, 3).eval()
        assert isinstance(net, FlimNet)

        def learn() -> FlimNet:
            for solver in flim_layers(net, self.samples(), recipe).solvers:
                solver(net)
            return net

        return learn

    def our_layers(self) -> list[dict[str, Any]]:
        def settings(layer: reference.Layer) -> dict[str, Any]:
            pool = {"pool": "max", "pool_size": layer.pool, "pool_stride": layer.pool} if layer.pool > 1 else {}
            sizes = {"kernel_size": layer.size, "kernels_per_marker": layer.per_marker}
            return sizes | {"out_channels": layer.out or EVERY_KERNEL} | pool

        return [settings(layer) for layer in self.layers]

    def samples(self) -> Samples:
        from fieldmark.prepare.pipeline import lab_step, scale_step

        images = [SampleImage(path.name, path.as_posix(), "") for path in self.paths]
        image = np.concatenate([np.full(len(at), index) for index, at in enumerate(self.places)])
        places = np.concatenate(self.places)
        zeros = np.zeros((len(places), 2), np.int64)
        marks = Marks(image, np.hstack([zeros, places]), np.concatenate(self.markers), np.concatenate(self.classes))
        samples = Samples(images, marks, int(marks.klass.max()) + 1)
        samples.preparation = [scale_step(self.scale), lab_step()]
        return samples


def bear() -> Case:
    """One layer on one photo with 14,920 marked pixels."""
    folder = DATA / "bear"
    layers = [reference.Layer(5, 8)]
    return _case("bear", [folder / "00000.jpg"], [folder / "00000.txt"], layers, 255.0)


def eggs() -> Case:
    """Three layers on five micrographs."""
    markers = sorted((DATA / "eggs" / "markers").glob("*.txt"))
    images = [DATA / "eggs" / "orig" / path.name.replace("-seeds.txt", ".png") for path in markers]
    layers = [reference.Layer(5, 5, out, 2) for out in (16, 32, 64)]
    return _case("eggs", images, markers, layers, 65535.0)


def _case(name: str, images: list[Path], files: list[Path], layers: list[reference.Layer], scale: float) -> Case:
    places, markers, classes = [], [], []
    count = 0
    for file in files:
        at, own, labels = _read_markers(file)
        places.append(at)
        markers.append(own + count)
        classes.append(labels)
        count = int(markers[-1].max())
    return Case(name, images, places, markers, classes, layers, scale)


def _read_markers(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, 2) y, x, their markers (components of one label, from 1) and labels from 0."""
    from skimage.measure import label

    width, height = (int(n) for n in file.read_text(encoding="utf-8").split(maxsplit=3)[1:3])
    table = np.loadtxt(file, skiprows=1, dtype=np.int64)
    drawn = np.zeros((height, width), np.int64)
    drawn[table[:, 1], table[:, 0]] = table[:, 3] - table[:, 3].min() + 1
    at = np.argwhere(drawn > 0)
    y, x = at.T
    return at, label(drawn, connectivity=2)[y, x], drawn[y, x] - 1


def measure(repeats: int = REPEATS) -> list[Row]:
    """Seconds of each estimation, inertias, and images a second."""
    with threads(1):
        return [row for case in (bear(), eggs()) for row in (*_estimation(case, repeats), *_inference(case, repeats))]


def _estimation(case: Case, repeats: int) -> Iterator[Row]:
    actions: dict[str, Callable[[], object]] = {
        "peer 1": lambda: case.fit_peer(1),
        "peer 10": lambda: case.fit_peer(10),
        "equal": case.learner("centers", max_patches_per_marker=ALL),
        "default": case.learner("centers"),
        "points": case.learner("points"),
    }
    for action in actions.values():
        action()
    taken = in_turns(actions, repeats)
    same = "every patch, one start for both"
    yield _row(f"{case.name}: equal n_init", taken, "equal", "peer 1", same)
    yield _row(f"{case.name}: our defaults, peer n_init 10", taken, "default", "peer 10")
    yield _row(f"{case.name}: bag of feature points, peer n_init 10", taken, "points", "peer 10")
    yield _row(f"{case.name}: bag of feature points, peer n_init 1", taken, "points", "peer 1")
    yield from _inertia(case)


def _row(name: str, taken: dict[str, list[float]], ours: str, peer: str, note: str = "") -> Row:
    told = f"{spread(taken[ours])}; peer {spread(taken[peer])}" + (f"; {note}" if note else "")
    return Row(name, median(taken[ours]), median(taken[peer]), "CPU s", spread=told)


def _inertia(case: Case, seeds: Sequence[int] = (0, 1, 2, 3, 4)) -> Iterator[Row]:
    """Of the first layer, each over all of the reference's patches."""
    learned = case.fit_peer(10)[0].patches, np.concatenate(case.markers), case.layers[0].per_marker
    peer = case.fit_peer(10)[0].inertia
    for name, most in (("every patch", ALL), ("our default of patches", _default_patches())):
        found = [our_inertia(*learned, most=most, seed=seed) for seed in seeds]
        percent = [100 * (value / peer - 1) for value in found]
        told = f"above the peer's by {median(percent):.1f} % ({min(percent):.1f} to {max(percent):.1f}, n={len(seeds)})"
        yield Row(f"{case.name}: inertia, {name}, peer n_init 10", median(found), peer, "", spread=told)


def _default_patches() -> int:
    from fieldmark.recipes import FlimConfig

    return FlimConfig().max_patches_per_marker


def our_inertia(patches: np.ndarray, markers: np.ndarray, per_marker: int, *, most: int, seed: int) -> float:
    """Sum of the squared distances of all patches to the nearest of our centers of their marker."""
    from fieldmark.learn.kmeans import kmeans

    total = 0.0
    for marker in np.unique(markers):
        own = patches[markers == marker]
        if len(own) > per_marker:
            rng = np.random.default_rng((seed, int(marker)))
            some = own[rng.choice(len(own), most, replace=False)] if len(own) > most else own
            centers = kmeans(some, per_marker, seed=seed).centers
            total += _to_nearest(own, centers)
    return total


def _to_nearest(points: np.ndarray, centers: np.ndarray) -> float:
    squared = np.stack([((points - center) ** 2).sum(axis=1) for center in centers])
    return float(squared.min(axis=0).sum())


def _inference(case: Case, repeats: int) -> Iterator[Row]:
    """Prepared pixels of the first image to the maps of the last layer."""
    import torch

    net, learned = case.learner("centers")(), case.fit_peer(1)
    lab = reference.read_lab(case.paths[0])
    x = torch.from_numpy(np.ascontiguousarray(lab.transpose(2, 0, 1)))[None]

    def peer() -> None:
        seen = lab
        for layer, own in zip(case.layers, learned, strict=True):
            seen = reference.propagate(seen, own, layer)

    def ours(bf16: bool) -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            net.before(0, len(case.layers), x.contiguous(memory_format=torch.channels_last))

    actions: dict[str, Callable[[], object]] = {"peer": peer, "fp32": lambda: ours(False), "bf16": lambda: ours(True)}
    for action in actions.values():
        action()
    taken = in_turns(actions, repeats)
    speeds = {name: [1 / second for second in seconds] for name, seconds in taken.items()}
    for precision in ("fp32", "bf16"):
        units = "" if bf16_units() or precision == "fp32" else "; without bfloat16 units"
        told = f"{spread(speeds[precision], 'images/s')}; peer in fp32{units}"
        own, other = median(speeds[precision]), median(speeds["peer"])
        yield Row(f"{case.name}: inference on a core, {precision}", own, other, "images/s", True, told)


def in_turns(
    actions: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Seconds of each action; processor time of one thread is what a free core needs, whatever else runs."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            start = clock()
            action()
            taken[name].append(clock() - start)
    return taken


@contextmanager
def threads(count: int) -> Iterator[None]:
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)
