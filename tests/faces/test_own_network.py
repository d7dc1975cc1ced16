"""A network of the user's own, as the manual shows it: fitted by name, refused where only a file names it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fieldmark.checkpoint import header_of
from fieldmark.faces.cli import main
from fieldmark.images import encode_png
from fieldmark.testing.projects import drawn_project
from fieldmark.testing.worker import use_fake_worker
from fieldmark.workbench.loose.fit import plan_fit

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own-network.md"
FAMILY = "my_lab.nets:DilatedNet"
QUICK = ["--set", "train={epochs: 2, crops_per_epoch: 16, batch_size: 4, crop: [32, 32], lr: 0.02}", "--name", "own"]


def laid_out(folder: Path) -> None:
    """The module and the test of the manual's page."""
    module, test = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (folder / "my_lab").mkdir(parents=True)
    (folder / "my_lab" / "nets.py").write_text(module, encoding="utf-8")
    (folder / "test_nets.py").write_text(test, encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return drawn_project(tmp_path_factory.mktemp("drawn"), images=2, taught=1)


@pytest.fixture
def cli(monkeypatch, tmp_path, project, capsys):
    """Run a command on the project, from a folder that holds the module: exit status and standard error."""
    use_fake_worker(monkeypatch)
    laid_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        monkeypatch.delitem(sys.modules, name)

    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["-C", str(project), *words])
        err = capsys.readouterr().err
        assert "Traceback" not in err
        return ended.value.code or 0, err

    yield run
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        del sys.modules[name]


def test_what_is_typed_is_fitted_and_predicts_where_it_is_allowed(cli, project, tmp_path):
    assert cli("fit", FAMILY, *QUICK)[0] == 0
    header = header_of(project / "models" / "own")
    assert (header.family, header.config["width"], header.outputs) == (FAMILY, 12, ("classes",))
    (run,) = [folder.name for folder in (project / "runs").iterdir()]
    assert run.endswith("-DilatedNet")

    code, said = cli("predict", "own", "--out", str(tmp_path / "masks"))
    assert code == 1
    assert FAMILY in said
    assert f"--allow-family {FAMILY}" in said
    assert not list(tmp_path.glob("masks/*.zarr"))
    assert cli("predict", "own", "--out", str(tmp_path / "masks"), "--allow-family", FAMILY)[0] == 0
    assert len(list(tmp_path.glob("masks/*.ome.zarr"))) == 2


def test_it_is_written_as_a_graph_for_images_of_any_size(cli, project, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the onnx runtime is not installed")
    assert cli("fit", FAMILY, *QUICK)[0] == 0
    code, err = cli("models", "export", "own", "--format", "onnx", "--out", "own.onnx", "--allow-family", FAMILY)
    assert code == 0, err
    session = onnxruntime.InferenceSession(tmp_path / "own.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 31, 40)).astype(np.float32)
    (shares,) = session.run(["classes"], {"pixels": pixels})
    assert shares.shape[2:] == (31, 40)
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-5)


def test_a_file_alone_imports_nothing(cli, tmp_path):
    (tmp_path / "recipe.yaml").write_text(f"family: {FAMILY}\nnet: {{width: 6}}\n")
    code, said = cli("fit", "--config", "recipe.yaml", *QUICK)
    assert code == 1
    assert f"--allow-family {FAMILY}" in said
    assert "my_lab.nets" not in sys.modules


@pytest.mark.parametrize("typed", [["fit", FAMILY], ["fit", "--allow-family", FAMILY]])
def test_a_recipe_says_more_of_a_family_that_is_typed(cli, project, tmp_path, typed):
    (tmp_path / "recipe.yaml").write_text(f"family: {FAMILY}\nnet: {{width: 6}}\n")
    assert cli(*typed, "--config", "recipe.yaml", *QUICK)[0] == 0
    assert header_of(project / "models" / "own").config["width"] == 6


def test_a_setting_may_name_it(cli, project):
    assert cli("fit", "--set", f"family={FAMILY}", "--set", "net.depth=2", *QUICK)[0] == 0
    assert header_of(project / "models" / "own").config["depth"] == 2


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["fit", "my_lab.nets:DilatedNet", "--set", "net.widht=3"], "net.widht: unknown key. Did you mean 'width'?"),
        (["fit", "my_lab.nets:DilatetNet"], "there is no 'DilatetNet' in it. Did you mean 'DilatedNet'?"),
        (["fit", "my_lap.nets:DilatedNet"], "there is no module 'my_lap'"),
        (["fit", "my_lab.nets:DilatedConfig"], "Derive the class from fieldmark.models.taught.TaughtNet"),
        (["fit", "os:system"], "Derive the class from fieldmark.models.taught.TaughtNet"),
        (["lr-find", "--set", "family=my_lap.nets:DilatedNet"], "there is no module 'my_lap'"),
        (["fit", "my_lab.half:Net"], "half.py, line 2. Correct it."),
        (["fit", "my_lab.barred:Net"], "cannot be imported: RuntimeError: no license in "),
        (["fit", "my_lab.barred:Net"], "barred.py, line 3. Correct it."),
        (["fit", "my_lab.old:Net"], "cannot be imported: ImportError: cannot import name 'gone'"),
    ],
)
def test_what_cannot_be_fitted_is_said(cli, tmp_path, words, wanted):
    (tmp_path / "my_lab/half.py").write_text("import os\ndef (\n")
    (tmp_path / "my_lab/barred.py").write_text("def ask():\n    pass\nraise RuntimeError('no license')\n")
    (tmp_path / "my_lab/old.py").write_text("from os import gone\n")
    code, said = cli(*words)
    assert code == 1
    assert wanted in said


