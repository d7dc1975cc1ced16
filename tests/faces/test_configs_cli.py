"""`fit --config` and `train --config` on files of OpenFIBSEM and microDL, outside of any project."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from benchmarks.config_claims import MICRODL, OPENFIBSEM
from fieldmark.checkpoint import load
from fieldmark.errors import WorkerFailed
from fieldmark.recipes import load_recipe
from fieldmark.testing.drawn import draw_discs
from fieldmark.workbench import fitting, worker
from fieldmark.workbench.locks import alone
from fieldmark.workbench.loose.fit import follow_plan, opened, plan_fit
from fieldmark.workbench.targets import facts_of
from tests.faces.looking import read, tree

pytestmark = pytest.mark.usefixtures("worker_here", "own_folder")

SMALL = ["--set", "train.epochs=2", "--set", "net.encoder=unet", "--set", "net.filters=[4,8]"]


def draw(folder: Path, *, images: str = "images", labels: str = "labels", count: int = 8, side: int = 64) -> None:
    """Pairs of TIFFs as OpenFIBSEM lays them out."""
    for name in (images, labels):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        drawn = draw_discs(side, side, seed=index)
        gray = np.asarray(drawn.image) if drawn.image.ndim == 2 else drawn.image.mean(axis=-1).astype(np.uint8)
        tifffile.imwrite(folder / images / f"cell{index}.tif", gray)
        tifffile.imwrite(folder / labels / f"cell{index}.tif", drawn.mask.astype(np.uint8))


def write(tmp_path: Path, text: str = OPENFIBSEM, **paths: str) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(text.format(**({"data": "data", "save": "models"} | paths)))
    return file


def test_the_documented_file_teaches_a_model_that_predicts(cli, tmp_path):
    draw(tmp_path / "data")
    originals = tree(tmp_path / "data")
    status, out, err = cli("fit", "--config", write(tmp_path), *SMALL)
    assert status == 0, err
    folder = tmp_path / "models/unet-resnet34"
    assert str(folder) in out
    assert {"model.json", "history.csv", "recipe.yaml"} <= {path.name for path in folder.iterdir()}
    header = load(folder)[0]
    assert [(spec.name, spec.value) for spec in header.classes] == [("background", 0), ("class 1", 1), ("class 2", 2)]
    for words in ("train.cuda", "train.wandb_project", "pip install 'fieldmark[wandb]'", "val_dice"):
        assert words in err
    assert not (tmp_path / "fieldmark.toml").exists()
    status, _, err = cli("predict", folder, "data/images", "--out", "out", "--format", "tiff")
    assert status == 0, err
    values = read(tmp_path / "out/cell0.tif")
    assert values.shape[-2:] == (64, 64)
    assert set(np.unique(values)) <= {0, 1, 2}
    assert tree(tmp_path / "data") == originals


def test_a_microdl_file_teaches_one_channel_from_another(cli, tmp_path):
    """The file that `benchmarks.config_claims` teaches virtual staining with, on frames that are drawn."""
    (tmp_path / "frames").mkdir()
    for position in range(4):
        for z in range(2):
            seen = draw_discs(64, 64, seed=10 * position + z).image.mean(axis=-1)
            for channel, values in enumerate((seen, 1000 + 20 * (255 - seen))):
                name = f"im_c{channel:03d}_z{z:03d}_t000_p{position:03d}.tif"
                tifffile.imwrite(tmp_path / "frames" / name, values.astype(np.uint16))
    (tmp_path / "config.yml").write_text(MICRODL.format(data="frames", save="models"))
    small = ["--set", "net.filters=[4,8]", "--set", "train.crop=[32,32]", "--set", "train.epochs=30"]
    status, out, err = cli("fit", "--config", "config.yml", *small, "--set", "train.lr=1e-2", "--json")
    assert status == 0, err
    stack = np.stack([draw_discs(64, 64, seed=100 + z).image.mean(axis=-1) for z in range(2)])
    (tmp_path / "new").mkdir()
    tifffile.imwrite(tmp_path / "new/stack.ome.tif", stack.astype(np.uint16), metadata={"axes": "ZYX"}, ome=True)
    status, _, err = cli("predict", json.loads(out)["folder"], "new", "--out", "out", "--format", "tiff")
    assert status == 0, err
    (made,) = (tmp_path / "out").glob("*.tif")
    painted = read(made).reshape(2, 64, 64)
    right = 1000 + 20 * (255 - stack)
    assert np.corrcoef(painted.ravel(), right.ravel())[0, 1] > 0.9
    assert abs(painted.mean() / right.mean() - 1) < 0.1  # in the target's units


def test_begun_again_it_goes_on_or_is_taken_as_it_is(cli, tmp_path):
    draw(tmp_path / "data")
    config = write(tmp_path)
    assert cli("fit", "--config", config, *SMALL)[0] == 0
    first = tree(tmp_path / "models/unet-resnet34")
    status, _, err = cli("fit", "--config", config, *SMALL)
    assert status == 0
    assert "The same was learned before" in err
    assert tree(tmp_path / "models/unet-resnet34") == first


def test_the_same_is_never_learned_twice_at_once(cli, tmp_path):
    """Both workers wrote one run, and its history.csv held each epoch twice, in no order."""
    draw(tmp_path / "data")
    config = write(tmp_path)
    first = follow_plan(plan_fit(config, overrides=tuple(SMALL[1::2])))
    assert any(event.metrics for event in first)  # it has learned an epoch, and is not at its end
    for command in ("fit", "lr-find"):
        status, _, err = cli(command, "--config", config, *SMALL)
        assert status == 1
        assert "models: another run is at work there. Wait until it has ended" in err
    list(first)
    model = tmp_path / "models/unet-resnet34"
    epochs = [row.split(",")[-1] for row in (model / "history.csv").read_text().splitlines() if ",epoch," in row]
    assert [float(epoch) for epoch in epochs] == [1, 2]
    assert cli("fit", "--config", config, *SMALL)[0] == 0


def test_what_a_killed_command_left_at_work_is_waited_for(cli, tmp_path, monkeypatch):
    """A worker whose command was killed goes on until its next event."""
    monkeypatch.setattr(worker, "PATIENCE_SECONDS", 0.1)
    draw(tmp_path / "data")
    config = write(tmp_path)
    first = follow_plan(plan_fit(config, overrides=tuple(SMALL[1::2])))
    assert any(event.metrics for event in first)
    first.close()
    (run,) = (tmp_path / "models/.fieldmark").glob("*/runs/*")
    with alone(run / "worker.lock", "busy"):
        status, _, err = cli("fit", "--config", config, *SMALL)
        assert status == 1
        assert "worker.lock: another worker is still writing there" in err
    assert cli("fit", "--config", config, *SMALL)[0] == 0


def test_a_sweep_of_its_rates_is_not_taken_for_the_fit_of_a_file(cli, tmp_path):
    """Both lie in one project beside the model; so does a run that was killed before it was written down."""
    draw(tmp_path / "data")
    config = write(tmp_path)
    status, _, err = cli("lr-find", "--config", config, *SMALL, "--steps", "10")
    assert status == 0, err
    (swept,) = (tmp_path / "models").glob(".fieldmark/*/runs/*")
    shutil.copytree(swept, swept.with_name(f"{swept.name}-9"), ignore=shutil.ignore_patterns("job.*"))
    status, _, err = cli("fit", "--config", config, *SMALL)
    assert status == 0, err
    assert load(tmp_path / "models/unet-resnet34")[0].details["run"] not in (swept.name, f"{swept.name}-9")


@pytest.mark.parametrize(
    ("images", "labels"), [("train/images", "train/labels"), (".", "labels"), ("train", "train/labels")]
)
def test_other_layouts_teach_the_same(cli, tmp_path, images, labels):
    draw(tmp_path / "data", count=4)
    draw(tmp_path / "other", images=images, labels=labels, count=4)
    (tmp_path / "other" / labels / "rgb").mkdir()
    shutil.copy(tmp_path / "other" / labels / "cell0.tif", tmp_path / "other" / labels / "rgb/cell0.tif")
    weights = []
    for data in ("data", "other"):
        status, _, err = cli("fit", "--config", write(tmp_path, data=data, save=f"{data}-models"), *SMALL)
        assert status == 0, err
        weights.append(load(tmp_path / f"{data}-models/unet-resnet34")[1])
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_several_folders_are_one_data_set(cli, tmp_path):
    draw(tmp_path / "one", count=3)
    draw(tmp_path / "two", count=2)
    text = "data_paths: [one/images, two/images]\nlabel_paths: [one/labels, two/labels]\nsave_path: models\n"
    (tmp_path / "config.yaml").write_text(text)
    status, out, err = cli("fit", "--config", "config.yaml", *SMALL, "--json")
    assert status == 0, err
    header = load(Path(json.loads(out)["folder"]))[0]
    assert len(header.taught) == 5


def test_linked_images_of_several_folders_keep_their_own_label_maps(tmp_path):
    """Two links to one file were one image, and the maps behind them went to its neighbors."""
    for part, names in (("a", ("1", "2", "3")), ("b", ("4",))):
        for place, what in ((0, "images"), (1, "labels")):
            (tmp_path / part / what).mkdir(parents=True)
            for name in names:
                values = np.full((64, 64), 10 * place + int(name), np.uint8)
                tifffile.imwrite(tmp_path / part / what / f"{name}.tif", values)
    (tmp_path / "a/images/1.tif").unlink()
    (tmp_path / "a/images/1.tif").symlink_to("3.tif")
    text = "data_paths: [a/images, b/images]\nlabel_paths: [a/labels, b/labels]\nsave_path: models\n"
    plan = plan_fit(write(tmp_path, text), overrides=tuple(SMALL[1::2]))
    with opened(plan) as (bench, recipe):
        facts = facts_of(bench.collection.all(), recipe.data)
    assert {fact["name"]: int(tifffile.imread(fact["target"])[0, 0]) for fact in facts} == {
        f"{name}.tif": 10 + name for name in range(1, 5)
    }


def test_train_is_the_same_command_and_begins_with_given_weights(cli, tmp_path):
    draw(tmp_path / "data", count=4)
    config = write(tmp_path)
    assert cli("fit", "--config", config, *SMALL)[0] == 0
    assert cli("train", "--config", config, *SMALL, "--name", "same", "--gpu_mem_frac", "0.5")[0] == 0
    first, same = (load(tmp_path / "models" / name)[1] for name in ("unet-resnet34", "same"))
    assert all(np.array_equal(first[name], same[name]) for name in first)
    start = ["--model_fname", "models/same", "--set", "train.epochs=1", "--set", "train.lr=1e-9"]
    status, _, err = cli("train", "--config", config, *start, "--name", "more")
    assert status == 0, err
    assert "encoder: the network is that of the model to begin with, 'unet', and not 'resnet34'" in err
    more = load(tmp_path / "models/more")[1]
    name = next(name for name in same if name.endswith("weight") and same[name].ndim == 4)
    assert np.abs(more[name] - same[name]).max() < 1e-6


def test_a_checkpoint_is_one_of_ours_or_refused_by_name(cli, tmp_path):
    draw(tmp_path / "data", count=2)
    (tmp_path / "old.pt").write_bytes(b"no archive")
    for checkpoint, words in (
        ("Model_2019.hdf5", ["Keras", "Fit the model again"]),
        ("missing.pt", ["no such file"]),
        ("weights.bin", ["no model folder"]),
        ("old.pt", ["pip install 'fieldmark[backbones]'"] if not _has_timm() else ["no archive"]),
    ):
        config = write(tmp_path, OPENFIBSEM.replace("checkpoint: null", f"checkpoint: {checkpoint}"))
        status, _, err = cli("fit", "--config", config, *SMALL)
        assert status == 1
        assert all(word in err for word in [checkpoint, *words]), err
        assert not (tmp_path / "models/unet-resnet34").exists()


def _has_timm() -> bool:
    from importlib.util import find_spec

    return find_spec("timm") is not None


def test_what_cannot_be_fitted_is_said(cli, tmp_path):
    draw(tmp_path / "data", count=3)
    draw(tmp_path / "odd", count=3)
    (tmp_path / "odd/labels/cell2.tif").unlink()
    (tmp_path / "empty").mkdir()
    for paths, words in (
        ({"data": "nowhere"}, ["nowhere", "no such folder"]),
        ({"data": "empty"}, ["empty", "images", "labels"]),
        ({"data": "odd"}, ["3 images", "2 label maps", "cell2"]),
        ({"save": "data/models"}, ["data", "only read"]),
    ):
        status, _, err = cli("fit", "--config", write(tmp_path, **paths), *SMALL)
        assert status == 1
        assert all(word in err for word in words), err
    status, _, err = cli("fit", "--config", write(tmp_path, OPENFIBSEM.replace("epochs:", "epoch:")))
    assert status == 1
    assert re.search(r"config\.yaml: train\.epoch: unknown key\. Did you mean 'epochs'", err)


@pytest.mark.parametrize("command", ["fit", "train", "lr-find"])
@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("train.num_classes=2", ["--set: train.num_classes: unknown key"]),
        ("learning_rate=1", ["--set: learning_rate: unknown key"]),
        ("net.encode=unet", ["--set: net.encode: unknown key. Did you mean 'encoder'?"]),
    ],
)
def test_typed_settings_are_those_of_our_recipe_and_errors_say_so(cli, tmp_path, command, typed, words):
    draw(tmp_path / "data", count=2)
    status, _, err = cli(command, "--config", write(tmp_path), "--set", typed)
    assert status == 1
    for word in (*words, "--set takes keys of Fieldmark's recipe", f"the keys of {tmp_path}/config.yaml"):
        assert word in err, err
    wrong = write(tmp_path, OPENFIBSEM.replace("epochs:", "epoch:"))
    status, _, err = cli(command, "--config", wrong, "--set", "train.epochs=1")
    assert "config.yaml: train.epoch: unknown key" in err
    assert "--set" not in err


@pytest.mark.parametrize(
    ("text", "verb"),
    [
        ("input_dir: a\noutput_dir: b\n", "prepare"),
        ("model_dir: a\nimage_dir: b\n", "predict"),
    ],
)
def test_files_for_other_commands_are_sent_there(cli, tmp_path, text, verb):
    (tmp_path / "config.yml").write_text(text)
    status, _, err = cli("fit", "--config", "config.yml")
    assert status == 1
    assert f"fieldmark {verb} --config config.yml" in err


def test_a_fit_that_cannot_begin_leaves_nothing_behind(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    draw(tmp_path / "data")
    config = write(tmp_path)
    before = tree(tmp_path)
    status, _, err = cli("fit", "--config", config, "--set", "accelerator=gpu")
    assert status == 1
    assert "no GPU" in err
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda maps: maps * 255, r"background alone: values up to 255, and those from 3 on count as background"),
        (lambda maps: maps * 0, r"background alone: 0 alone \(num_classes"),
        (lambda maps: np.stack([maps] * 3, axis=-1), r"cell0.tif \(target of cell0.tif\): has 3 channels; a label map"),
    ],
    ids=["too large", "empty", "colors"],
)
def test_label_maps_that_teach_nothing_are_refused(cli, tmp_path, change, words):
    draw(tmp_path / "data")
    for path in (tmp_path / "data/labels").iterdir():
        tifffile.imwrite(path, change(tifffile.imread(path)))
    status, _, err = cli("fit", "--config", write(tmp_path), *SMALL)
    assert status == 1
    assert re.search(words, err), err
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("ending", ["", "_mask", "-labels"])
def test_a_map_is_never_that_of_a_neighbor(cli, tmp_path, ending):
    """As many maps as images, one missing and one too many: by order every image between them had another's."""
    draw(tmp_path / "data")
    labels = tmp_path / "data/labels"
    (labels / "cell2.tif").rename(labels / "cell9.tif")
    for path in labels.iterdir():
        path.rename(path.with_name(f"{path.stem}{ending}.tif"))
    status, _, err = cli("fit", "--config", write(tmp_path), *SMALL)
    assert status == 1
    assert f"cell3{ending}.tif would be the label map of" in err
    assert f"(only in one of them: cell2, cell9{ending})" in err


