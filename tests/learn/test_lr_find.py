"""The sweep on a problem whose best rate is known, and what is left afterwards."""

from __future__ import annotations

import json

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from fieldmark.errors import BadInput
from fieldmark.learn.descend import Descend
from fieldmark.learn.engine import SoleProcess
from fieldmark.learn.lr_find import Sweep, rate_of, smoothed, suggest, write_found
from fieldmark.recipes.find import FindConfig
from fieldmark.recipes.steps import StepsConfig


class Slope(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((20,), 3.0))


class Numbers:
    per_epoch = 10

    def get(self, epoch: int, index: int) -> int:
        return epoch * 10 + index


class Quadratic:
    """0.5 L w^2 with noisy gradients: gradient descent is fastest at 1 / L and diverges above 2 / L."""

    def __init__(self, net: Slope, curvature: float) -> None:
        self.net, self.curvature = net, curvature
        self.optimizer = torch.optim.SGD(net.parameters(), lr=1.0)

    def optimizers(self):
        return [self.optimizer]

    def set_up(self, engine) -> None:
        pass

    def step(self, engine, batch) -> dict[str, float]:
        noise = 0.05 * torch.randn(20, generator=torch.Generator().manual_seed(batch))
        loss = 0.5 * self.curvature * ((self.net.weight - noise) ** 2).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.item()}


class Lucky(Quadratic):
    """Its first batch is an easy one, whose loss is lower than all others at any rate."""

    def step(self, engine, batch) -> dict[str, float]:
        return {"loss": super().step(engine, batch)["loss"] * (0.001 if batch == 0 else 1.0)}


def swept(curvature: float, task: type[Quadratic] = Quadratic, **settings: object) -> tuple[Sweep, Slope]:
    net = Slope()
    phase = Descend("walk", task(net, curvature), Numbers(), StepsConfig())
    sweep = Sweep(phase, net, FindConfig(**settings))
    for _ in sweep.run(SoleProcess()):
        pass
    return sweep, net


@pytest.mark.parametrize("curvature", [0.5, 5.0, 100.0])
def test_the_suggestion_is_near_the_best_rate(curvature):
    best = 1 / curvature
    sweep, _ = swept(curvature, base_lr=1e-4 * best, max_lr=1e3 * best, steps=120)
    found = sweep.found()
    assert best / 3 <= found.max_lr <= best * 3
    assert found.base_lr < found.max_lr


@pytest.mark.parametrize(("steps", "within"), [(120, 3), (10, 6)])
def test_an_easy_first_batch_is_no_level_to_fall_from(steps, within):
    """Nor does the loss diverge from it."""
    sweep, _ = swept(5.0, Lucky, base_lr=1e-4, max_lr=0.3 if steps == 10 else 100.0, steps=steps)
    found = sweep.found()
    assert 0.2 / within <= found.max_lr <= 0.2 * within
    assert found.base_lr >= 1e-4 / 3


def test_where_the_loss_still_falls_at_the_last_rate_that_is_said():
    (said,) = swept(1.0, base_lr=1e-4, max_lr=1e-2, steps=60)[0].found().notes
    assert "still falls at the last rate, 0.01" in said
    assert "--max-lr" in said
    assert swept(1.0, base_lr=1e-4, max_lr=10.0, steps=60)[0].found().notes == ()


def test_it_stops_where_the_loss_diverges_and_gives_the_weights_back():
    sweep, net = swept(1.0, base_lr=1e-3, max_lr=1e3, steps=200)
    assert len(sweep.rates) < 200
    assert torch.equal(net.weight.detach(), torch.full((20,), 3.0))


def test_rates_of_both_scales():
    line, power = (FindConfig(base_lr=0.1, max_lr=1.0, steps=10, scale=scale) for scale in ("linear", "exponential"))
    assert [rate_of(line, step) for step in range(10)] == pytest.approx([0.1 * n for n in range(1, 11)])
    ratios = [rate_of(power, step + 1) / rate_of(power, step) for step in range(9)]
    assert ratios == pytest.approx([10 ** (1 / 9)] * 9)
    assert rate_of(power, 9) == pytest.approx(1.0)


def test_the_running_mean_has_no_bias():
    assert smoothed([2.0, 2.0, 2.0], 0.9) == pytest.approx([2, 2, 2])
    assert smoothed([1.0, 3.0], 0.5) == pytest.approx([1, (0.25 * 1 + 0.5 * 3) / 0.75])


def test_a_loss_that_never_falls_is_said():
    with pytest.raises(BadInput, match="never fell"):
        suggest([0.1, 0.2, 0.3], [1.0, 2.0, 3.0], 0.0)


@pytest.mark.parametrize("means", [[1.0, 1.0, 1.0, 0.2], [1.0, 0.5, 0.9, 0.9], [1.0, 1.0, 0.8, 0.1]])
def test_rates_can_cycle_between_the_bounds(means):
    """Also where the loss falls at one rate alone: a recipe whose cycles end where they begin would be refused."""
    found = suggest([0.1, 0.2, 0.4, 0.8], means, 0.0)
    StepsConfig(schedule="cyclic", lr=found.base_lr, cycle={"max_lr": found.max_lr})
    assert found.max_lr == max([0.1, 0.2, 0.4, 0.8][means.index(min(means))] / 2, 0.1)
    assert found.base_lr <= found.max_lr / 2


def test_the_picture_shows_how_far_the_loss_itself_falls(monkeypatch, tmp_path):
    """The running mean comes after it."""
    shown = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (shown.extend(self.axes), save(self, *a, **k))[1])
    sweep, _ = swept(1.0, base_lr=1e-3, max_lr=0.5, steps=12)
    found = sweep.found()
    assert min(found.losses) < 0.8 * min(found.smoothed)
    write_found(tmp_path, found)
    lowest, highest = shown[0].get_ylim()
    assert lowest < min(found.losses)
    assert highest > found.smoothed[0]


def test_what_is_left_in_the_folder(tmp_path):
    sweep, _ = swept(1.0, base_lr=1e-3, max_lr=10.0, steps=40)
    write_found(tmp_path, sweep.found())
    values = json.loads((tmp_path / "lr_find.json").read_text())
    assert set(values) == {"base_lr", "max_lr", "section", "notes"}
    rows = (tmp_path / "lr_find.csv").read_text().splitlines()
    assert rows[0] == "lr,loss,smoothed"
    assert len(rows) == len(sweep.rates) + 1
    assert (tmp_path / "lr_find.png").read_bytes().startswith(b"\x89PNG")
