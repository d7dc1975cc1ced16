"""Objects and predicted images against truth, with baselines, tables and reports."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.measure import label

from fieldmark.checkpoint import ClassSpec, Header, Taught, load, save
from fieldmark.core.files import write_atomic
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput, BadRecipe, NotFound
from fieldmark.evaluate.images import METRICS, score_values
from fieldmark.evaluate.instances import score_objects
from fieldmark.images import encode_png, open_image
from fieldmark.labels.raster import Polyline
from fieldmark.models.build import build
from fieldmark.models.tensors import arrays_of
from fieldmark.prepare import scale_step
from fieldmark.recipes import validate
from fieldmark.recipes.evaluate import EvaluateRecipe
from fieldmark.testing.drawn import draw_discs
from fieldmark.testing.worker import use_fake_worker
from fieldmark.workbench import Workbench
from fieldmark.workbench.cases import Case
from fieldmark.workbench.evaluating_classes import class_lessons
from fieldmark.workbench.evaluating_objects import ObjectJudge


def evaluate(bench, model, truth, *, mask=None, report=None, **recipe):
    return bench.evaluate(model, truth, recipe=validate(EvaluateRecipe, recipe), mask=mask, report=report)


def pixels(path: Path) -> np.ndarray:
    with open_image(path) as source:
        return source.read(Box.whole(source.shape))


@pytest.fixture
def numbered(tmp_path) -> Path:
    """The discs of every image, numbered, 16 bits."""
    for seed in range(3):
        objects = label(draw_discs(61, 75, seed=seed).mask).astype(np.uint16) * 300
        write_atomic(tmp_path / "numbered" / f"drawn{seed}.png", encode_png(objects))
    return tmp_path / "numbered"


def test_objects_are_scored_beside_baselines(bench, numbered):
    result = evaluate(bench, "tiny", numbered, instances=True)
    found = result.to_json()
    assert found["images"] == 1
    assert sorted(found["taught"]) == ["drawn0.png", "drawn1.png"]
    out = bench.project.predictions / "tiny"
    expected = score_objects(
        pixels(out / "drawn2-instances.ome.zarr")[0, 0, 0], pixels(numbered / "drawn2.png")[0, 0, 0]
    )
    assert {metric: found["classes"]["disc"][metric] for metric in expected} == expected
    assert found["classes"]["disc"]["ap50"] > 0.5
    assert {"majority", "random", "forest"} <= set(found["baselines"])
    assert found["baselines"]["random"]["disc"]["ap50"] < 0.1
    assert list(found["classes"]) == ["disc"]
    assert "predicted objects" in result.report.read_text()
    columns, rows = result.table()
    assert columns[:4] == ["method", "class", "ap50", "ap75"]
    assert rows[0][:2] == ["tiny", "disc"]
    assert json.loads(result.report.with_suffix(".json").read_text()) == found


def test_objects_that_touch_are_split_on_request(bench, numbered):
    result = evaluate(bench, "tiny", numbered, instances=True, split="watershed", split_distance=6)
    made = pixels(bench.project.predictions / "tiny" / "drawn2-instances.ome.zarr")[0, 0, 0]
    truth = pixels(numbered / "drawn2.png")[0, 0, 0]
    assert result.summary["classes"]["disc"]["ap50"] == score_objects(made, truth)["ap50"]


def test_specks_are_left_out_on_request(bench, numbered):
    evaluate(bench, "tiny", numbered, instances=True, min_area=40)
    made = pixels(bench.project.predictions / "tiny" / "drawn2-instances.ome.zarr")
    assert np.bincount(made.ravel())[1:].min() >= 40


def test_masks_of_one_value_are_split_into_their_parts(bench, numbered, tmp_path):
    for path in numbered.iterdir():
        mask = (pixels(path)[0, 0, 0] > 0).astype(np.uint8) * 255
        write_atomic(tmp_path / "masks" / path.name, encode_png(mask))
    result = evaluate(bench, "tiny", tmp_path / "masks", instances=True)
    assert any("connected parts" in note for note in result.notes)
    told = evaluate(bench, "tiny", numbered, instances=True)
    assert result.summary["classes"] == told.summary["classes"]
    assert not told.notes


def test_parts_of_a_class_are_the_objects_where_the_truth_holds_classes(bench, numbered, tmp_path):
    """As where they are numbered, the baselines too."""
    for path in numbered.iterdir():
        classes = np.where(pixels(path)[0, 0, 0] > 0, 2, 1).astype(np.uint8)
        write_atomic(tmp_path / "classes" / path.name, encode_png(classes))
    told = evaluate(bench, "tiny", numbered, instances=True)
    result = evaluate(bench, "tiny", tmp_path / "classes", instances=True)
    assert any("1 (ground), 2 (disc), not numbered objects: the connected parts of 'disc'" in n for n in result.notes)
    assert result.summary["classes"] == told.summary["classes"]
    assert result.summary["baselines"] == told.summary["baselines"]


def test_nothing_beside_values_of_classes_leaves_them_classes(bench, numbered, tmp_path):
    """The model writes no 0: where the truth has one, nobody has said what is there, and nothing is scored."""
    for path in numbered.iterdir():
        numbers = pixels(path)[0, 0, 0]
        classes = np.where(numbers > 0, 2, 1).astype(np.uint8)
        classes[:, :30] = 0
        write_atomic(tmp_path / "classes" / path.name, encode_png(classes))
        numbers[:, :30] = 255
        write_atomic(tmp_path / "known" / path.name, encode_png(numbers.astype(np.uint8)))
    told = evaluate(bench, "tiny", tmp_path / "known", instances=True, ignore=255)
    result = evaluate(bench, "tiny", tmp_path / "classes", instances=True)
    assert any("the connected parts of 'disc'" in note and "; 0 is unknown" in note for note in result.notes)
    assert result.summary["classes"] == told.summary["classes"]


@pytest.mark.parametrize(("several", "reading", "unsure"), [(True, "classes", False), (False, "numbers", True)])
def test_numbers_of_classes_in_several_places_are_classes(bench, numbered, several, reading, unsure):
    """Of a model that writes 0, 1 and 2: each value in one place may as well be an object's number."""
    header, _ = load(bench.project.models / "tiny")
    names = ("ground", "disc", "ring")
    header = replace(header, classes=tuple(ClassSpec(id=n, name=name, value=n) for n, name in enumerate(names)))
    truth = np.zeros((61, 75), np.uint8)
    truth[5:9, 5:9], truth[20:30, 20:30] = 1, 2
    truth[50:55, 60:70] = truth[40:44, 5:9] = 1 if several else 0
    truth[50, 60] = 1  # alone, a stray pixel says nothing
    write_atomic(numbered / "drawn2.png", encode_png(truth))
    record = bench.collection.find("drawn2.png")
    case = Case(record, numbered / "drawn2.png", numbered / "drawn2.png", taught=False)
    recipe = validate(EvaluateRecipe, {"instances": True, "class_name": "disc"})
    judge = ObjectJudge.of(header, recipe, [case])
    assert (judge.reading, judge.unsure) == (reading, unsure)
    assert judge.objects(truth).max() == (3 if several else 2)
    assert np.array_equal(judge.objects(truth) > 0, truth == 1 if several else truth > 0)
    (said,) = judge.notes()
    assert ("write them from 3 on" in said) is several
    assert ("masks of 'disc' alone" in said) is unsure


