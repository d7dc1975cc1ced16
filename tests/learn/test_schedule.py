"""Rates against plain loops."""

from __future__ import annotations

import math

import pytest

from fieldmark.learn.schedule import cyclic, ends_cycle, rate
from fieldmark.recipes.steps import CycleConfig, StepsConfig


@pytest.mark.parametrize("by", ["cycle", "iterations"])
def test_cyclic_rates_equal_the_formula_for_three_cycles(by):
    cycle = CycleConfig(max_lr=0.006, half_epochs=2, gamma=0.9, gamma_by=by)
    per_epoch, base = 5, 0.001
    half = 10
    for iteration in range(3 * 2 * half):
        number = math.floor(1 + iteration / (2 * half))
        x = abs(iteration / half - 2 * number + 1)
        truth = base + (0.006 - base) * max(0, 1 - x) * 0.9 ** (number if by == "cycle" else iteration)
        assert cyclic(base, cycle, iteration, per_epoch) == pytest.approx(truth)


def test_a_triangle_rises_and_falls_in_equal_steps():
    config = StepsConfig(schedule="cyclic", lr=1.0, warmup_steps=0, cycle=CycleConfig(max_lr=3.0, half_epochs=1))
    rates = [rate(config, step, 4, 16) for step in range(9)]
    assert rates == pytest.approx([1, 1.5, 2, 2.5, 3, 2.5, 2, 1.5, 1])


def told(steps: int = 40, per_epoch: int = 10, **settings: object) -> list[float]:
    config = StepsConfig(lr=0.1, warmup_steps=0, **settings)
    return [rate(config, step, per_epoch, steps) for step in range(steps)]


def test_the_other_schedules():
    assert told(schedule="constant") == [0.1] * 40
    steps = told(schedule="step", step_epochs=2, gamma=0.5)
    assert (steps[19], steps[20], steps[39]) == pytest.approx((0.1, 0.05, 0.05))
    halves = told(schedule="exponential", half_life_epochs=1)
    assert (halves[0], halves[10], halves[20]) == pytest.approx((0.1, 0.05, 0.025))
    held = told(schedule="decay", hold_share=0.5)
    assert held[:20] == [0.1] * 20
    assert (held[30], held[39]) == pytest.approx((0.05, 0.005))
    waves = told(schedule="cosine")
    assert (waves[0], waves[20]) == pytest.approx((0.1, 0.05))
    assert waves == sorted(waves, reverse=True)
    one = told(schedule="one-cycle", cycle=CycleConfig(max_lr=0.5))
    assert max(one) == pytest.approx(0.5, rel=1e-2)
    assert one.index(max(one)) == 12
    assert one[0] < 0.03
    assert one[-1] < 0.01


def test_warm_up_comes_before_any_of_them():
    config = StepsConfig(lr=0.1, warmup_steps=4, schedule="constant")
    assert [rate(config, step, 10, 40) for step in range(5)] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])


@pytest.mark.parametrize("settings", [{"schedule": "step", "step_epochs": 1}, {"schedule": "exponential"}])
def test_epochs_are_those_of_the_fit_whatever_the_warm_up(settings):
    late = StepsConfig(lr=0.1, warmup_steps=4, **settings)
    plain = StepsConfig(lr=0.1, warmup_steps=0, **settings)
    assert [rate(late, step, 10, 40) for step in range(4, 40)] == [rate(plain, step, 10, 40) for step in range(4, 40)]


def test_a_fit_may_end_where_a_cycle_ends():
    cycle = CycleConfig(half_epochs=1, end_of_cycle=True)
    config = StepsConfig(schedule="cyclic", warmup_steps=0, cycle=cycle)
    assert [ends_cycle(config, 10 * epoch, 10) for epoch in range(1, 5)] == [False, True, False, True]
    assert ends_cycle(StepsConfig(), 10, 10)


def test_no_cycle_has_ended_in_the_epoch_in_which_the_warm_up_ends():
    cycle = CycleConfig(half_epochs=1, end_of_cycle=True)
    config = StepsConfig(schedule="cyclic", warmup_steps=5, cycle=cycle)
    assert [ends_cycle(config, 10 * epoch, 10) for epoch in range(1, 6)] == [False, False, True, False, True]
