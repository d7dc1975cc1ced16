from __future__ import annotations

import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from fieldmark.checkpoint import load, save
from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile, BadInput, InputMismatch, InUse, NotFound
from fieldmark.images import open_image
from fieldmark.infer import jobs
from fieldmark.recipes import PredictRecipe
from fieldmark.testing.drawn import draw_discs
from fieldmark.workbench.locks import alone
from fieldmark.workbench.predicting import stem_of, unique_stems

SUFFIX = {"ome-zarr": ".ome.zarr", "tiff": ".tif", "png": ".png"}
MODEL_ALONE = PredictRecipe(propagate="none", tile=64)


def predict(bench, out: Path, *, form: str = "png", images=(), recipe: PredictRecipe = MODEL_ALONE, model="tiny"):
    return list(bench.predict(model, images, out=out, form=form, recipe=recipe))


def pixels(path: Path) -> np.ndarray:
    with open_image(path) as source:
        return source.read(Box.whole(source.shape))


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def seen(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_the_formats_hold_equal_labels_and_originals_stay_untouched(bench, tmp_path):
    images = Path(bench.collection.find("drawn0.png").uri).parent
    before = hashes(images)
    for form, suffix in SUFFIX.items():
        predict(bench, tmp_path / form, form=form)
        assert seen(tmp_path / form) == [f"drawn{n}{suffix}" for n in range(3)]
    for number in range(3):
        maps = [pixels(tmp_path / form / f"drawn{number}{suffix}") for form, suffix in SUFFIX.items()]
        assert maps[0].shape == (1, 1, 1, 61, 75)
        assert maps[0].dtype == np.uint8
        assert set(np.unique(maps[0])) == {1, 2}
        assert all(np.array_equal(maps[0], other) for other in maps[1:])
        truth = draw_discs(61, 75, seed=number).mask + 1
        assert (maps[0][0, 0, 0] == truth).mean() > 0.9  # rows are rows: a turned or shifted map would fail
    assert hashes(images) == before


def test_the_formats_hold_equal_probabilities(bench, tmp_path):
    recipe = PredictRecipe(propagate="none", probabilities=True)
    for form in SUFFIX:
        predict(bench, tmp_path / form, form=form, images=["drawn2.png"], recipe=recipe)
    exact = pixels(tmp_path / "ome-zarr" / "drawn2-probabilities.ome.zarr")
    assert exact.shape == (1, 2, 1, 61, 75)
    assert np.allclose(exact.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(pixels(tmp_path / "tiff" / "drawn2-probabilities.tif"), exact)
    for place, name in enumerate(["ground", "disc"]):
        sixteen = pixels(tmp_path / "png" / f"drawn2-probabilities-{name}.png")
        assert sixteen.dtype == np.uint16
        assert np.array_equal(sixteen[0, 0], np.rint(exact[0, place] * 65535))
    assert np.array_equal(pixels(tmp_path / "png" / "drawn2.png")[0, 0], exact[0].argmax(axis=0) + 1)


def test_values_are_those_that_the_model_says(bench, tmp_path):
    header, weights = load(bench.project.models / "tiny")
    values = (replace(header.classes[0], value=0), replace(header.classes[1], value=700))
    save(tmp_path / "other", replace(header, classes=values), weights)
    predict(bench, tmp_path / "own", images=["drawn2.png"])
    predict(bench, tmp_path / "out", images=["drawn2.png"], model=str(tmp_path / "other"))
    found = pixels(tmp_path / "out" / "drawn2.png")
    assert found.dtype == np.uint16
    assert np.array_equal(found, np.where(pixels(tmp_path / "own" / "drawn2.png") == 1, 0, 700))


def test_sub_folders_are_kept(bench, tmp_path):
    images = Path(bench.collection.find("drawn2.png").uri).parent
    shutil.copytree(images, tmp_path / "more" / "a" / "b")
    for number, path in enumerate(sorted((tmp_path / "more" / "a" / "b").iterdir())):
        path.write_bytes(path.read_bytes() + bytes([number]))  # another content than the first copies
    bench.add([tmp_path / "more"])
    predict(bench, tmp_path / "out", images=["a/b/drawn1.png", "drawn1.png"])
    assert (tmp_path / "out" / "a" / "b" / "drawn1.png").is_file()
    assert (tmp_path / "out" / "drawn1.png").is_file()


def test_a_second_run_changes_nothing_and_another_recipe_writes_anew(bench, tmp_path):
    predict(bench, tmp_path / "out")
    before = hashes(tmp_path / "out")
    events = predict(bench, tmp_path / "out")
    assert [event.message for event in events] == [f"drawn{n}.png: already there" for n in range(3)]
    assert hashes(tmp_path / "out") == before | hashes(tmp_path / "out")
    events = predict(bench, tmp_path / "out", recipe=PredictRecipe(propagate="none", tile=128))
    assert any(event.phase == "predict" for event in events)


def test_two_runs_never_write_into_one_folder(bench, tmp_path):
    predict(bench, tmp_path / "good")
    first = bench.predict("tiny", (), out=tmp_path / "out", form="png", recipe=MODEL_ALONE)
    next(first)
    for recipe in (MODEL_ALONE, PredictRecipe(propagate="none", tile=128)):
        with pytest.raises(InUse, match=r"out: another run is writing predictions there"):
            predict(bench, tmp_path / "out", recipe=recipe)
    predict(bench, tmp_path / "elsewhere")
    list(first)
    predict(bench, tmp_path / "out")
    for number in range(3):
        name = f"drawn{number}.png"
        assert np.array_equal(pixels(tmp_path / "out" / name), pixels(tmp_path / "good" / name))


def test_a_worker_waits_for_the_one_before_it(bench, tmp_path, monkeypatch):
    """A command that was killed leaves its worker behind, until that is done with a tile."""
    monkeypatch.setattr("fieldmark.workbench.worker.PATIENCE_SECONDS", 0.0)
    with (
        alone(tmp_path / "out" / ".fieldmark" / "worker.lock", "held by the test"),
        pytest.raises(InUse, match=r"worker\.lock: another worker is still writing there"),
    ):
        predict(bench, tmp_path / "out")
    assert seen(tmp_path / "out") == []
    predict(bench, tmp_path / "out")


def test_two_images_of_one_stem_are_both_named(bench, tmp_path):
    from fieldmark.images import encode_png

    (tmp_path / "twins").mkdir()
    for name in ("cell.png", "cell.ome.png"):
        (tmp_path / "twins" / name).write_bytes(encode_png(np.full((8, 9, 3), len(name), np.uint8)))
    bench.add([tmp_path / "twins"])
    with pytest.raises(BadInput, match=r"cell(\.ome)?\.png and cell(\.ome)?\.png would both be written as cell"):
        predict(bench, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_image_named_as_the_probabilities_of_another_is_refused(bench, tmp_path, folder):
    from fieldmark.images import encode_png

    (folder / "drawn0-probabilities.png").write_bytes(encode_png(np.zeros((8, 9, 3), np.uint8)))
    bench.add([folder / "drawn0-probabilities.png"])
    with pytest.raises(BadInput, match=r"drawn0.*\.png and drawn0.*\.png would both write"):
        predict(bench, tmp_path / "out", form="tiff", recipe=PredictRecipe(probabilities=True))


def test_nothing_is_written_into_a_folder_of_images(bench, tmp_path):
    images = Path(bench.collection.find("drawn0.png").uri).parent
    before = hashes(images.parent / "images")
    for out in (images, images / ".." / "images"):
        with pytest.raises(BadInput, match="holds images of the project"):
            predict(bench, out, form="tiff")
    (tmp_path / "link").symlink_to(images, target_is_directory=True)
    with pytest.raises(BadInput, match="holds images of the project"):
        predict(bench, tmp_path / "link", form="tiff")
    assert hashes(images) == before


def test_sub_folders_of_the_images_are_safe_too(bench, tmp_path):
    from fieldmark.images import encode_png

    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "sub" / "one.png").write_bytes(encode_png(np.zeros((8, 9, 3), np.uint8)))
    bench.add([tmp_path / "root"])
    with pytest.raises(BadInput, match="holds images of the project"):
        predict(bench, tmp_path / "root", form="tiff", images=["sub/one.png"])
    assert seen(tmp_path / "root" / "sub") == ["one.png"]


@pytest.mark.parametrize("name", ["drawn1.png", "drawn1-probabilities-disc.png"])
def test_files_of_strangers_are_not_overwritten(bench, tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"mine")
    with pytest.raises(BadInput, match="Fieldmark did not write it"):
        predict(bench, tmp_path / "out", recipe=PredictRecipe(probabilities=True))
    assert seen(tmp_path / "out") == [name]
    assert (tmp_path / "out" / name).read_bytes() == b"mine"


def test_an_output_folder_that_is_a_file_is_refused(bench, tmp_path):
    (tmp_path / "out").write_bytes(b"mine")
    with pytest.raises(BadInput, match="is a file"):
        predict(bench, tmp_path / "out")


def test_names_never_lead_out_of_the_folder():
    assert stem_of("sub/cell.ome.tif") == "sub/cell"
    assert stem_of("../../up/cell.png") == "up/cell"
    assert stem_of("/etc/cell.png") == "etc/cell"
    assert stem_of("a.b.png") == "a.b"
    assert stem_of("x.OME.ZARR") == "x"


def test_class_names_never_lead_out_of_the_folder(bench, tmp_path):
    header, weights = load(bench.project.models / "tiny")
    classes = (replace(header.classes[0], name="../../up"), replace(header.classes[1], name="a b"))
    save(tmp_path / "other", replace(header, classes=classes), weights)
    recipe = PredictRecipe(propagate="none", probabilities=True)
    predict(bench, tmp_path / "out", images=["drawn2.png"], recipe=recipe, model=str(tmp_path / "other"))
    assert seen(tmp_path / "out") == [
        "drawn2-probabilities-______up.png",
        "drawn2-probabilities-a_b.png",
        "drawn2.png",
    ]


def test_unique_stems_needs_no_project(bench):
    records = bench.collection.all()
    assert unique_stems(records) == {record.id: f"drawn{n}" for n, record in enumerate(records)}


def test_an_image_that_has_changed_is_refused_by_name(bench, tmp_path):
    path = bench.collection.find("drawn1.png").path
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BadFile, match=r"drawn1\.png: its content has changed"):
        predict(bench, tmp_path / "out")
    assert seen(tmp_path / "out") == ["drawn0.png"]  # what was finished before stays


def test_an_image_that_is_gone_is_refused_by_name(bench, tmp_path):
    bench.collection.find("drawn0.png").path.unlink()
    with pytest.raises(BadFile, match=r"drawn0\.png: .* is not there any more"):
        predict(bench, tmp_path / "out")


def test_wrong_channels_and_wrong_numbers_name_the_image(bench, tmp_path, folder):
    np.save(folder / "gray.npy", np.zeros((9, 9), np.uint8))
    hole = np.zeros((1, 3, 1, 9, 9), np.float32)
    hole[0, 1, 0, 4, 4] = np.nan
    np.save(folder / "hole.npy", hole)
    bench.add([folder / "gray.npy", folder / "hole.npy"])
    with pytest.raises(InputMismatch, match=r"'tiny' .*3-channel.*'gray\.npy' has 1"):
        predict(bench, tmp_path / "out", images=["gray.npy"])
    with pytest.raises(BadInput, match=r"hole\.npy: holds pixels that are NaN"):
        predict(bench, tmp_path / "out", images=["hole.npy"])
    assert seen(tmp_path / "out") == []


def test_names_that_nothing_has(bench, tmp_path):
    with pytest.raises(NotFound, match=r"No model is called 'tinny'\. Did you mean 'tiny'"):
        predict(bench, tmp_path / "out", model="tinny")
    with pytest.raises(NotFound, match=r"drawn9\.png"):
        predict(bench, tmp_path / "out", images=["drawn9.png"])


STOPS = ["place", "place_probabilities", "write_atomic", "shutil.rmtree"]


@pytest.mark.parametrize(("step", "form"), [*((step, "ome-zarr") for step in STOPS), ("place", "png")])
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_while_delivering_loses_nothing(bench, tmp_path, monkeypatch, form, step, after):
    """The worst moments: before and after each thing that is done once the last tile is predicted."""
    recipe = PredictRecipe(propagate="none", probabilities=True)
    predict(bench, tmp_path / "good", form=form, images=["drawn2.png"], recipe=recipe)

    owner, _, name = f"fieldmark.infer.jobs.{step}".rpartition(".")
    real = jobs.shutil.rmtree if step == "shutil.rmtree" else getattr(jobs, name)

    def crash(*arguments, **options):
        if after:
            real(*arguments, **options)
        raise KeyboardInterrupt

    if step == "shutil.rmtree":
        crash_at(
            monkeypatch,
            jobs.shutil,
            "rmtree",
            real,
            after,
            only=lambda path: Path(path).name == "drawn2" + SUFFIX[form],
        )
    elif step == "write_atomic":
        crash_at(monkeypatch, jobs, name, real, after, only=lambda path: path.suffix == ".json")
    else:
        monkeypatch.setattr(f"{owner}.{name}", crash)
    with pytest.raises(KeyboardInterrupt):
        predict(bench, tmp_path / "out", form=form, images=["drawn2.png"], recipe=recipe)
    monkeypatch.undo()
    from fieldmark.testing.worker import use_fake_worker

    use_fake_worker(monkeypatch)
    predict(bench, tmp_path / "out", form=form, images=["drawn2.png"], recipe=recipe)
    assert seen(tmp_path / "out") == seen(tmp_path / "good")
    for path in seen(tmp_path / "good"):
        assert np.array_equal(pixels(tmp_path / "out" / path), pixels(tmp_path / "good" / path))


def crash_at(monkeypatch, owner, name, real, after, *, only):
    def stop(path, *arguments, **options):
        if not only(Path(path)):
            return real(path, *arguments, **options)
        if after:
            real(path, *arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, stop)


def test_images_of_another_type_than_taught_are_named_once(bench, tmp_path, folder):
    """Pixels of 16 bits seen by a model of 8: what is white there is nearly black here."""
    for name in ("wide0", "wide1"):
        np.save(folder / f"{name}.npy", draw_discs(61, 75).image.astype(np.uint16).transpose(2, 0, 1)[None, :, None])
    bench.add([folder / "wide0.npy", folder / "wide1.npy"])
    notes = [event.message for event in predict(bench, tmp_path / "out") if event.phase == "note"]
    assert notes == [
        "wide0.npy holds uint16, and 'tiny' was taught by uint8: its values are taken as they are. Bring them into the "
        "range of the images that taught."
    ]
