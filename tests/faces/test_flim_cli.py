"""The commands of marker-based filter learning, on drawn data sets, with jobs in the test's own process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fieldmark.faces.cli import main
from fieldmark.images import encode_png
from fieldmark.testing.worker import use_fake_worker

ARCH = {
    "features": {
        "type": "sequential",
        "layers": {
            "norm1": {"operation": "m_norm2d", "params": {"kernel_size": 3}},
            "conv1": {
                "operation": "conv2d",
                "params": {"kernel_size": 3, "stride": 1, "padding": 1, "out_channels": 6,
                           "number_of_kernels_per_marker": 4},
            },
            "activation1": {"operation": "relu", "params": {"inplace": True}},
            "pool1": {"operation": "max_pool2d", "params": {"kernel_size": 3, "stride": 2, "padding": 1}},
        },
    },
    "classifier": {
        "layers": {
            "linear1": {"operation": "linear", "params": {"in_features": -1, "out_features": 8}},
            "relu": {"operation": "relu", "params": {"inplace": True}},
            "linear2": {"operation": "linear", "params": {"in_features": 8, "out_features": 2}},
        }
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    use_fake_worker(monkeypatch)


@pytest.fixture
def cli(capsys):
    """Run `fieldmark flim`: exit status, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["flim", *(str(one) for one in arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return ended.value.code or 0, out, err

    return run


def stripes(klass: int, seed: int, side: int = 24) -> np.ndarray:
    """(y, x, 3) uint8: stripes that lie (class 1) or stand (class 2), noisy, with a random phase."""
    rng = np.random.default_rng(seed)
    at = (np.mgrid[:side, :side][klass - 1] + rng.integers(6)) // 3 % 2
    gray = 60 + 120 * at + rng.normal(0, 8, (side, side))
    return np.stack([gray, gray * 0.8, 200 - gray * 0.5], axis=-1).clip(0, 255).astype(np.uint8)


def write_marks(path: Path, marks: list[tuple[int, int, int]], side: int = 24) -> None:
    lines = [f"{len(marks)} {side} {side}", *(f"{x} {y} -1 {label}" for x, y, label in marks)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The document's names: `lids-dataset`, splits, `arch.json`, `markers-dir` (marker files alone)."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "lids-dataset"
    folder.mkdir()
    names = {1: [], 2: []}
    for klass in (1, 2):
        for number in range(6):
            name = f"{klass:06d}_{number:08d}.png"
            (folder / name).write_bytes(encode_png(stripes(klass, 10 * klass + number)))
            names[klass].append(name)
    (tmp_path / "train_split.txt").write_text("".join(f"{n}\n" for k in (1, 2) for n in names[k][:4]))
    (tmp_path / "val_split.txt").write_text("".join(f"{n}\n" for k in (1, 2) for n in names[k][4:]))
    for klass in (1, 2):
        marks = [(x, y, klass) for y in range(8, 12) for x in range(6, 16)]
        write_marks(tmp_path / "markers-dir" / names[klass][0].replace(".png", ".txt"), marks)
    (tmp_path / "arch.json").write_text(json.dumps(ARCH))
    return tmp_path


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_filters_and_classifier_without_an_architecture(cli, here):
    before = snapshot(here / "lids-dataset")
    status, out, err = cli("train", "-d", "lids-dataset", "-ts", "train_split.txt", "-md", "markers-dir",
                           "-od", "outputs", "-mn", "m.pt", "-g", "0", "-e", "3")  # fmt: skip
    assert (status, out) == (0, "Model outputs/m.pt\n"), err
    assert "GPU" in err
    assert (here / "outputs/m.pt/model.json").is_file()
    status, out, err = cli("validate", "-d", "lids-dataset", "-vs", "val_split.txt", "-mp", "outputs/m.pt")
    assert status == 0, err
    assert [line.partition(":")[0] for line in out.splitlines()][:2] == ["accuracy", "kappa"]
    assert snapshot(here / "lids-dataset") == before
