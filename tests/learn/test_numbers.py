"""Numbers of whole images, from the table to the table: learned, resumed, predicted, refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from fieldmark.checkpoint import header_of, load
from fieldmark.errors import BadFile, BadInput, BadRecipe
from fieldmark.images import open_image
from fieldmark.infer.numbers import number_row
from fieldmark.infer.predict import Model
from fieldmark.models.build import load_net
from fieldmark.recipes import FitRecipe, PredictRecipe
from fieldmark.testing.elsewhere import elsewhere
from fieldmark.testing.worker import use_fake_worker
from fieldmark.workbench import Workbench
from fieldmark.workbench.fitting import begin_fit, follow_fit
from fieldmark.workbench.numbers import numbers_by_image, read_numbers

COUNT = 24
TRAIN = {"epochs": 12, "batch_size": 4, "lr": 0.01, "loss": {"terms": {"mse": 1}}}


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    use_fake_worker(monkeypatch)


def drawn(folder: Path, *, deep: bool = False, size: tuple[int, int] = (40, 56)) -> list[tuple[str, float, float]]:
    """Images of noise whose mean and spread differ; name, mean and spread of each."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(COUNT):
        rng = np.random.default_rng(number)
        mean, spread = rng.uniform(80, 160), rng.uniform(5, 30)
        shape = (1, 1, 5, *size) if deep else (1, 1, 1, *size)
        np.save(folder / f"i{number:02}.npy", np.clip(rng.normal(mean, spread, shape), 0, 255).astype(np.uint8))
        rows.append((f"i{number:02}", mean, spread))
    return rows


def table(path: Path, rows: list[tuple[str, float, float]]) -> Path:
    lines = ["image,note,mean,spread", *(f"{name},,{mean:.4f},{spread:.4f}" for name, mean, spread in rows)]
    path.write_text("\n".join(lines).replace(",note", "").replace(",,", ",") + "\n")
    return path


def recipe(file: Path, **net: object) -> FitRecipe:
    return FitRecipe(
        family="image-to-numbers",
        net={"filters": (8, 16), "hidden": (16,), **net},
        data={"target": {"kind": "numbers", "table": str(file)}, "split": {"train": 0.75, "validation": 0.25}},
        train=TRAIN,
    )


@pytest.fixture
def made(tmp_path):
    """A project of drawn images, and what is true of them."""
    rows = drawn(tmp_path / "images")
    with Workbench.init(tmp_path / "project") as bench:
        bench.add([tmp_path / "images"])
        yield bench, rows, tmp_path


def fit(bench: Workbench, how: FitRecipe, name: str = "numbers") -> Path:
    list(follow_fit(bench.project, begin_fit(bench, how, name)))
    return bench.project.models / name


def test_numbers_are_learned_and_written_as_tables(made):
    bench, rows, folder = made
    rows[3] = (rows[3][0], rows[3][1], float("nan"))  # nobody knows it: an empty cell
    file = table(folder / "t.csv", rows)
    file.write_text(file.read_text().replace("nan", ""))
    model = fit(bench, recipe(file))
    header = header_of(model)
    assert (header.outputs, header.details["numbers"], header.classes) == (("numbers",), ["mean", "spread"], ())

    list(bench.predict("numbers", out=folder / "out", form="ome-zarr", recipe=PredictRecipe()))
    list(bench.predict("numbers", out=folder / "out", form="json", recipe=PredictRecipe()))
    found = list(csv.DictReader((folder / "out" / "answers.csv").open()))
    objects = json.loads((folder / "out" / "answers.json").read_text())
    assert [row["image"] for row in found] == [f"{name}.npy" for name, *_ in rows]
    assert [
        {"image": row["image"], "numbers": {k: float(row[k]) for k in ("mean", "spread")}} for row in found
    ] == objects
    taught = {item.image for item in header.taught}
    assert taught == {row["image"] for row in found}  # what validates counts as having taught
    said = np.array([[float(row["mean"]), float(row["spread"])] for row in found])
    right = np.array([[mean, spread] for _, mean, spread in rows])
    for own, true in zip(said.T, right.T, strict=True):
        known = np.isfinite(true)
        assert np.corrcoef(own[known], true[known])[0, 1] > 0.9
        assert np.abs(own[known] - true[known]).mean() < 0.5 * np.abs(true[known] - true[known].mean()).mean()


