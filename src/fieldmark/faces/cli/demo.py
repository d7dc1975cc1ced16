"""`fieldmark demo`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("fieldmark-demo"), show_default=True)
def demo(out: Path) -> None:
    """Learn from a few strokes on real images, predict all of them, and write one report.

    Its path is the last line.
    """
    from fieldmark.faces.cli.show import follow, say
    from fieldmark.workbench.demo import Demo

    show = Demo(out)
    follow(show.run())
    say(str(show.report))