def test_names_that_differ_altogether_are_paired_in_their_order(cli, tmp_path):
    draw(tmp_path / "data")
    for index, path in enumerate(sorted((tmp_path / "data/labels").iterdir())):
        path.rename(path.with_name(f"map-{index}.tif"))
    status, _, err = cli("fit", "--config", write(tmp_path), *SMALL)
    assert status == 0, err


@pytest.mark.parametrize("unheard", [0, 1])
def test_numbers_that_nobody_heard_are_in_the_history_of_a_fit_that_went_on(cli, tmp_path, monkeypatch, unheard):
    """A command is killed after its worker has kept an epoch, and before it has written the epoch's numbers."""
    draw(tmp_path / "data")
    config = write(tmp_path)
    assert cli("fit", "--config", config, *SMALL, "--name", "whole")[0] == 0
    shutil.rmtree(tmp_path / "models/.fieldmark")
    heard = fitting.recorded

    def deaf(events, folder):
        def until():
            numbers = 0
            for event in events:
                if event.metrics and numbers == unheard:
                    raise WorkerFailed("gone")
                numbers += bool(event.metrics)
                yield event

        return heard(until(), folder)

    with monkeypatch.context() as patched:
        patched.setattr(fitting, "recorded", deaf)
        assert cli("fit", "--config", config, *SMALL, "--name", "killed")[0] == 1
    for _ in range(2):
        status, _, err = cli("fit", "--config", config, *SMALL, "--name", "killed")
        assert status == 0, err
    assert (tmp_path / "models/killed/history.csv").read_bytes() == (tmp_path / "models/whole/history.csv").read_bytes()