def test_what_is_unknown_is_ignored_among_objects(bench, numbered):
    path = numbered / "drawn2.png"
    truth = pixels(path)[0, 0, 0].copy()
    truth[:, 30:] = 9
    write_atomic(path, encode_png(truth))
    found = evaluate(bench, "tiny", numbered, instances=True, ignore=9).summary["classes"]["disc"]
    made = pixels(bench.project.predictions / "tiny" / "drawn2-instances.ome.zarr")[0, 0, 0]
    expected = score_objects(made, np.where(truth == 9, 0, truth), truth == 9)
    assert {metric: found[metric] for metric in expected} == expected


def test_a_baseline_stands_beside_objects_where_nothing_was_drawn(bench, numbered):
    """Taught by something else than strokes: the truth of what taught it teaches the baselines."""
    header, _ = load(bench.project.models / "tiny")
    records = bench.collection.all()
    cases = [Case(r, numbered / r.name, numbered / r.name, taught=r.name != "drawn2.png") for r in records]
    strange = replace(header, taught=(Taught(image="x", content_hash="none"),))
    lessons = class_lessons(bench, strange, cases, None)
    assert len(lessons) == 2
    for (picture, places), case in zip(lessons, cases[:2], strict=True):
        assert picture.shape == (61, 75, 3)
        assert np.array_equal(places == 2, pixels(case.truth)[0, 0, 0] > 0)


