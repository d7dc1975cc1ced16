"""Curves: where points land, gaps, round ticks."""

from __future__ import annotations

import re
from math import floor, log10

from hypothesis import given
from hypothesis import strategies as st

from fieldmark.report.blocks import Chart, Series
from fieldmark.report.chart import chart_svg, ticks


def points(svg: str) -> list[list[tuple[float, float]]]:
    lines = re.findall(r'<polyline[^>]* points="([^"]*)"', svg)
    return [[tuple(map(float, pair.split(","))) for pair in line.split()] for line in lines]


def test_corners_of_the_data_are_corners_of_the_frame():
    svg = chart_svg(Chart((Series("a", ((0, 0.0), (5, 10.0), (10, 5.0))),), "x", "y"))
    (first, second, third) = points(svg)[0]
    assert first == (64.0, 252.0)
    assert second == (344.0, 16.0)
    assert third == (624.0, 134.0)


def test_a_gap_breaks_the_line_and_a_lone_point_is_a_dot():
    gap = ((0, 1.0), (1, 2.0), (2, None), (3, 1.0), (4, float("nan")), (5, 2.0), (6, 1.0))
    svg = chart_svg(Chart((Series("a", gap),), "x", "y"))
    assert [len(run) for run in points(svg)] == [2, 2]
    assert svg.count("<circle") == 1


def test_a_constant_curve_is_drawn():
    assert points(chart_svg(Chart((Series("a", ((1, 3.0), (2, 3.0))),), "x", "y")))[0][0][1] == 134.0


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_and_inside(low, size):
    found = ticks(low, low + size)
    assert 2 <= len(found) <= 7
    step = found[1] - found[0]
    lead = step / 10 ** floor(log10(step) + 1e-6)
    assert min(abs(lead - want) for want in (1, 2, 5, 10)) < 1e-2
    assert found[0] >= low - step * 1e-6
    assert found[-1] <= low + size + step * 1e-6
