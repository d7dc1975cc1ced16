"""The command group. Commands are imported when they are called, never to print help."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import click

from fieldmark import __version__
from fieldmark.errors import Cancelled, FieldmarkError, of_system

COMMANDS = {
    "add": "Add images to the project.",
    "demo": "Learn, predict and evaluate on real images that come with the installation.",
    "doctor": "Say what this machine and this project can do.",
    "evaluate": "Score a model against reference masks.",
    "exclude": "Leave images out, or take them in again.",
    "fit": "Fit a model on the project's labels.",
    "flim": "Learn filters from image markers, without a project.",
    "frames": "Write frames_meta.csv for a folder of frames.",
    "init": "Make a project.",
    "labels": "Import and export labels.",
    "lr-find": "Sweep the learning rate of a fit, and suggest bounds.",
    "models": "List, show and export models.",
    "prepare": "Measure flat fields, masks, statistics and tiles, or preview them.",
    "predict": "Write a label map for each image.",
    "redo": "Do again what you undid last.",
    "runs": "List, show and prune fits.",
    "status": "Say what the project holds.",
    "train": "Fit a model as a config of microDL or OpenFIBSEM says.",
    "undo": "Take back your newest change.",
}


class LazyGroup(click.Group):
    """Help comes from the table above; a command's module is imported when it runs."""

    table: ClassVar[dict[str, str]] = COMMANDS
    """Names of the commands and what help says of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = cmd_name.replace("_", "-")
        return self.imported(name) if name in self.table else None

    def imported(self, name: str) -> click.Command:
        """The command of a name in the table."""
        module = name.replace("-", "_")
        command: click.Command = getattr(import_module(f"fieldmark.faces.cli.{module}"), module)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and name.replace("_", "-") not in self.table and not name.startswith("-"):
            from fieldmark.errors import near_miss

            raise click.UsageError(f"No command is called {name!r}. {near_miss(name, self.table)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(self.table.items()))


def hyphens(name: str) -> str:
    """Options may be typed with underscores: `--label_offset` is `--label-offset`."""
    return name.replace("_", "-")


@click.group(cls=LazyGroup, context_settings={"token_normalize_func": hyphens, "help_option_names": ["-h", "--help"]})
@click.option(
    "-C",
    "--project",
    default=".",
    show_default="this folder",
    type=click.Path(path_type=Path),
    help="The project's folder.",
)
@click.version_option(__version__, prog_name="fieldmark")
@click.pass_context
def group(ctx: click.Context, project: Path) -> None:
    """From a folder of images and a few strokes to features, models, masks and honest reports."""
    ctx.obj = project


def main(args: Sequence[str] | None = None) -> Any:
    """Run a command. Exit status: 0, 1 (our error, one line), 2 (usage), 130 (stopped)."""
    try:
        status = group.main(args=list(args) if args is not None else None, prog_name="fieldmark", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort, Cancelled) as error:
        click.echo(f"Stopped. {error}".strip(), err=True)
        sys.exit(130)
    except FieldmarkError as error:
        _fail(str(error))
    except BrokenPipeError:
        # nobody reads our output any more; what is left of it must not be an error at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except OSError as error:
        _fail(of_system(error))
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str) -> NoReturn:
    from fieldmark.faces.cli.show import harmless

    click.echo(f"Error: {harmless(' '.join(message.split()))}", err=True)
    sys.exit(1)
