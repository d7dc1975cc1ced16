"""Heads that must see the whole image: tiled equals whole, restarts go on, each plane is for itself."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput, NotFound
from fieldmark.images import open_image
from fieldmark.infer import predict
from fieldmark.infer.forward import NetForward, Survey
from fieldmark.infer.predict import Model
from fieldmark.learn.run import run_fit
from fieldmark.models.decoders import AdaptiveHead
from fieldmark.recipes import FitRecipe, HeadConfig
from fieldmark.testing.drawn import draw_discs, drawn_job
from fieldmark.testing.elsewhere import elsewhere
from fieldmark.testing.families import fitted, predicted

DECODERS = ["vanilla", "probabilistic", "mean", "labelled"]
LAYERS = [{"out_channels": 8, "pool": "max"}, {"out_channels": 12, "pool": "max"}]
NET = {"scales": [], "branches": [{"layers": LAYERS}]}
ARCH = {
    "type": "sequential",
    "layers": {
        "norm": {"operation": "m_norm3d"},
        "conv": {
            "operation": "conv3d",
            "params": {"kernel_size": 3, "padding": 1, "out_channels": 8, "number_of_kernels_per_marker": 4},
        },
        "relu": {"operation": "relu"},
    },
}


def recipe(decoder: str, **head: object) -> FitRecipe:
    return FitRecipe(net=NET, head=HeadConfig.model_validate({"kind": "adaptive", "decoder": decoder} | head))


@pytest.fixture(scope="module", params=DECODERS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return fitted(tmp_path_factory.mktemp(request.param), recipe(request.param))


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """Two slices of odd size, the second three times darker."""
    slices = [draw_discs(141, 203, seed=10 + z).image // (1 + 2 * z) for z in range(2)]
    np.save(tmp_path / "volume.npy", np.stack(slices).transpose(3, 0, 1, 2)[None])
    return tmp_path / "volume.npy"


def close(a: np.ndarray, b: np.ndarray) -> None:
    assert np.abs(a - b).max() <= 1e-5


def test_tiles_equal_the_whole_image(model: Model, volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predicted(model, volume)
    monkeypatch.setattr(predict, "FIXED_TILE", 64)
    tiled = predicted(model, volume)
    close(tiled, whole)
    assert whole[:, 1].std() > 0.01 or model.net.head.decoder == "vanilla"  # type: ignore[union-attr]
    assert np.array_equal(predicted(model, volume, stop_after=5), tiled)


def test_on_a_gpu_nothing_of_a_decoder_stays_behind(model: Model, volume: Path) -> None:
    with elsewhere() as device:
        close(predicted(replace(model, net=deepcopy(model.net).to(device)), volume), predicted(model, volume))


def test_tiles_that_see_only_themselves_would_be_noticed(model: Model, volume: Path, monkeypatch) -> None:
    if isinstance(model.net.head, AdaptiveHead) and model.net.head.decoder == "vanilla":
        pytest.skip("finds nothing in these drawings")
    whole = predicted(model, volume)
    monkeypatch.setattr(predict, "FIXED_TILE", 64)
    monkeypatch.setattr(Survey, "take", lambda _: ())
    assert np.abs(predicted(model, volume) - whole).max() > 0.01


def test_each_plane_is_answered_as_if_it_were_alone(model: Model, volume: Path, tmp_path: Path) -> None:
    pixels = np.load(volume, allow_pickle=False)
    for z in range(2):
        np.save(tmp_path / "alone.npy", pixels[:, :, z : z + 1])
        assert np.array_equal(predicted(model, tmp_path / "alone.npy")[:, :, 0], predicted(model, volume)[:, :, z])


def test_a_tile_is_read_once_for_each_round(model: Model, volume: Path, monkeypatch) -> None:
    monkeypatch.setattr(predict, "FIXED_TILE", 64)
    with open_image(volume) as source:
        forward = predict.forward_of(model, predict_recipe())
        plan = predict.plan_for(model, source, predict_recipe(), "volume.npy")
        tiles = list(plan)
        calls: list[int] = []
        monkeypatch.setattr(forward, "_tally", counting(forward, calls))
        for tile in tiles:
            forward.look(source, plan, tile)
    assert len(calls) == len(tiles) * forward.rounds


def predict_recipe():
    from fieldmark.recipes import PredictRecipe

    return PredictRecipe()


def counting(forward: NetForward, calls: list[int]):
    own = forward._tally

    def tally(source, tile, seen):
        calls.append(tile.index)
        return own(source, tile, seen)

    return tally


def test_volumes_are_decoded_whole(tmp_path: Path, monkeypatch) -> None:
    stack = np.stack([draw_discs(70, 90, seed=z // 3).image for z in range(5)]).transpose(3, 0, 1, 2)[None]
    np.save(tmp_path / "stack.npy", stack)
    head = HeadConfig(kind="adaptive", decoder="mean")
    model = fitted(tmp_path / "fit", FitRecipe(family="flim-net", net={"arch": {"features": ARCH}}, head=head))
    whole = predicted(model, tmp_path / "stack.npy")
    monkeypatch.setattr(predict, "FIXED_TILE", 32)
    close(predicted(model, tmp_path / "stack.npy"), whole)
    assert whole.shape == (1, 2, 5, 70, 90)


def test_a_broken_fit_goes_on_to_the_same_head(tmp_path: Path) -> None:
    from fieldmark.checkpoint import load

    for folder, stop in (("whole", 0), ("broken", 3)):
        if stop:
            events = run_fit(drawn_job(tmp_path / folder, recipe("labelled")))
            list(islice(events, stop))
            events.close()  # type: ignore[attr-defined]
        list(run_fit(drawn_job(tmp_path / folder, recipe("labelled"))))
    (one, first), (two, second) = (load(tmp_path / name / "run" / "model") for name in ("whole", "broken"))
    assert one.config == two.config
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_background_may_be_named(tmp_path: Path) -> None:
    usual = fitted(tmp_path / "usual", recipe("mean", threshold="half"))
    named = fitted(tmp_path / "named", recipe("mean", threshold="half", background="disc"))
    head = named.net.head
    assert isinstance(head, AdaptiveHead)
    assert head.background == 1
    image = np.moveaxis(draw_discs(seed=3).image, -1, 0)[None, :, None]
    np.save(tmp_path / "image.npy", image)
    one, other = (predicted(model, tmp_path / "image.npy") for model in (usual, named))
    assert np.abs(one - other).max() > 0.1


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        ({"decoder": "mean", "background": "disk"}, NotFound, "Did you mean 'disc'"),
        ({"decoder": "mean", "level": 0}, BadInput, "level 0 has none.*head.level"),
        ({"decoder": "labelled", "level": 99}, BadInput, "levels are 0 to 2"),
    ],
)
def test_what_cannot_be_decoded_is_refused(tmp_path: Path, wanted: dict[str, object], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        list(run_fit(drawn_job(tmp_path, recipe(**wanted))))  # type: ignore[arg-type]


def test_vanilla_refuses_three_classes(tmp_path: Path) -> None:
    from dataclasses import replace

    from fieldmark.checkpoint import ClassSpec

    job = drawn_job(tmp_path, recipe("vanilla"))
    job.samples.classes = 3
    job = replace(job, classes=(*job.classes, ClassSpec(id=3, name="star", value=3)))
    with pytest.raises(BadInput, match=r"3 classes.*head\.decoder"):
        list(run_fit(job))


def test_other_heads_are_not_surveyed(tmp_path: Path, volume: Path, monkeypatch) -> None:
    model = fitted(tmp_path / "fit", FitRecipe(net=NET, head=HeadConfig(kind="logistic")))
    monkeypatch.setattr(NetForward, "_tally", None)
    with open_image(volume) as source:
        forward = predict.forward_of(model, predict_recipe())
        assert forward(source.read(Box.whole(source.shape))).shape == (1, 2, 2, 141, 203)
    predicted(model, volume)
