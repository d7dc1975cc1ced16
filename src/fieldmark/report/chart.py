"""Curves as inline SVG, without a plotting library: a grid, ticks at round numbers, a legend."""

from __future__ import annotations

from html import escape
from math import ceil, floor, isfinite, log10
from typing import TYPE_CHECKING

from fieldmark.core.colors import CLASS_COLORS, hex_color

if TYPE_CHECKING:
    from fieldmark.report.blocks import Chart, Series

_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 16, 48
_DASHES = ("", "7 4", "2 4", "9 3 2 3")
# blue, vermillion, green, purple, orange: the palette's colors that show on white and on black
_LINES = tuple(hex_color(CLASS_COLORS[i]) for i in (6, 1, 2, 4, 5))

_Range = tuple[float, float]


def chart_svg(chart: Chart) -> str:
    """The chart as an `<svg>` element; says so where there is no finite point to draw."""
    points = [(x, y) for series in chart.series for x, y in series.points if y is not None and isfinite(x + y)]
    if not points:
        return '<p class="note">There is no point to draw yet.</p>'
    across = _widened(min(x for x, _ in points), max(x for x, _ in points))
    up = _widened(min(y for _, y in points), max(y for _, y in points))
    names = ", ".join(series.name for series in chart.series)
    label = escape(f"{chart.y_label} over {chart.x_label}: {names}")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f"{_grid(across, up)}{_labels(chart)}"
        f"{''.join(_curve(n, series, across, up) for n, series in enumerate(chart.series))}</svg>"
        f"{_key(chart.series)}"
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) from `low` to `high`, roughly `about` of them."""
    raw = (high - low) / about
    power = 10.0 ** floor(log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    return [index * step for index in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def _widened(low: float, high: float) -> _Range:
    if high > low:
        return low, high
    room = abs(low) / 2 or 0.5
    return low - room, high + room


def _x(value: float, across: _Range) -> float:
    return _LEFT + (value - across[0]) / (across[1] - across[0]) * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, up: _Range) -> float:
    return _HEIGHT - _BOTTOM - (value - up[0]) / (up[1] - up[0]) * (_HEIGHT - _TOP - _BOTTOM)


def _grid(across: _Range, up: _Range) -> str:
    lines = []
    for value in ticks(*up):
        y = _y(value, up)
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    for value in ticks(*across):
        x = _x(value, across)
        lines.append(
            f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{value:.4g}</text>'
        )
    return "".join(lines)


def _labels(chart: Chart) -> str:
    middle = (_HEIGHT - _BOTTOM + _TOP) / 2
    return (
        f'<text class="axis" x="{(_WIDTH + _LEFT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">'
        f"{escape(chart.x_label)}</text>"
        f'<text class="axis" transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(chart.y_label)}</text>"
    )


def _look(number: int) -> str:
    dash = _DASHES[number // len(_LINES) % len(_DASHES)]
    return f'stroke="{_LINES[number % len(_LINES)]}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _curve(number: int, series: Series, across: _Range, up: _Range) -> str:
    """The series as lines; a lone point is a dot, a gap (None, NaN) breaks the line."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in series.points:
        if y is None or not isfinite(x + y):
            runs.append([])
        else:
            runs[-1].append((_x(x, across), _y(y, up)))
    return "".join(_run(run, _look(number)) for run in runs if run)


def _run(run: list[tuple[float, float]], look: str) -> str:
    if len(run) == 1:
        return f'<circle class="curve" cx="{run[0][0]:.1f}" cy="{run[0][1]:.1f}" r="2.5" {look}/>'
    return f'<polyline class="curve" {look} points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in run)}"/>'


def _key(series: tuple[Series, ...]) -> str:
    items = (
        f'<li><svg viewBox="0 0 24 10" class="line" aria-hidden="true">'
        f'<line class="curve" x1="0" x2="24" y1="5" y2="5" {_look(n)}/></svg>{escape(one.name)}</li>'
        for n, one in enumerate(series)
    )
    return f'<ul class="legend">{"".join(items)}</ul>'
