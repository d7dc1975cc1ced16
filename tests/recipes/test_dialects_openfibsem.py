from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.config_claims import OPENFIBSEM
from fieldmark.errors import BadRecipe
from fieldmark.recipes import FitRecipe, UNetConfig, validate
from fieldmark.recipes.dialects.keys import dialect_of
from fieldmark.recipes.dialects.openfibsem import LOSS, FolderStyle, PathsStyle, fit_of
from fieldmark.recipes.texts import parse_yaml

DOCUMENT = OPENFIBSEM.format(data="/home/patrick/github/data/train/", save="/home/patrick/github/fibsem/models/")
LATEST = """
data_paths: [one/images, two/images]
label_paths: [one/labels, two/labels]
save_path: models
checkpoint: null
encoder: resnet18
epochs: 3
split: 0.1
batch_size: 2
num_classes: 6
lr: 3.0e-4
apply_transforms: true
train_log_freq: 32
val_log_freq: 32
wandb: false
wandb_project: p
wandb_entity: e
"""
BESIDE = Path("/configs")


def read(text: str, **changes: object):
    values = parse_yaml(text)
    group = values.get("train", values)
    group.update(changes)
    return fit_of(values, beside=BESIDE, source="config.yaml")


def test_every_key_may_stand_without_a_value():
    split = {"train": 0.85, "validation": 0.15, "order": "first"}
    train = {"data_dir": "data", "save_dir": "models", "val_split": None, "num_classes": None, "wandb_entity": None}
    assert fit_of({"train": train}, beside=BESIDE).recipe["data"]["split"] == split


def test_the_documents_file_becomes_a_recipe_with_its_numbers():
    assert dialect_of(parse_yaml(DOCUMENT)) == "openfibsem"
    fit = read(DOCUMENT)
    recipe = validate(FitRecipe, fit.recipe)
    assert validate(UNetConfig, recipe.net).encoder == "resnet34"
    train = recipe.train
    assert (train.epochs, train.batch_size, train.lr, train.optimizer) == (20, 4, 1e-4, "adam")
    assert (train.schedule, train.warmup_steps, train.weight_decay, train.clip_norm) == ("constant", 0, 0, None)
    assert train.loss.terms == LOSS == {"ce": 1, "dice": 1, "focal": 1}
    assert recipe.data.target.model_dump(include={"kind", "pair_by", "classes"}) == {
        "kind": "labels",
        "pair_by": "order",
        "classes": 3,
    }
    assert (recipe.data.split.validation, recipe.data.split.order) == (0.15, "first")
    assert recipe.prepare.normalize.statistic == "max"
    assert fit.images == (Path("/home/patrick/github/data/train"),)
    assert fit.save == Path("/home/patrick/github/fibsem/models")
    assert train.loggers == ("wandb",)


def test_keys_without_a_meaning_here_are_named():
    notes = " ".join(read(DOCUMENT).notes)
    for key in ("train.cuda", "train.wandb_project", "train.wandb_entity", "train.encoder"):
        assert key in notes
    assert "train.epochs" not in notes
    assert read(DOCUMENT, cuda=False).recipe["accelerator"] == "cpu"


def test_this_style_changes_no_image_and_the_latest_its_own_way():
    assert validate(FitRecipe, read(DOCUMENT).recipe).train.augment.model_dump(include={"flip", "rot90", "rotate"}) == {
        "flip": 0,
        "rot90": False,
        "rotate": 0,
    }
    augment = validate(FitRecipe, read(LATEST).recipe).train.augment
    assert (augment.flip, augment.rotate, augment.autocontrast, augment.equalize) == (0.1, 15, 0.1, 0.1)
    assert (augment.blur, augment.intensity_scale, augment.contrast, augment.rot90) == ((0.1, 2.0), 0.1, 0.1, False)
    assert read(LATEST, apply_transforms=False).recipe["train"]["augment"] == {"flip": 0.0, "rot90": False}


def test_the_latest_style_has_its_own_defaults_and_folders():
    fit = read(LATEST)
    assert dialect_of(parse_yaml(LATEST)) == "openfibsem"
    assert fit.images == (BESIDE / "one/images", BESIDE / "two/images")
    assert fit.labels == (BESIDE / "one/labels", BESIDE / "two/labels")
    assert fit.save == BESIDE / "models"
    bare = {"data_paths": ["a"], "label_paths": ["b"], "save_path": "c"}
    recipe = validate(FitRecipe, fit_of(bare, beside=BESIDE).recipe)
    assert (recipe.train.epochs, recipe.train.lr, recipe.data.target.classes) == (50, 3e-4, 6)
    assert recipe.data.split.validation == 0.1
    assert fit_of({"train": bare}, beside=BESIDE).images == (BESIDE / "a",)