def test_questions_about_objects_that_have_no_answer(bench, numbered):
    with pytest.raises(NotFound, match="'disk'"):
        evaluate(bench, "tiny", numbered, instances=True, class_name="disk")
    with pytest.raises(BadRecipe, match="ask for instances"):
        evaluate(bench, "tiny", numbered, split="watershed")
    with pytest.raises(BadInput, match="Nothing says what is right"):
        evaluate(bench, "tiny", None)
    with pytest.raises(BadInput, match="--mask is for models that make images"):
        evaluate(bench, "tiny", numbered, mask=numbered)
    tifffile.imwrite(numbered / "drawn2.tif", np.zeros((60, 75), np.uint16))
    (numbered / "drawn2.png").unlink()
    with pytest.raises(BadInput, match=r"drawn2.tif: is 75 x 60 pixels, but drawn2.png is 75 x 61"):
        evaluate(bench, "tiny", numbered, instances=True)


@pytest.fixture
def stacks(tmp_path, monkeypatch):
    """A project of four stacks of two channels and five slices, and an untrained model taught by `s0` and `s1`."""
    use_fake_worker(monkeypatch)
    rng = np.random.default_rng(0)
    for number in range(4):
        stack = rng.integers(50, 200, (5, 2, 32, 24)).astype(np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "images" / f"s{number}.tif", stack, imagej=True, metadata={"axes": "ZCYX"})
    with Workbench.init(tmp_path / "project", ("a",)) as bench:
        bench.add([tmp_path / "images"])
        taught = [Taught(image=r.name, content_hash=r.content_hash) for r in bench.collection.all()[:2]]
        config = {"width": 4, "latent": 4, "depth": 1}
        net = build("autoencoder", config, 2, seed=3)
        header = Header(
            family="autoencoder",
            config=config,
            preparation=[scale_step(25.5)],
            outputs=("image", "features"),
            channels=2,
            stride=net.strides,
            halo=net.halo,
            tile_exact=net.tile_exact,
            taught=tuple(taught),
            details={"target_channels": ["first", "second"]},
        )
        save(bench.project.models / "painter", header, arrays_of(net))
        yield bench


def write_truth(bench, folder: Path, *, slices=slice(None), bright=0) -> Path:
    """A line of the input, with noise: (z, c, y, x) stacks; the upper half may be brighter."""
    rng = np.random.default_rng(1)
    folder.mkdir(exist_ok=True)
    for record in bench.collection.all():
        stack = pixels(record.path)[0].astype(np.float32)
        truth = np.stack([2 * stack[0] + 7, stack[1] - stack[0]]) + rng.normal(0, 0.5, stack.shape)
        truth[:, :, :16] += bright
        tifffile.imwrite(
            folder / f"{Path(record.name).stem}.tif",
            np.moveaxis(truth, 0, 1)[slices].astype(np.float32),
            imagej=True,
            metadata={"axes": "ZCYX"},
        )
    return folder