def test_weights_that_are_typed_are_not_said_to_be_random(cli, tmp_path):
    """With a name of its own beside the model of another encoder."""
    draw(tmp_path / "data")
    config = write(tmp_path)
    short = ("--set", "train.epochs=1")
    assert "resnet34 begins with random weights" in cli("fit", "--config", config, *short)[2]
    first = tree(tmp_path / "models/unet-resnet34")
    typed = ("--set", "net.encoder=efficientnet-lite0", "--set", "net.weights=imagenet", "--name", "lite0")
    status, _, err = cli("fit", "--config", config, *short, *typed)
    assert status == 0, err
    assert "random weights" not in err
    assert first
    assert tree(tmp_path / "models/unet-resnet34") == first
    assert load(tmp_path / "models/lite0")[0].config["encoder"] == "efficientnet-lite0"


def test_a_model_of_other_settings_stays_beside_the_new_one(cli, tmp_path):
    """As runs of one second do, it gets a number; the same file again goes to the folder of its own."""
    draw(tmp_path / "data")
    config = write(tmp_path)
    kept = {}
    for number, settings in enumerate((["train.lr=1e-3"], ["train.lr=1e-2"], ["net.filters=[4,4]"]), start=1):
        typed = [*SMALL, *(word for text in settings for word in ("--set", text))]
        folder = tmp_path / "models" / ("unet-resnet34" if number == 1 else f"unet-resnet34-{number}")
        status, out, err = cli("fit", "--config", config, *typed, "--json")
        assert status == 0, err
        assert json.loads(out)["folder"] == str(folder)
        assert ("other settings" in err and "--name unet-resnet34" in err) is (number > 1)
        assert all(tree(path) == before for path, before in kept.items())
        kept[folder] = tree(folder)
    assert len({load(folder)[0].fingerprint for folder in kept}) == 3
    again = [*SMALL, "--set", "train.lr=1e-2"]
    shutil.rmtree(tmp_path / "models/.fieldmark")  # "may be deleted when the model is there"
    tifffile.imwrite(tmp_path / "data/labels/cell0.tif", np.ones((64, 64), np.uint8))  # corrected, and learned again
    status, out, err = cli("fit", "--config", config, *again, "--json")
    assert json.loads(out)["folder"] == str(tmp_path / "models/unet-resnet34-2"), err
    status, _, err = cli("fit", "--config", config, *again, "--name", "unet-resnet34")  # typed: replaced
    assert status == 0, err
    assert (
        "unet-resnet34 holds a model of other settings or images; when this one is learned, it takes its place" in err
    )
    changed = {path.name for path, before in kept.items() if tree(path) != before}
    assert changed == {"unet-resnet34", "unet-resnet34-2"}