@pytest.mark.parametrize(
    ("answer", "found"), [("self.body(x)[:, :, ::2]", "(4, 2, 16, 32)"), ("self.body(x)[:, :1]", "(4, 1, 32, 32)")]
)
def test_an_answer_of_another_shape_is_refused(cli, tmp_path, answer, found):
    module = tmp_path / "my_lab/nets.py"
    module.write_text(module.read_text().replace("return self.body(x)", f"return {answer}"))
    code, said = cli("fit", FAMILY, *QUICK)
    assert code == 1
    assert f"DilatedNet: forward gives {found}" in said
    assert "(4, 2, 32, 32) is wanted" in said


def changed(folder: Path, old: str, new: str) -> int:
    """Change the module of the manual's page; the number of the new line."""
    module = folder / "my_lab/nets.py"
    module.write_text(module.read_text().replace(old, new))
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        del sys.modules[name]  # as in a new process
    own = new.splitlines()[0]
    return 1 + module.read_text().splitlines().index(own)


def test_what_its_code_raises_is_told_with_file_and_line(cli, tmp_path):
    line = changed(tmp_path, "        self.stride = 1\n", "        self.stride = 1/0\n")
    code, said = cli("fit", FAMILY, *QUICK)
    assert code == 1
    assert re.search(r"DilatedNet: __init__ with \d channels? raises ZeroDivisionError: division by zero in", said)
    assert f"nets.py, line {line}. Correct it." in said

    changed(tmp_path, "        self.stride = 1/0\n", "        self.stride = 1\n")
    assert cli("fit", FAMILY, *QUICK)[0] == 0
    words = ["predict", "own", "--propagate", "none", "--allow-family", FAMILY, "--out"]
    old = "        return self.body(x)\n"
    line = changed(tmp_path, old, f"        if x.shape[-1] > 16: raise KeyError('gate')\n{old}")
    code, said = cli("fit", FAMILY, *QUICK)
    assert code == 1
    assert re.search(r"DilatedNet: forward of \(4, \d, 32, 32\), a batch of crops, raises KeyError: 'gate' in", said)
    assert f"nets.py, line {line}. Correct it." in said
    code, said = cli(*words, str(tmp_path / "masks"))
    assert code == 1
    assert re.search(r"DilatedNet: forward of \(1, \d, \d+, \d+\) of drawn\d\S* raises KeyError: 'gate' in", said), said
    assert f"nets.py, line {line}. Correct it." in said


def test_what_its_code_calls_wrongly_is_its_own_line_too(cli, tmp_path):
    """The exception is raised in torch; the line that is named is the user's."""
    changed(tmp_path, "        return self.body(x)\n", "        1/0\n")
    line = changed(tmp_path, "        1/0\n", "        return self.body(x[:, :0])\n")
    code, said = cli("fit", FAMILY, *QUICK)
    assert code == 1
    assert "a batch of crops, raises RuntimeError: " in said
    assert f"nets.py, line {line}. Correct it." in said


def test_an_answer_that_is_no_tensor_is_refused(cli, tmp_path):
    module = tmp_path / "my_lab/nets.py"
    module.write_text(module.read_text().replace("return self.body(x)", "return self.body(x), x"))
    code, said = cli("fit", FAMILY, *QUICK)
    assert code == 1
    assert "DilatedNet: forward gives a tuple, and one tensor of scores is wanted. Correct it." in said


