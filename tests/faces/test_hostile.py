"""Recipes, models, pickles and paths that are damaged or hostile: one clear error, exit 1, nothing written or run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from fieldmark.checkpoint.bundle import write_bundle
from fieldmark.faces.cli import main
from fieldmark.testing.projects import drawn_project
from fieldmark.testing.worker import use_fake_worker
from fieldmark.workbench import Workbench


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        use_fake_worker(patch)
        with Workbench.open(drawn_project(folder, images=1)) as bench:
            order = {
                "overrides": (
                    "net.width=4",
                    "net.latent=4",
                    "descend.epochs=1",
                    "descend.crops_per_epoch=8",
                    "head.kind=logistic",
                )
            }
            list(bench.fit("autoencoder", name="tiny", **order)[1])
    return folder


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    use_fake_worker(monkeypatch)


@pytest.fixture
def refused(fitted, capsys):
    """Run a command that must fail with one line and write nothing; gives that line."""

    def run(*arguments: object) -> str:
        before = tree(fitted)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["-C", str(fitted / "project"), *(str(one) for one in arguments)])
        out, err = capsys.readouterr()
        assert ended.value.code == 1
        assert out == ""
        assert err.startswith("Error: ")
        assert len(err.strip().splitlines()) == 1
        assert len(err) < 1500
        assert tree(fitted) == before
        return err

    return run


def tree(folder: Path) -> dict[str, str]:
    """Every file and its content; the database's own files are left out, reading touches them."""
    return {
        str(path): sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "fieldmark.db" not in path.name
    }


