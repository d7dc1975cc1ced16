from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldmark.errors import BadRecipe
from fieldmark.recipes import FitRecipe, FlimConfig, PredictRecipe, UNetConfig, load_recipe, parse_override, validate
from fieldmark.recipes.dialects.microdl import TrainingFile
from fieldmark.recipes.dialects.openfibsem import FolderStyle
from fieldmark.recipes.loading import MAX_RECIPE_BYTES, with_overrides
from fieldmark.recipes.steps import StepsConfig
from fieldmark.recipes.unet import NumbersConfig

SETTINGS = {
    "family": "flim",
    "seed": 3,
    "net": {"layers": [{"kernel_size": 3}], "color": "lab"},
    "descend": {"lr": 0.5},
}
AS_TEXT = {
    "r.json": json.dumps(SETTINGS),
    "r.yaml": yaml.safe_dump(SETTINGS),
    "r.yml": "family: flim\nseed: 3\nnet: {layers: [{kernel_size: 3}], color: lab}\ndescend:\n  lr: 0.5\n",
    "r.toml": 'family = "flim"\nseed = 3\n[net]\ncolor = "lab"\nlayers = [{kernel_size = 3}]\n[descend]\nlr = 0.5\n',
    "r.txt": yaml.safe_dump(SETTINGS),
}


def written(folder: Path, text: str, name: str = "r.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", AS_TEXT)
def test_the_formats_agree(tmp_path, name):
    assert load_recipe(written(tmp_path, AS_TEXT[name], name)) == SETTINGS


def test_an_empty_file_is_an_empty_recipe(tmp_path):
    assert load_recipe(written(tmp_path, "# nothing yet\n")) == {}


SCALARS = st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)
TREES = st.dictionaries(
    TEXT,
    st.recursive(SCALARS | TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)),
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(TREES)
def test_any_plain_settings_come_back(tmp_path, values):
    as_json = load_recipe(written(tmp_path, json.dumps(values), "r.json"))
    as_yaml = load_recipe(written(tmp_path, yaml.safe_dump(values, allow_unicode=True)))
    assert as_json == as_yaml == values


def bomb(levels: int = 9) -> str:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


def merging_bomb(levels: int = 9) -> str:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("r.yaml", bomb(), "line 2 has an alias"),
        ("r.yaml", merging_bomb(), "line 2 has an alias"),
        ("r.yaml", "a: &a [*a]", "has an alias"),
        ("r.yaml", "!!python/object/apply:os.system [echo]", "could not determine a constructor"),
        ("r.yaml", "a: !!python/name:os.system", "could not determine a constructor"),
        ("r.yaml", "[" * 50_000, "cannot be parsed"),
        ("r.yaml", "a: [1, 2", "cannot be parsed"),
        ("r.yaml", "a: 1\na: 2", "'a' stands there twice"),
        ("r.yaml", "d: {lr: 1, lr: 2}", "'lr' stands there twice"),
        ("r.yaml", "1: 2", "the key 1 is no text"),
        ("r.yaml", "2020-01-01: 2", "the key .* is no text"),
        ("r.yaml", "a: 2020-01-01", "is a date"),
        ("r.yaml", "a: 2020-13-45", "cannot be parsed"),
        ("r.yaml", "a: !!binary aGk=", "is a bytes"),
        ("r.yaml", "a: !!set {x}", "is a set"),
        ("r.yaml", "a: !!int x", "cannot be parsed"),
        ("r.yaml", "a: !!bool x", "cannot be parsed"),
        ("r.yaml", "a: " + "9" * 5000, "cannot be parsed"),
        ("r.yaml", "? [a, b]\n: 1", "cannot be parsed"),
        ("r.yaml", "- a\n- b", "holds a list"),
        ("r.yaml", "just words", "holds a str"),
        ("r.yaml", "a: 1\n---\nb: 2", "cannot be parsed"),
        ("r.yaml", "a: \0", "cannot be parsed"),
        ("r.json", "{", "cannot be parsed"),
        ("r.json", "[1]", "holds a list"),
        ("r.json", '{"a": 1, "a": 2}', "'a' stands there twice"),
        ("r.json", '{"a": NaN}', "NaN is no number"),
        ("r.json", '{"a": ' + "[" * 100_000, "cannot be parsed"),
        ("r.json", '{"a": ' + "9" * 5000 + "}", "cannot be parsed"),
        ("r.toml", "a = ", "cannot be parsed"),
        ("r.toml", "a = 2020-01-01", "is a date"),
        ("r.toml", "a = " + "[" * 50_000, "cannot be parsed"),
    ],
)
def test_what_is_no_recipe_is_one_error_that_names_the_file(tmp_path, name, text, words):
    path = written(tmp_path, text, name)
    begun = time.process_time()
    with pytest.raises(BadRecipe, match=words) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 600
    assert time.process_time() - begun < 10  # a bomb would take hours