def test_encoders_that_are_not_here_are_looked_for_in_timm():
    names = ("resnet50", "efficientnet-b3", "efficientnet-lite0", "vgg16", "timm-efficientnet-b0", "timm:vgg11")
    found = [read(DOCUMENT, encoder=name).recipe["net"]["encoder"] for name in names]
    assert found == [*names[:3], "timm:vgg16", "timm:efficientnet_b0", "timm:vgg11"]


def test_relative_paths_begin_at_the_file_and_tildes_at_home():
    fit = read(DOCUMENT, data_dir="data", save_dir="~/models", checkpoint="old/model.pt")
    assert fit.images == (BESIDE / "data",)
    assert fit.save == Path.home() / "models"
    assert fit.checkpoint == BESIDE / "old/model.pt"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rat": 1}, ["train.learning_rat", "learning_rate"]),
        ({"epochs": "many"}, ["train.epochs", "many"]),
        ({"optimizer": "lion"}, ["train.optimizer"]),
        ({"split": 1.5}, ["train.split"]),
        ({"model_type": "nnunet"}, ["train.model_type", "nnunet"]),
        ({"batch_size": 0}, ["train.batch_size"]),
    ],
)
def test_what_is_wrong_is_named_by_its_path(change, words):
    with pytest.raises(BadRecipe) as error:
        read(DOCUMENT, **change)
    assert all(word in str(error.value) for word in ["config.yaml", *words])


def test_other_errors():
    with pytest.raises(BadRecipe, match="trian"):
        fit_of(parse_yaml(DOCUMENT) | {"trian": {}}, beside=BESIDE)
    with pytest.raises(BadRecipe, match=r"2 folders of images and 1 of labels"):
        read(LATEST, label_paths=["one"])
    with pytest.raises(BadRecipe, match=r"train\.data_dir"):
        read(DOCUMENT, data_dir=None)
    assert read(DOCUMENT, optimizer="SGD").recipe["train"]["optimizer"] == "sgd"


CHANGED = {
    "checkpoint": "w.pt", "encoder": "resnet50", "cuda": False, "batch_size": 3, "optimizer": "sgd", "wandb": False,
    "epochs": 7, "num_classes": 5, "learning_rate": 0.5, "lr": 0.5, "split": 0.3, "apply_transforms": None,
    "data_dir": "other", "save_dir": "other", "save_path": "other", "data_paths": ["x", "y"],
    "label_paths": ["x", "y"], "model_type": "nnunet",
}  # fmt: skip


@pytest.mark.parametrize(("text", "model"), [(DOCUMENT, FolderStyle), (LATEST, PathsStyle)])
def test_every_key_acts_or_is_named(text, model):
    plain = read(text)
    switches = {
        "apply_transforms": not plain.recipe["train"]["augment"].get("rotate"),
        "wandb": not plain.recipe["train"]["loggers"],
    }
    for key in model.model_fields:
        if key in model.ACCEPTED:
            notes = read(text, **{key: 1 if "freq" in key or key == "cuda" else "x"}).notes
            assert any(note.partition(": ")[0].endswith(key) for note in notes), key
        if key == "model_type":
            with pytest.raises(BadRecipe, match="model_type"):
                read(text, model_type="nnunet")
        elif key in CHANGED or key in switches:
            change = {**CHANGED, **switches}[key]
            if key.endswith("_paths"):
                changed = read(text, data_paths=change, label_paths=change)
            else:
                changed = read(text, **{key: change})
            assert changed != plain, key
        else:
            assert key in model.ACCEPTED, key


@pytest.mark.parametrize("lost", ["data_dir", "save_dir"])
def test_a_file_that_lost_a_folder_is_still_openfibsems(lost):
    values = parse_yaml(DOCUMENT)
    del values["train"][lost]
    assert dialect_of(values) == "openfibsem"
    with pytest.raises(BadRecipe, match=rf"train\.{lost}: Field required"):
        fit_of(values, beside=BESIDE, source="config.yaml")


@pytest.mark.parametrize(("key", "value"), [("data_dir", ""), ("save_dir", ""), ("encoder", ""), ("num_classes", 1)])
def test_what_names_nothing_is_refused_by_its_key(key, value):
    with pytest.raises(BadRecipe, match=rf"train\.{key}: "):
        read(DOCUMENT, **{key: value})


def test_an_empty_checkpoint_is_none():
    assert read(DOCUMENT, checkpoint="").notes == read(DOCUMENT, checkpoint=None).notes