@pytest.mark.parametrize(
    ("line", "instead", "wanted"),
    [
        ("self.radius = sum", "self.reach = sum", "DilatedNet: its radius is None, and a whole number of pixels"),
        ("self.stride = 1", "self.stride = 1.0", "DilatedNet: its stride is 1.0, and a whole number of pixels"),
        ("self.stride = 1", "self.stride = 1; self.requires_grad_(False)", "no weight that can be learned"),
    ],
)
def test_what_a_model_must_say_is_asked_before_it_is_fitted(cli, project, tmp_path, line, instead, wanted):
    module = tmp_path / "my_lab/nets.py"
    module.write_text(module.read_text().replace(line, instead))
    before = {*project.glob("runs/*/state")}
    code, said = cli("fit", FAMILY, *QUICK)
    assert code == 1
    assert wanted in said
    assert {*project.glob("runs/*/state")} == before


def test_parts_that_share_their_weights_are_loaded(cli, tmp_path):
    """Two names of one layer: as in networks that see two images with the same eyes."""
    module = tmp_path / "my_lab/nets.py"
    module.write_text(module.read_text().replace("self.stride = 1", "self.stride, self.again = 1, self.body"))
    assert cli("fit", FAMILY, *QUICK)[0] == 0
    code, said = cli("predict", "own", "--out", str(tmp_path / "masks"), "--allow-family", FAMILY)
    assert (code, "Error" in said) == (0, False)


def test_code_that_has_changed_since_the_fit_is_told_and_nothing_of_the_old_is_kept(cli, project, tmp_path):
    assert cli("fit", FAMILY, *QUICK)[0] == 0
    words = f"predict own --format npy --propagate none --allow-family {FAMILY} --out"
    command = [*words.split(), str(tmp_path / "masks")]
    code, said = cli(*command)
    assert (code, "has changed" in said) == (0, False)
    # nobody drew on it: all of it is what the network says
    before = np.load(tmp_path / "masks/drawn1.npy", allow_pickle=False)
    assert "already there" in cli(*command)[1]

    module = tmp_path / "my_lab/nets.py"
    module.write_text(module.read_text().replace("return self.body(x)", "return -self.body(x)"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        del sys.modules[name]  # as in a new process
    code, said = cli(*command)
    assert code == 0
    assert f"Model 'own': the code of {FAMILY} has changed since it was fitted" in said
    assert "already there" not in said
    assert np.array_equal(np.load(tmp_path / "masks/drawn1.npy", allow_pickle=False), 3 - before)


def test_a_file_of_openfibsem_lends_it_no_name(tmp_path):
    for kind, value in (("images", 90), ("labels", 1)):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for name in "ab":
            (tmp_path / "data" / kind / f"{name}.png").write_bytes(encode_png(np.full((8, 9), value, np.uint8)))
    text = "train: {data_dir: data, save_dir: models, encoder: resnet18, epochs: 1, num_classes: 2}"
    (tmp_path / "config.yaml").write_text(text)
    theirs = plan_fit(tmp_path / "config.yaml")
    ours = plan_fit(tmp_path / "config.yaml", overrides=(f"family={FAMILY}", "net={}"))
    assert (theirs.place.now().name, ours.place.now().name) == ("unet-resnet18", "DilatedNet")
    assert any("random weights" in note for note in theirs.notes)
    assert not any("random weights" in note for note in ours.notes)
    assert any(FAMILY in note for note in ours.notes)


def test_a_run_is_resumed_where_its_family_is_allowed(cli, project):
    """A run's own file cannot allow it: what is written there never counts."""
    before = set((project / "runs").iterdir()) if (project / "runs").is_dir() else set()
    cli("fit", FAMILY, *QUICK)
    (newest,) = set((project / "runs").iterdir()) - before
    (newest / "run.json").write_text((newest / "run.json").read_text().replace('"done"', '"stopped"'))
    assert f'"{FAMILY}"' in (newest / "job.json").read_text().partition('"allow"')[2]
    code, said = cli("fit", "--resume", newest.name)
    assert code == 1
    assert f"--allow-family {FAMILY}" in said
    assert cli("fit", "--resume", newest.name, "--allow-family", FAMILY)[0] == 0


def test_processes_find_the_module_where_the_user_is_at_work(project, tmp_path):
    laid_out(tmp_path)
    command = [sys.executable, "-m", "fieldmark.faces.cli", "-C", str(project), "fit", FAMILY, *QUICK]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def test_the_contract_of_the_manual_holds_for_its_author(tmp_path):
    laid_out(tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "test_nets.py"]
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert int(np.array(re.findall(r"(\d+) passed", done.stdout), int).sum()) >= 18