def test_images_are_scored_along_every_orientation(stacks, tmp_path):
    truth = write_truth(stacks, tmp_path / "truth")
    report = tmp_path / "reports" / "r.html"
    orientations = ["xy", "xz", "yz", "xyz"]
    result = evaluate(stacks, "painter", truth, orientations=orientations, report=report)
    found = result.to_json()
    assert (found["images"], sorted(found["taught"])) == (2, ["s0.tif", "s1.tif"])
    assert list(found["orientations"]) == orientations
    made, right = (pixels(p)[0] for p in (stacks.project.predictions / "painter" / "s2.ome.zarr", truth / "s2.tif"))
    planes = {"xy": 5, "xz": 32, "yz": 24, "xyz": 1}
    for axis, (orientation, count) in enumerate(planes.items()):
        with (report.parent / f"metrics_{orientation}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["pred_name", *METRICS]
        assert len(rows) == 2 * 2 * count
        last = count - 1
        a, b = (part[1] if orientation == "xyz" else part[1].take(last, axis) for part in (made, right))
        name = "s2_second" if orientation == "xyz" else f"s2_second_{orientation}{last}"
        row = next(row for row in rows if row["pred_name"] == name)
        assert {m: float(row[m]) if row[m] else None for m in METRICS} == pytest.approx(score_values(a, b))
    # the truth is a line of the input, so the line is right and the mean is not
    baselines = found["orientations"]["xyz"]["baselines"]
    assert baselines["linear"]["first"]["r2"] > 0.99
    assert abs(baselines["mean"]["second"]["r2"]) < 0.05
    assert found["channels"]["first"]["corr_interval"] is None
    assert "prediction" in report.read_text()
    columns, rows = result.table()
    assert columns == ["method", "channel", *METRICS]
    assert {row[0] for row in rows} == {"painter", "mean", "linear"}
    json.dumps(found, allow_nan=False)


def test_images_are_scored_within_masks_too(stacks, tmp_path):
    truth = write_truth(stacks, tmp_path / "truth", bright=300)
    (tmp_path / "masks").mkdir()
    mask = np.zeros((5, 32, 24), np.uint8)
    mask[:, :16] = 1
    for number in range(4):
        tifffile.imwrite(tmp_path / "masks" / f"s{number}.tif", mask, imagej=True, metadata={"axes": "ZYX"})
    report = tmp_path / "reports" / "r.html"
    result = evaluate(stacks, "painter", truth, mask=tmp_path / "masks", metrics=["corr", "mae"], report=report)
    with (report.parent / "metrics_xy.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["pred_name", "corr", "mae", "vol_frac", "corr_masked", "mae_masked"]
    made, right = (pixels(p)[0] for p in (stacks.project.predictions / "painter" / "s2.ome.zarr", truth / "s2.tif"))
    assert float(rows[0]["mae_masked"]) == pytest.approx(np.abs(made - right)[0, 0, :16].mean())
    assert float(rows[0]["vol_frac"]) == 0.5
    assert "mae_masked_interval" in result.summary["channels"]["first"]
    # the constant of all pixels is judged on all, that of what masks leave on what they leave
    taught = np.concatenate([pixels(truth / f"s{number}.tif")[0, 0] for number in (0, 1)])
    scored = np.concatenate([pixels(truth / f"s{number}.tif")[0, 0] for number in (2, 3)])
    mean = result.to_json()["orientations"]["xy"]["baselines"]["mean"]["first"]
    assert mean["mae"] == pytest.approx(np.abs(scored - taught.mean()).mean(), rel=1e-5)
    inner = np.abs(scored[:, :16] - taught[:, :16].mean()).mean()
    assert mean["mae_masked"] == pytest.approx(inner, rel=1e-5)
    (tmp_path / "masks" / "s3.tif").unlink()
    with pytest.raises(BadInput, match=r"no mask for s3\.tif"):
        evaluate(stacks, "painter", truth, mask=tmp_path / "masks")


def test_channels_of_the_images_themselves_can_be_the_truth(stacks):
    header, weights = load(stacks.project.models / "painter")
    save(stacks.project.models / "painter", replace(header, details={}), weights)
    found = evaluate(stacks, "painter", None, target_channels=[1, 0]).summary
    assert list(found["channels"]) == ["channel 0", "channel 1"]
    with pytest.raises(BadInput, match=r"answers 2.*--target-channels"):
        evaluate(stacks, "painter", None, target_channels=[0])
    with pytest.raises(BadInput, match=r"answers 2.*--target-channels"):
        evaluate(stacks, "painter", None, target_channels=[0, 5])


def test_one_true_slice_belongs_to_the_middle(stacks, tmp_path):
    truth = write_truth(stacks, tmp_path / "truth", slices=slice(2, 3))
    report = tmp_path / "reports" / "r.html"
    result = evaluate(stacks, "painter", truth, report=report, metrics=["mae"])
    assert any("the middle one is compared" in note for note in result.notes)
    with (report.parent / "metrics_xy.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["pred_name"] for row in rows] == ["s2_first_xy2", "s2_second_xy2", "s3_first_xy2", "s3_second_xy2"]
    made, right = (pixels(p)[0] for p in (stacks.project.predictions / "painter" / "s3.ome.zarr", truth / "s3.tif"))
    assert float(rows[3]["mae"]) == pytest.approx(np.abs(made[1, 2] - right[1, 0]).mean())


def test_a_baseline_stands_beside_images_whose_teachers_are_out_of_reach(stacks, tmp_path):
    truth = write_truth(stacks, tmp_path / "truth")
    for name in ("s0.tif", "s1.tif"):
        (truth / name).unlink()
    result = evaluate(stacks, "painter", truth, orientations=["xyz"])
    assert list(result.summary["baselines"]) == ["own mean"]
    assert any("no constant can beat" in note for note in result.notes)


def test_targets_of_the_run_teach_the_baselines(stacks, tmp_path):
    from fieldmark.workbench.runs import new_run, write_run

    truth, lessons = write_truth(stacks, tmp_path / "truth"), write_truth(stacks, tmp_path / "lessons")
    for name in ("s0.tif", "s1.tif"):
        (truth / name).unlink()
    run = new_run(stacks.project, "autoencoder", "painter")
    write_run(run)
    records = stacks.collection.all()
    images = [
        {"name": r.name, "uri": r.uri, "content_hash": r.content_hash, "target": str(lessons / r.name)} for r in records
    ]
    write_atomic(run.folder / "job.json", json.dumps({"images": images}).encode())
    header, weights = load(stacks.project.models / "painter")
    save(stacks.project.models / "painter", replace(header, details={"run": run.id}), weights)
    result = evaluate(stacks, "painter", truth)
    assert list(result.summary["baselines"]) == ["mean", "linear"]
    assert result.summary["baselines"]["linear"]["channel 0"]["r2"] > 0.99
    assert result.report == run.folder / "report.html"
    assert (run.folder / "metrics_xy.csv").is_file()


def test_questions_about_images_that_have_no_answer(stacks, tmp_path):
    truth = write_truth(stacks, tmp_path / "truth")
    with pytest.raises(BadInput, match="hold no objects"):
        evaluate(stacks, "painter", truth, instances=True)
    with pytest.raises(NotFound, match="'ssimm'"):
        evaluate(stacks, "painter", truth, metrics=["ssimm"])
    with pytest.raises(BadRecipe, match="orientations"):
        evaluate(stacks, "painter", truth, orientations=["zz"])
    tifffile.imwrite(truth / "s3.tif", np.zeros((5, 2, 32, 20), np.float32), imagej=True, metadata={"axes": "ZCYX"})
    with pytest.raises(BadInput, match=r"s3.tif: its shape .* does not fit that of s3.tif"):
        evaluate(stacks, "painter", truth)


TAUGHT = (
    "net.filters=[4,8]",
    "train.crop=[32,32]",
    "train.epochs=1",
    "train.crops_per_epoch=8",
    "data.target.kind=labels",
    "data.split={train: 0.34, validation: 0.33, test: 0.33}",
)


@pytest.mark.parametrize("objects", [True, False])
def test_baselines_learn_from_the_label_maps_that_taught_and_not_from_strokes(bench, tmp_path, objects):
    """Strokes lie on the images too, and taught another model."""
    for seed in range(3):
        mask = draw_discs(61, 75, seed=seed).mask
        values = label(mask).astype(np.uint16) if objects else (mask > 0).astype(np.uint8) * 7
        if not objects:
            values[:, :20] = 9
        write_atomic(tmp_path / "maps" / f"drawn{seed}.png", encode_png(values))
    told = (f"data.target.folder={tmp_path / 'maps'}", f"data.target.objects={objects}".lower())
    run, events = bench.fit("unet", overrides=(*TAUGHT, *told, "data.target.ignore=9"))
    list(events)
    header, _ = load(bench.project.models / run.model)
    lessons = class_lessons(bench, header, [], None)
    names = [item.image for item in header.taught]
    assert len(lessons) == len(names) == 2
    for (_, places), name in zip(lessons, sorted(names), strict=True):
        truth = pixels(tmp_path / "maps" / name)[0, 0, 0].astype(int)
        known = truth != 9
        assert np.array_equal(places > 0, known)
        assert np.array_equal(places[known] == 2, truth[known] > 0)


def test_baselines_learn_from_the_strokes_of_the_fit_and_not_from_later_ones(bench):
    header, _ = load(bench.project.models / "tiny")
    before = class_lessons(bench, header, [], None)
    record = bench.collection.find("drawn0.png")
    path = Polyline(np.array([(10.0, 10.0), (50.0, 50.0)]), 9.0)
    bench.labels.draw(record.id, bench.labels.classes()[1].id, path, "ann")
    after = class_lessons(bench, header, [], None)
    assert len(before) == 2
    for (_, then), (_, now) in zip(before, after, strict=True):
        assert np.array_equal(then, now)


def test_what_somebody_drew_on_an_image_is_no_answer_of_the_model(bench, tmp_path):
    """A mask that is all wrong is painted on the image that is scored, after the fit; or the right one."""
    mask = draw_discs(61, 75, seed=2).mask > 0
    write_atomic(tmp_path / "truth" / "drawn2.png", encode_png(mask.astype(np.uint8) + 1))
    before = evaluate(bench, "tiny", tmp_path / "truth").summary["classes"]
    for folder, painted in (("wrong", 2 - mask), ("right", mask + 1)):
        write_atomic(tmp_path / folder / "drawn2.png", encode_png(painted.astype(np.uint8)))
        bench.import_labels(tmp_path / folder, "masks")
        assert evaluate(bench, "tiny", tmp_path / "truth").summary["classes"] == before


def test_masks_with_a_palette_are_read_by_their_numbers(bench, tmp_path):
    """As when they are imported, or teach."""
    from PIL import Image

    for folder in ("plain", "palette"):
        (tmp_path / folder).mkdir()
    mask = (draw_discs(61, 75, seed=2).mask > 0).astype(np.uint8) + 1
    picture = Image.fromarray(mask, "P")
    picture.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
    picture.save(tmp_path / "palette" / "drawn2.png")
    write_atomic(tmp_path / "plain" / "drawn2.png", encode_png(mask))
    found = [evaluate(bench, "tiny", tmp_path / folder).summary["classes"] for folder in ("plain", "palette")]
    assert found[0] == found[1]


def test_a_report_says_what_taught_which_images_chose_and_how_validation_went(bench, numbered, tmp_path):
    """Of label maps no strokes are counted, though some lie on the images."""
    run, events = bench.fit("unet", overrides=(*TAUGHT, f"data.target.folder={numbered}", "data.target.objects=true"))
    list(events)
    header, _ = load(bench.project.models / run.model)
    page = evaluate(bench, run.model, numbered, instances=True).report.read_text()
    for said, part in (("Learned from", "train"), ("Chose the epoch by", "validation"), ("Held out", "test")):
        (name,) = header.details["split"][part]
        assert re.search(rf"{said}[^<]*: {re.escape(name)}\.", page)
    assert "It learned from label maps" in page
    assert "strokes as they are now" not in page
    assert "validation</" in page
    page = evaluate(bench, "tiny", numbered, instances=True).report.read_text()
    assert "strokes as they are now" in page
    assert "Chose the epoch" not in page


def test_planes_of_frames_that_do_not_count_from_0_have_no_files_of_their_own(bench, tmp_path):
    """`predict` names them by their frames, `labels export` by place: a file could be of either plane."""
    from fieldmark.workbench.frames import add_frames

    for z in (1, 2):
        image = draw_discs(61, 75, seed=30 + z).image
        for c in range(3):
            file = tmp_path / "frames" / f"im_c{c:03d}_z{z:03d}_t000_p000.png"
            write_atomic(file, encode_png(np.ascontiguousarray(image[..., c])))
    add_frames(bench, [tmp_path / "frames"])
    (name,) = (record.name for record in bench.collection.all() if record.shape[2] == 2)
    write_atomic(tmp_path / "truth" / f"{name}_t0_z1.png", encode_png(np.ones((61, 75), np.uint8)))
    with pytest.raises(BadInput, match=r"could be of two planes\. Give one stack as truth"):
        bench.evaluate("tiny", tmp_path / "truth", only={name}, report=tmp_path / "report.html")
