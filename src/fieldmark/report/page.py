"""One self-contained HTML file out of a page: no script, no link out, no picture beside it."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files
from math import isfinite
from typing import TYPE_CHECKING

from fieldmark.core.colors import hex_color
from fieldmark.core.files import write_atomic
from fieldmark.report.blocks import (
    Block,
    Cell,
    Chart,
    Figure,
    Gallery,
    Legend,
    Measured,
    Notice,
    Page,
    Section,
    Series,
    Table,
    Text,
)
from fieldmark.report.chart import chart_svg

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Block",
    "Cell",
    "Chart",
    "Figure",
    "Gallery",
    "Legend",
    "Measured",
    "Notice",
    "Page",
    "Section",
    "Series",
    "Table",
    "Text",
    "render",
    "write_page",
]

_UNKNOWN = '<span class="unknown" title="not known">&ndash;</span>'


def write_page(path: Path, page: Page) -> None:
    """Render a page into a file that is whole or absent."""
    # a file's name need not be UTF-8: its odd bytes are shown as escapes
    write_atomic(path, render(page).encode("utf-8", "backslashreplace"))


def render(page: Page) -> str:
    """A page as one HTML document.

    Every text is escaped, so that a file's name cannot become markup; the content policy
    forbids scripts and everything that would come from elsewhere.
    """
    style = _style()
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(page.title)}</title>",
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            *_header(page),
            "<main>",
            *(_section(number, section) for number, section in enumerate(page.sections, start=1)),
            "</main>",
            *([f"<footer>{escape(page.footer)}</footer>"] if page.footer else []),
            "</body>",
            "</html>",
            "",
        ]
    )


def _style() -> str:
    return files("fieldmark.report").joinpath("style.css").read_text("utf-8").replace("\r\n", "\n")


def _header(page: Page) -> list[str]:
    lines = ["<header>", f"<h1>{escape(page.title)}</h1>"]
    if page.subtitle:
        lines.append(f'<p class="subtitle">{escape(page.subtitle)}</p>')
    if len(page.sections) > 1:
        links = (f'<li><a href="#s{n}">{escape(s.title)}</a></li>' for n, s in enumerate(page.sections, start=1))
        lines.append(f'<nav aria-label="Contents"><ol>{"".join(links)}</ol></nav>')
    return [*lines, "</header>"]


def _section(number: int, section: Section) -> str:
    body = "\n".join(_block(block) for block in section.blocks)
    return f'<section id="s{number}">\n<h2>{escape(section.title)}</h2>\n{body}\n</section>'


def _block(block: Block) -> str:
    match block:
        case Text():
            return _paragraphs(block.text)
        case Notice():
            return f'<aside class="notice">{_paragraphs(block.text)}</aside>'
        case Table():
            return _table(block)
        case Figure():
            return _figure(block)
        case Gallery():
            return f'<div class="gallery columns-{block.columns}">{"".join(map(_figure, block.figures))}</div>'
        case Legend():
            return _legend(block)
        case Chart():
            return f'<figure class="chart">{chart_svg(block)}{_caption(block.caption)}</figure>'


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{escape(part.strip())}</p>" for part in text.split("\n\n") if part.strip())


def _figure(figure: Figure) -> str:
    width, height = figure.size
    return (
        f'<figure><img class="{figure.scale}" src="data:image/png;base64,{b64encode(figure.png).decode()}"'
        f' width="{width}" height="{height}" alt="{escape(figure.alt or figure.caption)}">'
        f"{_caption(figure.caption)}</figure>"
    )


def _caption(text: str) -> str:
    return f"<figcaption>{escape(text)}</figcaption>" if text else ""


def _legend(legend: Legend) -> str:
    items = (
        f'<li><svg viewBox="0 0 10 10" aria-hidden="true"><rect width="10" height="10" rx="2"'
        f' fill="{hex_color(color)}"/></svg>{escape(name)}</li>'
        for name, color in legend.entries
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _table(table: Table) -> str:
    numeric = [_is_numeric(tuple(row[i] for row in table.rows)) for i in range(len(table.columns))]
    head = "".join(
        f'<th scope="col"{_number_class(right)}>{escape(name)}</th>'
        for name, right in zip(table.columns, numeric, strict=True)
    )
    rows = "".join(f"<tr>{_row(row, numeric)}</tr>" for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    label = escape(", ".join(table.columns))
    return (
        f'<div class="table" role="region" tabindex="0" aria-label="Table: {label}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}"
    )


def _row(row: tuple[Cell, ...], numeric: list[bool]) -> str:
    first, *rest = row
    cells = "".join(
        f"<td{_number_class(right)}>{_cell(cell)}</td>" for cell, right in zip(rest, numeric[1:], strict=True)
    )
    return f'<th scope="row"{_number_class(numeric[0])}>{_cell(first)}</th>{cells}'


def _number_class(right: bool) -> str:
    return ' class="number"' if right else ""


def _is_numeric(cells: tuple[Cell, ...]) -> bool:
    known = [cell for cell in cells if cell is not None]
    return bool(known) and not any(isinstance(cell, str) for cell in known)


def _cell(cell: Cell) -> str:
    match cell:
        case None:
            return _UNKNOWN
        case Measured(value, low, high):
            span = f"<small>{_number(low)}&thinsp;&ndash;&thinsp;{_number(high)}</small>" if _known(low, high) else ""
            return _number(value) + span
        case str():
            return escape(cell)
        case _:
            return _number(cell)


def _known(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None


def _number(value: float | None) -> str:
    """Whole numbers as they are, others to three decimals, small ones to three digits."""
    if value is None or not isfinite(value):
        return _UNKNOWN
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) >= 1e4:
        return f"{value:,.0f}"
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.1 else f"{value:.3g}"
