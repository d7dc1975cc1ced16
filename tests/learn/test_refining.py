"""What the strokes say of walks: blobs are found again by them, threads are not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fieldmark.core.fingerprint import file_hash
from fieldmark.images import encode_png
from fieldmark.learn.pixel_head import thin_marks
from fieldmark.learn.refining import SIDE, WINDOWS, _shares, windows_of
from fieldmark.learn.run import FitJob, run_fit
from fieldmark.learn.samples import Marks, SampleImage, Samples
from fieldmark.learn.views import Lesson, fit_head
from fieldmark.models.build import build, load_net
from fieldmark.recipes import FitRecipe, HeadConfig
from fieldmark.testing.drawn import CLASSES

SMALL = {"branches": [{"layers": [{"out_channels": 4, "pool": "max"}]}], "scales": [1.0, 4.0]}


def job_of(folder, mask: np.ndarray, contrast: float, recipe: FitRecipe, strokes: list[tuple[int, int, int]]) -> FitJob:
    """A noisy picture of a mask; strokes are horizontal runs of 14 pixels: y, x, class."""
    rng = np.random.default_rng(0)
    gray = np.clip(120 + contrast * mask + rng.normal(0, 12, mask.shape), 0, 255).astype(np.uint8)
    path = folder / "picture.png"
    path.write_bytes(encode_png(gray))
    rows = [(0, 0, y, x + step, 1 + n, klass) for n, (y, x, klass) in enumerate(strokes) for step in range(14)]
    table = np.array(rows)
    marks = Marks(np.zeros(len(table), np.int64), table[:, :4], table[:, 4], table[:, 5])
    samples = Samples([SampleImage(path.name, path.as_posix(), file_hash(path))], marks, 2)
    return FitJob(recipe=recipe, samples=samples, classes=CLASSES, folder=folder / "run")


def fitted(job: FitJob):
    told = {}
    for event in run_fit(job):
        told |= event.metrics
    header, net = load_net(job.folder / "model")
    return told, header, net


def blobs() -> np.ndarray:
    y, x = np.mgrid[:120, :140]
    return (((y - 40) ** 2 + (x - 40) ** 2 < 24**2) | ((y - 80) ** 2 + (x - 100) ** 2 < 26**2)).astype(float)


def threads() -> np.ndarray:
    mask = np.zeros((120, 140))
    mask[10::16] = 1
    return mask


BLOB_STROKES = [(40, 34, 1), (80, 92, 1), (10, 80, 0), (110, 20, 0), (60, 66, 0)]
THREAD_STROKES = [(10, 20, 1), (58, 60, 1), (90, 100, 1), (18, 40, 0), (66, 90, 0), (98, 30, 0)]


def test_blobs_are_refined_and_threads_are_not(tmp_path):
    recipe = FitRecipe(net=SMALL, head={"trees": 10})
    for name, mask, contrast, strokes, wanted in (
        ("blobs", blobs(), 80, BLOB_STROKES, True),
        ("threads", threads(), 25, THREAD_STROKES, False),
    ):
        (tmp_path / name).mkdir()
        told, header, net = fitted(job_of(tmp_path / name, mask, contrast, recipe, strokes))
        assert (net.refiner is not None) == wanted, (name, told["refine"])
        assert ("refiner" in header.config) == wanted
        assert (told["refine"] >= 0.8) == wanted


@pytest.mark.parametrize("asked", ["random-walker", "none"])
def test_what_is_asked_for_is_done(tmp_path, asked):
    recipe = FitRecipe(net=SMALL, head={"kind": "logistic", "refine": asked})
    told, header, net = fitted(job_of(tmp_path, threads(), 25, recipe, THREAD_STROKES))
    assert "refine" not in told
    assert (net.refiner is not None) == (asked == "random-walker")
    assert header.tile_exact == (asked == "none")


def test_decoders_stay_as_their_formulas_unless_it_is_asked_for(tmp_path):
    for asked, wanted in (("auto", False), ("random-walker", True)):
        (tmp_path / asked).mkdir()
        recipe = FitRecipe(net=SMALL, head={"kind": "adaptive", "refine": asked})
        _, _, net = fitted(job_of(tmp_path / asked, blobs(), 80, recipe, BLOB_STROKES))
        assert (net.refiner is not None) == wanted


def test_windows_hold_the_marks_that_lie_in_them(tmp_path):
    samples = job_of(tmp_path, blobs(), 80, FitRecipe(), BLOB_STROKES).samples
    net = build("flim", SMALL, 1)
    windows = windows_of(net, samples, seed=0)
    assert 2 <= len(windows) <= WINDOWS
    truth = np.zeros((120, 140), np.int64)
    for place, klass in zip(samples.marks.place, samples.marks.klass, strict=True):
        truth[place[2], place[3]] = klass + 1
    for window in windows:
        (t, z, y0, x0), (_, _, y1, x1) = window.box.start, window.box.stop
        assert (t, z) == (0, 0)
        assert window.classes.shape == (min(SIDE, 120), min(SIDE, 140)) == (y1 - y0, x1 - x0)
        assert np.array_equal(window.classes, truth[y0:y1, x0:x1])
        assert window.classes.any()
        assert np.array_equal(window.places[1], [0, 0, y0, x0 + 1])
        assert np.array_equal(window.places[-1], [0, 0, y1 - 1, x1 - 1])
    assert {int(klass) for window in windows for klass in np.unique(window.classes)} == {0, 1, 2}
    assert len(thin_marks(samples, 5, 0)) == 5 * len(BLOB_STROKES)


def test_every_class_has_a_window(tmp_path):
    """Also where there are more classes than windows."""
    count = WINDOWS + 5
    samples = job_of(tmp_path, blobs(), 80, FitRecipe(), [(5 + 6 * n, 20, n) for n in range(count)]).samples
    windows = windows_of(build("flim", SMALL, 1), samples, seed=0)
    middles = {tuple(window.box.start) for window in windows}
    assert len(windows) == count
    assert len(middles) > 1
    assert {int(klass) for window in windows for klass in np.unique(window.classes)} == set(range(count + 1))


@pytest.mark.parametrize("kind", ["forest", "logistic"])
@pytest.mark.parametrize("shape", [(6, 9), (3, 4, 5)])
def test_a_head_says_of_pixels_what_it_says_of_their_image(kind, shape):
    """The trial asks of pixels one by one, a prediction of whole maps."""
    rng, config = np.random.default_rng(0), HeadConfig(kind=kind)
    rows = rng.normal(size=(300, 7)).astype(np.float32)
    lesson = Lesson(rows, (rows[:, 2] + rows[:, 5] > 0).astype(np.int64), *np.zeros((2, 300), np.int64), 2)
    net = SimpleNamespace(head=fit_head(lesson, config, 0), spatial=len(shape))
    features = rng.normal(size=(int(np.prod(shape)), 7)).astype(np.float32)
    maps = torch.from_numpy(features.T.reshape(1, 7, *shape).copy())
    whole = net.head([maps[:, :3], maps[:, 3:]], shape)[0].numpy()
    assert np.abs(_shares(net, features, [3, 4]).T.reshape(2, *shape) - whole).max() < 1e-6
    assert whole.std() > 0.1
