"""Every benchmark is listed, states its claim and its peer, and rows compare the right way round."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from benchmarks.machine import machine
from benchmarks.processes import run_module, tree_bytes
from benchmarks.rows import Row, interleaved
from benchmarks.run import BENCHMARKS, section, without

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
FILES = sorted(FOLDER.glob("bench_*.py"))


def test_every_benchmark_is_listed() -> None:
    assert set(BENCHMARKS.values()) == {f"benchmarks.{file.stem}" for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_benchmark_states_claim_peer_and_measure(file: Path) -> None:
    tree = ast.parse(file.read_text())
    assigned = {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    assert {"CLAIM", "PEER"} <= assigned
    assert "measure" in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}


def test_a_ratio_above_one_means_ours_is_better() -> None:
    assert Row("seconds", ours=1.0, peer=3.0, unit="s").ratio == 3.0
    assert Row("Dice", ours=0.9, peer=0.45, unit="", more_is_better=True).ratio == 2.0
    assert Row("alone", ours=1.0, peer=None, unit="s").ratio is None


def test_actions_take_turns() -> None:
    order: list[str] = []
    taken = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=2)
    assert order == ["a", "b", "a", "b"]
    assert {name: len(values) for name, values in taken.items()} == {"a": 2, "b": 2}


def test_a_section_is_a_table() -> None:
    class Module:
        CLAIM = "It is fast."
        PEER = "a snail."

    text = section("speed", Module, [Row("walk", 1.0, 2.0, "s", spread="n=1")])  # type: ignore[arg-type]
    assert "| walk | 1 s | 2 s | 2.00 | n=1 |" in text
    assert "It is fast." in text


def test_a_run_takes_the_place_of_what_the_same_claims_said() -> None:
    kept = "# Results\n\nWhat counts.\n\n## By hand\n\n| a |\n\n## Day 1\n\nmachine\n\n### walk\n\nfast\n\n"
    gone = "### run\n\nfaster\n\n"
    assert without(kept + gone + "## Day 2\n\nother machine\n\n" + gone, ["run"]) == kept
    assert without(kept + gone, ["sprint"]) == kept + gone


def test_the_machine_is_described_without_its_name() -> None:
    import platform

    assert "cores" in machine()
    assert platform.node() not in machine()


def test_memory_of_a_finished_process_is_nothing() -> None:
    assert tree_bytes(2**22 + 1) == 0


def test_a_failing_process_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no_such_module"):
        run_module("no_such_module")


def test_label_writes_can_be_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from benchmarks import bench_labels

    monkeypatch.setattr(bench_labels, "STROKES", 3)
    monkeypatch.chdir(tmp_path)
    rows = bench_labels.measure()
    assert len(rows) == 2 * len(bench_labels.SIDES)
    assert all(row.ours > 0 and row.peer for row in rows)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("case", "spatial"), [("160", 2), ("volume", 3)])
def test_a_tiled_case_can_be_measured(case: str, spatial: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from benchmarks import bench_tiled

    monkeypatch.setattr(bench_tiled, "VOLUME", (5, 40, 48))
    monkeypatch.setitem(bench_tiled.NETS, spatial, {"dims": str(spatial), "filters": [4, 8]})
    monkeypatch.setitem(bench_tiled.LESSONS, spatial, {"epochs": 1, "crops_per_epoch": 2, "crop": (32, 32), "depth": 4})
    for who in ("image", "model", "ours", "peer"):
        assert bench_tiled.main([who, case, "fp32", str(tmp_path)]) == 0
    assert bench_tiled._agreement(tmp_path, case, ("ours", "fp32"), ("peer", "fp32")) > 0.999
    assert (tmp_path / f"ours-{case}-fp32.ome.zarr").is_dir()


def test_training_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import bench_training

    for name, value in (("BATCH", 2), ("IMAGES", 2), ("SIDE", 64), ("SETTLE", 0.05)):
        monkeypatch.setattr(bench_training, name, value)
    rows = bench_training.measure(cases=((32, "32-true"),), epochs=2, filters=[4, 8])
    assert len(rows) == 1
    assert rows[0].ours > 0
    assert rows[0].peer


@pytest.mark.parametrize("share", [0.01, 0.05, 1.0])
def test_strokes_stay_in_their_class_and_reach_their_share(share: float) -> None:
    from benchmarks.microscopy_data import paint

    truth = np.zeros((90, 110), np.int64)
    truth[20:50, 30:80] = 1
    painted = paint(truth, share, seed=3)
    assert (painted > 0).sum() == round(share * truth.size)
    assert set(truth[painted > 0]) == {0, 1}
    for stroke in np.unique(painted[painted > 0])[:20]:
        assert len(np.unique(truth[painted == stroke])) == 1
    assert np.array_equal(painted, paint(truth, share, seed=3))
    assert share == 1.0 or not np.array_equal(painted, paint(truth, share, seed=4))


def test_preparation_can_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import bench_prepare

    monkeypatch.setattr(bench_prepare, "TILE", 64)
    monkeypatch.setattr(bench_prepare, "STEP", 48)
    monkeypatch.setattr(bench_prepare, "BLOCK", 8)
    bench_prepare.draw(tmp_path, 6, 224)
    assert bench_prepare.one_case("ours", tmp_path)["cpu"] > 0
    assert bench_prepare.one_case("peer", tmp_path)["cpu"] > 0
    told = bench_prepare.compare(tmp_path)
    same, _, every = told.split(" tiles")[0].rpartition(", ")[2].split()
    assert same == every != "0", told
    assert told.startswith(("masks agree in 100", "masks agree in 99.9")), told


def test_tasks_are_read_right(tmp_path: Path) -> None:
    from benchmarks.bench_strokes import plane, tasks

    coins = next(tasks(tmp_path))
    marked = [name for name in coins.names() if coins.strokes(name) is not None]
    assert 0 < len(marked) < len(coins.names())
    strokes = coins.strokes(marked[0])
    assert strokes is not None
    assert strokes.shape == coins.pixels(marked[0]).shape[:2]
    everything = {name: np.full(coins.pixels(name).shape[:2], 2) for name in coins.names()}
    perfect = {name: plane(coins.truth / f"{name}.png")[0] for name in coins.names()}
    assert coins.dice(everything) < 0.9
    assert coins.dice(perfect) == 1.0
