"""Commands and their answers, with jobs in the test's own process."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fieldmark.checkpoint import load, save
from fieldmark.faces.cli.show import follow, harmless
from fieldmark.images import encode_png
from fieldmark.store import database
from fieldmark.testing.projects import draw_strokes, drawn_images, drawn_masks, drawn_project
from fieldmark.testing.worker import use_fake_worker
from fieldmark.workbench import Workbench, project

pytestmark = pytest.mark.usefixtures("worker_here")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A project of three drawn images, two of them taught, with masks beside and the model `tiny`."""
    folder = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        use_fake_worker(patch)
        drawn_masks(folder / "truth", images=3)
        with Workbench.open(drawn_project(folder, images=3, taught=2)) as bench:
            list(bench.fit("flim", name="tiny")[1])
    return folder


def test_the_whole_path(cli, tmp_path):
    project = tmp_path / "p"
    drawn_images(tmp_path / "images", images=2)
    assert cli("init", project, "--classes", "ground, disc")[0] == 0
    status, out, _ = cli("-C", project, "add", tmp_path / "images", "--json")
    assert status == 0
    assert json.loads(out)["added"] == ["drawn0.png", "drawn1.png"]
    with Workbench.open(project) as bench:
        draw_strokes(bench, "drawn0.png")
    status, out, err = cli("-C", project, "fit", "flim", "--name", "m", "--set", "head.kind=logistic", "--json")
    assert status == 0
    values = json.loads(out)
    assert values["model"] == "m"
    assert (Path(values["folder"]) / "model.json").is_file()
    assert "pixel-head 1/1" in err
    status, out, _ = cli(
        "-C", project, "predict", "m", "--out", tmp_path / "o", "--format", "png", "--propagate", "none"
    )
    assert (status, out) == (0, f"Wrote predictions of 2 images into {tmp_path / 'o'}.\n")
    assert sorted(path.name for path in (tmp_path / "o").glob("*.png")) == ["drawn0.png", "drawn1.png"]

    status, out, _ = cli("-C", project, "status", "--json")
    values = json.loads(out)
    assert (values["images"], values["strokes"], values["answers"], values["models"]) == (2, 2, 0, ["m"])
    assert [(item["name"], item["strokes"], item["pixels"]) for item in values["classes"]] == [
        ("ground", 1, 60),
        ("disc", 1, 60),
    ]
    assert len(values["runs"]) == 1


def test_evaluate_answers_as_promised(cli, fitted):
    status, out, err = cli("-C", fitted / "project", "evaluate", "tiny", "--truth", fitted / "truth", "--json")
    values = json.loads(out)
    assert status == 0
    assert values["images"] == 1
    assert sorted(values["taught"]) == ["drawn0.png", "drawn1.png"]
    assert list(values["classes"]) == ["ground", "disc"]
    metrics = {"dice", "iou", "precision", "recall", "weighted_fbeta", "mae"}
    assert set(values["classes"]["disc"]) == metrics | {f"{name}_interval" for name in metrics}
    assert values["classes"]["disc"]["dice"] > 0.8
    assert values["classes"]["disc"]["dice_interval"] is None  # below five images
    assert {"majority", "random", "forest"} <= set(values["baselines"])
    assert Path(values["report"]).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "Scoring 1 images" in err


def test_evaluate_writes_no_report_among_the_images_or_by_a_models_word(cli, fitted, tmp_path):
    from dataclasses import replace

    from fieldmark.checkpoint import load, save

    answer = ("-C", fitted / "project", "evaluate", "tiny", "--truth", fitted / "truth")
    status, _, err = cli(*answer, "--report", fitted / "images" / "r.html")
    assert status == 1
    assert "holds images of the project" in err
    header, weights = load(fitted / "project" / "models" / "tiny")
    (tmp_path / "outside").mkdir()
    save(tmp_path / "m", replace(header, details={"run": str(tmp_path / "outside")}), weights)
    assert cli("-C", fitted / "project", "evaluate", tmp_path / "m", "--truth", fitted / "truth")[0] == 0
    assert list((tmp_path / "outside").iterdir()) == []


