"""From answers in a project to a table of answers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from fieldmark.checkpoint import header_of, read_bundle
from fieldmark.core.files import write_atomic
from fieldmark.errors import BadInput, NothingLabelled
from fieldmark.recipes import PredictRecipe
from fieldmark.testing.worker import run_here
from fieldmark.workbench.answering import answer_images

SVM = ("head.kind=none", "image_head.kind=svm", "image_head.grid=2", "net.branches=[{layers: [{pool: max}]}]")


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    monkeypatch.setattr("fieldmark.workbench.answering.run_job", run_here)


def say(bench, answers: dict[str, str], value: bool = True) -> None:
    ids = {klass.name: klass.id for klass in bench.labels.classes()}
    for image, klass in answers.items():
        bench.labels.set_answer(bench.collection.find(image).id, ids[klass], value, "tester")


def fit(bench):
    run, events = bench.fit("flim", name="sorter", overrides=SVM)
    return run, list(events)


def test_answers_teach_and_are_given_again_as_a_table(bench, tmp_path):
    say(bench, {"drawn0.png": "ground", "drawn1.png": "disc"})
    say(bench, {"drawn2.png": "ground"}, value=False)  # what it is stays unknown
    run, _ = fit(bench)
    _, arrays = read_bundle(run.folder, "marks.json")
    assert (arrays["answer_image"].tolist(), arrays["answer_klass"].tolist()) == ([0, 1], [0, 1])
    header = header_of(bench.project.models / "sorter")
    assert header.outputs == ("features", "image-classes", "vector")
    assert [one.image for one in header.taught] == ["drawn0.png", "drawn1.png"]
    list(bench.predict("sorter", out=tmp_path / "out", form="png", recipe=PredictRecipe()))
    rows = list(csv.DictReader((tmp_path / "out" / "answers.csv").open()))
    assert [(row["image"], row["class"]) for row in rows[:2]] == [("drawn0.png", "ground"), ("drawn1.png", "disc")]
    assert all(float(row["ground"]) + float(row["disc"]) == 1 for row in rows)


def test_alone_as_among_others_in_both_formats(bench, tmp_path):
    say(bench, {"drawn0.png": "ground", "drawn1.png": "disc"})
    fit(bench)
    records = bench.collection.all()
    list(answer_images(bench, "sorter", records, tmp_path / "all.json"))
    together = json.loads((tmp_path / "all.json").read_text())
    for record, row in zip(records, together, strict=True):
        list(answer_images(bench, "sorter", [record], tmp_path / "one.json"))
        assert json.loads((tmp_path / "one.json").read_text()) == [row]
    list(answer_images(bench, "sorter", records, tmp_path / "all.csv"))
    table = list(csv.DictReader((tmp_path / "all.csv").open()))
    assert [float(row["disc"]) for row in table] == [row["probabilities"]["disc"] for row in together]


def test_several_answers_for_an_image_are_refused_by_name(bench):
    say(bench, {"drawn0.png": "ground", "drawn1.png": "disc"})
    say(bench, {"drawn1.png": "ground"})
    with pytest.raises(BadInput, match=r"^drawn1\.png: answered `yes` for more than one class"):
        bench.fit("flim", overrides=SVM)
    bench.fit("flim")  # nobody asked for a classifier of images


def test_without_answers_or_of_one_class_nothing_is_learned(bench):
    with pytest.raises(NothingLabelled, match="no image has one"):
        fit(bench)
    say(bench, {"drawn0.png": "disc", "drawn1.png": "disc"})
    with pytest.raises(BadInput, match="of one class"):
        fit(bench)


def test_where_answers_may_be_written(bench, tmp_path):
    with pytest.raises(BadInput, match="'tiny' gives no answers for whole images"):
        list(answer_images(bench, "tiny", [], tmp_path / "a.csv"))
    say(bench, {"drawn0.png": "ground", "drawn1.png": "disc"})
    fit(bench)
    with pytest.raises(BadInput, match=r"written as \.csv or \.json"):
        list(answer_images(bench, "sorter", [], tmp_path / "a.xlsx"))
    images = Path(bench.collection.find("drawn0.png").uri).parent
    with pytest.raises(BadInput, match="originals are only read"):
        list(answer_images(bench, "sorter", [], images / "a.csv"))
    (tmp_path / "mine.csv").write_text("my,own\n")
    with pytest.raises(BadInput, match="is not as Fieldmark wrote it"):
        list(answer_images(bench, "sorter", [], tmp_path / "mine.csv"))
    assert (tmp_path / "mine.csv").read_text() == "my,own\n"


def test_a_table_of_a_person_is_not_replaced(bench, tmp_path, monkeypatch):
    """One that `labels import` reads begins as ours do; one of ours may have been corrected."""
    say(bench, {"drawn0.png": "ground", "drawn1.png": "disc"})
    fit(bench)
    records, own = bench.collection.all(), tmp_path / "out" / "answers.csv"
    list(answer_images(bench, "sorter", records, own))
    table = own.read_bytes()
    list(answer_images(bench, "sorter", records[:1], own))
    assert own.read_bytes() != table
    for text in ("image,class,value\ndrawn0.png,disc,yes\n", own.read_text().replace("ground", "disc")):
        own.write_text(text)
        with pytest.raises(BadInput, match=r"answers\.csv is there already, and is not as Fieldmark wrote it"):
            list(answer_images(bench, "sorter", records, own))
        assert own.read_text() == text
    own.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("fieldmark.core.written.write_atomic", stopping_at(2))
        with pytest.raises(KeyboardInterrupt):
            list(answer_images(bench, "sorter", records, own))
    list(answer_images(bench, "sorter", records[:1], own))
    with monkeypatch.context() as patch:
        patch.setattr("fieldmark.core.written.write_atomic", stopping_at(2))
        with pytest.raises(KeyboardInterrupt):
            list(answer_images(bench, "sorter", records, own))
    assert own.read_bytes() != table
    list(answer_images(bench, "sorter", records, own))
    assert own.read_bytes() == table


def stopping_at(which: int):
    """`write_atomic`, killed before the file of that number."""
    left = iter(range(1, which))

    def write(path: Path, data: bytes) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        write_atomic(path, data)

    return write
