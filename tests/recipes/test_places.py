"""Which settings are paths, and where relative ones begin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from fieldmark.errors import NotFound
from fieldmark.recipes import FitRecipe
from fieldmark.recipes.places import IsPath, placed
from fieldmark.recipes.registry import FAMILIES
from fieldmark.workbench.fitting import read_fit_recipe
from fieldmark.workbench.loose.fit import plan_fit

PATHS = {
    "start": "old/model",
    "data": {"target": {"folder": "labels", "table": "t.csv"}, "mask": {"folder": "../masks"}},
    "prepare": {"flat_field": {"folder": "flat"}, "foreground": {"folder": "ground"}},
    "begin": {"folder": "kernels"},
}


def leaves(values: dict[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        path = f"{where}.{key}".strip(".")
        if isinstance(value, dict):
            yield from leaves(value, path)
        else:
            yield path, value


def fields(model: type[BaseModel], where: str = "", above: tuple[type, ...] = ()) -> Iterator[tuple[str, bool]]:
    """Each text among the settings, and whether it is said to be a path."""
    if model in above:  # modules in modules
        return
    for name, field in model.model_fields.items():
        path, todo, parts = f"{where}.{name}".strip("."), [field.annotation], list(field.metadata)
        while todo:
            one = todo.pop()
            parts.append(one)
            todo.extend(get_args(one))
        if str in parts:
            yield path, any(isinstance(part, IsPath) for part in parts)
        for inner in parts:
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from fields(inner, path, (*above, model))


def test_every_folder_and_file_among_the_settings_is_known_as_a_path():
    found = dict(fields(FitRecipe))
    assert {path for path, is_path in found.items() if is_path} == {path for path, _ in leaves(PATHS)}
    told = {path for path in found if path.rpartition(".")[2] in ("folder", "file", "table", "path", "start")}
    assert told <= {path for path, _ in leaves(PATHS)}  # who adds one says that it is a path
    families = {name: dict(fields(FAMILIES.load_config(name))) for name, _ in FAMILIES}
    assert {name for name, own in families.items() if own.get("weights")} == {"unet", "image-to-numbers"}
    assert not [path for own in families.values() for path in own if path.rpartition(".")[2] in ("folder", "file")]


def test_relative_paths_begin_at_the_folder_and_absolute_ones_stay(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/somebody")
    made = dict(leaves(placed(FitRecipe, PATHS, tmp_path)))
    assert made == {path: str(tmp_path / value) for path, value in leaves(PATHS)}
    others = {"start": "/there", "data": {"target": {"folder": "~/labels"}, "mask": {"folder": ""}}}
    made = placed(FitRecipe, others, tmp_path)
    assert (made["start"], made["data"]["target"]["folder"]) == ("/there", "/home/somebody/labels")
    assert made["data"]["mask"]["folder"] == ""


def test_what_does_not_fit_stays_as_it_is(tmp_path):
    wrong = {"start": 3, "data": [1], "prepare": None, "nothing": "here", "train": {"epochs": "many"}}
    assert placed(FitRecipe, wrong, tmp_path) == wrong


@pytest.fixture
def recipe(tmp_path, monkeypatch) -> Path:
    """A recipe in a folder of its own; the user is at work elsewhere."""
    (tmp_path / "here").mkdir()
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    file = tmp_path / "recipes" / "r.yaml"
    values = {"family": "unet", "net": {"encoder": "resnet18", "weights": "r18.pt"}, **PATHS}
    file.write_text(yaml.safe_dump({key: value for key, value in values.items() if key != "prepare"}))
    return file


def test_a_file_s_paths_begin_at_the_file_and_typed_ones_at_the_user(recipe, tmp_path):
    read = read_fit_recipe(None, Path("../recipes/r.yaml"), ("data.mask.folder=mine", "net.encoder=resnet34"))
    there = tmp_path / "recipes"
    assert Path(read.data.target.folder or "").resolve() == there / "labels"
    assert Path(read.start or "").resolve() == there / "old/model"
    assert Path(read.net["weights"]).resolve() == there / "r18.pt"
    assert read.data.mask is not None
    assert Path(read.data.mask.folder or "") == tmp_path / "here" / "mine"
    assert all(Path(path).is_absolute() for path in (read.data.target.table, read.start, read.net["weights"]) if path)


def test_a_family_that_is_typed_knows_the_paths_of_the_file_s_network(recipe, tmp_path):
    recipe.write_text("net: {encoder: resnet18, weights: r18.pt}\n")
    for typed in ({"family": "unet"}, {"family": None, "overrides": ("family=unet",)}):
        read = read_fit_recipe(typed["family"], recipe, typed.get("overrides", ()))
        assert read.net["weights"] == str(tmp_path / "recipes" / "r18.pt")
    recipe.write_text("family: unet\nnet: {encoder: efficientnet-lite0, weights: imagenet}\n")
    assert read_fit_recipe(None, recipe, ()).net["weights"] == "imagenet"
    recipe.write_text("family: no-such\nnet: {weights: r18.pt}\n")
    with pytest.raises(NotFound, match="no-such"):
        read_fit_recipe(None, recipe, ())


def test_beside_another_system_s_file_typed_paths_begin_at_the_user_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there/c.yaml").write_text("train: {data_dir: d, save_dir: s, encoder: resnet18}\n")
    plan = plan_fit(Path("there/c.yaml"), overrides=("net.weights=r18.pt", "data.mask.folder=masks"))
    assert plan.recipe["net"]["weights"] == str(tmp_path / "r18.pt")
    assert plan.recipe["data"]["mask"]["folder"] == str(tmp_path / "masks")
    assert [path.relative_to(tmp_path).as_posix() for path in plan.fit.images] == ["there/d"]
