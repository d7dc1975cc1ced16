"""`fieldmark lr-find` on a small project."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
import yaml

from fieldmark.faces.cli import main
from fieldmark.testing.drawn import draw_discs
from fieldmark.testing.projects import draw_strokes
from fieldmark.testing.worker import use_fake_worker
from fieldmark.workbench import Workbench

SMALL = {
    "family": "unet",
    "net": {"filters": [4, 6]},
    "data": {"target": {"kind": "labels", "folder": "labels"}},
    "train": {"crop": [32, 32], "crops_per_epoch": 8, "batch_size": 2, "schedule": "cyclic"},
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    use_fake_worker(monkeypatch)
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for n in range(3):
        drawing = draw_discs(40, 48, seed=n)
        tifffile.imwrite(tmp_path / "images" / f"{n}.tif", drawing.image[..., 0])
        tifffile.imwrite(tmp_path / "labels" / f"{n}.tif", drawing.mask.astype(np.uint8))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(SMALL))
    run("init", "P", "--classes", "ground,disc")
    run("-C", "P", "add", "images")
    return tmp_path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    return ended.value.code or 0


def test_bounds_are_suggested_and_written(here, capsys):
    given = ("--config", "recipe.yaml", "--set", f"data.target.folder={here / 'labels'}")
    capsys.readouterr()
    assert run("-C", "P", "lr-find", *given, "--steps", 12, "--max-lr", 3, "--apply", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert 0 < values["base_lr"] < values["max_lr"] < 3
    written = yaml.safe_load((here / "recipe.yaml").read_text())
    assert written["train"]["lr"] == values["base_lr"]  # the rates are cyclic
    assert written["train"]["cycle"]["max_lr"] == values["max_lr"]
    assert written["train"]["crop"] == [32, 32]
    assert not (here / "P" / "models").exists()


HAND = """\
# Größe: what I know of it
family: unet   # ours
net: {filters: [4, 6]}
data:
  target: {kind: labels, folder: labels}
