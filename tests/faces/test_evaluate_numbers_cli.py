"""`fieldmark evaluate` for numbers of whole images: of a model, and of tables that `predict` wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import r2_score

from fieldmark.checkpoint import header_of
from fieldmark.testing.worker import use_fake_worker
from fieldmark.workbench import Workbench
from tests.faces.looking import table

pytestmark = pytest.mark.usefixtures("worker_here")

COUNT = 20
FAST = (
    "net.filters=[4,8]",
    "net.hidden=[8]",
    "train.epochs=6",
    "train.lr=0.01",
    "data.target.kind=numbers",
    "data.split={train: 0.5, validation: 0.2, test: 0.3}",
)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A project of noise whose mean and spread are to be told, the table of them, and the model `dose`."""
    folder = tmp_path_factory.mktemp("numbers")
    (folder / "images").mkdir()
    lines = ["image,mean,spread"]
    for number in range(COUNT):
        rng = np.random.default_rng(number)
        mean, spread = rng.uniform(80, 160), rng.uniform(5, 30)
        pixels = np.clip(rng.normal(mean, spread, (1, 1, 1, 40, 48)), 0, 255).astype(np.uint8)
        np.save(folder / "images" / f"i{number:02}.npy", pixels)
        lines.append(f"i{number:02},{mean:.4f},{'' if number == 3 else f'{spread:.4f}'}")
    (folder / "true.csv").write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        use_fake_worker(patch)
        with Workbench.init(folder / "project") as bench:
            bench.add([folder / "images"])
            how = (*FAST, f"data.target.table={folder / 'true.csv'}")
            list(bench.fit("image-to-numbers", name="dose", overrides=how)[1])
    return folder


def columns(path: Path) -> dict[str, dict[str, str]]:
    return {row["image"].removesuffix(".npy"): row for row in table(path)}


def test_a_model_is_scored_on_images_that_taught_nothing(cli, fitted):
    status, out, err = cli("-C", fitted / "project", "evaluate", "dose", "--truth", fitted / "true.csv", "--json")
    assert status == 0, err
    found = json.loads(out)
    header = header_of(fitted / "project" / "models" / "dose")
    held = sorted({f"i{n:02}.npy" for n in range(COUNT)} - {one.image for one in header.taught})
    assert found["images"] == len(held) == 6
    assert found["taught"] == sorted(one.image for one in header.taught)
    # by hand: what predict says of these images, against the table
    assert cli("-C", fitted / "project", "predict", "dose", "--out", fitted / "out", "--format", "csv")[0] == 0
    said, right = columns(fitted / "out" / "answers.csv"), columns(fitted / "true.csv")
    names = [name.removesuffix(".npy") for name in held]
    for number in ("mean", "spread"):
        known = [name for name in names if right[name][number]]
        ours, true = (np.array([float(rows[name][number]) for name in known]) for rows in (said, right))
        own = found["numbers"][number]
        assert own["images"] == len(known)
        assert own["mae"] == pytest.approx(np.abs(ours - true).mean(), rel=1e-4)
        assert own["r2"] == pytest.approx(r2_score(true, ours), rel=1e-4)
        taught = [float(right[one.image.removesuffix(".npy")][number] or "nan") for one in header.taught]
        mean = np.nanmean(taught)
        assert found["baselines"]["mean"][number]["mse"] == pytest.approx(((true - mean) ** 2).mean(), rel=1e-4)
        assert found["baselines"]["mean"][number]["corr"] is None
        # mean and spread of the pixels are the numbers, but for the noise and for values that were cut
        assert found["baselines"]["linear"][number]["r2"] > 0.95
    assert found["numbers"]["all"]["mae"] == pytest.approx(
        (found["numbers"]["mean"]["mae"] + found["numbers"]["spread"]["mae"]) / 2
    )
    report = Path(found["report"])
    assert "true mean" in report.read_text()
    beside = columns(report.with_name("report-numbers.csv"))
    assert {name for name, row in beside.items() if row["taught"] == "no"} == set(names)
    assert json.loads(report.with_suffix(".json").read_text())["numbers"] == found["numbers"]


