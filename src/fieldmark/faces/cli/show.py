"""How results and progress look in a terminal: results on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from fieldmark.core.events import Event
from fieldmark.errors import FieldmarkError

_MANY = {"flat field", "threshold", "statistics", "planes"}
"""Phases of so many steps that a line for each would hide all others; the last one is told."""


def say(text: str) -> None:
    """A line of the result."""
    click.echo(harmless(text))


def note(text: str) -> None:
    """A line for the person who watches."""
    click.echo(harmless(text), err=True)


def harmless(text: str) -> str:
    """The text as any terminal can show it: a file's name may hold what would steer a terminal, or half a character."""
    return "".join(part if part.isprintable() or part == "\n" else ascii(part)[1:-1] for part in text)


def say_json(value: Any) -> None:
    """One object on stdout."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


@contextmanager
def errors_as_json(wanted: bool) -> Iterator[None]:
    """With `--json`, an error too is one object on stdout."""
    try:
        yield
    except FieldmarkError as error:
        if wanted:
            say_json({"error": {"code": error.code, "message": str(error)}})
        raise


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under a heading, in columns as wide as needed."""
    cells = [list(columns), *([str(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    for row in cells:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def follow(events: Iterator[Event]) -> None:
    """Show progress with the time left on stderr: a bar on a terminal, a line per step elsewhere.

    Whatever ends it, the events are closed before it returns: then a stopped job knows that it was stopped.
    """
    try:
        if sys.stderr.isatty():
            _follow_bar(events)
            return
        for event in events:
            if _is_told(event):
                note(_line(event))
    finally:
        if isinstance(events, Generator):
            events.close()


def _is_told(event: Event) -> bool:
    phase = event.phase.rpartition(": ")[2]
    return phase != "predict" and (phase not in _MANY or event.step == event.total)


def _follow_bar(events: Iterator[Event]) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, Any] = {}
        for event in events:
            if event.total == 0:
                progress.console.print(harmless(event.message), markup=False)
                continue
            if event.phase not in tasks:
                tasks[event.phase] = progress.add_task(event.phase, total=event.total)
            text = harmless(f"{event.phase} {event.message or _numbers(event)}")
            progress.update(tasks[event.phase], completed=event.step, total=event.total, description=text)


def _line(event: Event) -> str:
    count = f" {event.step}/{event.total}" if event.total else ""
    return f"{event.phase}{count} {event.message} {_numbers(event)}".rstrip()


def _numbers(event: Event) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in event.metrics.items())