def test_an_image_whose_file_is_gone_is_left_out_and_the_rest_goes_on(cli, fitted, tmp_path):
    shutil.copytree(fitted, tmp_path / "copy")
    at = ("-C", tmp_path / "copy" / "project")
    with Workbench.open(at[1]) as bench:
        for record in bench.collection.all():
            bench.collection.relocate(record.id, tmp_path / "copy" / "images" / record.name)
    (tmp_path / "copy" / "images" / "drawn2.png").unlink()
    tried = [
        ("fit", "flim", "--name", "new", "--set", "head.kind=logistic"),
        ("predict", "tiny", "--out", tmp_path / "o", "--format", "png"),
    ]
    for words in tried:
        status, _, err = cli(*at, *words)
        assert status == 1
        assert "drawn2.png is not there any more" in err
        assert "fieldmark exclude IMAGE" in err
    assert not list((tmp_path / "o").glob("*"))  # told before anything was predicted
    assert cli(*at, "exclude", "drawn2.png", "--why", "lost")[:2] == (0, "Left out drawn2.png.\n")
    assert json.loads(cli(*at, "status", "--json")[1])["excluded"] == 1
    assert [cli(*at, *words)[0] for words in tried] == [0, 0]
    assert cli(*at, "exclude", "drawn2.png", "--why", "")[0] == 0
    assert json.loads(cli(*at, "status", "--json")[1])["excluded"] == 1  # no reason is a reason too
    assert json.loads(cli(*at, "exclude", "drawn2.png", "--include", "--json")[1]) == {"included": ["drawn2.png"]}
    assert json.loads(cli(*at, "status", "--json")[1])["excluded"] == 0
    status, _, err = cli(*at, "exclude", "drawn1.png", "drawn9.png")
    assert status == 1
    assert "'drawn9.png'" in err
    assert json.loads(cli(*at, "status", "--json")[1])["excluded"] == 0


def test_undo_and_redo_say_what_they_did(cli, tmp_path):
    at = ("-C", drawn_project(tmp_path, images=1, taught=1))

    def strokes() -> int:
        return json.loads(cli(*at, "status", "--json")[1])["strokes"]

    def undo_as_tester(*options: str) -> tuple[int, str, str]:
        return cli(*at, "undo", "--anybody", *options)

    assert strokes() == 2
    status, out, _ = undo_as_tester()
    assert (status, out) == (0, "undo: drawn0.png: draw disc (tester)\n")
    values = json.loads(undo_as_tester("--json")[1])
    assert (values["summary"], values["author"]) == ("undo: drawn0.png: draw ground", "tester")
    assert values["undoes"] < values["entry"]
    assert strokes() == 0
    assert cli(*at, "redo", "--anybody")[1] == "redo: drawn0.png: draw ground (tester)\n"
    assert strokes() == 1


def test_undo_leaves_what_others_did_and_says_when_there_is_nothing(cli, tmp_path):
    at = ("-C", drawn_project(tmp_path, images=1, taught=1))
    status, out, err = cli(*at, "undo", "--json")  # the tester's strokes are newer, but the user added the image
    assert status == 1
    assert json.loads(out)["error"]["code"] == "conflict"
    assert "in use by 2 strokes" in err
    assert json.loads(cli(*at, "status", "--json")[1])["strokes"] == 2

    status, out, err = cli(*at, "redo", "--json")
    assert status == 1
    assert json.loads(out)["error"]["code"] == "bad-input"
    assert "nothing to redo for" in err


def test_light_is_shown_by_its_shape_and_range(cli, fitted, tmp_path):
    """Thousands of numbers would hide all else; those of a polynomial, and of other steps, stay."""
    header, weights = load(fitted / "project" / "models" / "tiny")
    grid = np.random.default_rng(0).uniform(0.5, 1.5, (20, 30)).round(3)
    light = {"grid": grid.tolist(), "v": np.linspace(-1, 1, 20).tolist(), "u": np.linspace(-1, 1, 30).tolist()}
    surfaces = [light, {"coefficients": np.eye(6).tolist()}, None]
    steps = [{"step": "flat-field", "surfaces": surfaces}, *header.preparation]
    save(tmp_path / "lit", replace(header, preparation=steps), weights)
    status, out, _ = cli("models", "show", tmp_path / "lit")
    said = json.loads(out)
    assert status == 0
    assert said["preparation"][0]["surfaces"][0] == {
        "grid": {"shape": [20, 30], "least": grid.min(), "largest": grid.max()},
        "v": light["v"],
        "u": light["u"],
    }
    assert said["preparation"][0]["surfaces"][1:] == surfaces[1:]
    assert said | {"preparation": steps} == json.loads(json.dumps(header.to_json() | {"preparation": steps}))


def test_models_and_runs(cli, fitted, tmp_path):
    at = ("-C", fitted / "project")
    (row,) = json.loads(cli(*at, "models", "list", "--json")[1])["models"]
    assert row == {"model": "tiny", "family": "flim", "classes": "ground, disc", "taught_by": 2}
    families = json.loads(cli(*at, "models", "list", "--families", "--json")[1])["models"]
    assert {"flim", "autoencoder"} <= {item["family"] for item in families}
    assert json.loads(cli(*at, "models", "show", "tiny")[1])["family"] == "flim"
    assert cli(*at, "models", "export", "tiny", tmp_path / "copy")[0] == 0
    assert (tmp_path / "copy" / "model.json").is_file()
    assert cli(*at, "models", "export", "tiny", tmp_path / "copy")[0] == 1
    runs = json.loads(cli(*at, "runs", "list", "--json")[1])["runs"]
    assert [(item["family"], item["model"], item["status"]) for item in runs] == [("flim", "tiny", "done")]
    shown = json.loads(cli(*at, "runs", "show", runs[0]["id"])[1])
    assert {row["phase"] for row in shown["history"]} >= {"flim-layers", "pixel-head"}