RECIPES = {
    "unknown.yaml": ("family: flim\ndescend: {lrr: 1}\n", "descend.lrr: unknown key. Did you mean 'lr'?"),
    "network.yaml": ("family: flim\nnet: {epsilonn: 1}\n", "net.epsilonn: unknown key. Did you mean 'epsilon'?"),
    "family.yaml": (
        "family: os:system\n",
        "names the family 'os:system', code of somebody's own; nothing was imported",
    ),
    "list.json": ("[1, 2]", "holds a list"),
    "cut.json": ('{"family": "flim"', "cannot be parsed"),
    "deep.json": ("[" * 100_000, "cannot be parsed"),
    "bomb.yaml": (
        "a: &a [x, x, x, x]\n"
        + "".join(f"{k}: &{k} [*{j}, *{j}, *{j}]\n" for j, k in zip("abcdefg", "bcdefgh", strict=True)),
        "has an alias",
    ),
    "python.yaml": ("family: !!python/object/apply:os.system ['touch ran']\n", "cannot be parsed"),
    "twice.toml": ("seed = 1\nseed = 2\n", "cannot be parsed"),
    "wrong.toml": ('seed = "many"\n', "seed: Input should be a valid integer"),
    "nul.yaml": ("a: \0", "cannot be parsed"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_hostile_recipes(refused, tmp_path, name):
    text, words = RECIPES[name]
    (tmp_path / name).write_text(text)
    said = refused("fit", "--config", tmp_path / name)
    assert words in said
    if "family" not in words:
        assert str(tmp_path / name) in said
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\0\0", pickle.dumps({"family": "flim"}), b"PK\x03\x04" * 50], ids=["bytes", "pickle", "zip"]
)
def test_recipes_that_are_no_text(refused, tmp_path, content):
    (tmp_path / "r.yaml").write_bytes(content)
    assert str(tmp_path / "r.yaml") in refused("fit", "--config", tmp_path / "r.yaml")


def test_recipes_that_are_no_files(refused, tmp_path):
    assert "no such file" in refused("fit", "--config", tmp_path / "gone.yaml")
    assert "no regular file" in refused("fit", "--config", tmp_path)
    if os.name == "posix":
        assert "no regular file" in refused("fit", "--config", "/dev/zero")


@pytest.mark.parametrize(
    "override", ["descend.lrr=1", "lr", "=1", "net.layers.0=1", "seed={}", "a=!!python/name:os", "seed=[[["]
)
def test_hostile_overrides(refused, override):
    refused("fit", "flim", "--set", override)


@pytest.fixture
def model(fitted, tmp_path) -> Path:
    shutil.copytree(fitted / "project" / "models" / "tiny", tmp_path / "m")
    return tmp_path / "m"


def header(**changes):
    def damage(folder):
        path = folder / "model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def config(**changes):
    def damage(folder):
        path = folder / "model.json"
        values = json.loads(path.read_text())
        values["config"] |= changes
        path.write_text(json.dumps(values))

    return damage


def flim(*layers, **settings):
    """A header that names a FLIM network, with one branch of these layers where there are some."""
    branches = {"branches": [{"layers": list(layers)}]} if layers else {}
    return header(family="flim", config=branches | settings)


def pickled(folder):
    (weights,) = folder.glob("*.safetensors")
    data = pickle.dumps(Bomb(folder.parent / "ran"))
    weights.write_bytes(data)
    header(weights_sha256=sha256(data).hexdigest())(folder)


def flipped(folder):
    (weights,) = folder.glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 255
    weights.write_bytes(data)


def other_weights(folder):
    import numpy as np

    values = json.loads((folder / "model.json").read_text())
    values = {key: value for key, value in values.items() if not key.startswith("weights")}
    write_bundle(folder, "model.json", values, {"w": np.zeros(3)})


def linked(folder):
    (folder / "model.json").unlink()
    (folder / "model.json").symlink_to("/dev/zero")


MODELS = {
    "a pickle as weights": (pickled, "not a safetensors file"),
    "a flipped byte": (flipped, "does not match the hash"),
    "weights of another net": (other_weights, "do not fit the network"),
    "an unregistered family": (header(family="os:system"), "not registered"),
    "a newer format": (header(format=99), "model format 99"),
    "weights elsewhere": (header(weights="../../x.safetensors"), "names no weights beside it"),
    "an unknown setting": (config(run="os.system"), "run: unknown key"),
    "an enormous net": (config(width=2**40), "width: Input should be less than or equal to 8192"),
    "a net of endless depth": (config(depth=10**6), "depth: Input should be less than or equal to 10"),
    "a net of endless blocks": (config(blocks=10**6), "blocks: Input should be less than or equal to 32"),
    "endless branches": (flim(branches=[{"layers": [{}]}] * 10**6), "larger than 16777216 bytes"),
    "many branches": (flim(branches=[{"layers": [{}]}] * 10**4), "at most 16 items"),
    "a branch of endless layers": (flim(*[{}] * 10**6), "at most 32 items"),
    "an enormous kernel": (flim({"kernel_size": 10**9 + 1}), "kernel_size: Input should be less"),
    "a kernel with enormous gaps": (flim({"dilation": 10**9}), "dilation: Input should be less"),
    "an enormous pool": (flim({"pool": "max", "pool_stride": 10**9}), "pool_stride: Input should be less"),
    "an enormous scale": (flim(scales=[1e12]), "scales.0: Input should be less"),
    "endless scales": (flim(scales=[1.0] * 10**6), "at most 64 items"),
    "an unknown head": (config(head={"kind": "os.system"}), "do not fit"),
    "another stride": (header(stride=[1, 2, 2]), "its header says stride"),
    "an enormous halo": (header(halo=[0, 60_000, 60_000]), "its header says halo"),
    "an unknown preparation": (header(preparation=[{"step": "os.system"}]), "Unknown preparation"),
    "a preparation by zero": (header(preparation=[{"step": "scale", "by": 0}]), "divides by zero"),
    "classes that it has not": (
        header(classes=[{"id": n, "name": f"c{n}", "value": n} for n in range(1, 9)]),
        "names 8 classes",
    ),
    "no header": (lambda folder: (folder / "model.json").write_text(""), "not readable as JSON"),
    "an endless header": (linked, "no regular file"),
}


@pytest.mark.parametrize("name", MODELS)
def test_hostile_models(refused, model, tmp_path, name):
    damage, words = MODELS[name]
    damage(model)
    said = refused("predict", model, "--out", tmp_path / "out", "--propagate", "none")
    assert words in said
    assert not (tmp_path / "ran").exists()
    out = list((tmp_path / "out").rglob("*.zarr"))
    assert out == []


def test_a_model_that_is_a_pickle_or_an_image_or_nothing(refused, fitted, tmp_path):
    (tmp_path / "m.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    for name in (tmp_path / "m.pt", fitted / "images" / "drawn0.png", "..", "/", "a\nb", "x" * 300):
        refused("predict", name, "--out", tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_hostile_runs(refused, fitted):
    for name in ("../..", "/", "", "x\0y"):
        assert "No run is called" in refused("runs", "show", name)
        assert "No run is called" in refused("fit", "--resume", name)