def test_what_is_no_text_file_is_one_error(tmp_path):
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with open(tmp_path / "large.yaml", "wb") as file:
        file.truncate(MAX_RECIPE_BYTES + 1)
    for name, words in [
        ("b.yaml", "not UTF-8"),
        ("large.yaml", "larger than"),
        ("gone", "no such file"),
        (".", "regular"),
    ]:
        with pytest.raises(BadRecipe, match=words):
            load_recipe(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are a POSIX thing")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "r.yaml")
    with pytest.raises(BadRecipe, match="no regular file"):
        load_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("seed=3", ["seed"], 3),
        ("descend.lr=0.5", ["descend", "lr"], 0.5),
        ("descend.warmup-steps=4", ["descend", "warmup_steps"], 4),
        ("net.layers.0.kernel-size=3", ["net", "layers", "0", "kernel_size"], 3),
        ("net.layers=[{kernel_size: 3}]", ["net", "layers"], [{"kernel_size": 3}]),
        ("a=b=c", ["a"], "b=c"),
        ("a=", ["a"], None),
        ("a=null", ["a"], None),
        ("a=true", ["a"], True),
        ("a='true'", ["a"], "true"),
        (" a =1", ["a"], 1),
    ],
)
def test_overrides_are_read(text, path, value):
    assert parse_override(text) == (path, value)


@pytest.mark.parametrize(
    "text", ["seed", "=3", "a..b=1", ".a=1", "a=[", "a=!!python/name:os.system", "a=2020-01-01", "a=" + "[" * 20_000]
)
def test_overrides_that_cannot_be_read_are_named(text):
    with pytest.raises(BadRecipe, match=r"^--set ") as caught:
        parse_override(text)
    assert len(str(caught.value)) < 600


def test_overrides_are_set_in_order_and_the_original_stays():
    values = {"net": {"layers": [{"kernel_size": 3}, {"kernel_size": 3}]}}
    result = with_overrides(values, ("net.layers.1.kernel_size=5", "seed=1", "seed=2", "head.kind=forest"))
    assert result == {
        "net": {"layers": [{"kernel_size": 3}, {"kernel_size": 5}]},
        "seed": 2,
        "head": {"kind": "forest"},
    }
    assert values["net"]["layers"][1] == {"kernel_size": 3}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("net.layers.2.kernel_size=3", "'2' is no place in a list of 2"),
        ("net.layers.-1.kernel_size=3", "is no place in a list of 2"),
        ("net.layers.x=3", "'x' is no place in a list of 2"),
        ("net.layers.²=3", "is no place in a list of 2"),
        ("net.layers.kernel_size.a=3", "'kernel_size' is no place"),
        ("seed.a=3", "'seed' is a value, not a group"),
    ],
)
def test_overrides_of_places_that_are_not_there(text, words):
    with pytest.raises(BadRecipe, match=words):
        with_overrides({"seed": 1, "net": {"layers": [{}, {}]}}, (text,))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"family": "flim", "descend": {"lrr": 1}}, "descend.lrr: unknown key. Did you mean 'lr'? Correct the recipe."),
        ({"familly": "flim"}, "familly: unknown key. Did you mean 'family'? Correct the recipe."),
        (
            {"head": {"kind": "svm"}},
            "head.kind: Input should be 'logistic', 'forest', 'adaptive' or 'none' (found 'svm').",
        ),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0 (found -1). Correct the recipe."),
        ({"seed": "x"}, "seed: Input should be a valid integer"),
        ({"descend": 5}, "descend: Input should be"),
        ({"descend": {"lr": float("inf")}}, "descend.lr: Input should be a finite number (found inf)."),
        (
            {"data": {"split": {"train": 0.6, "test": 0.4}}},
            "data.split: train (0.6), validation (0.15) and test (0.4) must sum to 1; they sum to 1.15, so set",
        ),
        (
            {"prepare": {"resize": [0.5, 0.25]}},
            "prepare.resize: must be one factor, for y and x, or three, [z, y, x] (found [0.5, 0.25]).",
        ),
        ({"net": [1]}, "net: Input should be a valid dictionary (found [1])."),
    ],
)
def test_wrong_settings_are_named(values, message):
    with pytest.raises(BadRecipe) as caught:
        validate(FitRecipe, values)
    assert str(caught.value).startswith(message) or message in str(caught.value)


def test_settings_of_the_network_are_named_with_their_place():
    with pytest.raises(
        BadRecipe,
        match=r"^a\.yaml: net\.branches\.0\.layers\.0\.kernel_sise: unknown key\. Did you mean 'kernel_size'\?",
    ):
        validate(FlimConfig, {"branches": [{"layers": [{"kernel_sise": 3}]}]}, where="net", source="a.yaml")
    with pytest.raises(BadRecipe, match=r"^net\.branches\.0\.layers\.0\.kernel_size: must be odd.*\(found 4\)"):
        validate(FlimConfig, {"branches": [{"layers": [{"kernel_size": 4}]}]}, where="net")
    with pytest.raises(BadRecipe, match=r"tile must be a multiple of 64; got 100"):
        validate(PredictRecipe, {"tile": 100})


