"""What descent keeps: the best epoch, a running mean, an early end; the same after a stop."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from fieldmark.errors import BadRecipe
from fieldmark.learn.descend import Descend
from fieldmark.learn.engine import fit, make_engine
from fieldmark.learn.estimate import Estimate
from fieldmark.learn.state import FitState
from fieldmark.recipes import FitRecipe
from fieldmark.recipes.steps import EarlyConfig, StepsConfig


class Tiny(nn.Module):
    """One weight; the net of a fit has heads."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.head = self.refiner = self.image_head = None


class Numbers:
    """Batch n of an epoch is n."""

    per_epoch = 2

    def get(self, epoch: int, index: int) -> int:
        return epoch * 2 + index


class Walk:
    """Adds 1 to the weight at each step; what validation says is given."""

    def __init__(self, net: Tiny, said: list[float]) -> None:
        self.net, self.said, self.asked = net, said, 0
        self.optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
        self.tells = ("loss", "val_loss", "val_seen") if said else ("loss",)

    def optimizers(self):
        return [self.optimizer]

    def set_up(self, engine) -> None:
        pass

    def on_epoch(self, epoch: int) -> None:
        self.asked = epoch

    def step(self, engine, batch) -> dict[str, float]:
        with torch.no_grad():
            self.net.weight += 1
        return {"loss": 1.0}

    def look(self) -> None:
        pass

    def validate(self, engine) -> dict[str, float]:
        return {"val_loss": self.said[self.asked], "val_seen": self.net.weight.item()} if self.said else {}

    def state(self):
        return {"asked": np.array([self.asked])}

    def load_state(self, arrays) -> None:
        self.asked = int(arrays["asked"][0])


def walked(folder, said: list[float], stops: tuple[int, ...] = (), **settings: object):
    """The net after its fit, and the events of the last run; stopped after so many events each time."""
    config = StepsConfig(**{"epochs": 5, "warmup_steps": 0, **settings})
    for stop in (*stops, None):
        net = Tiny()
        state = FitState(folder, "here")
        state.restore(net)
        phase = Descend("walk", Walk(net, said), Numbers(), config)
        events = list(islice(fit(make_engine(FitRecipe(), []), net, [phase], state), stop))
    return net.weight.item(), events


def test_the_best_epochs_weights_are_the_models(tmp_path):
    weight, events = walked(tmp_path, [5.0, 3.0, 1.0, 2.0, 4.0])
    assert weight == 6  # after three epochs of two steps
    assert [event.metrics["val_loss"] for event in events] == [5, 3, 1, 2, 4]


def test_or_the_last_ones(tmp_path):
    assert walked(tmp_path / "kept", [5.0, 3.0, 1.0, 2.0, 4.0], keep="last")[0] == 10
    assert walked(tmp_path / "unheard", [])[0] == 10


def test_a_fit_ends_early(tmp_path):
    weight, events = walked(tmp_path, [5.0, 1.0, 2.0, 3.0, 0.0], early=EarlyConfig(patience=2))
    assert weight == 4
    assert [event.step for event in events] == [2, 4, 6, 10]  # told as finished after the fourth epoch
    assert walked(tmp_path, [5.0, 1.0, 2.0, 3.0, 0.0], early=EarlyConfig(patience=2)) == (4, [])  # nothing is left


@pytest.mark.parametrize("said", [math.nan, math.inf])
@pytest.mark.parametrize("early", [None, EarlyConfig(patience=2)])
def test_validation_that_never_gives_a_number_is_said_at_the_end(tmp_path, said, early):
    weight, events = walked(tmp_path, [said] * 5, early=early)
    assert weight == (10 if early is None else 4)
    (note,) = [event.message for event in events if not event.metrics]
    assert f"val_loss was not finite in any epoch ({said} after the last one)" in note
    assert "the last epoch's weights are the model's" in note


def test_it_is_not_said_where_an_epoch_could_be_chosen_or_none_is(tmp_path):
    for name, said, keep in (("one", [math.nan, 2.0, math.nan], "best"), ("last", [math.nan] * 3, "last")):
        _, events = walked(tmp_path / name, said, epochs=3, keep=keep)
        assert all(event.metrics for event in events)