def test_a_row_does_not_depend_on_what_else_is_asked(made):
    bench, rows, folder = made
    folder_of = fit(bench, recipe(table(folder / "t.csv", rows)).model_copy(update={"seed": 3}))
    model = Model("numbers", *load_net(folder_of))
    with open_image(folder / "images" / "i05.npy") as source:
        alone = number_row(model, source, "i05.npy")
        again = number_row(Model("numbers", *load_net(folder_of)), source, "i05.npy")
        with elsewhere() as device:  # on a GPU nothing of it stays behind
            there = number_row(replace(model, net=model.net.to(device)), source, "i05.npy")
    list(bench.predict("numbers", ["i04.npy", "i05.npy"], out=folder / "o", form="json", recipe=PredictRecipe()))
    said = json.loads((folder / "o" / "answers.json").read_text())[1]["numbers"]
    assert np.array_equal(alone, again)
    assert np.allclose(alone, there, rtol=1e-5)
    assert np.allclose(alone, list(said.values()), rtol=1e-6)


def test_a_stopped_fit_goes_on_to_the_same_bits(made):
    bench, rows, folder = made
    how = recipe(table(folder / "t.csv", rows), dropout=0.2)
    how = how.model_copy(update={"train": how.train.model_copy(update={"epochs": 2, "save_every_steps": 1})})
    unbroken = load(fit(bench, how, "unbroken"))[1]
    run = begin_fit(bench, how, "broken")
    for _ in range(12):
        events = follow_fit(bench.project, run)
        list(islice((event for event in events if event.phase == "numbers"), 1))
        events.close()
    list(follow_fit(bench.project, run))
    broken = load(bench.project.models / "broken")[1]
    assert all(np.array_equal(unbroken[name], broken[name]) for name in unbroken)


def test_a_published_encoder_rests_in_the_first_epochs(made):
    bench, rows, folder = made
    how = recipe(table(folder / "t.csv", rows), encoder="efficientnet-lite0")

    def learned(rests: int, lr: float) -> dict[str, np.ndarray]:
        train = how.train.model_copy(update={"epochs": 1, "batch_size": 12, "only_decoder_epochs": rests, "lr": lr})
        return load(fit(bench, how.model_copy(update={"train": train}), f"n{rests}{lr:g}"))[1]

    slow, fast, free = learned(1, 1e-3), learned(1, 1e-2), learned(0, 1e-2)
    kernels = [name for name in slow if name.startswith("body.") and slow[name].ndim == 4]
    assert kernels
    assert all(np.array_equal(slow[name], fast[name]) for name in kernels)
    assert not any(np.array_equal(fast[name], free[name]) for name in kernels)
    assert not np.array_equal(slow["dense.0.weight"], fast["dense.0.weight"])


def test_the_network_is_compiled_where_that_is_asked(made, monkeypatch):
    bench, rows, folder = made
    compiled = []

    def mark(net):
        compiled.append(type(net).__name__)
        return net

    monkeypatch.setattr(torch, "compile", mark)
    how = recipe(table(folder / "t.csv", rows))
    for wanted in (False, True):
        fit(bench, how.model_copy(update={"train": how.train.model_copy(update={"epochs": 1, "compile": wanted})}))
        assert len(compiled) == wanted


def test_volumes_have_numbers_too(tmp_path):
    rows = drawn(tmp_path / "images", deep=True, size=(20, 24))
    with Workbench.init(tmp_path / "project") as bench:
        bench.add([tmp_path / "images"])
        fit(bench, recipe(table(tmp_path / "t.csv", rows), dims="3"))
        list(bench.predict("numbers", out=tmp_path / "out", form="csv", recipe=PredictRecipe()))
    found = list(csv.DictReader((tmp_path / "out" / "answers.csv").open()))
    assert np.corrcoef([float(row["mean"]) for row in found], [mean for _, mean, _ in rows])[0, 1] > 0.9


def test_images_of_several_sizes_are_resized_where_that_is_asked(made):
    bench, rows, folder = made
    np.save(folder / "images" / "large.npy", np.full((1, 1, 1, 90, 70), 100, np.uint8))
    bench.add([folder / "images"])
    file = table(folder / "t.csv", [*rows, ("large", 100.0, 0.0)])
    with pytest.raises(BadInput, match=r"large\.npy has .*net\.size=\[40, 56\]|net\.size=\[90, 70\]"):
        fit(bench, recipe(file))
    assert header_of(fit(bench, recipe(file, size=(32, 32)))).config["size"] == [32, 32]


