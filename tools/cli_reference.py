"""The command reference as Markdown, made from the commands themselves when the manual is built."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click


def reference(group: click.Group, name: str) -> str:
    """A section for each command of a group, in alphabetical order, with its arguments and options.

    Args:
        group: The command group.
        name: What the user types to reach it.
    """
    context = click.Context(group, info_name=name, **group.context_settings)
    return "\n".join([*_options(group, context), "", *_sections(group, context)])


def _sections(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _sections(command, inner)
        else:
            yield from _section(command, inner)


def _section(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## `{context.command_path}`"
    yield ""
    yield " ".join((command.help or "").split())
    yield ""
    yield f"    {command.get_usage(context).removeprefix('Usage: ')}"
    yield ""
    yield from _options(command, context)
    yield ""


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    for names, text in (record for record in records if record and record[1]):
        if "--help" not in names:
            yield f"- `{names}`: {text}"


def main(target: Path) -> None:
    """Write the reference of `fieldmark` into a file."""
    from fieldmark.faces.cli.main import group

    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(reference(group, "fieldmark"), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