def test_that_no_number_came_is_said_after_a_stop_too(tmp_path):
    _, events = walked(tmp_path, [math.nan] * 5, (2, 1))
    assert "was not finite in any epoch" in "".join(event.message for event in events)


def test_small_gains_do_not_count(tmp_path):
    early = EarlyConfig(patience=2, min_delta=0.5)
    assert walked(tmp_path, [5.0, 4.9, 4.8, 0.0, 0.0], early=early)[0] == 2


def test_more_is_better_where_that_is_said(tmp_path):
    early = EarlyConfig(monitor="val_seen", mode="max")
    assert walked(tmp_path, [1.0] * 5, early=early)[0] == 10


@pytest.mark.parametrize(("monitor", "kept"), [("val_seen", 10), ("val_loss", 2)])
def test_by_itself_less_of_a_loss_and_more_of_another_number_is_better(tmp_path, monitor, kept):
    assert walked(tmp_path, [1.0, 2.0, 3.0, 4.0, 5.0], early=EarlyConfig(monitor=monitor))[0] == kept


@pytest.mark.parametrize(
    ("monitor", "said", "wanted"),
    [
        (
            "val_sene",
            [1.0],
            r"^train\.early\.monitor: 'val_sene' .* loss, val_loss, val_seen\. Did you mean 'val_seen'",
        ),
        ("val_loss", [], r"'val_loss' is no number of this fit, which has loss\. Did you mean 'loss'\?"),
        ("val_seen", [1.0], None),
        ("loss", [], None),
    ],
)
def test_a_monitor_that_nothing_tells_is_refused(monitor, said, wanted):
    config = StepsConfig(early=EarlyConfig(monitor=monitor))
    phase = Descend("walk", Walk(Tiny(), said), Numbers(), config)
    if wanted is None:
        phase.require_monitor("train")
        return
    with pytest.raises(BadRecipe, match=wanted):
        phase.require_monitor("train")


def test_the_running_mean_validates_and_becomes_the_model(tmp_path):
    weight, events = walked(tmp_path, [3.0, 2.0, 1.0, 0.5, 0.2], ema_decay=0.5)
    mean, seen = 1.0, []  # begins with the first step's weights, and soon forgets them
    for step in range(1, 11):
        share = min(0.5, step / (9 + step))
        mean = share * mean + (1 - share) * step
        if step % 2 == 0:
            seen.append(mean)
    assert [event.metrics["val_seen"] for event in events] == pytest.approx(seen)
    assert weight == pytest.approx(seen[-1])


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_stopped_and_resumed_it_ends_alike(tmp_path, stop):
    settings = {"ema_decay": 0.7, "early": EarlyConfig(patience=2), "save_every_steps": 1}
    said = [5.0, 1.0, 2.0, 3.0, 0.0]
    unbroken, _ = walked(tmp_path / "whole", said, **settings)
    assert walked(tmp_path / "broken", said, (stop, 1), **settings)[0] == unbroken


@pytest.mark.parametrize("descends", [True, False])
def test_the_last_numbers_are_kept_with_the_state_that_they_tell_of(tmp_path, monkeypatch, descends):
    """So that a fit that goes on can tell them to a history that was not written in time."""
    monkeypatch.setattr("fieldmark.learn.estimate.BETWEEN_SAVES", -1)
    net, state = Tiny(), FitState(tmp_path, "here")
    walk = Descend("walk", Walk(net, [3.0, math.nan, 2.0]), Numbers(), StepsConfig(epochs=3, warmup_steps=0))
    solved = Estimate("solved", [lambda net: {"count": 1.0}, lambda net: {"count": 2.0}, lambda net: {"count": 3.0}])
    events = list(islice(fit(make_engine(FitRecipe(), []), net, [walk if descends else solved], state), 2))
    again = FitState(tmp_path, "here")
    again.restore(Tiny())
    (told,) = again.told_last()
    known = {name: value for name, value in events[-1].metrics.items() if not math.isnan(value)}
    assert told == replace(events[-1], metrics=known)
