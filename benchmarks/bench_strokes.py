"""From strokes on a few images to masks of all of them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.rows import Row, spread
from fieldmark.core.events import Event
from fieldmark.images import encode_png, open_image
from fieldmark.recipes import PredictRecipe
from fieldmark.workbench import Workbench
from fieldmark.workbench.demo_fields import demo_projects

CLAIM = (
    "From strokes to masks of all images: on eggs with a much higher Dice on the images without strokes, on coins and "
    "glands about the same, on thin vessels a lower one; a forest alone is faster."
)
PEER = "scikit-image's trainable segmentation (`multiscale_basic_features` and a forest of 50 trees), same strokes."
SEEDS = range(3)
DATA = Path(os.environ.get("FIELDMARK_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@dataclass(frozen=True, slots=True)
class Task:
    """Folders of images, of marker files for some of them, and of reference masks; the last class is scored."""

    name: str
    classes: tuple[str, ...]
    images: Path
    markers: Path
    truth: Path

    def names(self) -> list[str]:
        return sorted(path.stem for path in self.images.iterdir())

    def pixels(self, name: str) -> np.ndarray:
        """(y, x, c), as the file keeps them."""
        return np.moveaxis(plane(self.images / f"{name}.png"), 0, -1)

    def strokes(self, name: str) -> np.ndarray | None:
        """(y, x) labels from 1, 0 unknown; None for an image without strokes."""
        path = self.markers / f"{name}-seeds.txt"
        if not path.is_file():
            return None
        (_, width, height), *rows = ([int(word) for word in line.split()] for line in path.read_text().splitlines())
        offset = 1 if any(row[3] == 0 for row in rows) else 0
        marked = np.zeros((height, width), np.uint8)
        for x, y, _, label in rows:
            marked[y, x] = label + offset
        return marked

    def dice(self, masks: dict[str, np.ndarray]) -> float:
        """Mean Dice of the last class over the images without strokes; `masks` hold labels from 1."""
        scores = []
        for name in self.names():
            if self.strokes(name) is None:
                truth = plane(self.truth / f"{name}.png")[0]
                known = np.ones(truth.shape, bool) if truth.max() == 255 else truth > 0
                right, found = (truth >= len(self.classes))[known], (masks[name] == len(self.classes))[known]
                scores.append(2 * (right & found).sum() / max(1, right.sum() + found.sum()))
        return float(mean(scores))


def measure() -> list[Row]:
    """Seconds and Dice of both on each task, over the seeds."""
    with tempfile.TemporaryDirectory() as name:
        return [row for task in tasks(Path(name)) for row in _rows(task, Path(name) / f"{task.name}-work")]


def tasks(folder: Path) -> Iterator[Task]:
    """The demo's projects, written as files, and the parasite eggs where the folder of real images is there."""
    for project in demo_projects():
        places = [folder / project.name / part for part in ("images", "markers", "truth")]
        for place in places:
            place.mkdir(parents=True)
        for field in project.fields:
            (places[0] / f"{field.name}.png").write_bytes(encode_png(field.image))
            (places[2] / f"{field.name}.png").write_bytes(encode_png(field.mask))
            if field.markers_text is not None:
                (places[1] / f"{field.name}-seeds.txt").write_text(field.markers_text)
        yield Task(project.name, project.classes, *places)
    eggs = DATA / "eggs"
    if eggs.is_dir():
        yield Task("eggs", ("background", "egg"), eggs / "orig", eggs / "markers", eggs / "label")


def _rows(task: Task, work: Path) -> list[Row]:
    cold, _ = _timed(task, _ours, work / "cold", 0)
    pairs = [(_timed(task, _warm, work / str(seed), seed), _timed(task, _peer, work, seed)) for seed in SEEDS]
    (ours_s, ours_dice), (peer_s, peer_dice) = (zip(*who, strict=True) for who in zip(*pairs, strict=True))
    case = f"{task.name}, {len(task.names())} images"
    times = f"ours {spread(list(ours_s))}; {cold:.3g} s as two commands, which start two processes"
    over = f"over {len(SEEDS)} seeds: ours ± {stdev(ours_dice):.3f}, peer ± {stdev(peer_dice):.3f}"
    return [
        Row(f"{case}: strokes to masks", min(ours_s), min(peer_s), "s", spread=times),
        Row(f"{case}: Dice", mean(ours_dice), mean(peer_dice), "", more_is_better=True, spread=over),
    ]


def _timed(
    task: Task, method: Callable[[Task, Path, int], dict[str, np.ndarray]], work: Path, seed: int
) -> tuple[float, float]:
    """Seconds of a method from strokes to all masks, and its Dice."""
    start = time.perf_counter()
    masks = method(task, work, seed)
    return time.perf_counter() - start, task.dice(masks)


def _warm(task: Task, work: Path, seed: int) -> dict[str, np.ndarray]:
    """The same in this process, so that the libraries' imports are not part of the time, as in the peer."""
    from fieldmark.workbench import fitting, predicting, worker

    def here(job: dict[str, Any], file: Path, *, threads: int = 0) -> Iterator[Event]:
        return worker.start(job)

    with patch.object(fitting, "run_job", here), patch.object(predicting, "run_job", here):
        return _ours(task, work, seed)


def _ours(task: Task, work: Path, seed: int) -> dict[str, np.ndarray]:
    with Workbench.init(work, task.classes) as bench:
        bench.add([task.images])
        bench.import_labels(task.markers, "markers")
        for _ in bench.fit("flim", overrides=(f"seed={seed}",))[1]:
            pass
        for _ in bench.predict("flim", out=work / "masks", form="png", recipe=PredictRecipe()):
            pass
    return {name: plane(work / "masks" / f"{name}.png")[0] for name in task.names()}


def _peer(task: Task, _work: Path, seed: int) -> dict[str, np.ndarray]:
    """As in scikit-image's gallery: one forest on the labelled pixels of all images."""
    from skimage.future import predict_segmenter
    from sklearn.ensemble import RandomForestClassifier

    features = {name: _features(task.pixels(name)) for name in task.names()}
    marked = {name: strokes for name in task.names() if (strokes := task.strokes(name)) is not None}
    forest = RandomForestClassifier(n_estimators=50, n_jobs=-1, max_depth=10, max_samples=0.05, random_state=seed)
    lessons = [(features[name][strokes > 0], strokes[strokes > 0]) for name, strokes in marked.items()]
    forest.fit(*(np.concatenate(parts) for parts in zip(*lessons, strict=True)))
    return {name: predict_segmenter(values, forest) for name, values in features.items()}


def _features(pixels: np.ndarray) -> np.ndarray:
    from skimage.feature import multiscale_basic_features

    options = {"intensity": True, "edges": False, "texture": True, "sigma_min": 1, "sigma_max": 16}
    features: np.ndarray = multiscale_basic_features(pixels, **options, channel_axis=-1)
    return features


def plane(path: Path) -> np.ndarray:
    """(c, y, x) of a file."""
    from fieldmark.core.geometry import Box

    with open_image(path) as source:
        return source.read(Box.whole(source.shape))[0, :, 0]
