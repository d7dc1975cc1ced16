"""What the rest of the house relies on, for every model family.

The author of a family subclasses `FamilyContract` in a pytest module and sets `recipe`.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from fieldmark.checkpoint import load, save
from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile, InputMismatch
from fieldmark.images import open_image
from fieldmark.infer.answers import answer_image
from fieldmark.infer.predict import Model, forward_of, plan_for
from fieldmark.infer.sinks import ArraySink
from fieldmark.infer.tiles import predict_tiles
from fieldmark.learn.run import run_fit
from fieldmark.models.base import WHOLE_OUTPUTS
from fieldmark.models.build import load_net
from fieldmark.recipes import FitRecipe, PredictRecipe
from fieldmark.recipes.registry import FAMILIES
from fieldmark.testing.drawn import draw_discs, drawn_job
from fieldmark.testing.elsewhere import elsewhere

TOLERANCE = 1e-5
"""Law 6: |a - b| <= 1e-5 * max(1, max |b|) in fp32."""


def fitted(folder: Path, recipe: FitRecipe) -> Model:
    """A model of the recipe, fitted on drawn images in `folder`."""
    job = drawn_job(folder, recipe)
    for _ in run_fit(job):
        pass
    header, net = load_net(job.folder / "model")
    return Model("tiny", header, net)


def predicted(model: Model, path: Path, *, tile: int = 64, output: str = "classes", stop_after: int = 0) -> np.ndarray:
    """(t, k, z, y, x) answers for an image; with `stop_after`, stopped after so many tiles and taken up again."""
    recipe = PredictRecipe(tile=tile)
    with open_image(path) as source:
        forward = forward_of(model, recipe, output, source=source)
        plan = plan_for(model, source, recipe, path.name)
        channels = forward(source.read(Box((0,) * 5, (1, source.shape[1], 1, 8, 8)))).shape[1]
        sink = _Resumable(source.shape, channels)
        if stop_after:
            for _ in islice(predict_tiles(forward, source, plan, sink), stop_after):
                pass
        for _ in predict_tiles(forward, source, plan, sink):
            pass
    return sink.answers


class _Resumable(ArraySink):
    """Answers in memory that remember which tiles they hold, and refuse to be written twice."""

    def __init__(self, shape: tuple[int, ...], channels: int) -> None:
        super().__init__(shape, channels)
        self.answers[:] = np.nan
        self._done: set[int] = set()

    def is_done(self, index: int) -> bool:
        return index in self._done

    def mark_done(self, index: int) -> None:
        if index in self._done:
            raise AssertionError(f"tile {index} was predicted twice")
        self._done.add(index)


class FamilyContract:
    """Tests that every family must pass. `recipe` names the family and keeps it small."""

    recipe: ClassVar[FitRecipe]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def typed(cls) -> Iterator[None]:
        """Know the family of the recipe where it is a class of the author's own, `package.module:Class`."""
        with FAMILIES.lending([cls.recipe.family]):
            yield

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, tmp_path_factory: pytest.TempPathFactory) -> Model:
        """One fitted model for the tests that only read it."""
        return fitted(tmp_path_factory.mktemp("family"), cls.recipe)

    @pytest.fixture
    def volume(self, tmp_path: Path) -> Path:
        """A stack of three slices of odd size, as a NumPy file (z, y, x, c order t c z y x)."""
        slices = [draw_discs(101, 139, seed=10 + z).image for z in range(3)]
        path = tmp_path / "volume.npy"
        np.save(path, np.stack(slices).transpose(3, 0, 1, 2)[None])
        return path

    def test_a_fit_stopped_after_any_event_resumes_to_the_same_bits(self, tmp_path: Path) -> None:
        unbroken = _weights(tmp_path / "unbroken", self.recipe, stops=())
        events = sum(1 for _ in run_fit(drawn_job(tmp_path / "counted", self.recipe)))
        for stop in range(1, events + 1):
            broken = _weights(tmp_path / f"stopped{stop}", self.recipe, stops=(stop,))
            _assert_same_bits(broken, unbroken)

    def test_a_fit_stopped_after_every_event_resumes_to_the_same_bits(self, tmp_path: Path) -> None:
        unbroken = _weights(tmp_path / "unbroken", self.recipe, stops=())
        _assert_same_bits(_weights(tmp_path / "stopped", self.recipe, stops=(1,) * 50), unbroken)

    def test_the_same_seed_gives_the_same_weights(self, tmp_path: Path) -> None:
        first, second = (_weights(tmp_path / name, self.recipe, stops=()) for name in ("one", "two"))
        _assert_same_bits(first, second)

    def test_another_seed_gives_other_weights(self, tmp_path: Path) -> None:
        first = _weights(tmp_path / "one", self.recipe, stops=())
        second = _weights(tmp_path / "two", self.recipe.model_copy(update={"seed": 1}), stops=())
        assert any(not np.array_equal(first[name], second[name]) for name in first)

    def test_a_resumed_fit_refuses_other_labels(self, tmp_path: Path) -> None:
        next(event for event in run_fit(drawn_job(tmp_path, self.recipe)) if event.phase != "note")
        job = drawn_job(tmp_path, self.recipe)
        job.samples.marks.klass[0] = 1 - job.samples.marks.klass[0]
        with pytest.raises(BadFile, match="other labels"):
            list(run_fit(job))

    def test_a_saved_model_predicts_the_same_bits(self, model: Model, volume: Path, tmp_path: Path) -> None:
        from fieldmark.models.tensors import arrays_of

        save(tmp_path / "copy", model.header, arrays_of(model.net))
        header, net = load_net(tmp_path / "copy")
        assert header == model.header
        assert np.array_equal(predicted(Model("copy", header, net), volume), predicted(model, volume))

    def test_tiles_equal_the_whole_image(self, model: Model, volume: Path) -> None:
        if not model.header.tile_exact:
            pytest.skip("not tile-exact: always on one grid, see the next test")
        for output in set(model.header.outputs) - set(WHOLE_OUTPUTS):
            whole = predicted(model, volume, tile=192, output=output)
            tiled = predicted(model, volume, tile=64, output=output)
            assert np.abs(tiled - whole).max() <= TOLERANCE * max(1.0, np.abs(whole).max()), output

    def test_whole_images_are_answered_by_saved_models_with_the_same_bits(self, model: Model, tmp_path: Path) -> None:
        from fieldmark.models.tensors import arrays_of

        if "image-classes" not in model.header.outputs:
            pytest.skip("gives no answers for whole images")
        save(tmp_path / "copy", model.header, arrays_of(model.net))
        copy = Model("copy", *load_net(tmp_path / "copy"))
        for shape in ((1, 1), (93, 117), (3, 70)):
            np.save(tmp_path / "one.npy", draw_discs(*shape).image.transpose(2, 0, 1)[None, :, None])
            with open_image(tmp_path / "one.npy") as source:
                for output in WHOLE_OUTPUTS:
                    row = answer_image(model, source, "one.npy", output)
                    assert np.isfinite(row).all()
                    assert np.array_equal(answer_image(copy, source, "one.npy", output), row)
                assert abs(answer_image(model, source, "one.npy").sum() - 1) <= TOLERANCE

    def test_on_a_gpu_nothing_of_it_stays_behind(self, model: Model, volume: Path, tmp_path: Path) -> None:
        """Tensors that a network makes by itself must be made where its weights are; no GPU is needed to see that."""
        np.save(tmp_path / "one.npy", np.load(volume, allow_pickle=False)[:, :, :1])
        with elsewhere() as device:
            moved = replace(model, net=deepcopy(model.net).to(device))
            for output in {"classes", *model.header.outputs} - set(WHOLE_OUTPUTS):
                _assert_close(predicted(moved, volume, output=output), predicted(model, volume, output=output))
            for output in set(model.header.outputs) & set(WHOLE_OUTPUTS):
                with open_image(tmp_path / "one.npy") as source:
                    rows = [answer_image(one, source, "one.npy", output) for one in (moved, model)]
                _assert_close(*rows)

    def test_tiles_without_their_halo_would_be_noticed(self, model: Model, volume: Path) -> None:
        if not model.header.tile_exact:
            pytest.skip("not tile-exact: always on one grid")
        bare = replace(model, header=replace(model.header, halo=(0, 0, 0)))
        whole = predicted(model, volume, tile=192)
        assert np.abs(predicted(bare, volume, tile=64) - whole).max() > 1e-3

    def test_an_image_alone_equals_its_slice_of_a_stack(self, model: Model, volume: Path, tmp_path: Path) -> None:
        if model.header.halo[0]:
            pytest.skip("looks at neighboring slices")
        alone = tmp_path / "slice.npy"
        np.save(alone, np.load(volume, allow_pickle=False)[:, :, 1:2])
        _assert_close(predicted(model, alone)[:, :, 0], predicted(model, volume)[:, :, 1])

    def test_a_prediction_stopped_in_the_middle_goes_on(self, model: Model, volume: Path) -> None:
        assert np.array_equal(predicted(model, volume, stop_after=4), predicted(model, volume))

    def test_probabilities_sum_to_one(self, model: Model, volume: Path) -> None:
        answers = predicted(model, volume)
        assert answers.min() >= 0
        assert np.allclose(answers.sum(axis=1), 1, atol=1e-5)

    def test_it_finds_the_discs(self, model: Model, tmp_path: Path) -> None:
        from fieldmark.core.files import write_atomic
        from fieldmark.images.png import encode_png

        drawing = draw_discs(seed=7)
        write_atomic(tmp_path / "new.png", encode_png(drawing.image))
        found = predicted(model, tmp_path / "new.png")[0, :, 0].argmax(axis=0)
        dice = 2 * (found * drawing.mask).sum() / (found.sum() + drawing.mask.sum())
        assert dice >= 0.85

    @pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 2), (65, 1)])
    def test_tiny_images_are_predicted(self, model: Model, tmp_path: Path, shape: tuple[int, int]) -> None:
        path = tmp_path / "tiny.npy"
        np.save(path, np.full((1, 3, 1, *shape), 90, np.uint8))
        assert np.isfinite(predicted_whole(model, path)).all()

    def test_a_wrong_channel_count_is_refused_by_name(self, model: Model, tmp_path: Path) -> None:
        path = tmp_path / "gray.npy"
        np.save(path, np.zeros((20, 20), np.uint8))
        with open_image(path) as source, pytest.raises(InputMismatch, match=r"3-channel.*gray\.npy.*has 1"):
            plan_for(model, source, PredictRecipe(), "gray.npy")

    def test_an_unregistered_family_is_refused(self, model: Model, tmp_path: Path) -> None:
        from fieldmark.models.tensors import arrays_of

        save(tmp_path, replace(model.header, family="os:system"), arrays_of(model.net))
        with pytest.raises(BadFile, match=r"os:system.*not registered.*--allow-family os:system"):
            load_net(tmp_path)

    def test_weights_of_another_shape_are_refused(self, model: Model, tmp_path: Path) -> None:
        from fieldmark.models.tensors import arrays_of

        weights = arrays_of(model.net)
        weights.pop(next(iter(weights)))
        save(tmp_path, model.header, weights)
        with pytest.raises(BadFile, match="do not fit"):
            load_net(tmp_path)


def predicted_whole(model: Model, path: Path) -> np.ndarray:
    """Answers for an image of any size, in one tile."""
    with open_image(path) as source:
        forward = forward_of(model, PredictRecipe(), source=source)
        return forward(source.read(Box.whole(source.shape)))


def _weights(folder: Path, recipe: FitRecipe, *, stops: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The weights of a fit that is stopped after so many events, each time going on in a new object from the disk."""
    for stop in stops:
        events = run_fit(drawn_job(folder, recipe))
        new = (event for event in events if event.phase not in ("resume", "note"))
        if len(list(islice(new, stop))) < stop:
            break
        events.close()  # type: ignore[attr-defined]
    for _ in run_fit(drawn_job(folder, recipe)):
        pass
    return load(folder / "run" / "model")[1]


def _assert_same_bits(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert np.array_equal(array, second[name]), name


def _assert_close(a: np.ndarray, b: np.ndarray) -> None:
    assert np.abs(a - b).max() <= TOLERANCE * max(1.0, np.abs(b).max())
