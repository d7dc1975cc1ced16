"""Options as other programs have them: several values, `-l conv1 conv2 -g 0 1`; and those without a meaning here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click


class ManyCommand(click.Command):
    """A command whose `multiple=True` options take every word that follows them.

    `-l a b` is read as `-l a -l b`. A word that begins with `-` ends the values, unless it is a number.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(self._spread(ctx, args)))

    def _spread(self, ctx: click.Context, args: list[str]) -> Iterator[str]:
        many = {name for param in self._many() for name in param.opts}
        words = list(args)
        while words:
            word = words.pop(0)
            name, equals, first = word.partition("=")
            if _normal(ctx, name) not in many or word == "--":
                yield word
                continue
            values = [first] if equals else []
            while words and not _is_option(words[0]):
                values.append(words.pop(0))
            if not values:
                raise click.BadOptionUsage(name, f"Option {name!r} needs one value or more.", ctx)
            for value in values:
                yield from (name, value)

    def _many(self) -> list[click.Option]:
        return [param for param in self.params if isinstance(param, click.Option) and param.multiple]


class UnusedOption(click.Option):
    """An option that is taken, so that old command lines run, and said to be without effect. Its value goes nowhere."""

    def __init__(self, names: Sequence[str], **settings: Any) -> None:
        text = f"Taken and not used: {settings.pop('help')}"
        super().__init__(names, expose_value=False, callback=_tell, help=text, **settings)


def _tell(ctx: click.Context, param: click.Parameter, value: object) -> object:
    if value not in (None, False, ()):
        name = max(param.opts, key=len)
        text = str(getattr(param, "help", ""))
        click.echo(f"note {name} is t{text.removeprefix('T')}", err=True)
    return value


def _normal(ctx: click.Context, name: str) -> str:
    """The option's name as it was declared: `--image_indices` is `--image-indices`."""
    return ctx.token_normalize_func(name) if ctx.token_normalize_func else name


def _is_option(word: str) -> bool:
    """Whether a word begins an option: a negative number does not."""
    if not word.startswith("-") or word == "-":
        return False
    return not word[1:].replace(".", "", 1).isdigit()