def test_a_thousand_wrong_keys_are_one_short_error():
    with pytest.raises(BadRecipe, match=r"And 995 more\.") as caught:
        validate(FitRecipe, {f"key{n}" + "x" * 50: "y" * 10_000 for n in range(1000)})
    assert len(str(caught.value)) < 6000


def test_numbers_as_yaml_misreads_them_are_numbers():
    """YAML 1.1 takes 1e-3 for a text."""
    values = with_overrides({}, ("descend.lr=1e-3",))
    assert validate(FitRecipe, values).descend.lr == 0.001


def test_a_recipe_survives_its_own_writing(tmp_path):
    recipe = validate(FitRecipe, SETTINGS)
    path = written(tmp_path, yaml.safe_dump(recipe.model_dump(mode="json")))
    assert validate(FitRecipe, load_recipe(path)) == recipe


@pytest.mark.parametrize("typed", ["2.5", 2.5, "3", 3, 3.0])
def test_dims_are_read_as_they_are_typed(typed):
    """`--set net.dims=2.5` and YAML give a number."""
    config = validate(UNetConfig, with_overrides({}, [f"dims={typed}"]))
    assert config.dims == {"2.5": "2.5", "3": "3", "3.0": "3"}[str(typed)]
    assert config == UNetConfig(dims=typed)


@pytest.mark.parametrize("typed", [4, True, None, [2], float("nan")])
def test_dims_that_cannot_be_are_refused(typed):
    for config in (UNetConfig, NumbersConfig):
        with pytest.raises(BadRecipe, match="dims"):
            validate(config, {"dims": typed})


def test_cycles_go_up():
    up = {"schedule": "cyclic", "lr": 1e-3, "cycle": {"max_lr": 2e-3}}
    assert validate(StepsConfig, up, where="train").cycle.max_lr == 2e-3
    with pytest.raises(BadRecipe, match=r"cycle\.max_lr 0\.0005 must be more than lr 0\.001"):
        validate(StepsConfig, up | {"cycle": {"max_lr": 5e-4}}, where="train")
    validate(StepsConfig, up | {"schedule": "cosine", "cycle": {"max_lr": 5e-4}}, where="train")


@pytest.mark.parametrize(
    ("model", "values", "where"),
    [
        (FitRecipe, {"train": {"epochs": True}}, ["train.epochs"]),
        (FitRecipe, {"train": {"lr": True, "clip_norm": False}, "seed": True}, ["train.lr", "train.clip_norm", "seed"]),
        (FitRecipe, {"train": {"loss": {"terms": {"ce": True, "dice": 1}}}}, ["train.loss.terms.ce"]),
        (FitRecipe, {"train": {"augment": {"zoom": [True, 2]}}}, ["train.augment.zoom.0"]),
        (FitRecipe, {"data": {"inputs": [0, True]}}, ["data.inputs.1"]),
        (FitRecipe, {"prepare": {"resize": True}}, ["prepare.resize"]),
        (FitRecipe, {"image_head": {"svm_c": True}}, ["image_head.svm_c"]),
        (FlimConfig, {"branches": [{"layers": [{"kernel_size": True}]}]}, ["branches.0.layers.0.kernel_size"]),
        (UNetConfig, {"dropout": False}, ["dropout"]),
        (TrainingFile, {"trainer": {"max_epochs": True, "optimizer": {"lr": True}}}, ["trainer.max_epochs"]),
        (FolderStyle, {"val_split": True}, ["val_split"]),
    ],
)
def test_true_and_false_are_no_numbers(model, values, where):
    with pytest.raises(BadRecipe) as said:
        validate(model, values)
    for path in where:
        found = re.findall(rf"(?<![.\w]){path}: wanted a (?:whole )?number, found (?:true|false)\.", str(said.value))
        assert len(found) == 1
        assert str(said.value).count(f"{path}: ") == 1


def test_true_and_false_stay_where_they_are_meant():
    recipe = validate(FitRecipe, {"train": {"compile": True, "augment": {"rot90": False}}, "net": {"residual": True}})
    assert (recipe.train.compile, recipe.train.augment.rot90, recipe.net) == (True, False, {"residual": True})
    with pytest.raises(BadRecipe) as said:
        validate(TrainingFile, {"verbose": True, "trainer": {"verbose": True, "masked_loss": True}})
    assert "number, found" not in str(said.value)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["epochs", "batch_size", "lr", "ema_decay", "warmup_steps", "depth"]), st.booleans())
def test_other_numbers_are_what_they_were(key, value):
    with pytest.raises(BadRecipe, match=rf"train\.{key}: wanted a (whole )?number"):
        validate(FitRecipe, {"train": {key: value}})
    assert getattr(validate(FitRecipe, {"train": {key: 0.5 if key == "ema_decay" else 1}}).train, key) in (0.5, 1)