def test_what_is_unknown_teaches_nothing(made):
    """A batch's gradient with an unknown number equals the one without that row's column."""
    from fieldmark.learn.lessons import Lesson
    from fieldmark.learn.tasks.numbers import OnNumbers
    from fieldmark.models.build import build
    from fieldmark.recipes import TrainConfig

    net = build("image-to-numbers", {"filters": (4, 8), "norm": "none", "out_channels": 2}, 1)
    task = OnNumbers(net, None, TrainConfig(), [])

    def gradient(target: float) -> torch.Tensor:
        rows = torch.tensor([[0.5, target], [0.1, 0.2]])
        weight = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        lesson = Lesson(torch.linspace(-1, 1, 512).reshape(2, 1, 16, 16), rows, weight)
        net.zero_grad()
        task._loss(_Engine(), lesson).backward()
        return torch.cat([p.grad.flatten() for p in net.parameters()])

    assert torch.equal(gradient(0.3), gradient(1e6))
    assert gradient(0.3).abs().sum() > 0


class _Engine:
    def to_device(self, part: torch.Tensor) -> torch.Tensor:
        return part


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"family": "unet"}, "image-to-numbers"),
        ({"data": {"target": {"kind": "marks"}}}, "answers whole images"),
        ({"train": {"loss": {"terms": {"dssim": 1}}}}, "no loss of numbers"),
        ({"data": {"target": {"kind": "numbers"}}}, "no table"),
        ({"data": {"target": {"kind": "numbers", "table": "T", "columns": ["maen"]}}}, "Did you mean 'mean'"),
        ({"net": {"out_channels": 5}}, "out_channels is 5"),
        ({"data": {"target": {"kind": "numbers", "table": "T"}, "split": {"by": "slice"}}}, "Split by group"),
    ],
)
def test_what_cannot_be_learned_is_said(made, change, words):
    bench, rows, folder = made
    file = table(folder / "t.csv", rows)
    values = recipe(file).model_dump(mode="json") | json.loads(json.dumps(change).replace('"T"', f'"{file}"'))
    if "family" in change:
        values["net"] = {}
    with pytest.raises((BadInput, BadRecipe), match=words):
        fit(bench, FitRecipe(**values))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,mean\na,1\n", "must be called 'image'"),
        ("image,mean\na,1\na,2\n", "line 3: 'a' stands there twice"),
        ("image,mean\na,one\n", "line 2: mean is 'one'"),
        ("image,mean\na,inf\n", "no number"),
    ],
)
def test_tables_that_cannot_be_read_are_refused_by_line(tmp_path, text, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(BadFile, match=words):
        read_numbers(tmp_path / "t.csv", ["mean"])


def test_rows_find_their_images():
    rows = {"a": (1.0,), "sub/b.tif": (2.0,)}
    names = ["x/a.png", "sub/b.tif", "c.tif"]
    assert numbers_by_image(names, rows, Path("t.csv")) == {"x/a.png": "a", "sub/b.tif": "sub/b.tif"}
    with pytest.raises(BadInput, match="may be"):
        numbers_by_image(["x/a.png", "y/a.png"], {"a": (1.0,)}, Path("t.csv"))
    with pytest.raises(BadInput, match="no row is of an image"):
        numbers_by_image(["c.tif"], {"a": (1.0,)}, Path("t.csv"))


@pytest.mark.parametrize(("size", "again"), [((40, 40), False), ((64, 64), True)])
def test_what_is_kept_is_counted_at_the_size_that_is_seen(made, monkeypatch, size, again):
    """Images are 40 x 56; at 64 x 64 they are more than may be kept, whatever they take on disk."""
    from fieldmark.learn.tasks import numbers

    read = []
    monkeypatch.setattr(numbers, "KEPT_VALUES", 3000)
    original = numbers.RowBatches._input
    monkeypatch.setattr(numbers.RowBatches, "_input", lambda self, index: read.append(index) or original(self, index))
    bench, rows, folder = made
    how = recipe(table(folder / "t.csv", rows), size=size)
    fit(bench, how.model_copy(update={"train": how.train.model_copy(update={"epochs": 2})}))
    assert (len(read) > len(set(read)) == COUNT) == again