def test_pruning_keeps_what_can_be_resumed(cli, tmp_path):
    from dataclasses import replace

    from fieldmark.workbench.runs import new_run, write_run

    project = drawn_project(tmp_path, images=1)
    with Workbench.open(project) as bench:
        for status in ("done", "stopped", "failed", "done"):
            write_run(replace(new_run(bench.project, "flim", "m"), status=status))
    assert cli("-C", project, "runs", "prune", "--keep", "1")[0] == 0
    left = json.loads(cli("-C", project, "runs", "list", "--json")[1])["runs"]
    assert sorted(item["status"] for item in left) == ["done", "stopped"]


def test_doctor_with_and_without_a_project(cli, fitted, tmp_path):
    with_project = json.loads(cli("-C", fitted / "project", "doctor", "--json")[1])["findings"]
    assert {"Python", "torch", "free disk", "database", "images"} <= {item["what"] for item in with_project}
    assert all(item["ok"] for item in with_project if item["what"] in ("database", "images"))
    without = json.loads(cli("-C", tmp_path, "doctor", "--json")[1])["findings"]
    assert any(item["what"] == "project" and "none" in item["found"] for item in without)


def test_usage_errors_are_two(cli, tmp_path):
    assert cli("fitt")[0] == 2
    assert "Did you mean 'fit'?" in cli("fitt")[2]
    assert cli("-C", tmp_path, "predict", "m")[0] == 2  # no --out
    assert cli("-C", tmp_path, "fit", "flim", "--resume", "x")[0] == 2
    assert cli("-C", tmp_path, "predict", "m", "--out", "o", "--format", "bmp")[0] == 2


def test_underscores_are_hyphens(cli, tmp_path):
    status, _, err = cli("-C", tmp_path, "labels", "import", "x", "--kind", "markers", "--label_offset", "1")
    assert status == 1
    assert "holds no project" in err


def test_a_table_of_frames_without_a_project_wants_a_place(cli, tmp_path):
    (tmp_path / "stack").mkdir()
    (tmp_path / "stack" / "im_c000_z000_t000_p000.png").write_bytes(encode_png(np.zeros((4, 4), np.uint8)))
    status, _, err = cli("-C", tmp_path, "frames", tmp_path / "stack")
    assert status == 1
    assert "holds no project" in err
    assert err.rstrip().endswith("Or say where the table goes: --out FOLDER.")


def test_errors_are_json_too(cli, tmp_path):
    status, out, err = cli("-C", tmp_path, "status", "--json")
    assert status == 1
    assert json.loads(out)["error"]["code"] == "no-project"
    assert err.startswith("Error: ")


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda p: (p / "fieldmark.toml").write_text("name = "), "cannot be parsed"),
        (lambda p: (p / "fieldmark.toml").write_text('name = "x"\nschema = 99\n'), "project schema 99"),
        (lambda p: (p / "fieldmark.toml").unlink(), "holds no project"),
        (lambda p: (p / "fieldmark.db").write_bytes(b"no database" * 100), "fieldmark.db"),
        (lambda p: (p / "fieldmark.db").unlink(), "fieldmark.db"),
    ],
)
def test_damaged_projects_are_one_line(cli, tmp_path, prepare, words):
    assert cli("init", tmp_path / "p")[0] == 0
    prepare(tmp_path / "p")
    status, _, err = cli("-C", tmp_path / "p", "status")
    assert status == 1
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_a_project_that_cannot_be_made_leaves_nothing(cli, tmp_path):
    status, _, err = cli("init", tmp_path / "p", "--classes", "a,a")
    assert (status, (tmp_path / "p").exists()) == (1, False)
    assert "'a'" in err
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine")
    assert cli("init", tmp_path / "there", "--classes", "a,a")[0] == 1
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["mine.txt"]
    (tmp_path / "file").write_text("x")
    assert cli("init", tmp_path / "file")[0] == 1
    assert cli("init", tmp_path / "there", "--classes", "a")[0] == 0
    assert cli("init", tmp_path / "there")[0] == 1