def test_models_of_fits_at_the_same_time_are_both_kept(cli, tmp_path, monkeypatch):
    draw(tmp_path / "data")
    config = write(tmp_path)

    def meanwhile(*args, **options):
        monkeypatch.setattr(fitting, "run_job", run_job)
        assert cli("fit", "--config", config, *SMALL, "--set", "train.lr=1e-2")[0] == 0
        return run_job(*args, **options)

    run_job = fitting.run_job
    monkeypatch.setattr(fitting, "run_job", meanwhile)
    status, out, err = cli("fit", "--config", config, *SMALL, "--json")
    assert status == 0, err
    assert json.loads(out)["folder"] == str(tmp_path / "models/unet-resnet34-2")
    assert "unet-resnet34-2" in err
    recipes = [load_recipe(tmp_path / "models" / name / "recipe.yaml") for name in ("unet-resnet34", "unet-resnet34-2")]
    assert [recipe["train"]["lr"] for recipe in recipes] == [1e-2, 1e-4]


@pytest.mark.parametrize("link", ["models/unet-resnet34", "models"])
def test_a_link_that_leads_nowhere_is_found_before_anything_is_learned(cli, tmp_path, monkeypatch, link):
    monkeypatch.setattr(fitting, "run_job", None)
    draw(tmp_path / "data")
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to("unplugged/there")
    status, _, err = cli("fit", "--config", write(tmp_path), *SMALL)
    assert status == 1
    assert f"{tmp_path / link} is a link that leads nowhere (unplugged/there)" in err
    assert "make the folder that it leads to. Choose another folder for the model, or another --name." in err
    assert not (tmp_path / "models/.fieldmark").exists()


@pytest.mark.parametrize("name", ["history.csv", "weights-mine.safetensors"])
def test_files_of_another_program_are_not_written_over(cli, tmp_path, name):
    """microDL writes a `history.csv` of its own beside its weights; saving a model deletes earlier weights."""
    draw(tmp_path / "data")
    (tmp_path / "models/unet-resnet34").mkdir(parents=True)
    (tmp_path / "models/unet-resnet34" / name).write_text("epoch,loss\n")
    before = tree(tmp_path / "models")
    status, _, err = cli("fit", "--config", write(tmp_path), *SMALL)
    assert status == 1
    assert name in err
    assert "--name" in err
    assert tree(tmp_path / "models") == before


def test_a_model_beside_ours_that_cannot_be_read_is_in_nobodys_way(cli, tmp_path):
    draw(tmp_path / "data")
    (tmp_path / "models/unet-resnet34-3").mkdir(parents=True)
    (tmp_path / "models/unet-resnet34-3/model.json").write_text('{"architecture": "keras"}')
    status, _, err = cli("fit", "--config", write(tmp_path), *SMALL)
    assert status == 0, err
    assert (tmp_path / "models/unet-resnet34/model.json").is_file()