def test_without_a_table_it_is_the_one_that_taught(cli, fitted):
    status, out, err = cli("-C", fitted / "project", "evaluate", "dose", "--metrics", "mae,r2")
    assert status == 0, err
    assert f"The truth is {fitted / 'true.csv'}" in err
    assert out.split("\n")[0].split() == ["method", "number", "mae", "r2"]
    for method in ("dose", "mean", "linear"):
        assert any(line.split()[:2] == [method, "spread"] for line in out.splitlines())


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_table_of_answers_is_scored_without_a_project(cli, fitted, tmp_path, monkeypatch, form):
    answers = tmp_path / f"answers.{form}"
    rng = np.random.default_rng(0)
    right = columns(fitted / "true.csv")
    said = {name: float(row["mean"]) + rng.normal(0, 5) for name, row in list(right.items())[:12]}
    if form == "csv":
        rows = (f"{name}.npy,{value},0.5" for name, value in said.items())
        answers.write_text("image,mean,other\n" + "\n".join(rows) + "\n")
    else:
        listed = [{"image": f"{name}.npy", "numbers": {"mean": value, "other": 0.5}} for name, value in said.items()]
        answers.write_text(json.dumps(listed))
    monkeypatch.chdir(tmp_path)
    status, out, err = cli("evaluate", answers, "--truth", fitted / "true.csv", "--json")
    assert status == 0, err
    found = json.loads(out)
    true = np.array([float(right[name]["mean"]) for name in said])
    ours = np.array(list(said.values()))
    assert list(found["numbers"]) == ["mean"]
    assert found["numbers"]["mean"]["r2"] == pytest.approx(r2_score(true, ours))
    assert found["numbers"]["mean"]["corr"] == pytest.approx(np.corrcoef(true, ours)[0, 1])
    assert found["baselines"]["own mean"]["mean"]["r2"] == pytest.approx(0, abs=1e-9)
    assert any("does not say which images taught" in note for note in found["notes"])
    assert any("has no column other" in note for note in found["notes"])
    assert any("Rows without an image: i12" in note for note in found["notes"])
    assert (tmp_path / "answers-report.html").is_file()


def test_answers_are_scored_without_torch(fitted, tmp_path):
    answers = tmp_path / "answers.csv"
    answers.write_text((fitted / "true.csv").read_text().replace(",\n", ",1.5\n"))
    code = (
        "import sys\nfrom fieldmark.faces.cli import main\n"
        f"try:\n    main(['evaluate', {str(answers)!r}, '--truth', {str(fitted / 'true.csv')!r}])\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "1.000" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--truth", "none.csv"), "none.csv"),
        (("--truth", "TRUE", "--metrics", "ssim"), "ssim"),
        (("--truth", "TRUE", "--instances"), "instances belongs to pixels"),
        (("--truth", "TRUE", "--orientations", "xz"), "orientations belongs to pixels"),
        (("--truth", "TRUE", "--mask", "."), "mask belongs to pixels"),
        (("--truth", "ODD"), "has no column 'mean'. Did you mean 'maen'?"),
    ],
)
def test_what_cannot_be_scored_is_said(cli, fitted, tmp_path, words, told):
    (tmp_path / "odd.csv").write_text("image,maen\ni01,3\n")
    places = {"TRUE": fitted / "true.csv", "ODD": tmp_path / "odd.csv"}
    asked = [places.get(word, word) for word in words]
    for model in ("dose", fitted / "true.csv"):
        status, _, err = cli("-C", fitted / "project", "evaluate", model, *asked)
        assert status == 1
        assert told in err
    status, _, err = cli("evaluate", fitted / "true.csv", "--truth", fitted / "true.csv")
    assert status == 1
    assert "has no number for i03" in err, "an empty cell of what was predicted"
    status, _, err = cli("evaluate", fitted / "true.csv")
    assert status == 1
    assert "Name a table with --truth" in err