%s"""


@pytest.mark.parametrize(
    ("train", "cyclic"),
    [
        ("train:\n  lr: 1.0e-3   # a guess\n  crop: [32, 32]\n  crops_per_epoch: 8\n  batch_size: 2\n", False),
        ("train: {crop: [32, 32], crops_per_epoch: 8, batch_size: 2, cycle: {half_epochs: 3}}  # on a line", False),
        ("train:\n  crop: [32, 32]\n  crops_per_epoch: 8\n  batch_size: 2\n  schedule: cyclic\n", True),
    ],
)
def test_all_else_in_the_recipe_stays_its_comments_too(here, capsys, train, cyclic):
    before = HAND % train
    (here / "recipe.yaml").write_text(before, encoding="utf-8")
    given = ("--steps", 12, "--max-lr", 3, "--apply", "--json")
    capsys.readouterr()
    assert run("-C", "P", "lr-find", "--config", "recipe.yaml", *given) == 0
    values = json.loads(capsys.readouterr().out)
    after = (here / "recipe.yaml").read_text(encoding="utf-8")
    wanted = yaml.safe_load(before)
    wanted["train"]["lr"] = values["base_lr" if cyclic else "max_lr"]
    wanted["train"]["cycle"] = wanted["train"].get("cycle", {}) | {"max_lr": values["max_lr"]}
    assert yaml.safe_load(after) == wanted
    assert [line.partition("#")[2] for line in after.splitlines() if "#" in line] == [
        line.partition("#")[2] for line in before.splitlines() if "#" in line
    ]


@pytest.mark.parametrize("rates", [("train.lr=0.02",), ("train.lr=2e-2", "train.cycle={max_lr: 0.001, gamma: 0.5}")])
def test_rates_that_the_sweep_replaces_are_not_in_its_way(here, capsys, rates):
    """A rate above the end of the cycles, whose default nobody typed, is refused by a fit alone."""
    given = ("--config", "recipe.yaml", *(part for rate in rates for part in ("--set", rate)))
    capsys.readouterr()
    assert run("-C", "P", "fit", *given) == 1
    assert "must be more than lr 0.02" in capsys.readouterr().err
    assert run("-C", "P", "lr-find", *given, "--steps", 12, "--max-lr", 3, "--apply", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert run("-C", "P", "lr-find", "--config", "recipe.yaml", "--steps", 12, "--max-lr", 3, "--json") == 0
    assert json.loads(capsys.readouterr().out)["max_lr"] == values["max_lr"]  # the sweep's rates are its own
    assert yaml.safe_load((here / "recipe.yaml").read_text())["train"]["cycle"]["max_lr"] == values["max_lr"]


@pytest.mark.parametrize("wrong", ["train.lr=-1", "train.lr=fast", "train.cycle=[1]", "train.cycle.max_lr=0"])
def test_what_is_no_rate_is_refused_by_its_key(here, capsys, wrong):
    capsys.readouterr()
    assert run("-C", "P", "lr-find", "--config", "recipe.yaml", "--set", wrong, "--steps", 12) == 1
    assert f"{wrong.partition('=')[0]}: " in capsys.readouterr().err


def test_rates_are_written_where_the_family_looks_for_them(here, capsys):
    small = {"family": "autoencoder", "descend": {"crop": 32, "crops_per_epoch": 8, "batch_size": 2}}
    (here / "recipe.yaml").write_text(yaml.safe_dump(small))
    capsys.readouterr()
    assert run("-C", "P", "lr-find", "--config", "recipe.yaml", "--steps", 12, "--apply", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    written = yaml.safe_load((here / "recipe.yaml").read_text())
    rates = {"lr": values["max_lr"], "cycle": {"max_lr": values["max_lr"]}}
    assert written == small | {"descend": small["descend"] | rates}


def test_a_head_is_swept_on_features_that_are_learned_first(here, capsys):
    """A dense classifier on FLIM: its layers are solved before there is anything to descend on."""
    with Workbench.open(here / "P") as bench:
        ground, disc = (klass.id for klass in bench.labels.classes())
        for n, record in enumerate(bench.collection.all()):
            bench.labels.set_answer(record.id, (ground, disc)[n % 2], True, "tester")
            draw_strokes(bench, record.name, seed=n, height=40, width=48)
    net = {"branches": [{"layers": [{"kernel_size": 3, "out_channels": 4, "pool": "max"}]}], "scales": []}
    own = {"family": "flim", "net": net, "head": {"kind": "none"}, "image_head": {"kind": "dense"}}
    (here / "recipe.yaml").write_text(yaml.safe_dump(own))
    capsys.readouterr()
    assert run("-C", "P", "lr-find", "--config", "recipe.yaml", "--steps", 12, "--apply") == 0, capsys.readouterr().err
    told = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in told[:2]] == ["flim-layers", "lr-find"]
    losses = [float(line.partition("loss=")[2]) for line in told if line.startswith("lr-find")]
    assert losses[-1] < 0.9 * losses[0]
    assert yaml.safe_load((here / "recipe.yaml").read_text())["image_head"]["descend"]["lr"] > 1e-3


def test_a_sweep_is_no_fit_that_goes_on(here, capsys):
    assert run("-C", "P", "lr-find", "unet", "--steps", 12) == 1
    (swept,) = (here / "P" / "runs").iterdir()
    assert run("-C", "P", "fit", "--resume", swept.name) == 1
    assert f"Run {swept.name} is no fit that can go on" in capsys.readouterr().err


def test_what_cannot_be_fitted_is_said(here, capsys):
    assert run("-C", "P", "lr-find", "unet", "--steps", 12) == 1  # no strokes, and no targets are named
    assert "nothing to learn from" in capsys.readouterr().err


def test_a_finder_file_of_microdl_needs_its_frames(here, capsys):
    rates = {"lr_find": True, "base_lr": 1e-3, "max_lr": 1.0, "max_epochs": 1}
    (here / "finder.yml").write_text(
        yaml.safe_dump(
            {
                "dataset": {"data_dir": "nowhere"},
                "trainer": {"model_dir": "models", "callbacks": {"LearningRateScheduler": rates}},
                "network": {"class": "UNet2D"},
            }
        )
    )
    assert run("lr-find", "--config", "finder.yml", "--apply") == 2
    capsys.readouterr()
    assert run("lr-find", "--config", "finder.yml") == 1
    assert "Traceback" not in capsys.readouterr().err


def test_wrong_sweeps_are_refused(here, capsys):
    assert run("-C", "P", "lr-find", "unet", "--base-lr", 2, "--max-lr", 1) == 1
    assert "must be more than base_lr" in capsys.readouterr().err
    assert run("-C", "P", "lr-find", "unet", "--apply") == 2
