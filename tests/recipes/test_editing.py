"""Numbers written into a recipe in YAML: nothing else in it changes."""

from __future__ import annotations

import pytest
import yaml

from fieldmark.recipes.editing import with_values

RATES = [(("train", "lr"), 0.5), (("train", "cycle", "max_lr"), 1e-05)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "train: {lr: 0.5, cycle: {max_lr: 1.0e-05}}\n"),
        ("# alone", "# alone\ntrain: {lr: 0.5, cycle: {max_lr: 1.0e-05}}\n"),
        ("seed: 4  # why\n", "train: {lr: 0.5, cycle: {max_lr: 1.0e-05}}\nseed: 4  # why\n"),
        ("train:\nseed: 4\n", "train: {lr: 0.5, cycle: {max_lr: 1.0e-05}}\nseed: 4\n"),
        ("train: null # b\n", "train: {lr: 0.5, cycle: {max_lr: 1.0e-05}} # b\n"),
        ("train: {}\n", "train: {lr: 0.5, cycle: {max_lr: 1.0e-05}}\n"),
        ("train: {lr: 1,\n  keep: last}\n", "train: {lr: 0.5,\n  keep: last, cycle: {max_lr: 1.0e-05}}\n"),
        (
            "train:\n    lr: 1e-3 # a\n    # b\n    cycle:\n        gamma: 2\n    keep: last\n",
            "train:\n    lr: 0.5 # a\n    # b\n    cycle:\n        max_lr: 1.0e-05\n        gamma: 2\n    keep: last\n",
        ),
    ],
)
def test_only_the_numbers_change(before, after):
    assert with_values(before, RATES) == after
    assert yaml.safe_load(after)["train"]["cycle"]["max_lr"] == 1e-05


def test_what_cannot_be_changed_in_its_place_is_written_anew():
    made = with_values("train: !!map {lr: 1}\ntitle: Größe\n", RATES)
    assert yaml.safe_load(made) == {"train": {"lr": 0.5, "cycle": {"max_lr": 1e-05}}, "title": "Größe"}
