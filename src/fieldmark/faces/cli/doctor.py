"""`fieldmark doctor`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def doctor(project: Path, as_json: bool) -> None:
    """Say what this machine and this project can do."""
    from fieldmark.faces.cli.show import say, say_json
    from fieldmark.workbench.doctor import examine

    findings = examine(project)
    if as_json:
        say_json({"findings": [{"ok": ok, "what": what, "found": found} for ok, what, found in findings]})
        return
    for ok, what, found in findings:
        say(f"{'ok ' if ok else 'BAD'}  {what}: {found}")