@pytest.mark.parametrize("pages", [1, 5, None])
def test_a_project_on_a_full_disk_leaves_nothing(cli, tmp_path, monkeypatch, pages):
    """While the database is made, or, where there is room for its `pages`, when the project is written."""
    if pages is not None:
        monkeypatch.setattr(database, "_PRAGMAS", (*database._PRAGMAS, f"max_page_count = {pages}"))

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(project, "write_atomic", full)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "fieldmark.db.old").write_text("mine")
    for folder in ("there", "new/deep"):
        status, _, err = cli("init", tmp_path / folder, "--classes", "a,b")
        assert status == 1
        assert "disk is full" in err or "no space is left" in err
        assert len(err.strip().splitlines()) == 1
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "there",
        "there/fieldmark.db.old",
    ]
    monkeypatch.undo()
    assert cli("init", tmp_path / "there", "--classes", "a,b")[0] == 0


def test_odd_project_names_survive(cli, tmp_path):
    name = 'a "quoted" \\ name\nwith ä and \x07'
    assert cli("init", tmp_path / "p", "--name", name)[0] == 0
    assert json.loads(cli("-C", tmp_path / "p", "status", "--json")[1])["project"] == name


@pytest.mark.parametrize("name", ["a/b", "../up", ".hidden", "a\\b", "x" * 101, "nul\0", "end. "])
def test_model_names_that_are_no_folder_names(cli, fitted, name):
    before = sorted((fitted / "project" / "runs").iterdir())
    status, _, err = cli("-C", fitted / "project", "fit", "flim", "--name", name)
    assert status == 1
    assert "cannot name a model" in err
    assert sorted((fitted / "project" / "runs").iterdir()) == before


def test_nothing_to_work_on_is_said_plainly(cli, tmp_path):
    project = tmp_path / "p"
    cli("init", project, "--classes", "a,b")
    status, _, err = cli("-C", project, "fit", "flim")
    assert (status, "has no images" in err) == (1, True)
    (tmp_path / "images").mkdir()
    status, _, err = cli("-C", project, "add", tmp_path / "images")
    assert status == 1
    drawn_images(tmp_path / "images", images=1)
    assert cli("-C", project, "add", tmp_path / "images")[0] == 0
    status, _, err = cli("-C", project, "fit", "flim")
    assert status == 1
    assert "FLIM learns from strokes" in err
    assert not (project / "models").exists()


def test_a_model_without_labels_learns_but_gives_no_classes(cli, tmp_path):
    project = drawn_project(tmp_path, images=1, taught=0)
    small = ["--set", "net={width: 4, latent: 4}", "--set", "descend.epochs=1", "--set", "descend.crops_per_epoch=8"]
    assert cli("-C", project, "fit", "autoencoder", *small)[0] == 0
    status, _, err = cli("-C", project, "predict", "autoencoder", "--out", tmp_path / "out")
    assert status == 1
    assert "gives no classes: it was fitted without labels" in err
    assert "head.kind=forest" in err
    assert not (tmp_path / "out").exists()


def test_all_labels_erased_is_nothing_labelled(cli, tmp_path):
    project = drawn_project(tmp_path, images=1)
    with Workbench.open(project) as bench:
        from fieldmark.labels import Runs

        everything = np.column_stack([np.arange(61), np.zeros(61, int), np.full(61, 75)])
        bench.labels.draw(bench.collection.all()[0].id, None, Runs(everything), "tester")
    status, _, err = cli("-C", project, "fit", "flim")
    assert status == 1
    assert "FLIM learns from strokes" in err


def test_images_of_other_channels_stop_a_fit_by_name(cli, tmp_path):
    project = drawn_project(tmp_path, images=1)
    (tmp_path / "gray.png").write_bytes(encode_png(np.zeros((20, 20), np.uint8)))
    assert cli("-C", project, "add", tmp_path / "gray.png")[0] == 0
    status, _, err = cli("-C", project, "fit", "flim")
    assert status == 1
    assert "3 channels: drawn0.png; 1 channel: gray.png." in err


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are a Linux thing")
def test_names_that_would_steer_a_terminal_are_shown_harmless(cli, tmp_path):
    project = drawn_project(tmp_path, images=1)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "red\x1b[31m.png").write_bytes(b"no png")
    status, out, err = cli("-C", project, "add", tmp_path / "odd")
    assert status == 1
    assert "\x1b" not in out + err
    assert r"red\x1b[31m.png" in err
    assert harmless("half \udcff") == r"half \udcff"


def test_a_bar_has_one_line_for_each_phase(monkeypatch):
    from io import StringIO

    from fieldmark.core.events import Event

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    monkeypatch.setenv("TERM", "dumb")
    follow(
        iter([Event("layers", n, 3, message="[red]") for n in (1, 2, 3)] + [Event("note", 0, 0, message="[b]hello")])
    )
    assert "[b]hello" in screen.getvalue()
    assert screen.getvalue().count("3/3") == 1


def test_events_are_closed_when_following_fails():
    closed = []

    def events():
        from fieldmark.core.events import Event

        try:
            yield Event("a", 1, 2)
            raise KeyboardInterrupt
        finally:
            closed.append(True)

    with pytest.raises(KeyboardInterrupt):
        follow(events())
    assert closed == [True]
